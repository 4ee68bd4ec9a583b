"""A batch that is kept: what it holds now, how it must change, what stands in the way, and which shard is run on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.context import Context
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.lapsed import find_lapsed
from aihub_runner.apply.scheduler import Scheduler
from aihub_runner.apply.survey import VISIBLE
from aihub_runner.apply.tasks.content import follow, list_batch, list_busy, list_going
from aihub_runner.apply.tasks.turn import take_turn
from aihub_runner.errors import (
    InputError,
    Interrupted,
    ResultsError,
    RunnerError,
    ServiceError,
    Shortage,
    StillGoing,
    UnknownOutcome,
)
from aihub_runner.model import FOREIGN, OWN, Batch, Changes, Look, Scan, Shard
from aihub_runner.plan.deletion import BATCH, Item
from aihub_runner.plan.identity import batch_name, fingerprint_home
from aihub_runner.plan.packets import REFUSED, RETRY_REFUSED, explain_wait, may_follow
from aihub_runner.plan.planner import PAYS, Action, Plan, Work
from aihub_runner.state.lockfile import load_lockfile
from aihub_runner.state.store import State
from aihub_runner.text.escape import clean_text
from aihub_runner.text.shown import count


def look_at_batch(job: Job, state: State | None, client: AIHub) -> Job:
    """Return the job with what its kept batch holds now. Raises ServiceError where the batch cannot be listed."""
    if not job.goal.kept:
        return job
    remote_id = job.goal.batch_id if job.goal.kept == FOREIGN else _find_own(job, state, client)
    if not remote_id:
        return job
    name = home_name(job) if job.goal.kept == OWN else ""
    is_others = bool(name) and _is_named_otherwise(client, remote_id, name)  # a restored service gave its id again
    files = None if is_others else in_thread(partial(list_batch, client, remote_id))
    if files is not None:
        return replace(job, look=Look(remote_id, files, name))
    if job.goal.kept == FOREIGN:
        raise ServiceError(
            f"{job.shown}: batch {remote_id} does not exist, or this account cannot see it",
            "check id in [batch], and the context",
            status=404,
        )
    if not is_others:
        _check_gone(job, state, client, remote_id)
        if state and state.is_writable:  # before it is given up: a list may lack it for a while
            client.pause(job.spec.limits.settle_s)
            _check_gone(job, state, client, remote_id)
    for batch in (batch for shard in _load(state) for batch in shard.batches if batch.remote_id == remote_id):
        if state and state.is_writable and not batch.is_gone:
            state.record_batch_gone(batch.id)
    return job


def _is_named_otherwise(client: AIHub, remote_id: int, name: str) -> bool:
    """Whether the batch of an id is another one by now."""
    info = in_thread(lambda: or_none(lambda: client.get_batch(remote_id)))
    return info is not None and info.name != name


def home_name(job: Job) -> str:
    """Return the name of the one batch of a job."""
    return batch_name(job.spec.name, fingerprint_home(job.goal.target))


def _load(state: State | None) -> list[Shard]:
    return state.load_shards() if state else []


def _find_own(job: Job, state: State | None, client: AIHub) -> int:
    """Find our own batch: in the state or the lock file, and on the service by its name; 0 where there is none.

    Where clones have several, the oldest is in use.
    """
    ours = [batch.remote_id for batch in _own_batches(job, state) if batch.is_verified and not batch.is_gone]
    ours = ours or [entry.batch_id for entry in load_lockfile(job.lock_path) if _is_own(job, entry)]
    return min({*filter(None, ours), *_list_named(job, client)} - _list_gone(state), default=0)


def _own_batches(job: Job, state: State | None) -> Iterator[Batch]:
    """Yield what is recorded of our own batches that are kept."""
    home = fingerprint_home(job.goal.target)
    for shard in _load(state):
        for batch in shard.batches:
            if batch.target == job.goal.target and (batch.kept == OWN or shard.fingerprint == home):
                yield batch


def _list_gone(state: State | None) -> set[int]:
    """List the batches that are not used any more: those that are gone, or that the service may still delete."""
    gone = {batch.remote_id or 0 for shard in _load(state) for batch in shard.batches if batch.is_gone}
    deletions = state.load_deletions() if state else {}
    return gone - {int(one) for (kind, one), found in deletions.items() if kind == BATCH and not found.parts}


def _list_named(job: Job, client: AIHub) -> list[int]:
    """List the batches of our own name: clones that start at once create one each."""
    name = home_name(job)
    return [batch.id for batch in in_thread(lambda: client.list_batches(job.target.workspace)) if batch.name == name]


def _is_own(job: Job, entry: object) -> bool:
    return (
        getattr(entry, "kept", "") == OWN
        and getattr(entry, "target", "") == job.goal.target
        and not getattr(entry, "is_deleted", True)
    )


def _check_gone(job: Job, state: State | None, client: AIHub, remote_id: int) -> None:
    """Raise ServiceError unless this batch is not listed, and the account sees what else there should be to see.

    Where no list has to show anything of this job, the batch may have been all that there was: an account that shows
    nothing at all is then as good as one that shows others. Else this would never end.
    """
    batches = in_thread(lambda: client.list_batches(job.target.workspace))
    is_listed = any(batch.id == remote_id for batch in batches)
    known = state.known_runs() if state else frozenset[str]()
    sees = bool(batches) or any(run.id in known for run in in_thread(lambda: client.list_runs(1)))
    if is_listed or not (sees or _expects_nothing(job, state)):
        way_out = "" if is_listed else f"; if it was deleted with its runs, decide with `{job.command('resolve')}`"
        raise ServiceError(
            f"{job.shown}: batch {remote_id} returned 404, which proves nothing",
            f"check the context and the workspace, or apply again in a while{way_out}",
            status=404,
        )


def _expects_nothing(job: Job, state: State | None) -> bool:
    """Whether all runs that a list should show are of no further use: they may have been deleted with their batch."""
    visible = state.list_visible(job.goal.target, VISIBLE) if state else []
    return all(run.fetched or run.has_failed for run in visible)


# What stands in the way


def leave_out_blocked(opened: OpenJob, plan: Plan) -> tuple[Plan, list[RunnerError]]:
    """Return the plan without what must not be done to a kept batch now, and why."""
    job = opened.job
    if not job.goal.follows or not (plan.changes or any(item.action in PAYS for item in plan.work)):
        return plan, []
    busy = _list_busy(opened) if plan.changes and job.look else []
    error = find_obstacle(job, opened.state, opened.scan, plan, busy)
    if error is None:
        return plan, []
    work = tuple(item for item in plan.work if item.action not in PAYS)
    return replace(plan, work=work, changes=replace(plan.changes, add=(), replace=(), delete=())), [error]


def _list_busy(opened: OpenJob) -> list[str]:
    """List the runs that need the batch as it is: those that still go, and those that may have been started."""
    job, state = opened.job, opened.state
    assert job.look
    remote_id = job.look.remote_id
    started = [
        run for shard in state.load_shards() for run in shard.runs if run.is_open and run.remote_batch == remote_id
    ]
    doubtful = ["a run whose start is unconfirmed"] * bool(started)
    going = list_going(state, remote_id)
    return doubtful + in_thread(lambda: list_busy(opened.client, remote_id, going))


def find_obstacle(job: Job, state: State | None, scan: Scan, plan: Plan, busy: Iterable[str]) -> RunnerError | None:
    """Return why a kept batch must not be changed or run now; None where it may be."""
    changes = plan.changes
    batch = f"{job.shown}: batch {changes.remote_id or 'of this job'}"
    if lapsed := find_lapsed(job, state, scan):
        what = f"{batch} is left as it is, {lapsed[0]} matched files before, and matches none now"
        return ResultsError(what, "restore the files, or set allow_empty = true")
    if item := next(filter(may_follow, scan.skipped), None):
        hint = RETRY_REFUSED if item.reason == REFUSED else "check that file, and apply again"
        return ResultsError(f"{batch} is left as it is while {item.path} {explain_wait(item)}", hint)
    if changes.doubtful:
        shown = f"{clean_text(changes.doubtful[0])}{' …' * (len(changes.doubtful) > 1)}"
        files = count(len(changes.doubtful), "file")
        what = f"{batch} holds {files} that this job is not known to have put there, {shown}"
        return UnknownOutcome(what, _way_out(job))
    number = len(changes.foreign)
    if number != job.options.confirm_delete and job.goal.exact:
        shown = ", ".join(map(clean_text, changes.foreign)) or "none"
        what = f"{batch} holds {count(number, 'file')} of others to delete or replace: {shown}"
        return InputError(what, f"if they may go, apply with --confirm-delete {number}" if number else "leave it out")
    if first := next(iter(busy), ""):
        return StillGoing(f"{batch} is not changed while it is in use: {first}", "apply again when that run has ended")
    return None


def _way_out(job: Job) -> str:
    if job.goal.adopts:
        return "remove them from the batch if they do not belong there, then apply again"
    ours = "if this job did, apply with --adopt, which replaces those that it selects"
    return f"{ours}; else rename your files, or remove those from the batch"


# Shards on the batch


def plan_home(opened: OpenJob, work: Iterable[Work]) -> list[Work]:
    """Return the work that creates the one batch of a job, if it is needed and there is none."""
    job, state = opened.job, opened.state
    if job.goal.kept != OWN or job.look or not any(item.action in PAYS for item in work):
        return []
    home = fingerprint_home(job.goal.target)
    shard = next((one for one in state.load_shards() if one.fingerprint == home), None)
    if shard is None:
        [shard] = state.load_shards(state.record_shard((), home))
    return [Work(shard, 1, Action.CREATE_BATCH, "the batch of this job")]


def look_at_home(opened: OpenJob) -> OpenJob:
    """Return the job with its new batch, which is empty, or with an older one of the same name: another clone's."""
    home = fingerprint_home(opened.job.goal.target)
    shard = next((one for one in opened.state.load_shards() if one.fingerprint == home), None)
    batch = shard.batch_in(opened.job.goal.target) if shard else None
    if batch is None or batch.remote_id is None or not batch.is_verified:
        return opened
    look = Look(batch.remote_id, {}, batch.name)
    oldest = min({batch.remote_id, *_list_named(opened.job, opened.client)} - _list_gone(opened.state), default=0)
    if oldest not in (0, batch.remote_id):
        files = in_thread(partial(list_batch, opened.client, oldest))
        look = look if files is None else Look(oldest, files, batch.name)
    return replace(opened, job=replace(opened.job, look=look))


