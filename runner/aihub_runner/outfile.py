"""Write what a person names: a file whole or not at all, anything else that can be written as the bytes come."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from aihub_runner.errors import InputError
from aihub_runner.files import Draft, File, explain_disk
from aihub_runner.text.shown import show_bytes

_HINT = "give the name of a file, or of a pipe or device"
_MAX_LINKS = 40


def write_output(path: Path, chunks: Iterable[bytes]) -> None:
    """Write what a person named, see `opened_output`."""
    with opened_output(path) as file:
        for chunk in chunks:
            file.write(chunk)


@contextmanager
def opened_output(path: Path) -> Iterator[File]:
    """Open what a person named for writing.

    A regular file, or the one that a link leads to, is replaced at once when all is written, and keeps its mode and
    owner. A pipe, a device and what `/dev/stdout` stands for are written as the bytes come; a reader who leaves early
    makes nothing fail. Raises InputError for a folder, a socket and what cannot be written, StateError where the disk
    is full.
    """
    with explain_disk(path):
        place = find_place(path)
        if place is None:
            with closing(_Passed(_open_passed(path))) as passed:
                yield passed
                passed.flush()
            return
        if place.exists() and not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with closing(Draft(place)) as draft:
            yield draft
            draft.finish()
            draft.publish()


def find_place(path: Path) -> Path | None:
    """Find the regular file that would be replaced or made, behind all links; None for what is written through.

    Raises InputError for what cannot be written, OSError.
    """
    if find_descriptor(path) is not None:
        return None
    with suppress(FileNotFoundError):
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"{path}: cannot be written, it is a folder", _HINT)
        if stat.S_ISSOCK(kind):
            raise InputError(f"{path}: cannot be written, it is a socket", _HINT)
        if not stat.S_ISREG(kind):
            return None
    return Path(os.path.realpath(path))


def require_file(path: Path) -> Path:
    """Find the regular file that a person's path leads to, there or to be made; what is read again can be no other.

    Raises InputError.
    """
    with explain_disk(path):
        place = find_place(path)
    if place is None:
        raise InputError(f"{path}: is a pipe or a device, not a file", "give the name of a file")
    return place if path.is_symlink() else path


def find_descriptor(path: Path) -> int | None:
    """Find the number of the open file that a path stands for, as 1 for `/dev/stdout`; None for any other."""
    place = os.path.abspath(path)
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(place)
        folder = os.path.realpath(folder)
        if re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd", folder) and name.isdecimal():
            return int(name)
        try:
            place = os.path.join(folder, os.readlink(place))
        except OSError:
            return None
    return None


def is_standard_output(path: Path | None) -> bool:
    """Return whether a path stands for standard output: what else is said must not go there."""
    return path is not None and find_descriptor(path) == 1


def _open_passed(path: Path) -> int:
    descriptor = find_descriptor(path)
    if descriptor is None:
        return os.open(path, os.O_WRONLY | os.O_NOCTTY)
    return os.dup(descriptor)  # to open it anew would begin at the start of a file that others write, too


class _Passed:
    """A pipe or device; harmless where it is a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "wb")  # noqa: SIM115
        self._is_terminal = os.isatty(descriptor)
        self._has_reader = True

    closed = False

    def write(self, chunk: bytes) -> int:
        """Add bytes at the end."""
        if self._has_reader:
            try:
                self._file.write(show_bytes(chunk) if self._is_terminal else chunk)
            except BrokenPipeError:
                self._has_reader = False
        return len(chunk)

    def flush(self) -> None:
        """Send what is left."""
        if self._has_reader:
            try:
                self._file.flush()
            except BrokenPipeError:
                self._has_reader = False

    def close(self) -> None:
        """Close it; what could not be sent was told of."""
        self.closed = True
        with suppress(OSError):
            self._file.close()
