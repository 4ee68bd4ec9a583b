"""Write files atomically, and give them names that stay in their folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from aihub_runner.errors import InputError, ResultsError, RunnerError, Shortage
from aihub_runner.system.shortage import DISK_ERRORS, describe_too_large, explain_shortage, find_shortage

UNREADABLE = "unreadable"  # the digest of an existing file that cannot be read

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Errors of a file system that cannot sync a folder. They do not concern the files in it.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_IN_THE_WAY = frozenset({errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP})
_LONGEST_NAME = 200  # of a file, in bytes, to leave room for our suffix


class File(Protocol):
    """A destination for bytes."""

    def write(self, chunk: bytes, /) -> object:
        """Append bytes."""


def safe_segment(text: str) -> str:
    """Return an id from the service as a path segment: itself where that is safe, else a hash."""
    if _SAFE.fullmatch(text) and text.strip("."):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def explain_disk(path: Path, again: str = "apply again; nothing is lost") -> Iterator[None]:
    """Turn an OSError on a file that we write into a RunnerError, for a full or failing disk or too many open
    files a Shortage, which says what to do `again`.
    """
    try:
        yield
    except OSError as error:
        raise _disk_error(path, error, again) from error


@contextmanager
def explain_late() -> Iterator[None]:
    """Turn an error about a place into one after paying, which must not claim that nothing was sent."""
    try:
        yield
    except InputError as error:
        raise ResultsError(error.message, error.hint) from error
    except OSError as error:
        found = _disk_error(Path(str(error.filename or "disk")), error)
        raise found if isinstance(found, Shortage) else ResultsError(found.message, found.hint) from error


def _disk_error(path: Path, error: OSError, again: str = "apply again; nothing is lost") -> RunnerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full" if error.errno == errno.ENOSPC else "your disk quota is used up"
        return Shortage(f"{path.name}: cannot be written, {what}", f"free some space and {again}")
    if error.errno == errno.EFBIG:
        return Shortage(f"{path.name}: cannot be written, {describe_too_large()}", f"raise the limit and {again}")
    if shortage := find_shortage(error):
        return shortage
    message = f"{path}: cannot be written, {error.strerror or error}"
    if error.errno in DISK_ERRORS:
        return Shortage(message, f"check the disk or mount, and {again}")
    if error.errno == errno.EEXIST:  # where a folder was to be made
        message = f"{error.filename or path}: is not a folder"
    return InputError(message, "move it away" if error.errno in _IN_THE_WAY else "check the folder's permissions")


def is_there(path: Path) -> bool:
    """Whether there is a file of ours, or whatever you put in its place; a folder does not count."""
    return path.exists() and not path.is_dir()


def make_folder(path: Path) -> None:
    """Create a folder and its parents, readable by the owner only. An existing folder keeps its mode."""
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


class Draft:
    """A file that is written beside its place, and moved there atomically when it is complete.

    Only its owner can read it, unless it replaces a file: then it keeps that file's mode. Always close it. Raises
    OSError; see `explain_disk`.
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

    def write(self, chunk: bytes | memoryview) -> int:
        """Append bytes."""
        self._digest.update(chunk)
        return self._file.write(chunk)

    def flush(self) -> None:
        """Do nothing: `finish` syncs to disk."""

    def finish(self) -> str:
        """Sync to disk, and return the digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return "sha256:" + self._digest.hexdigest()

    def publish(self) -> None:
        """Move the file to its place. It is durable when this returns."""
        self._file.close()
        self._temporary.replace(self.path)
        _sync_folder(self.path.parent)

    def close(self) -> None:
        """Remove everything that was not published."""
        self.closed = True
        try:
            self._file.close()  # it may flush, and fail
        finally:
            self._temporary.unlink(missing_ok=True)


def _short(name: str) -> str:
    """Return a name with room for a suffix: itself, or a hash of it near the length limit."""
    raw = os.fsencode(name)
    return name if len(raw) <= _LONGEST_NAME else hashlib.sha256(raw).hexdigest()


def _keep_mode(descriptor: int, path: Path) -> None:
    """Copy mode and, if permitted, owner from the file to replace."""
    try:
        found = path.lstat()
    except OSError:
        return
    if stat.S_ISREG(found.st_mode):
        with suppress(OSError):
            os.fchown(descriptor, found.st_uid, found.st_gid)
        with suppress(PermissionError):  # on file systems without modes
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & 0o777)


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Replace a file atomically, durable when this returns, and return its digest."""
    with explain_disk(path), closing(Draft(path)) as draft:
        for chunk in chunks:
            draft.write(chunk)
        digest = draft.finish()
        draft.publish()
    return digest


def try_place(path: Path) -> None:
    """Check that a file can be written: create one beside it and remove it. An existing file stays untouched."""
    with explain_disk(path), closing(Draft(path)) as draft:
        draft.write(b"tried")
        draft.finish()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _try_to_change(path)


def _try_to_change(path: Path) -> None:
    """Check that an existing file may be replaced. A read-only mode alone does not prevent that."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EROFS):  # immutable or on a read-only file system
            raise


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file for reading. Raises OSError at once for a FIFO or device, which may have no end; and Shortage."""
    with explain_shortage():
        file = open(path, "rb", opener=open_without_waiting)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def read_regular(path: Path | str, size: int = -1) -> bytes:
    """Read a file, or its first bytes. Raises OSError like `open_regular`."""
    with open_regular(path) as file:
        return file.read(size)


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file, and never wait: it may be a FIFO by now."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _sync_folder(folder: Path) -> None:
    """Sync the names in a folder, if its file system can: CIFS, for example, cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Return the digest of a file; empty if it is missing, UNREADABLE if it cannot be read.

    Raises Shortage, because a file that we lack descriptors for does exist.
    """
    try:
        with open_regular(path) as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    except OSError:
        return UNREADABLE
