"""A file elsewhere is sent to a batch: read by ranges, hashed on the way, and sent again if it changed meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Condition

from aihub_runner.aihub.bodies import FileBytes, HeldBytes, Room
from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import UploadPart, UploadSession
from aihub_runner.errors import ServiceError
from aihub_runner.model import MB, Stat
from aihub_runner.sources.stores import Object, ObjectChanged, split_ranges

PARTS_AT_ONCE = 4  # of one file
AT_ONCE_BYTES = MB // 4  # so many leave this machine in one go
ROOM = Room(48 * MB)  # for what was read and is not sent yet, of all files

IsPlanned = Callable[[str, Stat], bool]  # by the digest and what the file is


def _is_any(digest: str, stat: Stat) -> bool:
    return True


def send_object(
    client: AIHub,
    remote_id: int,
    name: str,
    url: str,
    part_threshold: int,
    shard: int,
    *,
    is_planned: IsPlanned | None = None,
) -> tuple[str, Stat] | None:
    """Send a file elsewhere, and return the digest of the bytes sent and what the file was then; None if it is empty.

    If `is_planned` says that it is not, nothing gets into the batch. Raises ObjectChanged if it was replaced meanwhile,
    FileNotFoundError, StoreError, ServiceError.
    """
    with Object(url, client.pause) as found:
        size = found.stat.size
        if size == 0:
            return None
        if size <= part_threshold:
            digest = _send_whole(client, remote_id, name, found, is_planned)
        else:
            digest = _send_parts(client, remote_id, name, found, shard, is_planned)
        found.check()
        return digest, found.stat


def _check_planned(found: Object, digest: str, is_planned: IsPlanned) -> None:
    """Raise ObjectChanged for another version than was planned, or if it was replaced while it was read."""
    if not is_planned(digest, found.stat):
        raise ObjectChanged
    found.check()


def put_checked(client: AIHub, remote_id: int, name: str, whole: FileBytes) -> None:
    """Put a file that was checked. Of a large one, nothing more is sent once the client stops."""
    if len(whole) <= AT_ONCE_BYTES:
        client.put_file(remote_id, name, whole)
    else:
        with HeldBytes(whole.data, client.stop) as body:
            client.put_file(remote_id, name, body)


def _send_whole(client: AIHub, remote_id: int, name: str, found: Object, is_planned: IsPlanned | None) -> str:
    size = found.stat.size
    ROOM.take(size)
    try:
        whole = FileBytes(found.read(0, size))
        if is_planned:
            _check_planned(found, whole.digest, is_planned)
            put_checked(client, remote_id, name, whole)
        else:
            client.put_file(remote_id, name, whole)
        return whole.digest
    finally:
        ROOM.give_back(size)


def _send_parts(
    client: AIHub, remote_id: int, name: str, found: Object, shard: int, is_planned: IsPlanned | None
) -> str:
    """Send a file in parts. It is checked before the parts become a file."""
    session = client.open_upload(remote_id, name, found.stat.size)
    try:
        parts, digest = _put_parts(client, session, found, shard)
        _check_planned(found, digest, is_planned or _is_any)
        client.close_upload(session.session_id, parts)
    except BaseException:
        with suppress(ServiceError):
            client.close_upload(session.session_id, None)
        raise
    return digest


class _InOrder:
    """Hashes parts in their order, whatever the order they are read in."""

    def __init__(self) -> None:
        self._hash, self._next, self._failed = hashlib.sha256(), 0, False
        self._changed = Condition()

    def add(self, number: int, data: bytes) -> None:
        """Hash a part after those before it; do nothing once one of them failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == number or self._failed)
            if not self._failed:
                self._hash.update(data)
                self._next += 1
                self._changed.notify_all()

    def fail(self) -> None:
        """Let nobody wait any more: a part will never come."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _put_parts(client: AIHub, session: UploadSession, found: Object, shard: int) -> tuple[list[UploadPart], str]:
    """Read and send all parts, several at once, and return them with the digest of the bytes sent."""
    whole, sent = _InOrder(), list[Future[UploadPart]]()

    def send(number: int, start: int, length: int) -> UploadPart:
        try:
            data = found.read(start, length)
            whole.add(number, data)
            with client.working_for(shard):  # in a thread of its own
                return client.put_part(session.session_id, number + 1, memoryview(data))
        except BaseException:
            whole.fail()
            raise

    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        try:
            for number, (start, length) in enumerate(split_ranges(found.stat.size, session.part_size)):
                ROOM.take(length)
                try:
                    part = pool.submit(send, number, start, length)
                except BaseException:  # no thread can start
                    ROOM.give_back(length)
                    raise
                sent.append(part)
                part.add_done_callback(lambda done, size=length: ROOM.give_back(size))  # type: ignore[misc]
                for part in sent:
                    if part.done():
                        part.result()  # a failed part ends the upload
            return [part.result() for part in sent], whole.digest
        except BaseException:
            whole.fail()
            for part in sent:
                part.cancel()
            raise
