"""Write files so that they are never half-written, and name them so that they stay in their folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runner.errors import InputError, StateError

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def safe_segment(text: str) -> str:
    """Turn an id from the server into a name for a path: itself where that is harmless, else a hash."""
    if _SAFE.fullmatch(text) and text.strip("."):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def explain_disk(path: Path) -> Iterator[None]:
    """Turn an OSError over a file that we write into words; a full disk is a StateError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # or a quota or limit is reached
            message = f"{path.name}: cannot be written, the disk is full"
            raise StateError(message, "make room and apply again; nothing is lost") from error
        message = f"{path}: cannot be written, {error.strerror or error}"
        raise InputError(message, "check the folder's permissions") from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, readable by its owner only; one that is there keeps its mode."""
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


class Draft:
    """A file that is being written beside its place, which it takes at once when it is complete.

    Only its owner can read it. To be closed in every case; raises OSError, see `explain_disk`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closed = False
        self._digest = hashlib.sha256()
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        make_folder(path.parent)
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = open(descriptor, "wb")  # noqa: PTH123, SIM115

    def write(self, chunk: bytes) -> int:
        """Add bytes at the end."""
        self._digest.update(chunk)
        return self._file.write(chunk)

    def flush(self) -> None:
        """Do nothing: `finish` brings all to the disk."""

    def finish(self) -> str:
        """Bring all to the disk, and give its digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return "sha256:" + self._digest.hexdigest()

    def publish(self) -> None:
        """Take the place, on disk when this returns."""
        self._file.close()
        self._temporary.replace(self.path)
        _sync_folder(self.path.parent)

    def close(self) -> None:
        """Leave nothing behind but what was published."""
        self.closed = True
        try:
            self._file.close()  # it may flush, and fail
        finally:
            self._temporary.unlink(missing_ok=True)


def write_file(path: Path, chunks: Iterable[bytes], announce: Callable[[str], None] = lambda digest: None) -> str:
    """Replace a file at once by other bytes, on disk when this returns, and give their digest.

    `announce` is told the digest right before the file takes its place.
    """
    with explain_disk(path), closing(Draft(path)) as draft:
        for chunk in chunks:
            draft.write(chunk)
        digest = draft.finish()
        announce(digest)
        draft.publish()
    return digest


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Compute the digest of a file, or an empty string where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
