"""Which of several clones pays, if they apply at once: the one with the older batch, or the older claim on a batch.

A claim is an empty batch, since the service puts only the creation of batches in order.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply import events
from aihub_runner.apply.reused import describe_reused, is_reused
from aihub_runner.apply.steps import NotThere, Outcome, RunSeen, Step, Unsure
from aihub_runner.apply.tasks.settle import LOOK_EVERY_S, READINGS
from aihub_runner.errors import AnswerLost, ListingCut, Refused, ServiceError, UnknownOutcome
from aihub_runner.model import Batch, Shard
from aihub_runner.plan.identity import claim_name, claim_stem, parse_run_tag, stem_of_claim
from aihub_runner.system.moment import DAY_S

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context

CLAIMS_EVERY_S = 0.5
CLAIM_S = 3600.0  # how long to use a claim of an earlier apply


class ClaimRun(Step, frozen=True):
    """Create a claim, a batch of this `name`, to start a run. `own` are the names of this state's claims."""

    name: str
    workspace: str
    own: frozenset[str]
    settle_s: float


class Claimed(Outcome, frozen=True):
    """Our claim is listed; `elder` is an older one of another client, or 0."""

    elder: int


class AwaitTwin(Step, frozen=True):
    """Wait for the run of another clone, which has an older batch of the same name, or an older claim on ours.

    `elder` is the id of that batch. `may_take_over` says that we may pay where no such run shows. `known` are the runs
    that the state has, `newest` is the newest of them (or empty): a listing without it proves no absence. `same_tag`
    are those of `known` with this tag, `siblings` their batches. `is_fixed` says that the content of that batch never
    changes again once it was run.
    """

    batch: int
    tag: str
    elder: int
    from_s: float
    settled_at_s: float
    may_take_over: bool = False
    known: frozenset[str] = frozenset()
    newest: str = ""
    same_tag: frozenset[str] = frozenset()
    siblings: frozenset[int] = frozenset()
    is_fixed: bool = False


class RanOther(Outcome, frozen=True):
    """The older batch was run, and with other content than ours: nobody pays for ours in it."""


class Checked(Outcome, frozen=True):
    """The batch holds what the shard holds, except for the `missing` files.

    `modified` are the times (Unix seconds) that the service lists. `elders` are others' older batches of the
    same name. `is_claimed` says that somebody claims the run. Not `is_listed`: the list of batches lacks this one.
    """

    missing: tuple[str, ...]
    modified: Mapping[str, int] = {}
    elders: tuple[int, ...] = ()
    is_claimed: bool = False
    is_listed: bool = True


def note_checked(context: Context, shard: int, found: Checked) -> None:
    """Note what a check of a batch found about others. Shards of the same names and bytes have one elder each."""
    progress = context.shards[shard]
    progress.is_claimed = progress.is_claimed or found.is_claimed
    taken = {other.elder for number, other in context.shards.items() if number != shard} | progress.others
    elder = next((elder for elder in found.elders if elder not in taken), progress.elder)
    if elder != progress.elder:
        progress.is_settled = False  # what was settled concerned another one
    progress.elder = elder


def may_pay(context: Context, shard: Shard) -> bool:
    """Whether no other clone may pay for a shard; else take the step that finds out."""
    progress, batch = context.shards[shard.id], context.batch_of(shard)
    if progress.is_settled or context.job.options.again or context.job.is_fake:
        return True  # nobody else can use the embedded fake at the same time
    if progress.elder:
        context.reporter.emit(events.OlderBatch(progress.elder))
        _await(context, shard, progress.elder, context.settle_s, is_fixed=not batch.kept)
    elif progress.has_turn:  # whoever had it before us has its run in the list by now
        _await(context, shard, context.remote_batch_of(shard)[1], 0.0, is_ours=True)
    elif progress.is_found and not progress.is_claimed:
        _await_owner(context, shard)
    elif batch.name and not batch.kept and not progress.is_claimed:
        return True  # the batch is ours, and nobody else knows it
    elif progress.claim is None:
        _claim(context, shard, batch)
    else:
        _await_claims(context, shard, progress.claim)
    return False


def _claim(context: Context, shard: Shard, batch: Batch) -> None:
    assert batch.remote_id is not None
    tag = context.tag_of(shard)
    target = f"claim {tag}"  # a claim is a batch, with a target of its own
    claim = shard.batch_in(target)
    if claim and not 0 < claim.since.left_s(CLAIM_S) < CLAIM_S:
        context.state.record_batch_gone(claim.id)
        claim = None
    if claim is None:
        name = claim_name(claim_stem(tag, batch.remote_id), secrets.token_hex(4))
        context.state.record_batch_intent(shard.id, target, name, 0.0, ())
        shard = context.load(shard.id)
        claim = shard.batch_in(target)
    assert claim is not None
    own = frozenset(batch.name for batch in shard.batches)
    context.submit(ClaimRun(shard.id, claim.name, context.job.target.workspace, own, context.settle_s))


