"""The run of a shard, which costs money: start it, find it after its response was lost, and wait until it ends."""

from __future__ import annotations

from aihub_runner.aihub.schemas import run_body
from aihub_runner.apply import events
from aihub_runner.apply.context import Context
from aihub_runner.apply.polling import poll_delay_s
from aihub_runner.apply.steps import (
    Declined,
    FetchResults,
    FindRun,
    Gone,
    Lost,
    NotThere,
    Outcome,
    PollRun,
    RunSeen,
    StartRun,
    Unsure,
)
from aihub_runner.apply.tasks.batch import REFUSED_FOR_NOW
from aihub_runner.apply.tasks.clones import may_pay
from aihub_runner.errors import ServiceError, UnknownOutcome
from aihub_runner.model import REVIEW_STATUS, Batch, Run, Shard
from aihub_runner.plan.identity import fingerprint_members
from aihub_runner.plan.planner import Action, is_paid_elsewhere, next_action, next_before_run
from aihub_runner.results.reader import lost_error
from aihub_runner.state.store import State
from aihub_runner.system.moment import DAY_S, is_to_come

MAX_YOUNG = 2  # a check follows each, as long as a batch may take to show
YOUNG_S = 10.0  # a new batch may be a 404 at first; so is an app that does not exist, which must be reported soon


def start(context: Context, shard: Shard) -> None:
    """Record the intent of a run, and start it, if there is room and no other clone may pay."""
    progress = context.shards[shard.id]
    if not context.has_room:
        progress.is_checked = False  # the batch may change until there is room
        context.starting.append(shard.id)
        return
    if not may_pay(context, shard):
        return
    batch = context.batch_of(shard)
    if _is_blind(context, batch):
        what = f"{context.job.spec_path.name}: none of the recorded runs exists on the service any more"
        context.park(shard.id, ServiceError(what, "check the context, and whether the account can see its runs"))
        return
    tag = context.tag_of(shard)
    intent = {
        "fingerprint": shard.fingerprint or fingerprint_members(shard.members),
        "run_key": context.goal.run_key,
        "attempt": progress.attempt,
        "tag": tag,
        "batch": batch.id,
        "remote_batch": batch.remote_id,
        "bound_s": _bound_s(context, batch),
        "intent_s": context.now_s,
    }
    progress.has_asked_run = True
    context.state.record_run_intent(shard, intent, context.goal.settings)
    shard = context.load(shard.id)
    run = context.run_of(shard)
    progress.is_checked = False
    context.going.add(run.id)
    deployment_id = context.job.spec.deployment_id or ""
    context.submit(StartRun(shard.id, run.id, deployment_id, _body(context, shard, batch, tag)))


def _is_blind(context: Context, batch: Batch) -> bool:
    """Whether the service hides known runs: none is listed, although the newest is younger than any retention."""
    since_ms = context.ground.blind_since_ns // 10**6
    return bool(since_ms) and batch.created_ms - since_ms < DAY_S * 1000


def _bound_s(context: Context, batch: Batch) -> int:
    """Return a time before any run on a batch, in Unix seconds. It relies on the service's clock only."""
    newest = next(iter(context.state.list_visible(context.goal.target, 1)), None)
    base_s = batch.created_ms // 1000 or (newest.started_ns // 10**9 if newest else 0)
    return 1 if is_to_come(base_s) else max(1, base_s - DAY_S)


def _body(context: Context, shard: Shard, batch: Batch, tag: str) -> dict[str, object]:
    assert batch.remote_id is not None
    values = {name: secret.reveal() for name, secret in context.job.secrets.items()}
    passwords = {member.name: values[member.password] for member in shard.members if member.password}
    hook = context.job.spec.run.webhook
    webhook = (
        {"url": hook.url, "headers": {name: values[ref.env] for name, ref in hook.headers.items()}} if hook else None
    )
    tags = [tag, *context.job.spec.run.tags]
    return run_body(context.goal.settings, batch.remote_id, tags, passwords, webhook)


def find(context: Context, shard: Shard) -> Action | None:
    """Check whether a run exists whose start is unconfirmed; start it again if it is confirmed absent."""
    run, progress = context.run_of(shard), context.shards[shard.id]
    if run.id == progress.absent_run:
        return _start_absent(context, shard, run)
    newest = next(iter(context.state.list_visible(context.goal.target, 1)), None)
    settled_at_s = context.settled_at_s(
        shard.id,
        "a run",
        run.since,
        has_asked=progress.has_asked_run,
        newest=newest.since if newest else None,
    )
    context.submit(find_step(context.state, context.goal.target, shard, run, settled_at_s))
    return None


def find_step(state: State, target: str, shard: Shard, run: Run, settled_at_s: float) -> FindRun:
    """Return the step that checks whether the run of an intent exists; see `FindRun`."""
    newest = next(iter(state.list_visible(target, 1)), None)
    return FindRun(
        shard.id,
        run.id,
        run.tag,
        run.remote_batch,
        state.known_runs(),
        newest.remote_id or "" if newest else "",
        run.bound_s,
        settled_at_s,
        state.batches_of_tag(run.tag, run.id),
        next((batch.created_ms for batch in shard.batches if batch.id == run.batch), 0),
    )


