"""Inspect a job without changing it. One with nothing to do needs no planning, and no slow imports for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_lock_target, check_renamed, check_root
from aihub_runner.apply.settled import find_settled
from aihub_runner.plan.planner import Action, Plan
from aihub_runner.report.preview import Preview
from aihub_runner.report.runtable import list_rows
from aihub_runner.report.summary import Report, at_work
from aihub_runner.state.lock import is_locked
from aihub_runner.state.store import State, read_holder


@contextmanager
def read_state(job: Job) -> Iterator[State | None]:
    """Open the state read-only. Yields None if there is none yet."""
    if not job.state_path.exists() or not job.state_path.stat().st_size:  # empty: creating it was interrupted
        yield None
        return
    with closing(State(job.state_path, write=False)) as state:
        check_root(job, state)
        yield state


@contextmanager
def opened_state(job: Job) -> Iterator[State]:
    """Open the state read-only. Raises InputError if there is none yet."""
    with read_state(job) as state:
        if state is None:
            raise job.no_results()
        yield state


def find_holder(job: Job) -> str:
    """Return which other process applies this job now; empty if none does."""
    if not is_locked(job.state_path):
        return ""
    return f"apply is running, {read_holder(job.state_path) or 'in an unknown process'}"


def preview(job: Job, *, binds: bool = False) -> Preview:
    """Plan what applying would do, from local facts. Files that the lock file names as paid count as done.

    With `binds`, it also says what the plan binds, for a file.
    """
    check_renamed(job)
    check_lock_target(job)
    holder = find_holder(job)
    with read_state(job) as state:
        settled, files = find_settled(job, state) if state and not (holder or binds) else (None, None)
        if settled:
            nothing = Plan((), {}, (), (), settled.files_done, settled.failed, ())
            return Preview(*_name(job), nothing, settled.files, settled.skipped, idle=settled.idle, values=job.values)
        from aihub_runner.cli.planning import preview_in_full

        found = preview_in_full(job, state, files, binds=binds)
    holder = find_holder(job) or holder
    return replace(found, plan=_while_at_work(found.plan), at_work=holder) if holder else found


def _name(job: Job) -> tuple[str, str, str, str]:
    return job.shown, job.app_and_version, job.place, job.goal.target


def _while_at_work(planned: Plan) -> Plan:
    """Describe an open intent as a run that is being started, since its process is alive."""
    work = [
        replace(one, reason="its run is being started") if one.action is Action.FIND_RUN else one
        for one in planned.work
    ]
    return replace(planned, work=tuple(work))


def inspect_job(job: Job) -> Report:
    """Report the status of a job from the state and the local files. Sends no requests."""
    holder = find_holder(job)
    with read_state(job) as state:
        report = _inspect_state(job, state, is_at_work=bool(holder))
    return as_at_work(job, report, holder)


def list_runs(job: Job, *, is_at_work: bool) -> list[dict[str, Any]]:
    """List the runs of a job, oldest first. While an apply works, those without an id are being started."""
    with read_state(job) as state:
        return list_rows(state.list_runs(), is_at_work=is_at_work) if state else []


def as_at_work(job: Job, report: Report, holder: str = "") -> Report:
    """Mark a report as in progress if an apply runs now, or ran when reading the state began (`holder`)."""
    holder = find_holder(job) or holder
    return at_work(report, holder) if holder else report


def _inspect_state(job: Job, state: State | None, *, is_at_work: bool) -> Report:
    settled, files = find_settled(job, state) if state and not is_at_work else (None, None)
    if settled:
        return replace(settled, nothing_to_do=False)
    from aihub_runner.cli.planning import inspect_in_full

    return inspect_in_full(job, state, files, is_at_work=is_at_work)
