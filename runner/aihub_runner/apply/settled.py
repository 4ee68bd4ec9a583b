"""Recognise a job that an apply left with nothing to do, so that its next apply, plan or status need not plan.

A mark in the state says what that apply had read: spec and settings, the paths and stats of all files, the lock file,
and the state itself. While all of it, and every file in the results folder, is as it was, there is nothing to do, and
the report is the same. When in doubt, there is no mark, and the job is planned.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.errors import RunnerError
from aihub_runner.files import digest_file
from aihub_runner.model import FOREIGN, Scan, SkippedFile
from aihub_runner.report.summary import Report
from aihub_runner.results.kept import KeptFiles
from aihub_runner.sources.scan import Selection, select_files
from aihub_runner.state.database import SCHEMA_VERSION
from aihub_runner.state.outputs import Settled
from aihub_runner.state.store import State
from aihub_runner.version import VERSION


def find_settled(job: Job, state: State) -> tuple[Report | None, Selection | None]:
    """Return the report of a job with nothing to do, as an apply would; None if it must be planned.

    Also return the files of the job, if they had to be selected.
    """
    mark = state.find_settled() if _is_plain(job) else None
    if mark is None or mark.inputs != _identify(job) or mark.lock_file != digest_file(job.lock_path):
        return None, None
    kept = KeptFiles(state, job.results_path)
    if not _are_outputs_whole(job, state, kept):
        return None, None
    files = select_files(job.spec, job.spec_path, job.options.allowed, time.time_ns())
    has_read = kept.record()  # where more is to be done, it need not read them again
    if mark.files != files.identity:
        return None, files
    if has_read:
        state.record_settled(mark)
    return replace(_read_report(mark.report), spec=job.shown, results=str(job.results_path)), files


def _read_report(text: str) -> Report:
    found: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
    }
    return Report(**{**found, "skipped": tuple(SkippedFile(**item) for item in found["skipped"])})


def record_settled(job: Job, state: State, scan: Scan, report: Report) -> None:
    """Record that an apply has left nothing to do, and its report, unless something may change by itself.

    Without a mark, the next apply only takes longer.
    """
    with suppress(RunnerError):
        _record_settled(job, state, scan, report)


def _record_settled(job: Job, state: State, scan: Scan, report: Report) -> None:
    if not scan.identity or not _is_plain(job) or not _is_done(report) or state.has_gone(job.goal.run_key):
        return
    from aihub_runner.apply.assess import entries_to_import  # to find a mark needs nothing of it

    lock_file = digest_file(job.lock_path)
    if entries_to_import(job, state, scan.sources):
        return  # whether the outputs are whole is asked whenever a mark is found
    report = replace(report, files_sent=0, bytes_sent=0, runs_started=0, pages="", retries=0, rate_limited=0)
    report = replace(report, nothing_to_do=True, upload_seconds=0.0, seconds=0.0)
    if lock_file == digest_file(job.lock_path):
        state.record_settled(Settled(_identify(job), scan.identity, lock_file, json.dumps(to_builtins(report))))


def _is_plain(job: Job) -> bool:
    options = job.options
    return not (
        job.goal.input
        or job.goal.kept == FOREIGN
        or options.retry_failed
        or options.again
        or options.adopt
        or options.refetch
        or options.refresh
        or options.approved
        or options.only  # it must match a file
        or job.damaged
    )


def _is_done(report: Report) -> bool:
    """Whether a report says nothing that the next one might not. Skipped and failed files stay."""
    passing = (report.problems, report.notes, report.lapsed, report.interrupted, report.at_work)
    left = (report.files_left, report.going, report.review, report.unfetched, report.unknown_runs, report.unwritten)
    return not any(passing) and not any(left) and not report.files_unselected


def _are_outputs_whole(job: Job, state: State, kept: KeptFiles) -> bool:
    """Whether all files that were written into the results folder are as they were written."""
    outputs = [(path, output.digest) for path, output in state.load_outputs().items() if output.digest]
    pages = state.load_fetched(job.goal.run_key, job.goal.include)
    return all(kept.holds(path, digest) for path, digest in [*outputs, *pages])


def _identify(job: Job) -> str:
    """Return a digest of everything else that decides what an apply does."""
    places = [os.path.relpath(path, job.folder) for path in (job.state_path, job.lock_path, job.results_path)]
    goal = [job.goal.run_key, job.goal.target, job.goal.include]
    form = [Report.__struct_fields__, SkippedFile.__struct_fields__]  # what a mark's report is read into
    inputs = [VERSION, SCHEMA_VERSION, form, job.spec, places, goal, job.options.allow_outside]
    text = json.dumps(inputs, default=vars)  # in the order of the spec: of passwords, it decides
    return hashlib.sha256(text.encode()).hexdigest()
