"""Plan and describe a job that is not settled, without changing it."""

from __future__ import annotations

from contextlib import closing
from threading import Event

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.assess import (
    bind,
    check_selected,
    describe_job,
    entries_to_import,
    look_for_damage,
    plan_offline,
    scan_files,
    with_pruned,
    without_paid,
)
from aihub_runner.apply.delivery import lacks_news
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.kept import find_obstacle, look_at_batch
from aihub_runner.apply.lapsed import describe_idle
from aihub_runner.apply.pagecount import count_plan
from aihub_runner.cli.progress import open_progress
from aihub_runner.errors import RunnerError
from aihub_runner.model import Scan
from aihub_runner.report.preview import Preview
from aihub_runner.report.summary import Report, describe_error
from aihub_runner.results.documents import find_damage, is_edited, is_missing, without_damage
from aihub_runner.results.folder import count_missing_pdfs, find_table_damage, list_missing
from aihub_runner.results.reader import find_results
from aihub_runner.sources.scan import Selection
from aihub_runner.state.lockfile import Entry
from aihub_runner.state.store import State
from aihub_runner.text.shown import count


def scan_quietly(
    job: Job,
    state: State | None,
    *,
    may_be_empty: bool = False,
    selection: Selection | None = None,
    hashes_all: bool = False,
) -> Scan:
    """Scan the files, or those of a selection just made."""
    with closing(open_progress()) as progress:
        reporter, more = Reporter(progress), {"may_be_empty": may_be_empty, "hashes_all": hashes_all}
        return scan_files(job, state, reporter, Event(), selection=selection, **more)


def preview_in_full(job: Job, state: State | None, files: Selection | None, *, binds: bool = False) -> Preview:
    """Plan what applying would do, with the files that were just selected, if any."""
    if job.goal.kept:
        with closing(AIHub(job.connection, Event())) as client:
            job = look_at_batch(job, state, client)
    scan = scan_quietly(job, state, selection=files, hashes_all=binds)
    damaged = with_pruned(look_for_damage(job, state), state, scan).damaged if state else {}
    check_selected(job, scan)
    local = plan_offline(job, state, scan)
    planned, entries, recognised = local.plan, local.entries, local.recognised
    if damaged:
        note = f"the fetched results of {count(len(damaged), 'run')} are missing or changed; apply fetches them again"
        planned = replace(planned, notes=(note, *planned.notes))
    if entries:
        notes = (_describe_import(entries, recognised), *planned.notes)
        planned = replace(planned, notes=notes, done=planned.done + recognised)
    held = [error.message for error in local.held]
    if job.goal.follows and not planned.is_empty and (obstacle := find_obstacle(job, state, scan, planned, ())):
        held.append(f"{obstacle.message}; {obstacle.hint}")
    planned = replace(planned, notes=(*planned.notes, *held))
    name = (job.shown, job.app_and_version, job.place, job.goal.target)
    idle = tuple(describe_idle(scan, local.lapsed))
    bound = bind(job, state, scan, local) if binds else None
    found = Preview(*name, planned, scan.files, scan.skipped, idle=idle, lapsed=local.lapsed, bound=bound)
    return replace(found, pages=count_plan(job, scan, local.plan), values=job.values)


def _describe_import(entries: list[Entry], files: int) -> str:
    runs = f"{count(len(entries), 'run')} of the lock file, with {files} of these files,"
    return f"{runs} {'is' if len(entries) == 1 else 'are'} imported first, for free"


def inspect_in_full(job: Job, state: State | None, files: Selection | None, *, is_at_work: bool) -> Report:
    """Describe a job, with the files that were just selected, if any."""
    if state is None:
        return _inspect_without_state(job)
    if is_at_work:  # the files on disk are being written
        return describe_job(job, state, scan_quietly(job, state))
    job, folder, shards = look_for_damage(job, state), job.results_path, state.load_shards()
    damaged = find_damage(state, shards, job.goal, folder) + find_table_damage(state, folder)
    scan = scan_quietly(job, state, selection=files)
    report = describe_job(job, state, scan, damaged)
    errors: list[RunnerError] = [*state.load_table_errors()]
    if is_edited(state, folder):
        errors += lacks_news(without_damage(find_results(state, shards, scan, job.goal, folder), job.damaged))
    unwritten = is_missing(state, folder) + len(list_missing(state, folder))
    unwritten += count_missing_pdfs(state, folder) if job.spec.results.pdf else 0
    return replace(report, unwritten=unwritten, problems=(*map(describe_error, errors), *report.problems))


def _inspect_without_state(job: Job) -> Report:
    """Report the status of a job without a state. If the state is lost, the lock file names what was paid."""
    scan = scan_quietly(job, None)
    entries = entries_to_import(job, None, scan.sources)
    left, recognised = without_paid(job, scan, entries)
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
        applied=False,
    )
