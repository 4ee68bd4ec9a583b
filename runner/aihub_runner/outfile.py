"""Write a user's output: regular files atomically, everything else as a stream."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from aihub_runner.errors import InputError
from aihub_runner.files import Draft, File, explain_disk
from aihub_runner.text.escape import show_bytes
from aihub_runner.text.jsontext import render_json

_HINT = "name a file, a pipe or a device"
_MAX_LINKS = 40


def write_output(path: Path, chunks: Iterable[bytes]) -> None:
    """Write chunks to the path that the user named; see `opened_output`."""
    with opened_output(path) as file:
        for chunk in chunks:
            file.write(chunk)


@contextmanager
def opened_output(path: Path) -> Iterator[File]:
    """Open the path that the user named for writing.

    A regular file, or the target of a link, is replaced atomically at the end, and keeps its mode and owner. A pipe, a
    device and a path like `/dev/stdout` are written as a stream; a reader who closes it early causes no error. Raises
    InputError for a folder, a socket or an unwritable path, and StateError if the disk is full.
    """
    with explain_disk(path, "run the command again"):
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
    """Return the regular file to replace or create, behind all links; None for a stream.

    Raises InputError for an unwritable path, and OSError.
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
    """Return the regular file that a path leads to, existing or not. Only such a file can be read again.

    Raises InputError.
    """
    with explain_disk(path):
        place = find_place(path)
    if place is None:
        raise InputError(f"{path}: is a pipe or a device, not a file", "name a regular file")
    return place if path.is_symlink() else path


def find_descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path means, such as 1 for `/dev/stdout`; None for any other."""
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
    """Whether a path means standard output, so that nothing else may be printed there."""
    return path is not None and find_descriptor(path) == 1


def _open_passed(path: Path) -> int:
    descriptor = find_descriptor(path)
    if descriptor is None:
        return os.open(path, os.O_WRONLY | os.O_NOCTTY)
    return os.dup(descriptor)  # opening it again would start at the beginning of a file that others write, too


class JsonLines:
    """A file of JSON, a value each line. The first line opens it. Any thread may write.

    It never raises: the first error ends the writing, and stays in `error`.
    """

    def __init__(self, path: Path, mode: Literal["ab", "wb"]) -> None:
        self.path, self.error = path, ""
        self._mode: Literal["ab", "wb"] = mode
        self._file: FileIO | None = None
        self._lock = threading.Lock()

    def write(self, value: Any) -> None:
        """Write a line."""
        left = memoryview(render_json(value, only_ascii=True).encode() + b"\n")
        with self._lock, self._noting_error():
            while left and not self.error:
                self._file = self._file or self.path.open(self._mode, buffering=0)
                left = left[self._file.write(left) or 0 :]

    def close(self) -> None:
        """Close it."""
        with self._lock, self._noting_error():
            if self._file:
                self._file.close()

    @contextmanager
    def _noting_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self.error = self.error or getattr(error, "strerror", None) or str(error)


class _Passed:
    """A pipe or a device, safe for terminals."""

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "wb")  # noqa: SIM115
        self._is_terminal = os.isatty(descriptor)
        self._has_reader = True

    closed = False

    def write(self, chunk: bytes) -> int:
        """Append bytes."""
        self._try(lambda: self._file.write(show_bytes(chunk) if self._is_terminal else chunk))
        return len(chunk)

    def flush(self) -> None:
        """Send the rest."""
        self._try(self._file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self._has_reader:
            try:
                act()
            except BrokenPipeError:
                self._has_reader = False

    def close(self) -> None:
        """Close it. Errors were already reported."""
        self.closed = True
        with suppress(OSError):
            self._file.close()
