"""The command `diff`: a comparison of two runs or two versions of the app."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from pathlib import Path
from typing import Any

import click
from click import option
from msgspec import to_builtins

from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_output
from aihub_runner.cli.inspection import opened_state
from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, FILE, PLACES, Answer, Asked, over_specs
from aihub_runner.cli.product import refuse_two_products, say_beside
from aihub_runner.errors import InputError
from aihub_runner.model import Run, Shard
from aihub_runner.outfile import write_output
from aihub_runner.report.diffpage import render_diff_page
from aihub_runner.results.diff import (
    Candidates,
    Diff,
    compare,
    known_versions,
    pair_files,
    runs_of_id,
    runs_of_version,
)
from aihub_runner.results.diffwords import render_diff
from aihub_runner.results.reader import Choices, Chosen, Document, Found, without_pruned
from aihub_runner.state.store import State
from aihub_runner.text.escape import escape_control_chars

SHOWN = 10
Side = tuple[str, Candidates]


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    option("--run", "runs", multiple=True, metavar="RUN_ID", help="Compare two runs. Pass it twice."),
    option(
        "--app-version",
        "--version",
        "versions",
        multiple=True,
        metavar="VERSION",
        help='Compare two versions of the app. Pass it twice; "" means no version.',
    ),
    option("--html", "page", type=FILE, help="Also write an HTML page."),
    many=False,
    example="runner diff invoices.aihub.toml",
)
def diff(asked: Asked, runs: tuple[str, ...], versions: tuple[str, ...], page: Path | None) -> None:
    """Compare the results of two runs or two app versions.

    Lists the fields that changed, appeared or vanished. Pass the older run or version first; without any, compares the
    last two runs of the same files. Sends no requests.
    """
    refuse_two_products(page, as_json=asked.as_json)
    if (len(runs), len(versions)) not in ((0, 0), (2, 0), (0, 2)):
        raise click.UsageError("pass --run twice, or --app-version twice: the older one, then the newer one")

    def act(job: Job) -> Answer:
        text, data = compare_results(job, runs, versions, page)
        return say_beside(page, text), data, 0

    asked.in_full().each_job(act)


def compare_results(
    job: Job, runs: Sequence[str], versions: Sequence[str], page: Path | None
) -> tuple[str, dict[str, Any]]:
    """Compare two runs by id, or two versions of the app. Return the differences as text and as values.

    `page` is the path of an HTML page to write as well. Raises InputError if one side has no results, ResultsError
    if raw pages are missing.
    """
    check_output(job, page)
    with opened_state(job) as state:
        runs = runs or (() if versions else _find_last_two(job, state))
        sides = _sides_of_runs(job, state, runs) if runs else _sides_of_versions(job, state, versions)
        (before, old), (after, new) = sides
        pairs = pair_files(old, new)
        diff = Diff(
            before,
            after,
            files=len(pairs),
            only_before=tuple(sorted(old.keys() - new.keys())),
            only_after=tuple(sorted(new.keys() - old.keys())),
            other_bytes=tuple(a.path for a, b in pairs if a.member.identity != b.member.identity),
        )
        include = job.goal.include
        compare(
            diff,
            _load(state, [a for a, _ in pairs], include, job.results_path),
            _load(state, [b for _, b in pairs], include, job.results_path),
        )
    if page:
        write_output(page, render_diff_page(job, diff, page))
    more = f"\n\n  page       {escape_control_chars(str(page))}" if page else ""
    return render_diff(job.shown, diff) + more, _as_json(job, diff, page)


def _as_json(job: Job, diff: Diff, page: Path | None) -> dict[str, Any]:
    counts = {name: dict(counts) for name, counts in sorted(diff.fields.items())}
    return {"spec": job.shown, **to_builtins(diff), "fields": counts, "page": str(page) if page else None}


def _sides_of_runs(job: Job, state: State, runs: Sequence[str]) -> tuple[Side, Side]:
    shards = without_pruned(state, state.load_shards())
    first, second = (
        _require(job, f"run {run}", runs_of_id(shards, run), _name_runs(_list_fetched(shards))) for run in runs
    )
    return first, second


def _sides_of_versions(job: Job, state: State, versions: Sequence[str]) -> tuple[Side, Side]:
    shards = without_pruned(state, state.load_shards())
    settings_of, today = state.load_run_keys(), job.goal.settings
    every = {*known_versions(settings_of, today), *versions}
    found = {version: runs_of_version(shards, settings_of, today, version) for version in every}
    known = [_name_version(version) for version in sorted(found) if found[version]]
    first, second = (_require(job, _name_version(v), found[v], known) for v in versions)
    return first, second


def _find_last_two(job: Job, state: State) -> tuple[str, str]:
    """Return the newest run whose files have results of a newer run, too, and that run. Raises InputError."""
    newest: dict[str, str] = {}
    fetched = _list_fetched(without_pruned(state, state.load_shards()))
    for run, shard in fetched:
        paths = [member.path for member in shard.members if member.path]
        if newer := next((newest[path] for path in paths if path in newest), ""):
            return run.remote_id or "", newer
        newest |= dict.fromkeys(paths, run.remote_id or "")
    if not fetched:
        raise job.no_results()
    raise InputError(
        f"{job.shown}: no two runs have results of the same file, there are: {_list_some(_name_runs(fetched))}",
        "pass --run twice to compare two of them",
    )


def _list_some(known: Sequence[str]) -> str:
    return ", ".join(known[:SHOWN]) + f", and {len(known) - SHOWN} more" * (len(known) > SHOWN)


def _name_version(version: str) -> str:
    return f"version {version}" if version else 'version "" (none in the spec)'


def _list_fetched(shards: Sequence[Shard]) -> list[tuple[Run, Shard]]:
    """List the runs with fetched results, newest first, with their shards."""
    runs = [(run, shard) for shard in shards if any(member.path for member in shard.members) for run in shard.runs]
    fetched = [(run, shard) for run, shard in runs if run.remote_id and run.status == "COMPLETE" and run.fetched]
    return sorted(fetched, key=lambda pair: -pair[0].id)


def _name_runs(fetched: Sequence[tuple[Run, Shard]]) -> list[str]:
    return [run.remote_id or "" for run, _ in fetched]


def _require(job: Job, name: str, found: Candidates, known: Sequence[str]) -> Side:
    if not found:
        if not known:
            raise job.no_results()
        raise InputError(f"{job.shown}: no results of {name}, only of: {_list_some(known)}", "pass one of those")
    return name, found


def _load(state: State, chosen: Sequence[Chosen], wanted: str, folder: Path) -> Iterator[Document]:
    """Load documents sorted by path and index. The runs may have been fetched with different `include`."""
    by_include: dict[str, list[Chosen]] = {}
    for choice in chosen:
        fetched: Mapping[str, float] = choice.run.fetched
        by_include.setdefault(wanted if wanted in fetched else min(fetched), []).append(choice)
    loads = [Found(state, Choices.of(some), include, folder).documents() for include, some in by_include.items()]
    return merge(*loads, key=lambda document: (document["path"], document["document_index"]))
