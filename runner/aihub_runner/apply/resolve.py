"""Let the user decide about unconfirmed runs, and about paid work that cannot be verified."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Any

from msgspec import Struct

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply.assess import entries_to_import, scan_files
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.begin import hold_state
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.finder import Finder, Inspected, match_kept
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.matching import is_contradicted, record_imported, result_names
from aihub_runner.apply.recovery import find_info, import_paid, record_moved
from aihub_runner.apply.reused import tells_reused
from aihub_runner.apply.run import take_over
from aihub_runner.apply.steps import RunSeen
from aihub_runner.apply.tasks.run import find_run, find_step
from aihub_runner.errors import InputError, ServiceError
from aihub_runner.model import Run, Shard
from aihub_runner.plan.identity import parse_run_tag
from aihub_runner.state.store import State
from aihub_runner.text.shown import count


class Undecided(Struct, frozen=True):
    """What waits for a decision: unconfirmed runs with their shards, and entries that cannot be verified.

    `missing` are runs that returned 404 and were never fetched: the start may have been answered with a wrong id.
    """

    unknown: Sequence[tuple[Shard, Run]]
    left: Sequence[Inspected]
    finder: Finder | None
    missing: Sequence[Run] = ()


def resolve_unknown(job: Job, adopt: str | None, resubmit: bool, reporter: Reporter) -> tuple[str, dict[str, Any], int]:
    """List unconfirmed runs, or record a decision: this run is it, or none was started.

    Raises InputError if the decision contradicts what is known.
    """
    if adopt and resubmit:
        raise InputError("resolve: --adopt and --resubmit cannot be combined", "use one of them")
    with hold_state(job, Event()) as state, closing(AIHub(job.connection)) as client:
        take_over(job, state)
        found = _find_open(job, state, client, reporter)
        lines = [_describe_unknown(shard, run) for shard, run in found.unknown]
        lines += [_describe_left(item) for item in found.left]
        lines += [f"run {run.remote_id} on batch {run.remote_batch}: returned 404" for run in found.missing]
        if adopt:
            adopt_run(state, client, found, adopt)
        if resubmit:
            resubmit_runs(job, state, client, found)
    when = "with --retry-failed" if found.missing else "at the next apply"
    decided = "imported" if adopt else f"will be paid for {when}" if resubmit else ""
    ways = [decided] if decided else _list_ways(job, found)
    text = "\n".join([*lines, *ways]) if lines else "nothing is unconfirmed"
    data = {"spec": job.spec_path.name, "unknown": lines, "decided": decided}
    return text, data, 7 if lines and not decided else 0


def _list_ways(job: Job, found: Undecided) -> list[str]:
    """List how to decide. A run under the id of another one cannot be imported, nor one whose files nothing tells."""
    resolve, whys = job.command("resolve"), [run.unknown for _, run in found.unknown]
    whys += [item.why for item in found.left if item.entry.members]
    if found.missing or not all(map(tells_reused, whys)):
        merged = f"if a merge mixed up the lines of {job.lock_path.name}: restore it from Git, then apply"
        return [
            *[merged] * any(map(is_contradicted, found.left)),
            f"if a run is among these: {resolve} --adopt RUN_ID",
            f"if none was started: {resolve} --resubmit",
        ]
    blind = [item for item in found.left if not (item.entry.members or tells_reused(item.why))]
    why = "nothing tells which files a run had" if blind else "an id stands for one run"
    return [f"{why}, so none can be imported; to pay again: {resolve} --resubmit"]


def _find_open(job: Job, state: State, client: AIHub, reporter: Reporter) -> Undecided:
    """Import what can be verified, as apply does, and return the rest, which needs a decision."""
    left: list[Inspected] = []
    finder = None
    if entries := entries_to_import(job, state):
        scan = scan_files(job, state, reporter, Event())
        finder = Finder(scan.sources, by_folder=job.goal.by_folder)
        opened = OpenJob(job, state, client, scan, reporter)
        record_moved(opened)
        try:
            left = import_paid(opened)
        except ServiceError as error:
            if error.status != 404:
                raise
            left = [Inspected(entry, None, None, error.message, is_gone=True) for entry in entries]
    return Undecided(find_unconfirmed(state), left, finder, _find_missing(job, state, client))


def _find_missing(job: Job, state: State, client: AIHub) -> list[Run]:
    """Find the runs that were never fetched and that return 404, where no list proves that they are gone."""
    runs = [run for shard in state.load_shards() for run in shard.runs_of(job.goal.run_key) if run.remote_id]
    unfetched = [run for run in runs if not (run.fetched or run.has_failed or run.is_gone)]
    return [run for run in unfetched if in_thread(partial(find_info, client, run.remote_id or "")) is None]


def find_unconfirmed(state: State) -> list[tuple[Shard, Run]]:
    """Find the runs whose start is unconfirmed, with their shards."""
    return [(shard, run) for shard in state.load_shards() for run in shard.runs if run.is_open]


def _describe_left(found: Inspected) -> str:
    entry = found.entry
    return f"run {entry.run_id or 'of unknown id'} on batch {entry.batch_id}, paid for before: {found.why}"


def _describe_unknown(shard: Shard, run: Run) -> str:
    when = datetime.fromtimestamp(run.intent_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if run.intent_s else "unknown"
    first = shard.members[0].path or shard.members[0].name if shard.members else "none"
    files = f"{count(len(shard.members), 'file')} ({first}{' …' * (len(shard.members) > 1)})"
    refused = f"refused, {run.refused}; apply checks whether it exists, and starts it if not" if run.refused else ""
    why = run.unknown or refused or "its start is unconfirmed; apply checks whether it exists"
    return f"a run on batch {run.remote_batch or None} of {files}, begun {when}, with tag {run.tag}: {why}"


def resubmit_runs(job: Job, state: State, client: AIHub, found: Undecided) -> None:
    """Allow unconfirmed runs to be paid for, after one more check. Raises InputError if one exists."""
    given_up = [(shard, run) for shard, run in found.unknown if run.unknown]
    if not given_up and not found.left and not found.missing:
        raise InputError(
            "resolve: apply has not checked any unconfirmed run yet",
            f"run `{job.command('apply')}` first to check what exists",
        )
    for shard, run in given_up:
        settled_at_s = time.monotonic() + run.since.left_s(job.spec.limits.settle_s)
        step = find_step(state, job.goal.target, shard, run, settled_at_s)
        outcome = in_thread(lambda step=step: find_run(client, step))  # type: ignore[misc]
        if isinstance(outcome, RunSeen):
            state.record_run(run.id, *outcome.info.facts)
            raise InputError(
                f"resolve: run {outcome.info.id} was started after all, and was imported",
                f"run `{job.command('apply')}` to fetch its results",
            )
        state.record_given_up(run.id)
    if found.missing:
        tags = {tag for run in in_thread(lambda: client.list_runs(1)) for tag in run.tags or ()}
        for run in found.missing:
            if run.tag in tags:
                what = f"resolve: a run with the tag of run {run.remote_id} exists"
                raise InputError(what, f"run `{job.command('apply')}`, which finds it")
            state.record_run_gone(run.id)
    state.record_dismissed(item.entry for item in found.left)


def adopt_run(state: State, client: AIHub, found: Undecided, run_id: str) -> None:
    """Record that an unconfirmed run is this one. Raises InputError if it is another."""
    if run_id in state.known_runs():
        raise InputError(f"run {run_id}: belongs to other work already", "choose another run")
    left = next((item for item in found.left if item.entry.run_id == run_id), None)
    if left is not None and found.finder is not None:
        _adopt_left(state, left, found.finder)
        return
    info = in_thread(lambda: client.get_run(run_id))
    fitting = [(shard, run) for shard, run in found.unknown if not _misfit(info, run)]
    if len(fitting) != 1:
        known = ", ".join(f"{run.remote_batch} (tag {run.tag})" for _, run in found.unknown) or "none"
        why = next((_misfit(info, run) for _, run in found.unknown), "")
        raise InputError(
            f"run {run_id}: is on batch {info.batch_id}{why and ', ' + why}; unconfirmed runs are on batches {known}",
            "choose another run",
        )
    [(shard, run)] = fitting
    if shard.sendable or info.batch_id:  # nobody knows which files a run on a folder should have
        _check_names(client, info, run, {member.name for member in shard.members})
    state.record_run(run.id, *info.facts)


def _adopt_left(state: State, left: Inspected, finder: Finder) -> None:
    """Trust the lock file for a run that can no longer be verified. Raises InputError for one that contradicts it."""
    if is_contradicted(left):
        what = f"{left.why} than the lock file says"
        raise InputError(what, "restore the lock file from Git if it was merged wrongly, else use --resubmit")
    members = match_kept(left.entry, ()) if left.entry.kept else finder.trust(left)
    if not members:
        raise InputError(f"run {left.entry.run_id}: the lock file does not list its files", "restore the state file")
    record_imported(state, left, members)


def _misfit(info: RunInfo, run: Run) -> str:
    """Return why a run does not match an intent, by its batch and its tag; empty if it may match."""
    ours = [tag for tag in info.tags or () if parse_run_tag(tag)]
    if info.batch_id not in (None, run.remote_batch):
        return "on another batch"
    return f"with another tag, {ours[0]}" if ours and run.tag not in ours else ""


def _check_names(client: AIHub, info: RunInfo, run: Run, names: Collection[str]) -> None:
    """Check that a run has the files of an intent: by its results, or by its batch.

    Raises InputError if its files differ, or if neither files nor tag identify it.
    """
    seen: Collection[str] = in_thread(lambda: result_names(client, info))
    if not seen and info.batch_id:
        files = in_thread(lambda: or_none(lambda: client.list_files(run.remote_batch)))
        seen = {unicodedata.normalize("NFC", name) for name in files or ()}
    others = set(seen) - set(names)
    if others or (not seen and run.tag not in (info.tags or ())):
        what = f"its files differ, {min(others)!r}" if others else "its files are unknown"
        raise InputError(f"run {info.id}: {what}", "choose another run")
