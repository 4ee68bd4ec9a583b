"""Apply a spec. One with nothing to do needs no client and no slow imports for it; `run.py` does the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event
from typing import TYPE_CHECKING

from msgspec.structs import replace

from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Confirm, Held, Job
from aihub_runner.apply.places import (
    check_lock_target,
    check_renamed,
    check_root,
    claim_results,
    try_state,
    warn_of_network,
)
from aihub_runner.apply.settled import find_settled
from aihub_runner.report.summary import Report
from aihub_runner.state.lock import hold_locks
from aihub_runner.state.store import State, read_holder

if TYPE_CHECKING:
    from concurrent.futures import Executor


def apply(job: Job, reporter: Reporter, confirm: Confirm, stop: Event, executor: Executor | None = None) -> Report:
    """Apply a spec, unless nothing has changed since an apply left nothing to do, and return a report.

    You can repeat this at any time, however an earlier apply ended. `confirm` receives the plan before anything is
    paid. Raises RunnerError if the work cannot start; later problems are in the report.
    """
    begun = time.monotonic()
    check_renamed(job)
    check_lock_target(job)
    claim_results(job)
    try_state(job)
    warn_of_network(job, reporter)
    with hold_state(job, stop) as state:
        report, files = find_settled(job, state)
        if report is None or stop.is_set():
            from aihub_runner.apply.run import do_missing

            report = do_missing(Held(job, state, files, reporter, stop), confirm, executor)
    return replace(report, seconds=round(time.monotonic() - begun, 1))


@contextmanager
def hold_state(job: Job, stop: Event) -> Iterator[State]:
    """Hold the lock and open the state. Raises InputError if the state has another root."""
    paths = (job.spec_path, job.own_state_path, job.state_path)
    with hold_locks(paths, job.options.lock_timeout_s, lambda: read_holder(job.state_path), stop) as is_exclusive:
        state = State(job.state_path)
        state.is_exclusive = is_exclusive
        with closing(state):
            check_root(job, state)
            yield state
