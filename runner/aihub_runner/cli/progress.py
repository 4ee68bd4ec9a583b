"""Show progress: a live display on a terminal, else a line per change and at least one every 30 s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aihub_runner.apply.events import Counts
from aihub_runner.text.shown import count, escape_control_chars, render_size

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


class LiveProgress:
    """Progress as bars on a terminal, with the changes above them."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console or Console(stderr=True), transient=True)
        self._progress.start()
        self._tasks: dict[str, TaskID] = {}

    def _bar(self, name: str, done: float, total: float, text: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, text="")
        self._progress.update(self._tasks[name], completed=done, total=total, text=text)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(
            escape_control_chars(text, keep="\n"), markup=False, highlight=False, soft_wrap=True
        )

    def show(self, counts: Counts) -> None:
        """Update the bars."""
        if counts.files_to_send:
            text = f"{counts.files_sent}/{counts.files_to_send} files, {render_size(counts.bytes_sent)}"
            self._bar("uploading", counts.bytes_sent, counts.bytes_to_send, text)
        if runs := sum(counts.runs.values()):
            ended = sum(counts.runs[status] for status in ("COMPLETE", "FAILED", "CANCELLED"))
            statuses = ", ".join(f"{n} {status}" for status, n in sorted(counts.runs.items()) if n)
            self._bar("runs", ended, runs, statuses)
            self._bar("fetching", counts.runs_fetched, counts.runs["COMPLETE"] or 1, count(counts.runs_fetched, "run"))

    def digesting(self, files: int, files_total: int, size: int, size_total: int) -> None:
        """Update the bar of local files."""
        self._bar("hashing", size, size_total, f"{files}/{files_total} files, {render_size(size)}")

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()

    def resume(self) -> None:
        """Show the bars again."""
        self._progress.start()


def open_progress() -> LineProgress | LiveProgress:
    """Return a live display if standard error is a terminal, else lines."""
    return LiveProgress() if sys.stderr.isatty() else LineProgress()