def record_places(opened: OpenJob, work: Iterable[Work]) -> None:
    """Record, for each shard that is about to be run on the kept batch, that the batch holds it now."""
    job, state, look = opened.job, opened.state, opened.job.look
    if not job.goal.kept or look is None:
        return
    for item in work:
        if item.action not in PAYS:
            continue
        _record_home(opened, look)
        with state.transaction():
            [shard] = state.load_shards(item.shard.id)
            batch = shard.batch_in(job.goal.target)
            if batch and not (batch.kept and batch.remote_id == look.remote_id):
                state.record_batch_gone(batch.id)
                batch = None
            identity = (shard.id, job.goal.target, look.remote_id, job.goal.kept, look.name)
            row = batch.id if batch else state.record_kept_batch(*identity)
            state.record_uploads(row, ((member.name, member.digest) for member in shard.members))
            state.record_modified(row, {name: file.modified_s or 0 for name, file in look.files.items()})


def _record_home(opened: OpenJob, look: Look) -> None:
    """Record the id of our own batch where its creation was unconfirmed, and it was found by its name."""
    home = fingerprint_home(opened.job.goal.target)
    shard = next((one for one in opened.state.load_shards() if one.fingerprint == home), None)
    batch = shard.batch_in(opened.job.goal.target) if shard else None
    if batch and batch.remote_id is None:
        opened.state.record_batch(batch.id, look.remote_id)
        opened.state.record_batch_verified(batch.id, 0)


