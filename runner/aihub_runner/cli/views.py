"""Make the views of results: the report of a job, and the comparison of two runs or versions. Sends no requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from heapq import merge
from pathlib import Path
from typing import Any

from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_output
from aihub_runner.apply.run import describe_job
from aihub_runner.cli.inspection import as_at_work, read_state, scan_quietly
from aihub_runner.errors import InputError
from aihub_runner.files import write_file
from aihub_runner.model import Shard
from aihub_runner.outfile import write_output
from aihub_runner.report.diffpage import render_diff_page
from aihub_runner.report.overview import Facts, as_json, render_overview
from aihub_runner.report.statistics import take_census
from aihub_runner.report.timeline import make_timeline
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
from aihub_runner.results.documents import find_damage
from aihub_runner.results.reader import Chosen, Document, Found, find_results
from aihub_runner.state.store import State
from aihub_runner.text.shown import count, escape_control_chars

FILE_NAME = "report.html"
SHOWN = 10


def write_report(job: Job, output: Path | None, threshold: float) -> tuple[Path, str, dict[str, Any]]:
    """Write the report of a job. Return its path, a summary as text, and the same as values.

    A field with a confidence below the threshold, from 0 to 1, needs review. Raises InputError if nothing was applied,
    ResultsError if raw pages are missing.
    """
    check_output(job, output)
    write = write_output if output else write_file
    output = output or job.results_path / FILE_NAME
    with read_state(job) as state:
        if state is None:
            raise job.no_results()
        shards, goal, scan = state.load_shards(), job.goal(), scan_quietly(job, state, may_be_empty=True)
        damaged = find_damage(state, shards, goal, job.results_path)
        results = find_results(state, shards, scan, goal, job.results_path)
        found = Facts(
            job,
            as_at_work(job, describe_job(job, state, scan, damaged)),
            make_timeline(shards, goal.run_key, goal.include),
            take_census(results.documents(), threshold),
        )
    write(output, render_overview(found, output, datetime.now(UTC)))
    text = f"{job.shown}: {count(found.census.documents, 'document')}, {found.census.needs_review} to review"
    return output, escape_control_chars(f"{text}\n  report     {output}", keep="\n"), dict(as_json(found, output))


def compare_results(
    job: Job, runs: Sequence[str], versions: Sequence[str], page: Path | None
) -> tuple[str, dict[str, Any]]:
    """Compare two runs by id, or two versions of the app. Return the differences as text and as values.

    `page` is the path of an HTML page to write as well. Raises InputError if one side has no results, ResultsError
    if raw pages are missing.
    """
    check_output(job, page)
    with read_state(job) as state:
        if state is None:
            raise job.no_results()
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
        include = job.goal().include
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
    return {"spec": job.shown, **asdict(diff), "fields": counts, "page": str(page) if page else None}


Side = tuple[str, Candidates]


def _sides_of_runs(job: Job, state: State, runs: Sequence[str]) -> tuple[Side, Side]:
    shards = state.load_shards()
    first, second = (_require(job, f"run {run}", runs_of_id(shards, run), _known_runs(shards)) for run in runs)
    return first, second


def _sides_of_versions(job: Job, state: State, versions: Sequence[str]) -> tuple[Side, Side]:
    shards, settings_of, today = state.load_shards(), state.load_run_keys(), job.settings()
    every = {*known_versions(settings_of, today), *versions}
    found = {version: runs_of_version(shards, settings_of, today, version) for version in every}
    known = [_name_version(version) for version in sorted(found) if found[version]]
    first, second = (_require(job, _name_version(v), found[v], known) for v in versions)
    return first, second


def _name_version(version: str) -> str:
    return f"version {version}" if version else 'version "" (none in the spec)'


def _known_runs(shards: Sequence[Shard]) -> list[str]:
    """List the runs with fetched results, newest first."""
    runs = [run for shard in shards if any(member.path for member in shard.members) for run in shard.runs]
    fetched = [run for run in runs if run.remote_id and run.status == "COMPLETE" and run.fetched]
    return [run.remote_id or "" for run in sorted(fetched, key=lambda run: -run.id)]


def _require(job: Job, name: str, found: Candidates, known: Sequence[str]) -> Side:
    if not found:
        if not known:
            raise job.no_results()
        some = ", ".join(known[:SHOWN]) + f", and {len(known) - SHOWN} more" * (len(known) > SHOWN)
        raise InputError(f"{job.shown}: no results of {name}, only of: {some}", "pass one of those")
    return name, found


def _load(state: State, chosen: Sequence[Chosen], wanted: str, folder: Path) -> Iterator[Document]:
    """Load documents sorted by path and index. The runs may have been fetched with different `include`."""
    by_include: dict[str, list[Chosen]] = {}
    for choice in chosen:
        fetched: Mapping[str, float] = choice.run.fetched
        by_include.setdefault(wanted if wanted in fetched else min(fetched), []).append(choice)
    loads = [Found(state, of_kind, include, folder).documents() for include, of_kind in by_include.items()]
    return merge(*loads, key=lambda document: (document["path"], document["document_index"]))
