"""Request bodies: bytes, or a slice of a file that is hashed while it is read."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from types import TracebackType
from typing import IO

from aihub_runner.errors import Interrupted
from aihub_runner.files import open_regular

PATIENCE_S = 60.0


class SingleUseBody(io.BytesIO):
    """The body of a request that must not be sent twice. It records whether any of it was read.

    The HTTP stack reads a body only after it has connected and written the headers. So if a request fails and its body
    is untouched, the request was never delivered, whatever the error.
    """

    was_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and record that the body was read."""
        self.was_read = True
        return super().read(size)


class FileBytes:
    """The content of a file as a request body, hashed while the service reads it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._digest = ""

    def __len__(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> str:
        """The digest of the content, computed when it is first asked for."""
        self._digest = self._digest or "sha256:" + hashlib.sha256(self.data).hexdigest()
        return self._digest


class SourceChanged(Exception):
    """A file is shorter than when its upload started."""


class SourceUnreadable(Exception):
    """A file could not be read while being sent. The HTTP stack would take its OSError for a network error."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class FileSlice:
    """A slice of a file as a request body: read from disk as it is sent, and hashed on the way.

    `digest` covers the bytes read so far, `left` is how many are not read. Entering opens the file, and raises OSError.
    """

    def __init__(self, path: Path | str, offset: int, size: int) -> None:
        self._path, self._offset, self._size = path, offset, size
        self.left = size
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> FileSlice:
        self._file = open_regular(self._path)
        self.rewind()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> FileSlice:
        return self

    def __next__(self) -> bytes:
        if chunk := self.read(1 << 18):
            return chunk
        raise StopIteration

    def rewind(self) -> None:
        """Start again at the first byte, for another attempt."""
        assert self._file is not None
        self._file.seek(self._offset)
        self.left = self._size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on. Raises SourceChanged if the file is shorter than announced, SourceUnreadable on a read error."""
        assert self._file is not None
        wanted = self.left if size < 0 else min(size, self.left)
        try:
            chunk = self._file.read(wanted)
        except OSError as error:
            raise SourceUnreadable(error) from error
        if wanted and not chunk:
            raise SourceChanged
        self.left -= len(chunk)
        self._hash.update(chunk)
        return chunk

    @property
    def digest(self) -> str:
        """The digest of the bytes read."""
        return "sha256:" + self._hash.hexdigest()


class HeldBytes(FileSlice):
    """The content of a file, which was read and checked before. Once `stop` is set, no more of it is sent."""

    def __init__(self, data: bytes, stop: threading.Event) -> None:
        super().__init__("", 0, len(data))
        self._data, self._stop = data, stop

    def __enter__(self) -> HeldBytes:
        self._file = io.BytesIO(self._data)
        return self

    def read(self, size: int = -1) -> bytes:
        """Read on. Raises Interrupted once it must not be sent any more."""
        if self._stop.is_set():
            raise Interrupted("interrupted")
        return super().read(size)


class Room:
    """Room in memory for bodies, in bytes, shared by threads. A body larger than all of it has it for itself."""

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Take room as soon as there is enough, or after `PATIENCE_S` in any case."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._size, PATIENCE_S)
            self._used += size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Take room, and give it back at the end."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> bool:
        """Return what was taken, and whether something is still in use."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()
            return self._used > 0


class Buffers:
    """Memory for the parts of files, which is used again: new memory costs six times as much as to read into it.

    It is memory of this process alone, which is had for less than memory to be shared, and goes back to the system once
    nothing is in use.
    """

    def __init__(self, size: int) -> None:
        self._room, self._free = Room(size), list[mmap]()
        self._lock = threading.Lock()

    def lend(self, size: int) -> Loan:
        """Lend a buffer, as soon as there is room."""
        self._room.take(size)
        try:
            with self._lock:
                kept = self._free.pop() if self._free else None
                if kept is None or len(kept) != size:
                    self._free.clear()
                    kept = mmap(-1, size, access=ACCESS_COPY)
            return Loan(self, kept)
        except BaseException:
            self._room.give_back(size)
            raise

    def take_back(self, buffer: mmap, *, is_free: bool) -> None:
        """Take a buffer back; lend it again if nobody uses it any more."""
        with self._lock:
            if is_free:
                self._free.append(buffer)
            if not self._room.give_back(len(buffer)):
                self._free.clear()


class Loan:
    """A buffer, and the two that use it: one sends its content, one hashes it."""

    def __init__(self, buffers: Buffers, buffer: mmap) -> None:
        self._buffers, self.buffer = buffers, buffer
        self._users, self._lock = 2, threading.Lock()

    def leave(self) -> None:
        """Stop using the buffer. The second to leave gives it back."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self._buffers.take_back(self.buffer, is_free=True)

    def abandon(self) -> None:
        """Return the room, but never use this buffer again: another thread may still be sending it."""
        with self._lock:
            is_left, self._users = self._users > 0, -1
        if is_left:
            self._buffers.take_back(self.buffer, is_free=False)
