"""Storage for file contents: in memory, or on disk under the digest as name."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1 << 20


class Blobs:
    """Content-addressed storage. With a folder, bodies are written to disk atomically and not kept in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}
        self._counter = itertools.count()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob("*.part"):
                left.unlink()

    async def store(self, stream: AsyncIterator[bytes]) -> tuple[str, int]:
        """Store the body of a request, and return its digest and size."""
        if self._folder is None:
            body = b"".join([chunk async for chunk in stream])
            return self._remember(body), len(body)
        digest, size = hashlib.sha256(), 0
        temporary = self._folder / f"{next(self._counter)}.part"
        try:
            with temporary.open("wb") as file:
                async for chunk in stream:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
            temporary.replace(self._folder / digest.hexdigest())
        finally:
            temporary.unlink(missing_ok=True)
        # The ledger keeps one digest per upload. Interning shares the text between uploads of the same bytes.
        return sys.intern(digest.hexdigest()), size

    def put(self, body: bytes) -> str:
        """Store a body, and return its digest."""
        if self._folder is None:
            return self._remember(body)
        digest = hashlib.sha256(body).hexdigest()
        if not (self._folder / digest).exists():
            temporary = self._folder / f"{next(self._counter)}.part"
            temporary.write_bytes(body)
            temporary.replace(self._folder / digest)
        return digest

    def _remember(self, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        self._memory[digest] = body
        return digest

    def read(self, digest: str, at_most: int) -> bytes:
        """Return the first bytes of a blob, or no bytes if it does not exist."""
        if self._folder is None:
            return self._memory.get(digest, b"")[:at_most]
        try:
            with (self._folder / digest).open("rb") as file:
                return file.read(at_most)
        except FileNotFoundError:
            return b""

    def join(self, digests: list[str]) -> tuple[str, int]:
        """Concatenate several blobs into a new one, and return its digest and size."""
        if self._folder is None:
            body = b"".join(self._memory[digest] for digest in digests)
            return self._remember(body), len(body)
        joined, size = hashlib.sha256(), 0
        temporary = self._folder / f"{next(self._counter)}.part"
        with temporary.open("wb") as file:
            for digest in digests:
                with (self._folder / digest).open("rb") as part:
                    for chunk in _chunks(part):
                        joined.update(chunk)
                        size += file.write(chunk)
        shutil.move(temporary, self._folder / joined.hexdigest())
        return joined.hexdigest(), size

    def stream(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of a blob from `start` up to but not including `end`, in chunks."""
        if self._folder is None:
            yield self._memory[digest][start:end]
            return
        with (self._folder / digest).open("rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(CHUNK_BYTES, end - start))):
                start += len(chunk)
                yield chunk


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
