"""Send the files of a shard to its batch."""

from __future__ import annotations

from dataclasses import replace

from aihub_runner.aihub.schemas import clean_text
from aihub_runner.apply import events
from aihub_runner.apply.context import Context
from aihub_runner.apply.steps import Failed, Gone, Outcome, SendFile, Sent, Unsendable
from aihub_runner.apply.tasks.batch import forget_batch
from aihub_runner.errors import ServiceError
from aihub_runner.model import MB, Shard, SkippedFile
from aihub_runner.plan.planner import missing_uploads
from aihub_runner.sources.disks import disk_error, find_mount


def upload(context: Context, shard: Shard) -> None:
    """Send the files that the batch lacks. Until a response confirms it, their content there is unknown."""
    batch, remote_id = context.remote_batch_of(shard)
    missing = missing_uploads(shard, context.goal.target)
    context.state.record_uploads_begun(batch.id, [member.name for member in missing])
    for member in missing:
        context.submit(
            SendFile(
                shard.id,
                batch.id,
                remote_id,
                context.job.target.workspace,
                member,
                context.job.folder / member.path,
                int(context.job.spec.limits.part_threshold_mb * MB),
                context.young_until_s(batch.since),
                not context.shards[shard.id].batches_created,
            )
        )


def record_sent(context: Context, step: SendFile, outcome: Outcome) -> None:
    """Record that a file was sent, or why it cannot be."""
    match outcome:
        case Sent(digest, size):
            _accept_digest(context, step, digest, size)
            context.state.record_upload(step.batch, step.member.name, digest)
            context.state.record_sent(step.batch, context.now_s)
            context.reporter.emit(events.FileUploaded(step.member.path, size))
        case Unsendable("disk", detail):
            _record_unreadable(context, step, detail)
        case Unsendable(reason, detail):
            _skip(context, step, reason, detail)
        case Gone():
            forget_batch(context, step)
        case _:
            context.record_failed(step, outcome)


def _accept_digest(context: Context, step: SendFile, digest: str, size: int) -> None:
    """Accept the digest of what was sent for a member, where the file changed since the scan."""
    path = step.member.path
    if digest == step.member.digest:
        return
    shard = context.load(step.shard)
    if shard.is_closed:
        context.park(step.shard, ServiceError(f"{path}: changed while being sent again", "apply again"))
        return
    context.reporter.emit(events.FileChanged(path))
    context.changed[path] = (size, digest)
    changed = replace(step.member, digest=digest, size=size)
    members = [changed if member.name == changed.name else member for member in shard.members]
    context.state.record_members(step.shard, members)


def _record_unreadable(context: Context, step: SendFile, detail: str) -> None:
    """Skip one file that its disk cannot read. At a second one on that disk, report the disk as failing."""
    mount = find_mount(str(step.path))
    if mount in context.bad_disks:
        context.record_failed(step, Failed(disk_error(step.member.path, detail)))
    else:
        context.bad_disks.add(mount)
        _skip(context, step, "unreadable", detail)


def _skip(context: Context, step: SendFile, reason: str, detail: str) -> None:
    member, state = step.member, context.state
    shard = context.load(step.shard)
    if reason == "refused":
        state.record_refused(member.path, member.identity, clean_text(detail))
    if shard.is_closed:
        context.park(step.shard, ServiceError(f"{member.path}: cannot be sent again, {detail}", "apply again"))
        return
    context.reporter.emit(events.FileSkipped(member.path, member.size, reason, detail))
    context.aside[member.path] = SkippedFile(member.path, reason, clean_text(detail))
    rest = [other for other in shard.members if other.name != member.name]
    state.record_members(step.shard, rest)
    if not rest:
        state.forget_shard(step.shard)
