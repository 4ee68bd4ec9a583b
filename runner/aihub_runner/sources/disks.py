"""Distinguish an unreadable file from an unreadable disk, and from a shortage of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

from aihub_runner.errors import StateError
from aihub_runner.model import SkippedFile
from aihub_runner.system.shortage import DISK_ERRORS, find_shortage


def is_of_disk(error: OSError) -> bool:
    """Whether an error comes from a disk, or from the server behind a mount."""
    return error.errno in DISK_ERRORS


def find_mount(place: str) -> int:
    """Return the device of a path, or of the nearest parent folder that can be read."""
    while True:
        try:
            return os.stat(place).st_dev
        except OSError:
            above = os.path.dirname(place)
            if above == place:
                return 0
            place = above


def disk_error(place: str, what: str) -> StateError:
    """Return the error for a disk that cannot be read."""
    return StateError(f"{place}: cannot be read, {what}", "check its disk or mount, and apply again")


class Disks:
    """The read errors of one scan. One failed file is skipped; several on one disk mean that the disk fails."""

    def __init__(self) -> None:
        self._failed: dict[int, tuple[str, str]] = {}  # by device: the first failed file, and its error

    def explain(self, place: str, path: str, error: OSError) -> SkippedFile:
        """Return why a file is skipped. Raises Shortage, and StateError for the second failed file of a disk."""
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
        """Raise StateError if a disk failed and none of its files is among `read`, the files that were read."""
        left = dict(self._failed)
        for place in read:
            if not left:
                return
            left.pop(find_mount(place), None)
        for path, what in left.values():
            raise disk_error(path, what)
