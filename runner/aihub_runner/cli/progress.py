"""Show progress: a live display on a terminal, else a line per change and at least one every 30 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from aihub_runner.apply.events import Counts, Event, ScanProgress, Tick
from aihub_runner.cli.messages import Talk, render_counts, render_scan
from aihub_runner.text.escape import escape_control_chars

if TYPE_CHECKING:
    from aihub_runner.cli.live import LiveProgress

HEARTBEAT_S = 30.0


class LineProgress:
    """Progress as lines, for logs and CI."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._last = clock()
        self._talk = Talk(clock)
        self._counts = Counts()

    def __call__(self, event: Event) -> None:
        """Write an event, or the progress if nothing was written for `HEARTBEAT_S`."""
        self._counts.take(event)
        if text := self._talk.render(event):
            self._say(text)
        elif isinstance(event, Tick | ScanProgress) and self._clock() - self._last >= HEARTBEAT_S:
            self._say(render_scan(event) if isinstance(event, ScanProgress) else render_counts(self._counts))

    def _say(self, text: str) -> None:
        self._last = self._clock()
        self._stream.write(escape_control_chars(text, keep="\n") + "\n")
        self._stream.flush()

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
