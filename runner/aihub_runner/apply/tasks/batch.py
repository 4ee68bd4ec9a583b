"""The batch of a shard: create or find it, verify that it is ours, and check what it holds."""

from __future__ import annotations

from aihub_runner.apply import events
from aihub_runner.apply.context import Context
from aihub_runner.apply.steps import (
    BatchCreated,
    CheckBatch,
    Checked,
    CreateBatch,
    Declined,
    FindBatch,
    Foreign,
    Gone,
    Lost,
    NotThere,
    Outcome,
    SendFile,
    Unsure,
    Verified,
    VerifyBatch,
)
from aihub_runner.apply.tasks.clones import note_checked
from aihub_runner.errors import ServiceError
from aihub_runner.model import Shard
from aihub_runner.plan.identity import batch_name, claim_stem, fingerprint_members
from aihub_runner.plan.planner import Action
from aihub_runner.text.shown import are, count

MAX_BATCHES = 2  # per shard and apply: if new batches never show in the listing, more of them do not help
MAX_CHECKS = 3
REFUSED_FOR_NOW = frozenset({425, 429})


def create(context: Context, shard: Shard) -> None:
    """Record the intent of a batch, and create it."""
    progress = context.shards[shard.id]
    progress.batches_created += 1
    if progress.batches_created > MAX_BATCHES:
        what = f"shard {shard.id}: created {MAX_BATCHES} batches, and none of them is usable"
        context.park(shard.id, ServiceError(what, "check the context, and whether the account can see its batches"))
        return
    progress.has_asked_batch = True
    earlier = shard.batch_in(context.goal.target)
    name = batch_name(context.job.spec.name, shard.fingerprint or fingerprint_members(shard.members))
    name = earlier.name if earlier and earlier.name else name
    before = context.ground.batches.get(name, frozenset()) | (earlier.before if earlier else frozenset())
    context.state.record_batch_intent(shard.id, context.goal.target, name, context.now_s, before)
    batch = context.batch_of(context.load(shard.id))
    context.submit(CreateBatch(shard.id, batch.id, name, context.job.target.workspace))


def find(context: Context, shard: Shard) -> Action | None:
    """Check whether a batch exists whose creation is unconfirmed; create it if it is confirmed absent."""
    batch, progress = context.batch_of(shard), context.shards[shard.id]
    if batch.id == progress.absent_batch:
        progress.absent_batch = 0
        return Action.CREATE_BATCH
    known = context.state.known_batches() | batch.before
    has_asked = progress.has_asked_batch
    settled_at_s = context.settled_at_s(shard.id, "a batch", batch.since, has_asked=has_asked)
    workspace = context.job.target.workspace
    context.submit(FindBatch(shard.id, batch.id, batch.name, workspace, known, settled_at_s))
    return None


def record_made(context: Context, step: CreateBatch | FindBatch, outcome: Outcome) -> None:
    """Record the id of a batch, or that it is unconfirmed or absent."""
    match step, outcome:
        case _, BatchCreated(remote_id):
            context.state.record_batch(step.batch, remote_id)
            if isinstance(step, FindBatch):
                context.shards[step.shard].found_batch = step.batch
                context.shards[step.shard].is_found = True
        case CreateBatch(), Declined(error):
            context.state.record_batch_lost(step.batch, context.now_s)
            context.shards[step.shard].refused += 1
            context.wait_or_leave(step, error, may_pass=error.status in REFUSED_FOR_NOW)
        case CreateBatch(), Lost(at_s, error):
            context.state.record_batch_lost(step.batch, at_s)
            context.count_lost(step, error)
        case FindBatch(), NotThere():
            context.shards[step.shard].absent_batch = step.batch
        case FindBatch(), Unsure(why):
            what = f"shard {step.shard}: cannot check whether its batch exists, {why}"
            context.park(step.shard, ServiceError(what, "apply again"))
        case _, _:
            context.record_failed(step, outcome)


def verify(context: Context, shard: Shard) -> None:
    """Check that a batch is the one that we created, before anything is sent to it."""
    batch, remote_id = context.remote_batch_of(shard)
    until_s, workspace = context.young_until_s(batch.since), context.job.target.workspace
    is_older = not context.shards[shard.id].batches_created
    context.submit(VerifyBatch(shard.id, batch.id, remote_id, batch.name, workspace, until_s, is_older))


def record_verified(context: Context, step: VerifyBatch, outcome: Outcome) -> None:
    """Record that a batch is ours; one that is another's counts as a lost response."""
    match outcome:
        case Verified(created_ms):
            context.state.record_batch_verified(step.batch, created_ms)
            is_found = context.shards[step.shard].found_batch == step.batch
            context.reporter.emit(events.BatchCreated(step.remote_id, is_found))
        case Foreign(why):
            batch = next(batch for batch in context.load(step.shard).batches if batch.id == step.batch)
            context.state.record_batch_foreign(batch, context.now_s)
            what = f"POST /v2/batches: the response names batch {step.remote_id}, which is not the one created, {why}"
            hint = "check whether a proxy or gateway answers in place of the service"
            context.count_lost(step, ServiceError(what, hint))
        case Gone():
            forget_batch(context, step)
        case _:
            context.record_failed(step, outcome)


def check(context: Context, shard: Shard) -> None:
    """Compare a batch with what the shard holds, directly before it is run."""
    batch, remote_id = context.remote_batch_of(shard)
    context.submit(
        CheckBatch(
            shard.id,
            batch.id,
            remote_id,
            context.job.target.workspace,
            {member.name: member.size for member in shard.members},
            context.settle_s,
            context.young_until_s(batch.since),
            frozenset(batch.uploads),
            batch.modified,
            batch.name,
            context.state.known_batches() | context.ground.dismissed_batches,
            not context.shards[shard.id].batches_created,
            not context.job.options.again,
            claim_stem(context.tag_of(shard), remote_id),
        )
    )


def record_checked(context: Context, step: CheckBatch, outcome: Outcome) -> None:
    """Record what a batch holds; files that are missing are sent again."""
    progress = context.shards[step.shard]
    match outcome:
        case Checked(missing, modified) if not missing:
            progress.is_checked = True
            context.state.record_modified(step.batch, modified)
            note_checked(context, step.shard, outcome)
        case Checked(missing):
            progress.checks += 1
            context.state.forget_uploads(step.batch, missing)
            if progress.checks >= MAX_CHECKS:
                what = f"batch {step.remote_id}: {count(len(missing), 'file')} {are(len(missing))} not listed as sent"
                context.park(step.shard, ServiceError(f"{what}, {missing[0]!r}", "apply again"))
            else:
                context.reporter.emit(events.FilesMissing(step.remote_id, len(missing)))
        case Gone():
            forget_batch(context, step)
        case _:
            context.record_failed(step, outcome)


def forget_batch(context: Context, step: SendFile | CheckBatch | VerifyBatch) -> None:
    """Record that a batch is gone: its files are sent again, to another one."""
    context.reporter.emit(events.BatchGone(step.remote_id))
    context.drop_uploads(step.shard)
    context.state.record_batch_gone(step.batch)
    progress = context.shards[step.shard]  # what is known of other clones concerned that batch
    progress.elder, progress.claim = 0, None
    progress.is_found = progress.is_claimed = progress.is_settled = False
