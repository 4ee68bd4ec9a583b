"""Which files are paid for. Pure: no disk, no network, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aihub_runner.model import Goal, Run, Shard, Source


def covers(run: Run, goal: Goal) -> bool:
    """Whether a run pays for its files: it has not failed, and `--again` does not ask for another one."""
    return not run.has_failed and not _is_superseded(run, goal)


def is_paid_elsewhere(shard: Shard, shards: Iterable[Shard], goal: Goal) -> bool:
    """Return whether a file of a shard whose run is open is paid for by another shard, or is to be by an earlier one.

    Another state may have paid for it in the meantime, which was imported with a shard of its own. A case, and the
    content of a kept batch, are paid for as a whole: other ones may share files with them.
    """
    files = {(path, identity) for path, identity in shard.files if path}
    is_whole = goal.by_folder or shard.is_kept
    others = (
        other
        for other in shards
        if other.id != shard.id and (other.files == shard.files if is_whole else other.files & files)
    )
    return any(
        covers(run, goal) and not (run.is_open and other.id > shard.id)
        for other in others
        for run in other.runs_of(goal.run_key)
    )


def _is_superseded(run: Run, goal: Goal) -> bool:
    """Whether `--again` pays for this run's work once more: the run is complete and older than that request."""
    return goal.again and run.status == "COMPLETE" and run.id <= goal.again_after


def cover_files(shards: Iterable[Shard], goal: Goal, present: Mapping[str, Source]) -> dict[str, str]:
    """Return for each present file, by path, that was run under today's key whether it is done or failed."""
    cover: dict[str, str] = {}
    for shard in shards:
        runs = [run for run in shard.runs_of(goal.run_key) if not run.is_given_up]
        if not runs or all(_is_superseded(run, goal) for run in runs):
            continue
        verdict = "done" if any(covers(run, goal) for run in runs) else "failed"
        for member in shard.members:
            source = present.get(member.path)
            is_same = source and source.digest == member.digest and source.password == member.password  # `is_sent_as`
            if is_same and (verdict == "done" or member.path not in cover):
                cover[member.path] = verdict
    return cover
