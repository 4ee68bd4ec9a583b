"""The files of a shard are sent to its batch. All of it may be repeated."""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from aihub_runner.aihub.bodies import Buffers, FileBytes, FileSlice, Loan, Room, SourceChanged
from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import UploadPart, UploadSession
from aihub_runner.apply import events
from aihub_runner.apply.steps import Failed, Gone, LeftHere, Outcome, Step
from aihub_runner.apply.tasks.batch import forget_batch, is_gone
from aihub_runner.apply.tasks.late import hand_over, is_spoilt
from aihub_runner.apply.tasks.objects import PARTS_AT_ONCE as PARTS_AT_ONCE
from aihub_runner.apply.tasks.objects import put_checked, send_object
from aihub_runner.errors import InputError, ServiceError
from aihub_runner.files import open_regular, read_regular
from aihub_runner.model import MB, CachedDigest, Member, Shard, SkippedFile, Stat, defer_digest
from aihub_runner.plan.packets import may_follow
from aihub_runner.plan.planner import Action, missing_uploads
from aihub_runner.sources.disks import disk_error, find_mount, is_of_disk
from aihub_runner.sources.exclude import explain_link
from aihub_runner.sources.stores import ObjectChanged, Refused, StoreError, has_folders
from aihub_runner.spec.urls import is_url
from aihub_runner.system.shortage import find_shortage
from aihub_runner.text.escape import clean_text

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context

IN_MEMORY_BYTES = MB // 4  # sent as bytes, which is faster; 64 of them at once are 16 MB
BUFFERS = Buffers(48 * MB)  # for the parts of all files: with the small ones, 64 MB
HELD = Room(64 * MB)  # for files that a worker elsewhere reads whole before it sends them
TRIES = 3
DISK = "disk"  # the reason where the disk, or the server behind a mount, cannot read a file
# Refusals that concern one file, not the batch or the account.
FILE_REFUSED = frozenset({400, 413, 415, 422})


class SendFile(Step, frozen=True):
    """Put a file into a batch; `path` may be a URL. Until `young_until_s` (monotonic clock), retry a 404.

    `tree` is the work tree that a file on this machine must not leave; empty if it may.

    `is_older` says that an earlier apply created the batch: then even an empty list of batches proves that it is gone.
    For a batch of this apply it proves nothing: the account may not see what it creates.
    """

    batch: int
    remote_id: int
    workspace: str
    member: Member
    path: str
    part_threshold: int
    young_until_s: float
    is_older: bool = False
    tree: str = ""


class SendPlanned(SendFile, frozen=True):
    """Put a file into a batch if it is exactly as planned: what a worker elsewhere may do, twice, late, or never.

    Nothing but the bytes of the planned digest ever gets into the batch.
    """


class Sent(Outcome, frozen=True):
    """The batch contains the file; digest and size are those of the bytes sent. `stat` is that of a file elsewhere."""

    digest: str
    size: int
    stat: Stat | None = None


class Unsendable(Outcome, frozen=True):
    """The file cannot be sent as it is: it vanished, became unusable, or the service refuses it."""

    reason: str
    detail: str


def upload(context: Context, shard: Shard) -> Action | None:
    """Send the files that the batch lacks. Until a response confirms it, their content there is unknown."""
    batch, remote_id = context.remote_batch_of(shard)
    if is_spoilt(context, shard, batch):
        return Action.CREATE_BATCH
    missing = missing_uploads(shard, context.goal.target)
    with context.state.transaction():
        context.state.record_uploads_begun(batch.id, [member.name for member in missing])
        hand_over(context, shard, batch, missing)
    for member in missing:
        context.submit(
            SendFile(
                shard.id,
                batch.id,
                remote_id,
                context.job.target.workspace,
                member,
                context.job.place_of(member.path),
                int(context.job.spec.limits.part_threshold_mb * MB),
                context.young_until_s(batch.since),
                not context.shards[shard.id].batches_created,
                context.job.tree,
            )
        )
    return None


def send_file(client: AIHub, step: SendFile) -> Outcome:
    """Send a file as it is now, and return the digest of exactly the bytes that were sent."""
    send = _send_object if is_url(step.path) else _send_local
    for _ in range(TRIES):
        try:
            return send(client, step)
        except (SourceChanged, ObjectChanged):
            continue
        except Refused as error:
            if not has_folders(step.path):  # the account lacks something, rather than this file
                raise
            return Unsendable("unreadable", error.reason)
        except OSError as error:
            return _explain(error)
        except ServiceError as error:
            return _judge_refusal(client, step, error)
    return Unsendable("vanished", "it keeps changing")