def _await_claims(context: Context, shard: Shard, elder: int) -> None:
    """Wait for the run of an older claim, or else of a clone that has not seen our claim yet."""
    if not elder:
        _await_owner(context, shard)
        return
    _, remote_id = context.remote_batch_of(shard)
    context.reporter.emit(events.OlderClaim(elder, remote_id))
    _await(context, shard, remote_id, 3 * context.settle_s)  # its owner waits, too, before it pays


def _await_owner(context: Context, shard: Shard) -> None:
    """Wait for the run of a clone that takes our batch for its own; pay where none shows."""
    _, remote_id = context.remote_batch_of(shard)
    context.reporter.emit(events.CloneAwaited(remote_id, context.settle_s))
    _await(context, shard, remote_id, context.settle_s, is_ours=True)


def _await(
    context: Context, shard: Shard, elder: int, wait_s: float, *, is_ours: bool = False, is_fixed: bool = False
) -> None:
    """Wait for a run on another's batch. If it is our turn to pay, a check at the end is enough."""
    until_s, known = context.engine.clock() + wait_s, context.state.known_runs()
    newest = next((run.remote_id or "" for run in context.state.list_visible(context.goal.target, 1)), "")
    may_take_over = is_ours or context.job.options.adopt
    row, tag = context.batch_of(shard).id, context.tag_of(shard)
    same_tag, siblings = context.state.runs_of_tag(tag), context.state.batches_of_tag(tag)
    step = AwaitTwin(shard.id, row, tag, elder, 1, until_s, may_take_over, known, newest, same_tag, siblings, is_fixed)
    context.submit(step, wait_s if is_ours else 0.0)


def claim_run(client: AIHub, step: ClaimRun) -> Outcome:
    """Create the claim unless it exists, and return the oldest claim of another client. It may be repeated."""
    claims = _list_claims(client, step)
    if not _find_own(claims, step):
        try:
            client.create_batch(step.name, step.workspace)
        except AnswerLost:
            pass  # the list says whether it exists
        except Refused as error:
            raise ServiceError(error.message, error.hint, status=error.status) from None
        claims = _list_until_seen(client, step)
    own = _find_own(claims, step)
    if own is None:
        raise ServiceError(f"batch {step.name}: created, but not listed", "apply again in a while")
    elders = (claim for claim in claims if claim.name not in step.own and claim.id < own.id)
    return Claimed(next((claim.id for claim in elders if not _has_lapsed(claim, own)), 0))


def _list_claims(client: AIHub, step: ClaimRun) -> list[BatchInfo]:
    batches = client.list_batches(step.workspace)
    claims = (batch for batch in batches if stem_of_claim(batch.name) == stem_of_claim(step.name))
    return sorted(claims, key=lambda claim: claim.id)


def _list_until_seen(client: AIHub, step: ClaimRun) -> list[BatchInfo]:
    """List claims until a new one of our own shows, for at most `settle_s`."""
    until_s = time.monotonic() + step.settle_s
    while True:
        claims = _list_claims(client, step)
        if _find_own(claims, step) or time.monotonic() >= until_s:
            return claims
        client.pause(CLAIMS_EVERY_S)


def _find_own(claims: list[BatchInfo], step: ClaimRun) -> BatchInfo | None:
    return next((claim for claim in claims if claim.name == step.name), None)


def _has_lapsed(elder: BatchInfo, own: BatchInfo) -> bool:
    """Whether an older claim is a day older than ours by the service's own records: its owner has died."""
    return (own.created_at_ms or 0) - (elder.created_at_ms or own.created_at_ms or 0) > DAY_S * 1000


def record_claim(context: Context, step: ClaimRun, outcome: Outcome) -> None:
    """Note whose claim is the oldest."""
    if isinstance(outcome, Claimed):
        context.shards[step.shard].claim = outcome.elder
    else:
        context.record_failed(step, outcome)


