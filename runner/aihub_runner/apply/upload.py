"""Put files into a batch, and check its content. Everything here may be repeated."""

from __future__ import annotations

import hashlib
import itertools
import time
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from mmap import mmap
from pathlib import Path

from aihub_runner.aihub.bodies import FileSlice, Room, SourceChanged
from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, UploadPart, UploadSession
from aihub_runner.apply.steps import (
    CheckBatch,
    Checked,
    Foreign,
    Gone,
    Outcome,
    SendFile,
    Sent,
    Unsendable,
    Verified,
    VerifyBatch,
)
from aihub_runner.errors import ServiceError
from aihub_runner.files import open_regular, read_regular
from aihub_runner.model import MB, Stat
from aihub_runner.plan.identity import stem_of_claim
from aihub_runner.sources.disks import is_of_disk
from aihub_runner.system.moment import is_to_come
from aihub_runner.system.shortage import find_shortage
from aihub_runner.text.shown import count

IN_MEMORY_BYTES = MB // 4  # sent as bytes, which is faster; 64 of them at once are 16 MB
PARTS_AT_ONCE = 4  # of one file
ROOM = Room(48 * MB)  # for the parts of all files: with the small ones, 64 MB
TRIES = 3
DISK = "disk"  # the reason where the disk, or the server behind a mount, cannot read a file
# Refusals that concern one file, not the batch or the account.
FILE_REFUSED = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class _File:
    """A file as a batch's listing has it: name, size in bytes, and time (Unix seconds)."""

    name: str
    size: int | None
    modified_s: int | None


Listed = dict[str, _File]  # by names in NFC


def send_file(client: AIHub, step: SendFile) -> Outcome:
    """Send a file as it is now, and return the digest of exactly the bytes that were sent."""
    for _ in range(TRIES):
        try:
            before = _identify(step.path)
            size = before.size
            if size == 0:
                return Unsendable("empty", "it became empty")
            sent = _send_whole(client, step, size) if size <= step.part_threshold else _send_parts(client, step, size)
            if _identify(step.path) == before:
                return sent
        except SourceChanged:
            continue
        except OSError as error:
            return _explain(error)
        except ServiceError as error:
            if error.status in FILE_REFUSED:
                return Unsendable("refused", error.message)
            if error.status == 404 and _is_gone(client, step):
                return Gone()
            raise
    return Unsendable("vanished", "it keeps changing")


