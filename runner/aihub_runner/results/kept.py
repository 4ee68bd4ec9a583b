"""Check whether files in the results folder still hold what was written, without reading those that nobody touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

from aihub_runner.files import digest_file
from aihub_runner.model import Stat
from aihub_runner.state.store import State


class KeptFiles:
    """The files of a results folder. A file is read only if its stat is not the one under which it was last read."""

    def __init__(self, state: State, folder: Path) -> None:
        self._state, self._folder = state, folder
        self._known = state.load_kept()
        self._fresh: dict[str, tuple[Stat, str]] = {}

    def holds(self, path: str, digest: str) -> bool:
        """Whether a file holds the bytes of a digest."""
        now_ns, found = time.time_ns(), _stat(self._folder / path)
        if found is not None and self._known.get(path) == (found, digest):
            return True
        if digest_file(self._folder / path) != digest:
            return False
        if found is not None and found.is_older(now_ns):
            self._fresh[path] = found, digest
        return True

    def knows(self, path: str, found: os.stat_result, digest: str) -> bool:
        """Whether an open file held the bytes of a digest when it was last read, and its stat is as it was then."""
        return self._known.get(path) == (Stat.of(found), digest)

    def record(self) -> bool:
        """Record the files that were read, so that they need not be read again. Return whether there were any."""
        if not self._fresh or not self._state.is_writable:
            return False
        self._state.record_kept(self._fresh)
        self._fresh = {}
        return True


def _stat(path: Path) -> Stat | None:
    try:
        return Stat.of(os.stat(path))
    except OSError:
        return None
