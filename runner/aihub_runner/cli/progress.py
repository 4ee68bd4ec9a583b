"""Show progress: a live display on a terminal, else a line with its time per change, and at least one every 30 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from aihub_runner.apply.events import (
    Counts,
    Event,
    RunPaidTwice,
    RunUnconfirmed,
    RunUnrecorded,
    ScanProgress,
    Stopping,
    Tick,
)
from aihub_runner.cli.messages import Talk, render_counts, render_scan
from aihub_runner.cli.output import is_quiet
from aihub_runner.text.escape import escape_control_chars

if TYPE_CHECKING:
    from aihub_runner.cli.live import LiveProgress

HEARTBEAT_S = 30.0
URGENT = (Stopping, RunPaidTwice, RunUnconfirmed, RunUnrecorded)  # said with --quiet, too


def read_clock() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LineProgress:
    """Progress as lines, for logs and CI. Each has the time that `tell_time` returns, where that is given."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        tell_time: Callable[[], str] | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._tell_time = tell_time
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
        when = f"{self._tell_time()} " if self._tell_time else ""
        self._stream.write(when + escape_control_chars(text, keep="\n") + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: there is no display to remove."""

    def resume(self) -> None:
        """Do nothing: there is no display to restore."""


class UrgentProgress(LineProgress):
    """Only what is urgent, as lines."""

    def __call__(self, event: Event) -> None:
        """Write an event that is urgent."""
        if isinstance(event, URGENT):
            super().__call__(event)


def open_progress() -> LineProgress | LiveProgress:
    """Return a live display if standard error is a terminal, else lines."""
    tell_time = None if sys.stderr.isatty() else read_clock
    if is_quiet():
        return UrgentProgress(tell_time=tell_time)
    if tell_time:
        return LineProgress(tell_time=tell_time)
    from aihub_runner.cli.live import LiveProgress  # rich is slow to import

    return LiveProgress()
