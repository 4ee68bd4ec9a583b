"""Delete on the service what `[cleanup]` of a spec asks for, after its results are on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from aihub_runner.apply.background import in_thread
from aihub_runner.apply.delivery import write_lockfile
from aihub_runner.apply.events import DeletionStarted
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.recovery import find_info
from aihub_runner.apply.tasks.delete import Deleter
from aihub_runner.apply.tasks.run import check_gone
from aihub_runner.errors import ResultsError, RunnerError, ServiceError
from aihub_runner.model import Run
from aihub_runner.plan.deletion import BATCH, OUTPUT, RUN, Item, Wish, keeps_run, plan_cleanup
from aihub_runner.state.store import State


def clean_up(opened: OpenJob) -> list[RunnerError]:
    """Delete what `[cleanup]` asks for, of runs whose results are on disk. Return what could not be deleted."""
    job, state = opened.job, opened.state
    wish = cleanup_wish(job)
    if not wish.parts:
        return []
    find_ended(opened, is_all=False)
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


def find_ended(opened: OpenJob, *, is_all: bool) -> None:
    """Ask for the runs that had not ended when last asked for: of earlier settings, as apply does not, or of all."""
    job, state, client = opened.job, opened.state, opened.client
    ours = _runs_of_target(job, state)
    for run in ours if is_all else _of_earlier(job, ours):
        if run.is_final or run.is_gone or run.is_deleted:
            continue
        assert run.remote_id
        info = in_thread(partial(find_info, client, run.remote_id))
        if info and run.tag in (info.tags or ()):
            state.record_run(run.id, *info.facts)
        elif info is None and not (run.since.boot and run.since.left_s(job.spec.limits.settle_s)):
            others = {other.remote_id or "" for other in ours} - {run.remote_id}
            with suppress(ServiceError):  # then it keeps its last status
                in_thread(partial(check_gone, client, run.remote_id, run.bound_s, others, run.tag))
                state.record_run_gone(run.id)


def describe_kept(job: Job, state: State) -> list[str]:
    """Return a note for each run of earlier settings that `[cleanup]` leaves on the service."""
    if not cleanup_wish(job).parts:
        return []
    runs = _of_earlier(job, _runs_of_target(job, state))
    kept = {run.remote_id: why for run in runs if not run.is_deleted and (why := keeps_run(run, job.goal))}
    hint = f"`{job.command('destroy --discard-unfetched')}` deletes it with all of the job once it has ended"
    return [f"[cleanup] leaves run {run}, of earlier settings: it {why}; {hint}" for run, why in kept.items()]


def _runs_of_target(job: Job, state: State) -> list[Run]:
    """List the runs with an id. In another context, the service knows nothing of them."""
    shards = state.load_shards()
    rows = {batch.id for shard in shards for batch in shard.batches if batch.target == job.goal.target}
    return [run for shard in shards for run in shard.runs if run.remote_id and run.batch in rows]


def _of_earlier(job: Job, runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.run_key != job.goal.run_key]


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
