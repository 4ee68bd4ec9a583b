"""Look at the status of jobs: once; or again and again, redrawn on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.cli.inspection import inspect_job, list_runs, read_state
from aihub_runner.cli.options import Asked, find_specs, served
from aihub_runner.cli.output import print_error, print_problems, say, set_quiet
from aihub_runner.cli.progress import read_clock
from aihub_runner.errors import STILL_GOING, RunnerError, worst_code
from aihub_runner.report.runtable import render_rows
from aihub_runner.report.summary import Drift, Report, render_briefly, render_report
from aihub_runner.system import interrupt
from aihub_runner.text.escape import escape_control_chars

if TYPE_CHECKING:
    from rich.live import Live

Rows = list[dict[str, Any]]

EVERY_S = 2.0
EVERY_S_REFRESHED = 30.0
SHARE = 10  # a look at a large job may take a while: at most a tenth of the time


def look(asked: Asked, path: Path) -> tuple[Report, Rows]:
    """Return the status of a job, and its runs. With `refresh`, asks the service, too."""
    refresh = asked.options.refresh
    job = asked.open(path, offline=not refresh)
    report = inspect_job(job)
    rows = list_runs(job, is_at_work=bool(report.at_work))
    if refresh:
        with served(job) if not report.at_work else nullcontext(job) as reachable:
            report = replace(report, drift=tuple(_find_drift(reachable)))
    return report, rows


def render_look(asked: Asked, report: Report, rows: Rows) -> str:
    """Render the status of a job as text."""
    if asked.quiet:
        return render_briefly(report)
    lines = [render_report(report, applied=False, verbose=asked.verbose)]
    return "\n".join([*lines, *render_rows(rows, time.time(), verbose=asked.verbose)])


def _find_drift(job: Job) -> list[Drift]:
    with read_state(job) as state:
        shards = state.load_shards() if state else []
    if not shards:
        return []
    from aihub_runner.aihub.client import AIHub  # all of this is slow to import
    from aihub_runner.apply.background import in_thread
    from aihub_runner.apply.refresh import find_drift

    with closing(AIHub(job.connection, interrupt.stop)) as client:
        return in_thread(lambda: find_drift(job, shards, client))


class Seen(Struct, frozen=True):
    """What a look at a spec showed, or why it failed."""

    spec: Path
    report: Report | None = None
    rows: Rows = []
    error: RunnerError | None = None

    @property
    def code(self) -> int:
        """The exit code that it stands for."""
        return self.report.exit_code if self.report else self.error.exit_code if self.error else 0

    @property
    def line(self) -> str:
        """What it shows, in one line."""
        return render_briefly(self.report) if self.report else f"error: {self.error}"


def watch_status(asked: Asked, wait: Callable[[float], object] = interrupt.stop.wait) -> NoReturn:
    """Show the status of jobs again and again, until nothing is left to wait for. Exit with the worst code then."""
    set_quiet(click.get_current_context(), None, True)  # the bars of reading files would disturb the screen
    screen = _Screen(asked) if sys.stdout.isatty() and not asked.quiet else _Lines()
    try:
        while True:
            begun = time.monotonic()
            seen = [_look(asked, spec) for spec in find_specs(asked.specs)]
            if STILL_GOING not in [one.code for one in seen]:
                break
            screen.show(seen)
            wait(max(EVERY_S_REFRESHED if asked.options.refresh else EVERY_S, SHARE * (time.monotonic() - begun)))
    finally:
        screen.close()
    for one in seen:
        if one.report:
            print_problems(one.report)
            say(render_look(asked, one.report, one.rows))
        if one.error:
            print_error(one.error)
    sys.exit(worst_code(one.code for one in seen))


def _look(asked: Asked, spec: Path) -> Seen:
    try:
        report, rows = look(asked, spec)
    except RunnerError as error:
        return Seen(spec, error=error)
    return Seen(spec, report, rows)


class _Lines:
    """Writes a line for each spec whenever it changes."""

    def __init__(self) -> None:
        self._said: dict[Path, str] = {}

    def show(self, seen: list[Seen]) -> None:
        for one in seen:
            if one.line != self._said.get(one.spec):
                self._said[one.spec] = one.line
                say(f"{read_clock()} {one.line}")

    def close(self) -> None:
        """Do nothing: all lines stay."""


class _Screen:
    """Draws over what it drew before. What does not fit on the terminal is cut off."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._live: Live | None = None

    def show(self, seen: list[Seen]) -> None:
        from rich.live import Live  # slow to import
        from rich.text import Text

        texts = [
            render_look(self._asked, one.report, one.rows) if one.report else escape_control_chars(one.line, keep="\n")
            for one in seen
        ]
        if self._live is None:
            self._live = Live(auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text("\n".join(texts), no_wrap=True, overflow="ellipsis"), refresh=True)

    def close(self) -> None:
        if self._live:
            self._live.stop()
