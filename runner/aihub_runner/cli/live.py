"""A live display of progress, for terminals."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aihub_runner.apply.events import Counts, Event, ScanProgress
from aihub_runner.cli.messages import Talk
from aihub_runner.model import FINAL_STATUSES
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count, render_size

BAR_WIDTH = 20  # short lines stay whole in a window that becomes narrower
ROOM = 4  # columns for the ^C that a terminal shows: on a line of its own it would shift the bars


class Bars(Progress):
    """Bars that leave some columns free at the right."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Return the table of bars."""
        yield Narrow(self.make_tasks_table(self.tasks))


class Narrow:
    """What is shown in all but the last columns, however wide the terminal is by then."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render it for the columns that are left."""
        yield from console.render(self._inner, options.update_width(max(1, options.max_width - ROOM)))


class LiveProgress:
    """Progress as bars on a terminal, with the changes above them."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(BAR_WIDTH),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        self._progress = Bars(*columns, console=console or Console(stderr=True), transient=True)
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