def _judge_refusal(client: AIHub, step: SendFile, error: ServiceError) -> Outcome:
    """Return what the service's error says of the file or its batch. Raises the error if it is of neither."""
    if error.status in FILE_REFUSED:
        return Unsendable("refused", error.message)
    if error.status == 404 and is_gone(client, step):
        return Gone()
    raise error


def _send_local(client: AIHub, step: SendFile) -> Outcome:
    """Send a local file. Raises SourceChanged if it changes meanwhile."""
    if why := step.tree and explain_link(step.path, step.tree):
        return Unsendable("unreadable", why)
    before = _identify(step.path)
    size = before.size
    if size == 0:
        return Unsendable("empty", "it became empty")
    sent = _send_whole(client, step, size) if size <= step.part_threshold else _send_parts(client, step, size)
    if _identify(step.path) != before:
        raise SourceChanged
    return sent


def _send_object(client: AIHub, step: SendFile) -> Outcome:
    """Send a file elsewhere. Raises ObjectChanged if it changes meanwhile."""
    sent = send_object(client, step.remote_id, step.member.name, step.path, step.part_threshold, step.shard)
    return Sent(sent[0], sent[1].size, sent[1]) if sent else Unsendable("empty", "it became empty")


def send_planned(client: AIHub, step: SendPlanned) -> Outcome:
    """Send a file if its bytes are those that were planned. They are hashed before they are sent, or committed."""
    send = _send_planned_object if is_url(step.path) else _send_planned_local
    try:
        return send(client, step)
    except (SourceChanged, ObjectChanged):
        return LeftHere("it is not as it was planned")
    except OSError as error:
        return LeftHere(_explain(error).detail)
    except (StoreError, InputError) as error:
        return LeftHere(error.message)
    except ServiceError as error:
        return _judge_refusal(client, step, error)


def _send_planned_local(client: AIHub, step: SendPlanned) -> Sent | LeftHere:
    if why := step.tree and explain_link(step.path, step.tree):
        return LeftHere(why)
    size = step.member.size
    if size > step.part_threshold:
        if _identify(step.path).size != size:
            raise SourceChanged
        return _send_parts(client, step, size)
    with HELD.holding(size):
        whole = FileBytes(read_regular(step.path, size + 1))
        if len(whole) != size or whole.digest != step.member.digest:
            raise SourceChanged
        put_checked(client, step.remote_id, step.member.name, whole)
    return Sent(whole.digest, size)


def _send_planned_object(client: AIHub, step: SendPlanned) -> Sent:
    """Send a file elsewhere if it is the planned version: its digest was planned, or its size and its ETag or times."""
    member = step.member

    def is_planned(digest: str, stat: Stat) -> bool:
        return stat.size == member.size and member.digest in (digest, defer_digest(member.path, stat))

    sent = send_object(
        client, step.remote_id, member.name, step.path, step.part_threshold, step.shard, is_planned=is_planned
    )
    if sent is None:
        raise ObjectChanged
    return Sent(sent[0], sent[1].size, sent[1])