# Change it


def change_batch(
    context: Context, opened: OpenJob, changes: Changes, work: Sequence[Work]
) -> tuple[OpenJob, Sequence[Work]]:
    """Make a kept batch hold what was planned, and return the job with what it holds, and the work that can be done."""
    if not opened.job.goal.follows or context.stopped_paying:
        return opened, work
    try:
        if home := plan_home(opened, work):
            Scheduler(context).run(home)
            opened = look_at_home(opened)
            changes = replace(changes, remote_id=opened.job.look.remote_id if opened.job.look else 0)
        paying = [item for item in work if item.action in PAYS]
        if opened.job.look and (changes or paying):
            take_turn(opened, opened.job.look.remote_id)
            for item in paying:
                context.shards[item.shard.id].has_turn = True
        if changes and opened.job.look:
            files = follow(opened, changes)
            opened = replace(opened, job=replace(opened.job, look=replace(opened.job.look, files=files)))
    except (ServiceError, StillGoing, Interrupted, Shortage) as error:
        context.errors += [error] * (not isinstance(error, Interrupted))
        return opened, [item for item in work if item.action not in PAYS]
    return opened, work if opened.job.look else [item for item in work if item.action not in PAYS]


def take_turns(opened: OpenJob, items: Iterable[Item]) -> None:
    """Wait for our turn on the kept batches among what is to be deleted: another clone may be about to run one."""
    own = {str(batch.remote_id) for batch in _own_batches(opened.job, opened.state)}
    for item in items:
        if item.kind == BATCH and item.remote_id in own and not item.was_gone:
            take_turn(opened, int(item.remote_id), "destroy again later")