def _start_absent(context: Context, shard: Shard, run: Run) -> Action | None:
    """Start a run that is confirmed absent, if it is still wanted and may be paid."""
    if context.ground.held & {member.path for member in shard.members}:
        what = f"shard {shard.id}: its files may already be paid for, which is unconfirmed"
        context.park(shard.id, UnknownOutcome(what, f"see `{context.job.command('resolve')}`"))
    elif context.shards[shard.id].is_stale:
        context.state.record_given_up(run.id)
        context.reporter.emit(events.RunDropped(shard.id, is_paid=False))
    elif is_paid_elsewhere(shard, context.state.load_shards(), context.goal):
        context.state.record_given_up(run.id)
        context.reporter.emit(events.RunDropped(shard.id, is_paid=True))
    elif not context.stopped_paying:
        return _start_again(context, shard, run)
    return None


def _start_again(context: Context, shard: Shard, run: Run) -> Action:
    """Start a run again once its batch holds the same files; on another batch it is another attempt."""
    progress, batch = context.shards[shard.id], shard.batch_in(context.goal.target)
    if batch is None or batch.id != run.batch:
        context.state.record_given_up(run.id)
        progress.attempt = run.attempt + 1
        return next_action(shard, context.goal, progress.attempt, checked=progress.is_checked)
    action = next_before_run(shard, context.goal.target, checked=progress.is_checked)
    if action is Action.START_RUN:
        progress.absent_run = 0
    return action


def poll(context: Context, shard: Shard) -> None:
    """Ask for the status of a run: at once the first time, then less and less often."""
    run, progress = context.run_of(shard), context.shards[shard.id]
    waits_for_person, was_polled = run.status == REVIEW_STATUS, run.id == progress.polled
    if waits_for_person and was_polled and not context.job.options.wait_for_review:
        return
    is_again = was_polled or run.id in context.started
    if is_again and context.engine.clock() >= context.deadline_s:
        return
    if not was_polled:
        progress.polled, progress.polled_s = run.id, context.engine.clock()
    delay_s = _delay_s(context, progress.polled_s) if is_again else 0.0
    if not waits_for_person:
        context.going.add(run.id)
    assert run.remote_id is not None
    until_s, others = context.young_until_s(run.since), context.others(run)
    step = PollRun(shard.id, run.id, run.remote_id, run.bound_s, until_s, others, run.remote_batch, run.tag)
    context.submit(step, delay_s)


def _delay_s(context: Context, polled_s: float) -> float:
    age_s, limits = context.engine.clock() - polled_s, context.job.spec.limits
    return poll_delay_s(age_s, len(context.going), (limits.poll_min_s, limits.poll_max_s), context.run_times_s)


def record(context: Context, step: StartRun | FindRun | PollRun | FetchResults, outcome: Outcome) -> None:
    """Record what is known of a run by now."""
    match step, outcome:
        case _, RunSeen(info, twins):
            if isinstance(step, StartRun):
                context.reporter.emit(events.RunStarted(info.id))
                context.clear_trouble()
                context.started.add(step.run)
                context.unrecorded.append(info)
            context.record_seen(step.run, info, twins)
        case StartRun(), Declined(error):
            context.going.discard(step.run)
            context.state.record_run_refused(step.run, str(error.status))
            context.shards[step.shard].refused += 1
            context.wait_or_leave(step, error, may_pass=_may_pass(context, step, error))
        case StartRun(), Lost(at_s, error):
            context.going.discard(step.run)
            context.state.record_run_lost(step.run, at_s)
            context.count_lost(step, error)
        case FindRun(), NotThere() | Unsure():
            _record_absent(context, step, outcome)
        case ((PollRun() | FetchResults()), Gone()):
            _record_gone(context, step)
        case _, _:
            context.going.discard(step.run)
            context.record_failed(step, outcome)


def _may_pass(context: Context, step: StartRun, error: ServiceError) -> bool:
    if error.status in REFUSED_FOR_NOW:
        return True
    if error.status != 404 or context.shards[step.shard].refused > MAX_YOUNG:
        return False
    shard = context.load(step.shard)
    batch = next(batch for run in shard.runs for batch in shard.batches if (run.id, batch.id) == (step.run, run.batch))
    return bool(batch.since.boot) and batch.since.left_s(YOUNG_S) > 0


def _record_gone(context: Context, step: PollRun | FetchResults) -> None:
    """Record that a run is gone. If none of its results were fetched, it has failed."""
    context.state.record_run_gone(step.run)
    context.going.discard(step.run)
    run = next(run for run in context.load(step.shard).runs if run.id == step.run)
    if run.fetched:
        context.park(step.shard, lost_error(run, context.goal))
    else:
        context.reporter.emit(events.RunGone(step.remote_id))


def _record_absent(context: Context, step: FindRun, outcome: NotThere | Unsure) -> None:
    """Allow a run that is confirmed absent to be started again; else let the user decide."""
    if isinstance(outcome, Unsure):
        _park_unknown(context, step, outcome.why)
    elif context.job.spec.run.on_lost == "stop" and _is_lost(context, step):
        _park_unknown(context, step, 'not found, and the spec says on_lost = "stop"')
    else:
        context.shards[step.shard].absent_run = step.run


def _is_lost(context: Context, step: FindRun) -> bool:
    """Whether no response came at all. A refused request is repeated once it is confirmed absent."""
    return not any(run.id == step.run and run.refused for run in context.load(step.shard).runs)


def _park_unknown(context: Context, step: FindRun, why: str) -> None:
    context.state.record_run_unknown(step.run, why)
    message = f"shard {step.shard}: unconfirmed whether its run was started, {why}"
    context.park(step.shard, UnknownOutcome(message, f"see `{context.job.command('resolve')}`"))