def _explain(error: OSError) -> Unsendable:
    """Return why a file cannot be sent. Raises Shortage where the file is not at fault."""
    if shortage := find_shortage(error):
        raise shortage from error
    what = error.strerror or str(error)
    if is_of_disk(error):
        return Unsendable(DISK, what)
    return Unsendable("vanished" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable", what)


def _identify(path: Path) -> Stat:
    """Return what changes with a file's content. If it changes during an upload, the bytes may be of two versions."""
    info = path.stat()
    return Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


def _send_whole(client: AIHub, step: SendFile, size: int) -> Sent:
    if size <= IN_MEMORY_BYTES:
        data = read_regular(step.path)
        if not data:
            raise SourceChanged
        client.put_file(step.remote_id, step.member.name, data)
        return Sent("sha256:" + hashlib.sha256(data).hexdigest(), len(data))
    with FileSlice(step.path, 0, size) as body:
        client.put_file(step.remote_id, step.member.name, body)
        return Sent(body.digest, size)


def _send_parts(client: AIHub, step: SendFile, size: int) -> Sent:
    """Send a file in parts, several at once. Raises SourceChanged where it is shorter or longer than it was."""
    session = client.open_upload(step.remote_id, step.member.name, size)
    try:
        parts, digest = _put_parts(client, step, session, size)
        client.close_upload(session.session_id, parts)
    except BaseException:
        with suppress(ServiceError):
            client.close_upload(session.session_id, None)
        raise
    return Sent(digest, size)


def _put_parts(client: AIHub, step: SendFile, session: UploadSession, size: int) -> tuple[list[UploadPart], str]:
    """Send all parts, and return them with the digest of the bytes sent, which are read and hashed once."""

    def send(number: int, data: memoryview, give_back: Callable[[], None]) -> UploadPart:
        try:
            with client.working_for(step.shard):  # in a thread of its own
                return client.put_part(session.session_id, number, data)
        finally:
            give_back()

    whole, sent = hashlib.sha256(), list[Future[UploadPart]]()
    with open_regular(step.path) as file, ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        for offset in range(0, size, session.part_size):
            length = min(session.part_size, size - offset)
            data = _read_part(file, length)
            give_back = _once(partial(ROOM.give_back, len(data)))
            try:
                sent.append(pool.submit(send, len(sent) + 1, data, give_back))
            except RuntimeError:  # no thread can start; another one may do it all the same
                give_back()
                raise
            whole.update(data)
            came = len(data)
            del data  # not to be held while the next part waits for room
            if came < length:
                raise SourceChanged
            for part in sent:
                if part.done():
                    part.result()  # a failed part ends the upload
        if file.read(1):
            raise SourceChanged
        return [part.result() for part in sent], f"sha256:{whole.hexdigest()}"


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """Return a function that acts the first time it is called, in whatever thread."""
    calls = itertools.count()
    return lambda: None if next(calls) else act()


def _read_part(file: BufferedReader, length: int) -> memoryview:
    """Read a part into memory that goes back to the system at once, unlike that of large `bytes`. Takes its room."""
    ROOM.take(length)
    came = 0
    try:
        part = memoryview(mmap(-1, length))
        came = file.readinto(part)
        return part[:came]
    finally:
        ROOM.give_back(length - came)


def _is_gone(client: AIHub, step: SendFile | CheckBatch | VerifyBatch) -> bool:
    """Whether batches can be listed, and this one is not among them any more (see `SendFile.is_older`)."""
    if time.monotonic() < step.young_until_s:
        return False
    batches = client.list_batches(step.workspace)
    return (bool(batches) or step.is_older) and all(batch.id != step.remote_id for batch in batches)


def verify_batch(client: AIHub, step: VerifyBatch) -> Outcome:
    """Check that a batch is the one we created: a response may name another."""
    try:
        info = client.get_batch(step.remote_id)
        files = client.list_files(step.remote_id)
    except ServiceError as error:
        if error.status == 404 and _is_gone(client, step):
            return Gone()
        raise
    if info.name != step.name:
        return Foreign("its name is different")
    if files and client.list_files(step.remote_id):  # one listing may be of another batch
        return Foreign(f"it already holds {count(len(files), 'file')}")
    created_ms = info.created_at_ms or 0
    return Verified(0 if is_to_come(created_ms / 1000) else created_ms)


def check_batch(client: AIHub, step: CheckBatch) -> Outcome:
    """List a batch, delete surplus files that this job sent, and compare names and sizes."""
    try:
        listed = _list(client, step.remote_id)
        unknown_batches = sorted(listed.keys() - step.sizes.keys())
        _check_strangers(step, unknown_batches)
        if unknown_batches and step.name and client.get_batch(step.remote_id).name != step.name:
            return Gone()  # its id is another's by now
        for plain in unknown_batches:
            client.delete_file(step.remote_id, listed[plain].name)
        listed = _wait_until_right(client, step, listed)
    except ServiceError as error:
        if error.status == 404 and _is_gone(client, step):
            return Gone()
        raise
    if left := listed.keys() - step.sizes.keys():
        raise ServiceError(
            f"batch {step.remote_id}: holds {count(len(left), 'file')} that must not be run",
            "apply again in a while",
        )
    missing = tuple(_missing(step, listed))
    modified = {name: file.modified_s for name, file in listed.items() if file.modified_s and name not in missing}
    if missing or not step.name or not step.minds_elders:
        return Checked(missing, modified)
    batches = client.list_batches(step.workspace)
    if any(batch.id == step.remote_id and batch.name != step.name for batch in batches):
        return Gone()
    is_claimed = any(stem_of_claim(batch.name) == step.claim for batch in batches)
    return Checked(missing, modified, _elders(batches, step), is_claimed)


def _check_strangers(step: CheckBatch, names: list[str]) -> None:
    """Raise ServiceError where a batch holds files that this job did not send: never delete those."""
    foreign = [name for name in names if name not in step.sent]
    if foreign:
        raise ServiceError(
            f"batch {step.remote_id}: holds {len(foreign)} files that this job did not send, {foreign[0]!r}",
            "remove them from the batch if they do not belong there, then apply again",
        )


def _elders(batches: Iterable[BatchInfo], step: CheckBatch) -> tuple[int, ...]:
    """List older batches of the same name that are not ours: of two clones that start at once, only one pays."""
    elders = (b.id for b in batches if b.name == step.name and b.id < step.remote_id and b.id not in step.known)
    return tuple(sorted(elders))


def _wait_until_right(client: AIHub, step: CheckBatch, listed: Listed) -> Listed:
    """List again until the listing has caught up with the changes, for at most `settle_s`."""
    until_s, pause_s = time.monotonic() + step.settle_s, 0.2
    while (listed.keys() - step.sizes.keys() or _missing(step, listed)) and time.monotonic() < until_s:
        client.pause(pause_s)
        pause_s = min(5.0, 2 * pause_s)
        listed = _list(client, step.remote_id)
    return listed


def _missing(step: CheckBatch, listed: Listed) -> list[str]:
    """List the files that are not as they were sent: by size, and by time where an earlier one is known.

    A late duplicate of an older upload has the same name and perhaps the same size, but a later time.
    """
    return [
        name for name, size in step.sizes.items() if not _is_as_sent(listed.get(name), size, step.modified.get(name))
    ]


def _is_as_sent(file: _File | None, size: int, modified_s: int | None) -> bool:
    if file is None or file.size not in (size, None):
        return False
    return not modified_s or file.modified_s in (modified_s, None)


def _list(client: AIHub, remote_id: int) -> Listed:
    files = client.list_files(remote_id)
    return {
        unicodedata.normalize("NFC", name): _File(name, file.size, file.modified_timestamp)
        for name, file in files.items()
    }
