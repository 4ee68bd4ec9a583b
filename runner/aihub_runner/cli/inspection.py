"""Inspect a job without changing it: its plan, its status and its results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Event

from aihub_runner.apply.assess import check_root, describe_job, entries_to_import, look_for_damage, plan_job, scan_files
from aihub_runner.apply.delivery import lacks_news
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.lapsed import describe_idle, exclude_lapsed, find_lapsed
from aihub_runner.apply.places import check_lock_target, check_renamed
from aihub_runner.apply.settled import find_settled
from aihub_runner.cli.progress import open_progress
from aihub_runner.errors import RunnerError
from aihub_runner.model import FINAL_STATUSES, Scan
from aihub_runner.plan.identity import short_identity
from aihub_runner.plan.planner import Action, Plan
from aihub_runner.report.summary import Preview, Report, at_work, describe_error
from aihub_runner.results.documents import find_damage, is_edited, is_missing, without_damage
from aihub_runner.results.folder import find_table_damage, list_missing
from aihub_runner.results.reader import Found, find_results
from aihub_runner.sources.scan import Selection
from aihub_runner.state.lock import is_locked
from aihub_runner.state.lockfile import Entry
from aihub_runner.state.store import State, read_holder
from aihub_runner.text.shown import count

UNPAID = (FINAL_STATUSES - {"COMPLETE"}) | {"GONE", "REFUSED"}  # statuses of lock file entries whose files are not done


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


def scan_quietly(
    job: Job, state: State | None, *, may_be_empty: bool = False, selection: Selection | None = None
) -> Scan:
    with closing(open_progress()) as progress:
        return scan_files(job, state, Reporter(progress), Event(), may_be_empty=may_be_empty, selection=selection)


def find_holder(job: Job) -> str:
    """Return which other process applies this job now; empty if none does."""
    if not is_locked(job.state_path):
        return ""
    return f"apply is running, {read_holder(job.state_path) or 'in an unknown process'}"


@contextmanager
def opened_results(job: Job) -> Iterator[Found]:
    """Open the results of a job read-only. Raises InputError if there are none yet."""
    with opened_state(job) as state:
        scan = scan_quietly(job, state, may_be_empty=True)  # results outlive the files
        yield find_results(state, state.load_shards(), scan, job.goal, job.results_path)


def preview(job: Job) -> Preview:
    """Plan what applying would do, from local facts. Files that the lock file names as paid count as done."""
    check_renamed(job)
    check_lock_target(job)
    holder = find_holder(job)
    with read_state(job) as state:
        settled, selected = find_settled(job, state) if state and not holder else (None, None)
        if settled:
            return _preview_settled(job, settled)
        damaged = look_for_damage(job, state).damaged if state else {}
        scan = scan_quietly(job, state, selection=selected)
        entries = entries_to_import(job, state)
        left, recognised = _without_paid(job, scan, entries)
        planned = plan_job(job, state, left)
        lapsed = find_lapsed(job, state, scan)
        planned, held = exclude_lapsed(job, planned, state.load_shards() if state else [], lapsed)
    if damaged:
        note = f"the fetched results of {count(len(damaged), 'run')} are missing or changed; apply fetches them again"
        planned = replace(planned, notes=(note, *planned.notes))
    if entries:
        notes = (_describe_import(entries, recognised), *planned.notes)
        planned = replace(planned, notes=notes, done=planned.done + recognised)
    holder = find_holder(job) or holder
    planned = _while_at_work(planned) if holder else planned
    planned = replace(planned, notes=(*planned.notes, *(error.message for error in held)))
    files, idle = (scan.files, scan.skipped), tuple(describe_idle(scan, lapsed))
    return Preview(*_name(job), planned, *files, at_work=holder, idle=idle, lapsed=lapsed)


def _name(job: Job) -> tuple[str, str, str, str]:
    return job.shown, job.app_and_version, job.place, job.goal.target


def _preview_settled(job: Job, report: Report) -> Preview:
    nothing = Plan((), {}, (), (), report.files_done, report.failed, ())
    return Preview(*_name(job), nothing, report.files, report.skipped, idle=report.idle)


def _while_at_work(planned: Plan) -> Plan:
    """Describe an open intent as a run that is being started, since its process is alive."""
    work = [
        replace(one, reason="its run is being started") if one.action is Action.FIND_RUN else one
        for one in planned.work
    ]
    return replace(planned, work=tuple(work))


def _describe_import(entries: list[Entry], files: int) -> str:
    runs = f"{count(len(entries), 'run')} of the lock file, with {files} of these files,"
    return f"{runs} {'is' if len(entries) == 1 else 'are'} imported first, for free"


def _without_paid(job: Job, scan: Scan, entries: list[Entry]) -> tuple[Scan, int]:
    """Remove the files that the lock file names as paid under today's run key. Apply verifies them."""
    key = job.goal.run_key
    paid = [e.members for e in entries if e.run_key == key and e.status not in UNPAID]
    marks = {members[i : i + 16] for members in paid for i in range(0, len(members), 16)}
    sources = tuple(source for source in scan.sources if short_identity(source.identity) not in marks)
    return replace(scan, sources=sources), len(scan.sources) - len(sources)


def inspect_job(job: Job) -> Report:
    """Report the status of a job from the state and the local files. Sends no requests."""
    holder = find_holder(job)
    with read_state(job) as state:
        report = _inspect_state(job, state, is_at_work=bool(holder)) if state else _inspect_without_state(job)
    return as_at_work(job, report, holder)


def as_at_work(job: Job, report: Report, holder: str = "") -> Report:
    """Mark a report as in progress if an apply runs now, or ran when reading the state began (`holder`)."""
    holder = find_holder(job) or holder
    return at_work(report, holder) if holder else report


def _inspect_state(job: Job, state: State, *, is_at_work: bool) -> Report:
    if is_at_work:  # the files on disk are being written
        return describe_job(job, state, scan_quietly(job, state))
    settled, selected = find_settled(job, state)
    if settled:
        return replace(settled, nothing_to_do=False)
    job, folder, shards = look_for_damage(job, state), job.results_path, state.load_shards()
    damaged = find_damage(state, shards, job.goal, folder) + find_table_damage(state, folder)
    scan = scan_quietly(job, state, selection=selected)
    report = describe_job(job, state, scan, damaged)
    errors: list[RunnerError] = [*state.load_table_errors()]
    if is_edited(state, folder):
        errors += lacks_news(without_damage(find_results(state, shards, scan, job.goal, folder), job.damaged))
    unwritten = is_missing(state, folder) + len(list_missing(state, folder))
    return replace(report, unwritten=unwritten, problems=(*map(describe_error, errors), *report.problems))


def _inspect_without_state(job: Job) -> Report:
    """Report the status of a job without a state. If the state is lost, the lock file names what was paid."""
    scan, entries = scan_quietly(job, None), entries_to_import(job, None)
    left, recognised = _without_paid(job, scan, entries)
    note = f"there is no state file; at the next apply, {_describe_import(entries, recognised)}"
    return Report(
        job.shown,
        job.spec.name,
        files=len(scan.sources) + len(scan.skipped),
        files_done=recognised,
        files_left=len(left.sources),
        unfetched=len(entries),
        skipped=scan.skipped,
        idle=tuple(describe_idle(scan, ())),
        notes=(note if entries else "nothing has been applied yet",),
        fake=job.is_fake,
    )
