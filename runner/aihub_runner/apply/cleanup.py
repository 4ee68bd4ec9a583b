"""Delete on the service what `[cleanup]` of a spec asks for, after its results are on disk."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from aihub_runner.apply.delivery import write_lockfile
from aihub_runner.apply.events import DeletionStarted
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.tasks.delete import Deleter
from aihub_runner.errors import ResultsError, RunnerError
from aihub_runner.plan.deletion import BATCH, OUTPUT, RUN, Item, Wish, plan_cleanup
from aihub_runner.state.store import State


def clean_up(opened: OpenJob) -> list[RunnerError]:
    """Delete what `[cleanup]` asks for, of runs whose results are on disk. Return what could not be deleted."""
    job, state = opened.job, opened.state
    wish = cleanup_wish(job)
    if not wish.parts:
        return []
    shards = state.load_shards()
    runs = [(shard, run) for shard in shards for run in shard.runs if job.goal.include in run.fetched]
    wish = replace(
        with_facts(wish, job, state),
        unanswered=frozenset(
            run.id
            for shard, run in runs
            if {member.name for member in shard.members} - state.load_answers(run.id, job.goal.include).keys()
        ),
    )
    items = plan_cleanup(shards, wish)
    if not items:
        return []
    try:
        deleter = delete_items(opened, items)
    except RunnerError as error:
        return [error]
    hint = f"apply again, or run `{job.command('destroy')}`"
    return [ResultsError(f"cleanup: {item.kind} {item.remote_id}: {item.left}", hint) for item in deleter.left]


def cleanup_wish(job: Job) -> Wish:
    """Return what `[cleanup]` of a job asks to delete."""
    parts = frozenset(job.spec.cleanup.parts)
    return Wish(job.goal, parts=parts | OUTPUT if "output" in parts else parts)


def with_facts(wish: Wish, job: Job, state: State) -> Wish:
    """Add what is recorded about deletions, and the job's goal with the damage on disk."""
    deletions = state.load_deletions()
    done = {key: deletion.parts for key, deletion in deletions.items() if deletion.is_done}
    return replace(wish, goal=job.goal, deleted=done, begun=deletions.keys() - done.keys())


def delete_items(opened: OpenJob, items: Sequence[Item]) -> Deleter:
    """Delete items. However it ends, the lock file says afterwards what is deleted."""
    job, state = opened.job, opened.state
    kinds = [item.kind for item in items]
    opened.reporter.emit(DeletionStarted(kinds.count(BATCH), kinds.count(RUN)))
    deleter = Deleter(job, state, opened.client)
    try:
        deleter.delete(items)
    finally:
        write_lockfile(job, state, state.load_shards())
    return deleter
