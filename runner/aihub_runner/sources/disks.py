"""Return a file that cannot be read from a disk that cannot, and from what this machine lacks."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from aihub_runner.errors import StateError
from aihub_runner.model import SkippedFile
from aihub_runner.system.shortage import find_shortage

_OF_A_DISK = frozenset({errno.EIO, errno.ESTALE})


def is_of_disk(error: OSError) -> bool:
    """Return whether an error speaks of the disk or the server behind a mount."""
    return error.errno in _OF_A_DISK


def find_mount(place: str) -> int:
    """Return the device that holds a file, by the nearest folder above it that can be asked."""
    while True:
        try:
            return os.stat(place).st_dev
        except OSError:
            above = os.path.dirname(place)
            if above == place:
                return 0
            place = above


def disk_error(place: str, what: str) -> StateError:
    """Make the error that a disk, and not one file on it, cannot be read."""
    return StateError(f"{place}: cannot be read, {what}", "check the disk or the mount that holds it, and apply again")


class Disks:
    """What cannot be read in one scan: of one file it is the file's fault, of several the disk's."""

    def __init__(self) -> None:
        self._failed: dict[int, tuple[str, str]] = {}  # by device: the file, and what was said of it

    def explain(self, place: str, path: str, error: OSError) -> SkippedFile:
        """Return why a file is skipped. Raises Shortage, and StateError where it is not the first one of its disk."""
        if shortage := find_shortage(error):
            raise shortage from error
        what = error.strerror or str(error)
        if is_of_disk(error):
            mount = find_mount(place)
            if mount in self._failed:
                raise disk_error(path, f"like {self._failed[mount][0]}: {what}") from error
            self._failed[mount] = (path, what)
        reason = "vanished" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
        return SkippedFile(path, reason, what)

    def check(self, read: Iterable[str]) -> None:
        """Raise StateError for a disk of which no file could be read; `read` are those that were."""
        left = dict(self._failed)
        for place in read:
            if not left:
                return
            left.pop(find_mount(place), None)
        for path, what in left.values():
            raise disk_error(path, what)
