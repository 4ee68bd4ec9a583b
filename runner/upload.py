"""Put files into a batch, and check what it holds. Everything here may be repeated."""

from __future__ import annotations

import hashlib
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from runner.api import AIHub
from runner.bodies import FileSlice, SourceChanged
from runner.disks import is_of_disk
from runner.errors import ServiceError
from runner.files import open_regular, read_regular
from runner.model import MB, Stat
from runner.shortage import find_shortage
from runner.shown import count
from runner.steps import CheckBatch, Checked, Gone, Outcome, SendFile, Sent, Unsendable
from runner.wire import UploadPart

IN_MEMORY_BYTES = MB // 4  # sent as bytes, which is faster; 256 of them at once stay within 64 MB
PARTS_AT_ONCE = 4
TRIES = 3
DISK = "disk"  # why a file cannot be sent that the disk, or the server behind a mount, does not give
# Refusals that concern one file, not the batch or the account.
FILE_REFUSED = frozenset({400, 413, 415, 422})

# By names in NFC: the name as the service has it, and the size.
Listed = dict[str, tuple[str, int | None]]


def send_file(client: AIHub, step: SendFile) -> Outcome:
    """Send a file as it is now, and tell the digest of exactly the bytes that were sent."""
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
    """Tell why a file cannot be sent. Raises Shortage where it is not the file's fault."""
    if shortage := find_shortage(error):
        raise shortage from error
    what = error.strerror or str(error)
    if is_of_disk(error):
        return Unsendable(DISK, what)
    return Unsendable("vanished" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable", what)


def _identify(path: Path) -> Stat:
    """Tell what changes with a file's content: what was sent while this changed is perhaps of two files."""
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
    """Send a file in parts, several at once; raises SourceChanged where the parts are not of one file."""
    session = client.open_upload(step.remote_id, step.member.name, size)

    def send(number: int) -> tuple[UploadPart, str]:
        offset = (number - 1) * session.part_size
        with (
            client.working_for(step.shard),  # in a thread of its own
            FileSlice(step.path, offset, min(session.part_size, size - offset)) as body,
        ):
            return client.put_part(session.session_id, number, body), body.digest

    count = -(-size // session.part_size)
    try:
        with ThreadPoolExecutor(min(PARTS_AT_ONCE, count)) as pool:
            sent = list(pool.map(send, range(1, count + 1)))
        client.close_upload(session.session_id, [part for part, _ in sent])
    except BaseException:
        with suppress(ServiceError):
            client.close_upload(session.session_id, None)
        raise
    return Sent(_digest_parts(step.path, session.part_size, [digest for _, digest in sent]), size)


def _digest_parts(path: Path, part_size: int, digests: list[str]) -> str:
    """Hash a file whose parts were hashed as they were sent; raises SourceChanged where they differ."""
    whole = hashlib.sha256()
    with open_regular(path) as file:
        for digest in digests:
            part = file.read(part_size)
            if "sha256:" + hashlib.sha256(part).hexdigest() != digest:
                raise SourceChanged
            whole.update(part)
        if file.read(1):
            raise SourceChanged
    return "sha256:" + whole.hexdigest()


def _is_gone(client: AIHub, step: SendFile | CheckBatch) -> bool:
    """Tell whether batches can be listed, and this one is not among them (any more)."""
    if client.server_now_s() < step.young_until_s:
        return False
    return all(batch.id != step.remote_id for batch in client.list_batches(step.workspace))


def check_batch(client: AIHub, step: CheckBatch) -> Outcome:
    """List a batch and compare names and sizes; what the shard does not hold is deleted from it."""
    try:
        listed = _list(client, step.remote_id)
        for plain in listed.keys() - step.sizes.keys():
            client.delete_file(step.remote_id, listed[plain][0])
        listed = _wait_until_right(client, step, listed)
    except ServiceError as error:
        if error.status == 404 and _is_gone(client, step):
            return Gone()
        raise
    if strangers := listed.keys() - step.sizes.keys():
        raise ServiceError(
            f"batch {step.remote_id}: holds {count(len(strangers), 'file')} that shall not be run",
            "apply again in a while",
        )
    return Checked(tuple(_missing(step, listed)))


def _wait_until_right(client: AIHub, step: CheckBatch, listed: Listed) -> Listed:
    """List again and again while a listing may lag behind what was done to the batch."""
    until_s, pause_s = client.server_now_s() + step.settle_s, 0.2
    while (listed.keys() - step.sizes.keys() or _missing(step, listed)) and client.server_now_s() < until_s:
        client.pause(pause_s)
        pause_s = min(5.0, 2 * pause_s)
        listed = _list(client, step.remote_id)
    return listed


def _missing(step: CheckBatch, listed: Listed) -> list[str]:
    return [name for name, size in step.sizes.items() if listed.get(name, ("", -1))[1] not in (size, None)]


def _list(client: AIHub, remote_id: int) -> Listed:
    files = client.list_files(remote_id)
    return {unicodedata.normalize("NFC", name): (name, file.size) for name, file in files.items()}
