"""`apply --watch`: a round of applying whenever files have arrived, and a line about each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import click
from msgspec.structs import replace

from aihub_runner.apply.job import Job, Options
from aihub_runner.apply.watch import Pace, Woken, World, look_at_files, watch
from aihub_runner.cli.inspection import read_state
from aihub_runner.cli.options import Answer, Asked, require_one
from aihub_runner.cli.output import print_error, say, set_quiet
from aihub_runner.cli.progress import read_clock
from aihub_runner.errors import InputError, Interrupted, RunnerError
from aihub_runner.plan.packets import folder_of
from aihub_runner.sources.scan import select_files
from aihub_runner.spec.patterns import compile_globs, list_roots
from aihub_runner.system import interrupt
from aihub_runner.system.extras import find_missing
from aihub_runner.text.shown import count

TICK_S = 0.5  # how long a signal may wait
_PAYS_AGAIN = ("again", "retry_failed", "refetch", "adopt")

Apply = Callable[[Job], Answer]


def check_watch(asked: Asked, *, yes: bool) -> Asked:
    """Check that the options fit a watch, and return what was asked, quiet. Raises UsageError, InputError."""
    require_one(asked, "--watch")
    options = asked.options
    odd = [f"--{name.replace('_', '-')}" for name in _PAYS_AGAIN if getattr(options, name)]
    odd += ["--only"] * bool(options.only) + ["--limit"] * (options.limit is not None)
    odd += ["--plan"] * bool(options.approved)
    if odd:
        raise click.UsageError(f"--watch cannot be used with {odd[0]}: each round would do it again")
    if not yes:
        raise click.UsageError("--watch pays without asking, so it needs --yes")
    if missing := find_missing("watch"):
        raise missing
    if not asked.verbose:
        set_quiet(click.get_current_context(), None, True)
    return replace(asked, quiet=True)


def check_limit(job: Job) -> None:
    """Raise InputError if nothing limits what a watch may pay for, or if there are no files to watch."""
    if job.options.max_runs is None and job.spec.limits.max_runs_per_day is None:
        raise InputError(
            f"{job.shown}: --watch pays without asking, and nothing limits how much",
            "pass --max-runs, for all rounds together, or set [limits] max_runs_per_day",
        )
    if job.goal.input or not job.spec.files:
        raise InputError(f"{job.shown}: has no files on this machine to watch", "apply it without --watch")
    if job.is_remote:  # a place that cannot be read must not pass for an empty one
        select_files(job.spec, job.spec_path, job.options.allowed, 0)


class Rounds:
    """Applies a job again and again, and says what came of it. `max_runs` counts over all rounds."""

    def __init__(self, job: Job, apply: Apply) -> None:
        self._job, self._apply = job, apply
        self._number = 0
        self._before = self._count_started()
        self.last: dict[str, Any] = {}

    def act(self, unfinished: frozenset[str]) -> int:
        """Apply all files but the unfinished ones. Print one line, and return the exit code."""
        self._number += 1
        job = replace(self._job, options=self._limit(unfinished))
        try:
            text, self.last, code = self._apply(job)
        except (RunnerError, KeyboardInterrupt) as raised:
            ended = Interrupted(f"{job.shown}: interrupted", "start the watch again, which continues")
            error = raised if isinstance(raised, RunnerError) else ended
            print_error(error)
            text, self.last, code = f"{job.shown}: failed", {"spec": job.shown}, error.exit_code
        started = self.last.get("runs_started", 0)
        more = f", {count(started, 'run')} started" * bool(started)
        more += f", {count(len(unfinished), 'file')} still being written" * bool(unfinished)
        say(f"{read_clock()} round {self._number}: {text}{more} (exit code {code})", err=True)
        return code

    def _limit(self, unfinished: frozenset[str]) -> Options:
        most = self._job.options.max_runs
        left = None if most is None else max(0, most - (self._count_started() - self._before))
        return replace(self._job.options, max_runs=left, waiting=unfinished)

    def _count_started(self) -> int:
        with read_state(self._job) as state:
            return state.count_started() if state else 0


def watch_job(job: Job, apply: Apply, quiet_s: float, most_s: float) -> Answer:
    """Apply a job whenever its files have changed, until a signal comes or a person must decide."""
    check_limit(job)
    rounds, code = Rounds(job, apply), 0
    group = folder_of if job.goal.by_folder else _as_one if job.goal.kept else str
    with interrupt.ended_in_order(lambda: None), closing(FileEvents(job, interrupt.stop)) as events:
        world = World(look=lambda: look_at_files(job), wait=events.wait, act=rounds.act, group=group)
        code = watch(world, Pace(quiet_s, most_s))
    return "", rounds.last, code


def _as_one(path: str) -> str:
    return ""


class FileEvents:
    """Waits for changes of files that a spec may select. Where the system cannot tell of them, only time passes."""

    def __init__(self, job: Job, stop: Event) -> None:
        folder = os.path.realpath(job.folder)
        self._stop = stop
        self._takes = _make_filter(job, folder)
        self._places = [root for root in list_roots(job.spec.files, folder) if os.path.isdir(root)]
        self._changes = self._open() if self._places else None

    def _open(self) -> Iterator[set[Any]]:
        from watchfiles import watch as watch_files

        return watch_files(
            *self._places,
            watch_filter=lambda _, path: self._takes(path),
            debounce=round(1000 * TICK_S),
            rust_timeout=round(1000 * TICK_S),
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )

    def wait(self, seconds: float) -> Woken:
        """Wait for a change, at most so many seconds."""
        until_s = time.monotonic() + seconds
        while not self._stop.is_set():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return Woken.TIME_OUT
            if self._changes is None:
                self._stop.wait(left_s)
            elif self._next():
                return Woken.CHANGED
        return Woken.STOPPED

    def _next(self) -> bool:
        """Return whether something changed within a moment."""
        try:
            return bool(next(self._changes or iter(()), None))
        except (OSError, RuntimeError) as error:
            say(f"warning: changes are noticed only every minute, {error}", err=True)
            self._changes = None
            return False

    def close(self) -> None:
        """Stop watching."""
        if self._changes is not None:
            self._changes.close()  # type: ignore[attr-defined]


def _make_filter(job: Job, folder: str) -> Callable[[str], bool]:
    """Return whether a change of a path concerns the job: not one of our own files, nor one that no pattern matches."""
    take, _ = compile_globs(job.spec.files, folder)
    results = os.path.realpath(job.results_path)

    def takes(path: str) -> bool:
        if path == results or path.startswith(f"{results}{os.sep}"):
            return False
        return take.matches(Path(os.path.relpath(path, folder)).as_posix()) or os.path.isdir(path)

    return takes
