"""A live display of progress, for terminals."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aihub_runner.apply.events import Counts, Event, ScanProgress
from aihub_runner.cli.messages import Talk
from aihub_runner.model import FINAL_STATUSES
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count, render_size


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
        self._talk = Talk()
        self._counts = Counts()

    def __call__(self, event: Event) -> None:
        """Print an event above the bars, and update them."""
        self._counts.take(event)
        if text := self._talk.render(event):
            self._say(text)
        if isinstance(event, ScanProgress):
            text = f"{event.files}/{event.files_total} files, {render_size(event.bytes)}"
            self._bar("hashing", event.bytes, event.bytes_total, text)
        else:
            self._show(self._counts)

    def _bar(self, name: str, done: float, total: float, text: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, text="")
        self._progress.update(self._tasks[name], completed=done, total=total, text=text)

    def _say(self, text: str) -> None:
        self._progress.console.print(
            escape_control_chars(text, keep="\n"), markup=False, highlight=False, soft_wrap=True
        )

    def _show(self, counts: Counts) -> None:
        if counts.files_to_send:
            text = f"{counts.files_sent}/{counts.files_to_send} files, {render_size(counts.bytes_sent)}"
            self._bar("uploading", counts.bytes_sent, counts.bytes_to_send, text)
        if runs := sum(counts.runs.values()):
            ended = sum(counts.runs[status] for status in FINAL_STATUSES)
            statuses = ", ".join(f"{n} {status}" for status, n in sorted(counts.runs.items()) if n)
            self._bar("runs", ended, runs, statuses)
            self._bar("fetching", counts.runs_fetched, counts.runs["COMPLETE"] or 1, count(counts.runs_fetched, "run"))

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()

    def resume(self) -> None:
        """Show the bars again."""
        self._progress.start()
