"""Write files so that they are never half-written, and name them so that they stay in their folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from aihub_runner.errors import InputError, ResultsError, RunnerError, Shortage
from aihub_runner.system.shortage import explain_shortage, find_shortage

UNREADABLE = "unreadable"  # stands for the digest of a file that is there and cannot be read

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,128}")
# What a file system answers that cannot bring a folder to the disk; it says nothing of the files in it.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_LONGEST_NAME = 200  # of a file, in bytes, so that ours beside it is not too long


class File(Protocol):
    """What bytes are written to."""

    def write(self, chunk: bytes, /) -> object:
        """Add bytes at the end."""


def safe_segment(text: str) -> str:
    """Turn an id from the server into a name for a path: itself where that is harmless, else a hash."""
    if _SAFE.fullmatch(text) and text.strip("."):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def explain_disk(path: Path) -> Iterator[None]:
    """Turn an OSError over a file that we write into words; a full disk, or too many open files, is a Shortage."""
    try:
        yield
    except OSError as error:
        raise _disk_error(path, error) from error


@contextmanager
def explain_late() -> Iterator[None]:
    """Turn an error over a place into one that follows what was paid: "nothing was sent" would not be true then."""
    try:
        yield
    except InputError as error:
        raise ResultsError(error.message, error.hint) from error
    except OSError as error:
        found = _disk_error(Path(str(error.filename or "disk")), error)
        raise found if isinstance(found, Shortage) else ResultsError(found.message, found.hint) from error


def _disk_error(path: Path, error: OSError) -> RunnerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # or a quota or limit is reached
        message = f"{path.name}: cannot be written, the disk is full"
        return Shortage(message, "make room and apply again; nothing is lost")
    if shortage := find_shortage(error):
        return shortage
    hint = "check the disk, and apply again" if error.errno == errno.EIO else "check the folder's permissions"
    return InputError(f"{path}: cannot be written, {error.strerror or error}", hint)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, readable by its owner only; one that is there keeps its mode."""
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


class Draft:
    """A file that is being written beside its place, which it takes at once when it is complete.

    Only its owner can read it, unless a file is there whose mode it keeps. To be closed in every case; raises OSError,
    see `explain_disk`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closed = False
        self._digest = hashlib.sha256()
        self._temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}.tmp")
        make_folder(path.parent)
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = open(descriptor, "wb")  # noqa: PTH123, SIM115
        _keep_mode(descriptor, path)

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


def _short(name: str) -> str:
    """Return a name that can be made longer: itself, or where it is near the limit a hash of it."""
    raw = os.fsencode(name)
    return name if len(raw) <= _LONGEST_NAME else hashlib.sha256(raw).hexdigest()


def _keep_mode(descriptor: int, path: Path) -> None:
    """Return a new file the mode and, where we may, the owner of the one whose place it takes."""
    try:
        found = path.lstat()
    except OSError:
        return
    if stat.S_ISREG(found.st_mode):
        with suppress(OSError):
            os.fchown(descriptor, found.st_uid, found.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & 0o777)


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


def try_place(path: Path) -> None:
    """Try whether a file can be written: one is made beside it, and taken away again; what is there is left alone."""
    with explain_disk(path), closing(Draft(path)) as draft:
        draft.write(b"tried")
        draft.finish()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _try_to_change(path)


def _try_to_change(path: Path) -> None:
    """Try whether a file that is there may be changed; that it may only be read keeps nobody from replacing it."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EROFS):  # it may neither be changed nor replaced, whoever we are
            raise


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read. Raises OSError, at once for a FIFO, which may have no end, or a device; and Shortage."""
    with explain_shortage():
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def read_regular(path: Path, size: int = -1) -> bytes:
    """Read a file, or its first bytes. Raises OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read(size)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, as far as its file system can do that: CIFS, for one, cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Compute the digest of a file, or an empty string where there is none, or UNREADABLE.

    Raises Shortage: a file that only we cannot open now is there.
    """
    try:
        with open_regular(path) as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    except OSError:
        return UNREADABLE
