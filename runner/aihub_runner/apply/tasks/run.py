"""The run of a shard, which costs money: start it, find it after its response was lost, and wait until it ends."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import RunInfo, run_body
from aihub_runner.apply import events
from aihub_runner.apply.polling import poll_delay_s
from aihub_runner.apply.reused import describe_reused, is_reused
from aihub_runner.apply.steps import Declined, Gone, Lost, NotThere, Outcome, RunSeen, Step, Unsure
from aihub_runner.apply.tasks.batch import is_refused_for_now
from aihub_runner.apply.tasks.clones import may_pay
from aihub_runner.apply.tasks.settle import is_settled
from aihub_runner.errors import ListingCut, ServiceError, UnknownOutcome
from aihub_runner.model import FINAL_STATUSES, REVIEW_STATUS, Batch, Run, Shard
from aihub_runner.plan.cover import is_paid_elsewhere
from aihub_runner.plan.identity import fingerprint_of
from aihub_runner.plan.planner import Action, lost_error, next_action, next_before_run
from aihub_runner.system.moment import DAY_S, is_to_come

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context
    from aihub_runner.apply.tasks.fetch import FetchResults
    from aihub_runner.state.store import State

GLANCE_ABOVE = 10  # open runs: with more, see by one list which of them to ask for
GLANCES_PER_POLL = 10  # then ask for each run all the same, at every tenth time: the list may be old
MAX_YOUNG = 2  # a check follows each, as long as a batch may take to show
YOUNG_S = 10.0  # a new batch may be a 404 at first; so is an app that does not exist, which must be reported soon
DAY_MS = 86_400_000


class StartRun(Step, frozen=True):
    """Start a run, which costs money. Row `run` records the intent. The body may hold passwords."""

    run: int
    deployment_id: str
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"StartRun(run={self.run}, deployment_id={self.deployment_id!r})"


class FindRun(Step, frozen=True):
    """Check whether a run exists after its start was unconfirmed, among all runs since `from_s`.

    `known` are the ids in the state, `newest` is the newest of them (or empty): a listing without it cannot be trusted.
    `same_tag` are those of `known` with this tag, `siblings` the batches of all other runs and intents with it.
    `created_ms` is when the batch was created (0 where unknown). A listing shows the run by `settled_at_s` (monotonic
    clock of this process).
    """

    run: int
    tag: str
    remote_batch: int
    known: frozenset[str]
    newest: str
    from_s: float
    settled_at_s: float
    siblings: frozenset[int] = frozenset()
    created_ms: int = 0
    same_tag: frozenset[str] = frozenset()


class PollRun(Step, frozen=True):
    """Get the status of a run once. `others` are known runs: a listing without any of them proves no absence.

    If the list of the newest runs still shows `status`, the run itself is not asked for.
    """

    run: int
    remote_id: str
    from_s: float
    young_until_s: float
    others: frozenset[str] = frozenset()
    remote_batch: int = 0
    tag: str = ""
    status: str = ""


class Unchanged(Outcome, frozen=True):
    """The list of runs shows the status that is known. It may be old, so it proves nothing."""


def start(context: Context, shard: Shard) -> None:
    """Record the intent of a run, and start it, if there is room and no other clone may pay."""
    progress = context.shards[shard.id]
    if not context.has_room:
        progress.is_checked = False  # the batch may change until there is room
        context.starting.append(shard.id)
        return
    if not may_pay(context, shard):
        return
    if unknown := [member.path for member in shard.members if member.is_unhashed]:
        context.park(
            shard.id, ServiceError(f"{unknown[0]}: was not read yet, so its run cannot be paid", "apply again")
        )
        return
    batch = context.batch_of(shard)
    if _is_blind(context, batch):
        what = f"{context.job.spec_path.name}: none of the recorded runs exists on the service any more"
        context.park(shard.id, ServiceError(what, "check the context, and whether the account can see its runs"))
        return
    tag = context.tag_of(shard)
    intent = {
        "fingerprint": fingerprint_of(shard),
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
    base_s = batch.created_ms // 1000
    if not base_s:
        newest = next(iter(context.state.list_visible(context.goal.target, 1)), None)
        base_s = newest.started_ns // 10**9 if newest else 0
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


def start_run(client: AIHub, step: StartRun) -> Outcome:
    """Start a run, once."""
    return RunSeen(client.start_run(step.deployment_id, step.body))


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
        state.runs_of_tag(run.tag),
    )


def find_run(client: AIHub, step: FindRun) -> Outcome:
    """Find a run by its exact tag, and return Unsure where its absence proves nothing."""
    seen: dict[str, RunInfo] = {}

    def read() -> Mapping[str, RunInfo]:
        runs = client.list_runs(step.from_s)
        seen.clear()
        seen.update({run.id: run for run in runs})
        return seen

    def ours() -> list[RunInfo]:
        tagged = (run for run in seen.values() if step.tag in (run.tags or ()) and run.id not in step.known)
        return sorted((run for run in tagged if run.batch_id in (None, step.remote_batch)), key=RunInfo.rank)

    try:
        if not is_settled(client, read, step.settled_at_s, lambda: bool(ours())):
            return Unsure("the list of runs keeps changing")
        if not ours() and step.from_s > 1:  # two clocks of the service may differ by more than anybody thinks
            seen.update({run.id: run for run in client.list_runs(1)})
    except ListingCut as error:
        return Unsure(error.message)
    if found := ours():
        return RunSeen(found[0], tuple(run.id for run in found[1:]))
    if step.newest and step.newest not in seen:
        return Unsure(f"known run {step.newest} is missing from the list of runs")
    why = next(filter(None, (_doubt(run, step) for run in seen.values())), "")
    return Unsure(why) if why else NotThere()


def _doubt(run: RunInfo, step: FindRun) -> str:
    """Return why a run may be the wanted one although its id, tag or batch says otherwise; empty if it cannot be."""
    if run.id in step.known:
        return describe_reused(run.id) if is_reused(run, step.tag, step.same_tag, step.siblings) else ""
    if step.tag in (run.tags or ()):
        is_siblings = run.batch_id in step.siblings
        return "" if is_siblings else f"run {run.id} has the same tag, but is on batch {run.batch_id}"
    if run.our_tags:
        return ""  # it is another of ours
    if run.batch_id == step.remote_batch:
        return f"run {run.id} on batch {step.remote_batch} has no tag of ours to identify it"
    if run.batch_id is None and _is_after(run, step.created_ms):
        return f"run {run.id} has neither a batch nor a tag of ours to identify it"
    return ""


def _is_after(run: RunInfo, created_ms: int) -> bool:
    """Whether a run may have started after a batch was created, as far as two clocks of the service agree."""
    return not run.start_timestamp or not created_ms or run.start_timestamp // 1_000_000 >= created_ms - DAY_MS


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
    if is_again and not context.may_wait:
        return
    if not was_polled:
        progress.polled, progress.polled_s = run.id, context.engine.clock()
    if not waits_for_person:
        context.going.add(run.id)
    assert run.remote_id is not None
    until_s, others = context.young_until_s(run.since), context.others(run)
    step = PollRun(shard.id, run.id, run.remote_id, run.bound_s, until_s, others, run.remote_batch, run.tag)
    _submit_poll(context, step, run.status or "", is_again=is_again)


def _submit_poll(context: Context, step: PollRun, status: str, *, is_again: bool) -> None:
    progress = context.shards[step.shard]
    progress.polls += 1
    is_list_enough = progress.polls % GLANCES_PER_POLL != 0 and status != REVIEW_STATUS
    glances = len(context.going) > GLANCE_ABOVE and is_list_enough
    delay_s = _delay_s(context, progress.polled_s) if is_again else 0.0
    context.submit(replace(step, status=status if glances else ""), delay_s)


def _poll_again(context: Context, step: PollRun, status: str) -> None:
    """Ask again for a run that is as it was, without loading its shard, which takes long.

    If anything else may have to be decided, do nothing: then the shard is loaded.
    """
    has_ended = status in FINAL_STATUSES | {REVIEW_STATUS}
    if not (has_ended or context.is_over(step.shard) or context.engine.clock() >= context.deadline_s):
        _submit_poll(context, step, status, is_again=True)


def _delay_s(context: Context, polled_s: float) -> float:
    age_s, limits = context.engine.clock() - polled_s, context.job.spec.limits
    going = len(context.going)
    asked = going / GLANCES_PER_POLL if going > GLANCE_ABOVE else going
    return poll_delay_s(age_s, asked, (limits.poll_min_s, limits.poll_max_s), context.run_times_s)


def poll_run(client: AIHub, step: PollRun) -> Outcome:
    """Get the status of a run. It is gone only if runs can be listed and it is not among them."""
    if step.status and client.glance(step.remote_id, step.from_s) == step.status:
        return Unchanged()
    try:
        return RunSeen(client.get_run(step.remote_id, batch_id=step.remote_batch or None, tag=step.tag))
    except ServiceError as error:
        if error.status != 404 or time.monotonic() < step.young_until_s:
            raise
        check_gone(client, step.remote_id, step.from_s, step.others, step.tag)
        return Gone()


def check_gone(client: AIHub, run_id: str, from_s: float, others: Collection[str] | None, tag: str) -> None:
    """Check that a run which returned 404 does not exist any more.

    Two listings must agree, and each must hold another known run: an account that may not see runs gets empty listings,
    too. A run with our `tag` is one: its start was answered with a wrong id. None for `others` says that nothing
    depends on the answer. Raises ServiceError if the check fails.
    """
    for _ in range(2):
        runs = client.list_runs(from_s)
        listed, tagged = {run.id for run in runs}, any(tag in (run.tags or ()) for run in runs)
        if run_id in listed:
            raise ServiceError(f"run {run_id}: returned 404, but is listed", "apply again in a while", status=404)
        if others is not None and listed.isdisjoint(others) and not tagged:
            raise ServiceError(
                f"run {run_id}: returned 404, and no other known run is listed either",
                "check the context, and whether the account can see its runs; if it can, decide with `runner resolve`",
                status=404,
            )


def record(context: Context, step: StartRun | FindRun | PollRun, outcome: Outcome) -> None:
    """Record what is known of a run by now."""
    match step, outcome:
        case PollRun(), Unchanged():
            _poll_again(context, step, step.status)
        case PollRun(), RunSeen(info) if info == context.seen.get(step.run):
            _poll_again(context, step, info.status)
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
        case PollRun(), Gone():
            record_gone(context, step)
        case _, _:
            context.going.discard(step.run)
            context.record_failed(step, outcome)


def _may_pass(context: Context, step: StartRun, error: ServiceError) -> bool:
    if is_refused_for_now(error):
        return True
    if error.status != 404 or context.shards[step.shard].refused > MAX_YOUNG:
        return False
    shard = context.load(step.shard)
    batch = next(batch for run in shard.runs for batch in shard.batches if (run.id, batch.id) == (step.run, run.batch))
    return bool(batch.since.boot) and batch.since.left_s(YOUNG_S) > 0


def record_gone(context: Context, step: PollRun | FetchResults) -> None:
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
    elif context.goal.input and _is_lost(context, step):
        _park_unknown(context, step, "not found by its tag, and it has no batch to check")
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
