"""Show progress: a live display on a terminal, else a line per change and at least one every 30 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from aihub_runner.apply.events import Counts
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count, render_size

if TYPE_CHECKING:
    from aihub_runner.cli.live import LiveProgress

HEARTBEAT_S = 30.0


def render_counts(counts: Counts) -> str:
    """Render the progress as one line."""
    parts = []
    if counts.files_to_send:
        size = f"{render_size(counts.bytes_sent)} of {render_size(counts.bytes_to_send)}"
        parts.append(f"uploaded {counts.files_sent} of {count(counts.files_to_send, 'file')} ({size})")
    runs = ", ".join(f"{number} {status or 'started'}" for status, number in sorted(counts.runs.items()) if number)
    if runs:
        parts.append(f"runs: {runs}")
    if counts.runs_fetched:
        parts.append(f"results of {count(counts.runs_fetched, 'run')} fetched")
    return "; ".join(parts) or "working"


class LineProgress:
    """Progress as lines, for logs and CI."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._last = clock()

    def say(self, text: str) -> None:
        """Write a line."""
        self._last = self._clock()
        self._stream.write(escape_control_chars(text, keep="\n") + "\n")
        self._stream.flush()

    def show(self, counts: Counts) -> None:
        """Write the progress, if nothing was written for `HEARTBEAT_S`."""
        if self._clock() - self._last >= HEARTBEAT_S:
            self.say(render_counts(counts))

    def digesting(self, files: int, files_total: int, size: int, size_total: int) -> None:
        """Write how many local files are read, if nothing was written for `HEARTBEAT_S`."""
        if self._clock() - self._last >= HEARTBEAT_S:
            self.say(f"read {files} of {count(files_total, 'file')} ({render_size(size)} of {render_size(size_total)})")

    def close(self) -> None:
        """Do nothing: there is no display to remove."""

    def resume(self) -> None:
        """Do nothing: there is no display to restore."""


def open_progress() -> LineProgress | LiveProgress:
    """Return a live display if standard error is a terminal, else lines."""
    if not sys.stderr.isatty():
        return LineProgress()
    from aihub_runner.cli.live import LiveProgress  # rich is slow to import

    return LiveProgress()