def _explain(error: OSError) -> Unsendable:
    """Return why a file cannot be sent. Raises Shortage if the file is not at fault."""
    if shortage := find_shortage(error):
        raise shortage from error
    what = error.strerror or str(error)
    if is_of_disk(error):
        return Unsendable(DISK, what)
    return Unsendable("vanished" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable", what)


def _identify(path: str) -> Stat:
    """Return what changes with a file's content. If it changes during an upload, the bytes may be of two versions."""
    return Stat.of(os.stat(path))


def _send_whole(client: AIHub, step: SendFile, size: int) -> Sent:
    if size <= IN_MEMORY_BYTES:
        data = read_regular(step.path)
        if not data:
            raise SourceChanged
        whole = FileBytes(data)
        client.put_file(step.remote_id, step.member.name, whole)
        return Sent(whole.digest, len(data))
    with FileSlice(step.path, 0, size) as body:
        client.put_file(step.remote_id, step.member.name, body)
        return Sent(body.digest, size)


def _send_parts(client: AIHub, step: SendFile, size: int) -> Sent:
    """Send a file in parts, several at once. Raises SourceChanged if it is shorter or longer than it was."""
    session = client.open_upload(step.remote_id, step.member.name, size)
    try:
        parts, digest = _put_parts(client, step, session, size)
        if isinstance(step, SendPlanned) and digest != step.member.digest:
            raise SourceChanged
        client.close_upload(session.session_id, parts)
    except BaseException:
        with suppress(ServiceError):
            client.close_upload(session.session_id, None)
        raise
    return Sent(digest, size)


def _put_parts(client: AIHub, step: SendFile, session: UploadSession, size: int) -> tuple[list[UploadPart], str]:
    """Send all parts, and return them with the digest of the bytes sent, which are read and hashed once."""

    def send(number: int, data: memoryview, loan: Loan) -> UploadPart:
        try:
            with client.working_for(step.shard):  # in a thread of its own
                return client.put_part(session.session_id, number, data)
        finally:
            loan.leave()

    whole, sent = hashlib.sha256(), list[Future[UploadPart]]()
    with open_regular(step.path) as file, ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        for offset in range(0, size, session.part_size):
            length = min(session.part_size, size - offset)
            loan = BUFFERS.lend(min(session.part_size, size))
            try:
                data = memoryview(loan.buffer)[:length]
                data = data[: file.readinto(data)]
                sent.append(pool.submit(send, len(sent) + 1, data, loan))
            except BaseException:  # no thread can start, perhaps; another one may send it all the same
                loan.abandon()
                raise
            whole.update(data)
            loan.leave()
            if len(data) < length:
                raise SourceChanged
            for part in sent:
                if part.done():
                    part.result()  # a failed part ends the upload
        if file.read(1):
            raise SourceChanged
        return [part.result() for part in sent], f"sha256:{whole.hexdigest()}"


def record_all_sent(context: Context, done: Iterable[tuple[Step, Outcome]]) -> list[tuple[Step, Outcome]]:
    """Record all files that were sent just as planned, with one statement for each batch. Return the other outcomes.

    Record also the digests of files elsewhere, which are known only now, and of which version they are.
    """
    sent, others = defaultdict[int, list[tuple[str, str]]](list), []
    read, hashed = dict[str, CachedDigest](), defaultdict[int, list[tuple[str, str]]](list)
    for step, outcome in done:
        if not isinstance(step, SendFile) or not isinstance(outcome, Sent):
            others.append((step, outcome))
            continue
        member, stat = step.member, outcome.stat
        if stat:
            read[member.path] = CachedDigest(stat, outcome.digest, time.time_ns())
        as_planned = stat is not None and member.digest == defer_digest(member.path, stat)
        if outcome.digest != member.digest and not as_planned:
            others.append((step, outcome))
            continue
        if as_planned:
            hashed[step.shard].append((member.name, outcome.digest))
            context.hashed[member.path] = outcome.digest
        context.shards[step.shard].outstanding -= 1
        sent[step.batch].append((member.name, outcome.digest))
        context.reporter.emit(events.FileUploaded(member.path, outcome.size))
    context.state.record_cache(read)
    for shard, digests in hashed.items():
        context.state.record_digests(shard, digests)
    for batch, files in sent.items():
        context.state.record_uploads(batch, files)
        context.state.record_sent(batch, context.now_s)
    return others


def record_sent(context: Context, step: SendFile, outcome: Outcome) -> None:
    """Record that a file was sent, or why it cannot be."""
    match outcome:
        case Sent(digest, size):
            _accept_digest(context, step, digest, size)
            context.state.record_uploads(step.batch, [(step.member.name, digest)])
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
    if context.job.options.approved:  # its new bytes are not what was approved
        hint = f"run `{context.job.command('plan')}` again, and have that approved"
        context.park(step.shard, InputError(f"{path}: changed since the plan was made; its run was not started", hint))
        return
    context.reporter.emit(events.FileChanged(path))
    context.changed[path] = (size, digest)
    changed = replace(step.member, digest=digest, size=size)
    members = [changed if member.name == changed.name else member for member in shard.members]
    context.state.record_members(step.shard, members)


def _record_unreadable(context: Context, step: SendFile, detail: str) -> None:
    """Skip one file that its disk cannot read. At a second one on that disk, report the disk as failing."""
    mount = find_mount(step.path)
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
    context.skipped[member.path] = skipped = SkippedFile(member.path, reason, clean_text(detail))
    if context.goal.by_folder and may_follow(skipped):  # the others would be paid for now, and again with this file
        context.shards[step.shard].is_parked = True
        context.drop_uploads(step.shard)
        return
    rest = [other for other in shard.members if other.name != member.name]
    state.record_members(step.shard, rest)
    if not rest:
        state.forget_shard(step.shard)