def await_twin(client: AIHub, step: AwaitTwin) -> Outcome:
    """Wait until the run of an older batch of our name shows. Return NotThere where none does in time.

    Two listings must agree that there is none, and show the newest run that we know.
    """
    before: set[str] | None = None
    for _ in range(READINGS):
        try:
            runs = _list_until_twin(client, step)
        except ListingCut as error:
            return Unsure(error.message)
        found = sorted((run for run in runs if _is_twins(run, step)), key=RunInfo.rank)
        if found:
            return RunSeen(found[0], tuple(run.id for run in found[1:]))
        if _ran_other(runs, step):
            return RanOther()
        if reused := next((run.id for run in runs if run.id in step.known and _is_reused(run, step)), ""):
            return Unsure(describe_reused(reused))
        listed = {run.id for run in runs}
        if before is not None and listed >= before:
            is_blind = bool(step.newest) and step.newest not in listed
            return Unsure(f"known run {step.newest} is missing from the list of runs") if is_blind else NotThere()
        if before is not None:
            client.pause(LOOK_EVERY_S)
        before = listed
    return Unsure("the list of runs keeps changing")


def _list_until_twin(client: AIHub, step: AwaitTwin) -> list[RunInfo]:
    """List runs until the twin's shows, or until it should."""
    while True:
        runs = client.list_runs(step.from_s)
        left_s = step.settled_at_s - time.monotonic()
        if left_s <= 0 or any(_is_twins(run, step) for run in runs) or _ran_other(runs, step):
            return runs
        client.pause(min(LOOK_EVERY_S, left_s))


def _is_twins(run: RunInfo, step: AwaitTwin) -> bool:
    return step.tag in (run.tags or ()) and run.batch_id in (None, step.elder) and run.id not in step.known


def _ran_other(runs: list[RunInfo], step: AwaitTwin) -> bool:
    """Whether all runs on the older batch had other content than ours, as their tags say."""
    ours, _, _ = parse_run_tag(step.tag) or ("", "", 0)
    runs_on = [run for run in runs if run.batch_id == step.elder]
    others = (bool(run.our_tags) and all(fingerprint != ours for fingerprint, _, _ in run.our_tags) for run in runs_on)
    return step.is_fixed and bool(runs_on) and all(others)


def _is_reused(run: RunInfo, step: AwaitTwin) -> bool:
    return is_reused(run, step.tag, step.same_tag, step.siblings)


def record_twin(context: Context, step: AwaitTwin, outcome: Outcome) -> None:
    """Import the run of another clone; where none shows, let the user decide."""
    progress = context.shards[step.shard]
    match outcome:
        case RunSeen():
            _import_run(context, step, outcome)
        case RanOther():
            progress.others |= {step.elder}
            progress.elder = 0
            progress.is_checked = False  # there may be another older one
        case NotThere() if step.may_take_over:
            progress.is_settled = True
            progress.is_checked = False  # the batch may have changed meanwhile
            if context.job.options.adopt:
                context.reporter.emit(events.BatchTakenOver(step.elder))
        case NotThere() | Unsure():
            why = _describe_wait(context, step)
            message = f"shard {step.shard}: {why}{f', {outcome.why}' if isinstance(outcome, Unsure) else ''}"
            command = context.job.command("apply")
            hint = f"apply later; if no other client uses this spec, run `{command} --adopt`"
            if isinstance(outcome, Unsure):
                only = "" if context.goal.kept else " --only FILES"  # a batch that is kept is run as a whole
                hint = f"apply later; to pay again all the same, run `{command} --again{only}`"
            context.park(step.shard, UnknownOutcome(message, hint))
        case _:
            context.record_failed(step, outcome)


def _describe_wait(context: Context, step: AwaitTwin) -> str:
    """Return whose run was waited for in vain, in words."""
    if claim := context.shards[step.shard].claim:
        return f"another client claimed its run (batch {claim}); that run is not listed"
    if step.elder == context.remote_batch_of(context.load(step.shard))[1]:
        return f"whether another client has run batch {step.elder} is not confirmed"
    return f"batch {step.elder} of the same name is older than ours and has no run"


def _import_run(context: Context, step: AwaitTwin, seen: RunSeen) -> None:
    state, shard = context.state, context.load(step.shard)
    batch = next(batch for batch in shard.batches if batch.id == step.batch)
    elder, row = seen.info.batch_id or step.elder, batch.id
    if elder != batch.remote_id:
        state.record_batch_gone(batch.id)
        row = state.record_imported_batch(shard.id, batch.target, elder)
        if batch.kept:
            state.record_kind(row, batch.kept)
        state.record_uploads(row, ((member.name, member.digest) for member in shard.members))
    fingerprint, key, attempt = parse_run_tag(step.tag) or ("", "", 0)
    state.close_shard(shard.id, fingerprint)
    taken = replace(batch, id=row, remote_id=elder)
    run = state.record_imported_run(shard.id, taken, (key, attempt, step.tag), seen.info.id)
    context.reporter.emit(events.RunImported(seen.info.id, elder, is_clones=True))
    context.record_seen(run, seen.info, seen.twins)
