"""Detect patterns that matched files before and match none now: a missing folder must not pass for an empty one."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.errors import ResultsError, RunnerError
from aihub_runner.model import Member, Scan, Shard
from aihub_runner.plan.packets import folder_of
from aihub_runner.plan.planner import Plan
from aihub_runner.spec.patterns import Globs, anchor_names, explain_pattern, list_parts
from aihub_runner.state.store import State
from aihub_runner.text.shown import count


def find_lapsed(job: Job, state: State | None, scan: Scan) -> tuple[str, ...]:
    """List the parts of patterns that matched files before and match none now, unless the spec allows it."""
    if state is None or job.spec.allow_empty:
        return ()
    before = state.load_matched()
    return tuple(part for part in scan.idle if part in before)


def record_matched(job: Job, state: State, scan: Scan) -> None:
    """Record which parts of the spec's patterns match files. A lapsed part stays until the spec allows it."""
    matched = {*scan.busy, *find_lapsed(job, state, scan)}
    if matched != state.load_matched():
        state.record_matched(matched)


def describe_idle(scan: Scan, lapsed: Iterable[str]) -> list[str]:
    """Return a line for each pattern that matches nothing, with the likely reason."""
    known = set(lapsed)
    lines = []
    for part in scan.idle:
        what = "matched files before, and matches none now" if part in known else "matches no files"
        hint = explain_pattern(part)
        lines.append(f"{part} {what}{'; ' * bool(hint)}{hint}")
    return lines


def exclude_lapsed(
    job: Job, plan: Plan, shards: Iterable[Shard], lapsed: Iterable[str]
) -> tuple[Plan, list[RunnerError]]:
    """Skip what a lapsed pattern would cost: batches that would lose files, and folders to pay for without them."""
    shards = list(shards)
    folder = os.path.realpath(job.folder)
    names = [one for pattern in job.spec.files for one in _names_of(pattern, set(lapsed))]
    if not names:
        return plan, []
    missed, kept, errors = Globs([anchor_names(one, folder) for one in names]), dict(plan.members), list[RunnerError]()
    forgotten = set(plan.dissolved)
    for shard in shards:
        if any(missed.matches(member.path) for member in shard.members if member.path):
            forgotten.discard(shard.id)  # its batch continues when the folder is back
        lost = [member for member in shard.members if _is_lost(member, shard, plan) and missed.matches(member.path)]
        if lost:
            del kept[shard.id]
            errors.append(_error(job, shard, lost))
    work = tuple(one for one in plan.work if one.shard.id in kept or one.shard.id not in plan.members)
    if job.goal.by_folder:
        waiting = _list_waiting(shards, missed)
        errors += [_folder_error(job, one.shard) for one in work if _is_new_packet(one.shard, waiting)]
        work = tuple(one for one in work if not _is_new_packet(one.shard, waiting))
    return replace(plan, members=kept, work=work, dissolved=tuple(sorted(forgotten))), errors


def _list_waiting(shards: Iterable[Shard], missed: Globs) -> set[str]:
    """List the folders whose newest packet had a file that matched a pattern which matches nothing now."""
    had = {folder_of(one.path): shard for shard in shards if shard.runs for one in shard.members if one.path}
    return {folder for folder, shard in had.items() if any(missed.matches(one.path) for one in shard.members)}


def _is_new_packet(shard: Shard, waiting: Collection[str]) -> bool:
    return not shard.id and any(folder_of(member.path) in waiting for member in shard.members)


def _folder_error(job: Job, shard: Shard) -> RunnerError:
    folder = folder_of(shard.members[0].path)
    return ResultsError(
        f"{job.shown}: {folder} is not run without files that a pattern matched before, and matches none of now",
        "restore the files, or set allow_empty = true",
    )


def _names_of(pattern: str, lapsed: set[str]) -> list[list[str]]:
    parts = {} if pattern.startswith("!") else list_parts(pattern)
    return [one for part, names in parts.items() if part in lapsed for one in names]


def _is_lost(member: Member, shard: Shard, plan: Plan) -> bool:
    """Whether a file is in a batch and would leave its shard."""
    after = plan.members.get(shard.id)
    sent = any(member.name in batch.uploads for batch in shard.batches)
    return after is not None and sent and all(member.name != one.name for one in after)


def _error(job: Job, shard: Shard, lost: list[Member]) -> RunnerError:
    batch = next((batch.remote_id for batch in shard.batches if batch.remote_id), "of unknown id")
    files = f"{count(len(lost), 'file')} would be deleted from it, {lost[0].path}"
    return ResultsError(
        f"{job.shown}: batch {batch} is skipped, {files}",
        "restore the folder, or set allow_empty = true",
    )
