"""The command `apply`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click import option
from msgspec.structs import replace

from aihub_runner.apply.begin import apply as apply_job
from aihub_runner.apply.events import ContextUnset, Reporter, Subscriber
from aihub_runner.apply.executors.address import check_scheduler
from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_distinct, check_output, check_renamed, claim_results
from aihub_runner.cli.ending import Ending
from aihub_runner.cli.options import (
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    FILE,
    LOCK_FILE,
    LOCK_TIMEOUT,
    PLACES,
    SELECTION,
    VERBOSE,
    Answer,
    Asked,
    over_specs,
    require_one,
)
from aihub_runner.cli.output import ask as ask_yes
from aihub_runner.cli.output import print_problems, say
from aihub_runner.cli.progress import open_progress
from aihub_runner.cli.types import Duration
from aihub_runner.errors import InputError, RunnerError
from aihub_runner.model import Scan
from aihub_runner.plan.planfile import parse_plan
from aihub_runner.plan.planner import Plan
from aihub_runner.report.preview import Preview, render_plan
from aihub_runner.report.summary import Report, render_briefly, render_report
from aihub_runner.settings import read_file
from aihub_runner.system import interrupt

if TYPE_CHECKING:
    from aihub_runner.aihub.requestlog import RequestLog
    from aihub_runner.cli.records import EventFile, Records
    from aihub_runner.cli.together import Agreement
    from aihub_runner.outfile import JsonLines

_OPTIONS = {"junit": "--junit", "events": "--json-into", "log_file": "--log-file"}


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    VERBOSE,
    *SELECTION,
    option(
        "--watch", "watches", is_flag=True, help="Stay, and apply again when files arrive. Needs --yes and a limit."
    ),
    option(
        "--quiet-for",
        "quiet_s",
        type=Duration(),
        default=5.0,
        metavar="TIME",
        help="With --watch: apply once no file has changed for this time. Default: 5s.",
    ),
    option(
        "--at-most",
        "most_s",
        type=Duration(),
        default=300.0,
        metavar="TIME",
        help="With --watch: apply after this time, even if more files arrive. Default: 5m.",
    ),
    option("--refresh", is_flag=True, help="First ask the service whether batches and runs are still there."),
    option("--no-wait", is_flag=True, help="Start what may run at once, do not wait for runs, and exit with 6."),
    option("--yes", is_flag=True, help="Start paid runs without asking."),
    option("--retry-failed", is_flag=True, help="Run failed runs again (paid again), and retry refused files."),
    option("--again", is_flag=True, help="Run everything again, and pay for all of it again."),
    option(
        "--adopt", is_flag=True, help="Import existing runs from the service when the state and lock files are gone."
    ),
    option("--refetch", is_flag=True, help="Fetch all results again, and overwrite edited files."),
    option("--wait-for-review", is_flag=True, help="Wait for runs that need a person's review."),
    option(
        "--wait-timeout",
        "wait_timeout_s",
        type=Duration(),
        help="Stop waiting for runs after this time, such as 90s, 10m or 2h.",
    ),
    LOCK_TIMEOUT,
    option(
        "--confirm-delete",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help='With sync = "exact": delete or replace the N files of others in the batch.',
    ),
    option("--max-runs", type=click.IntRange(min=0), metavar="N", help="Refuse to start more than N runs."),
    option(
        "--scheduler",
        default="",
        envvar="AIHUB_RUNNER_SCHEDULER",
        metavar="ADDRESS",
        help="Send files through the workers of a Dask cluster: tls://HOST:PORT, or local:N for N processes here. "
        "Also AIHUB_RUNNER_SCHEDULER.",
    ),
    option(
        "--insecure-scheduler",
        is_flag=True,
        help="Allow tcp://HOST:PORT. Whoever reaches such a scheduler can run code here, and spend your money.",
    ),
    option("--json-into", "events", type=FILE, help="Write each event to this file as it happens, as lines of JSON."),
    option(
        "--log-file",
        type=FILE,
        envvar="AIHUB_RUNNER_LOG_FILE",
        help="Append each request to this file, as lines of JSON. Also AIHUB_RUNNER_LOG_FILE.",
    ),
    option("--junit", type=FILE, help="Also write what came of it to this file, as JUnit XML for CI."),
    option("--plan", "plan_file", type=FILE, help="Do what this plan approved, without asking. See runner plan --out."),
    example="runner apply invoices.aihub.toml --max-runs 5",
)
def apply(
    asked: Asked,
    yes: bool,
    plan_file: Path | None,
    watches: bool,
    quiet_s: float,
    most_s: float,
    **records: Path | None,
) -> None:
    """Upload files, start runs, wait for them and fetch results.

    Does only what is missing. Finished work is not repeated, and not paid again.
    """
    if plan_file:
        require_one(asked, "--plan")
        approved = parse_plan(read_file(plan_file, -1, "name a file that runner plan --out wrote"), str(plan_file))
        asked = replace(asked, options=replace(asked.options, approved=approved))
    if watches:
        from aihub_runner.cli.rounds import check_watch, watch_job

        asked = check_watch(asked, yes=yes)
    ask = not (yes or asked.as_json or plan_file) and sys.stdin.isatty() and sys.stderr.isatty()
    _check_folders(asked, may_pay=yes or ask or asked.fake)
    log, agreement = _open_log(records["log_file"]), _open_agreement(verbose=asked.verbose) if ask else None
    asked = replace(asked, options=replace(asked.options, log=log))
    events = _open_events(records["events"])

    def check(job: Job) -> None:
        check_scheduler(job)
        check_renamed(job)
        claim_results(job)
        _check_records(job, records)

    act = partial(_act, asked, agreement, events)

    def act_in_rounds(job: Job) -> Answer:
        check(job)
        return watch_job(job, lambda job: act(job, _open_records(records["junit"])), quiet_s, most_s)

    for_all = _open_records(records["junit"])

    def act_once(job: Job) -> Answer:
        check(job)
        return act(job, for_all)

    try:
        asked.each_online(act_in_rounds if watches else act_once, check, agreement.ask if agreement else None)
    finally:
        _close("--json-into", events)
        _close("--log-file", log)


def _act(
    asked: Asked, agreement: Agreement | None, events: EventFile | None, job: Job, for_ci: Records | None
) -> Answer:
    """Apply a job, and record what came of it."""
    ending = Ending(job)
    try:
        report = _apply(job, [ending, events] if events else [ending], agreement)
    except RunnerError as error:
        if for_ci:
            for_ci.take_error(job.shown, error)
        ending.take_error(error)
        raise
    print_problems(report)
    ending.take(report)
    code = for_ci.take(report) if for_ci else report.exit_code
    text = render_briefly(report) if asked.quiet else render_report(report, verbose=asked.verbose)
    return text, report.as_json(), code


def _check_records(job: Job, records: Mapping[str, Path | None]) -> None:
    """Raise InputError for a record that would be sent, or would replace results or another record."""
    check_distinct({_OPTIONS[name]: path for name, path in records.items()})
    for path in records.values():
        check_output(job, path)


def _open_agreement(*, verbose: bool) -> Agreement:
    from aihub_runner.cli.together import Agreement  # needed on a terminal only

    return Agreement(verbose=verbose)


def _open_records(junit: Path | None) -> Records | None:
    """Return the writer of records for CI, or None if there is nothing to write."""
    if not (junit or os.environ.get("GITHUB_ACTIONS") == "true" or os.environ.get("GITHUB_STEP_SUMMARY")):
        return None
    from aihub_runner.cli.records import Records

    return Records(junit)


def _open_events(events: Path | None) -> EventFile | None:
    if events is None:
        return None
    from aihub_runner.cli.records import EventFile

    return EventFile(events)


def _open_log(path: Path | None) -> RequestLog | None:
    if path is None:
        return None
    from aihub_runner.aihub.requestlog import RequestLog

    return RequestLog(path)


def _close(option: str, file: JsonLines | None) -> None:
    """Close a file, and say once what could not be written."""
    if file:
        file.close()
        if file.error:
            say(f"warning: {option} {file.path}: cannot be written, {file.error}", err=True)


def _check_folders(asked: Asked, *, may_pay: bool) -> None:
    """Raise InputError for a folder whose specs would be paid for although nobody named them or can be asked."""
    folders = [path for path in asked.specs if os.path.isdir(path)]
    if folders and not may_pay:
        raise InputError(
            f"{folders[0]}: is a folder, and nobody can be asked here whether to pay for each spec in it",
            "name the specs, or pass --yes",
        )


def _apply(job: Job, listeners: Sequence[Subscriber], agreement: Agreement | None) -> Report:
    progress = open_progress()

    def confirm(planned: Plan, scan: Scan) -> bool:
        if approved := job.options.approved:
            if not approved.allows(planned):
                raise InputError(f"{job.shown}: would pay for more than the plan", "make a new plan with --out")
            return True
        if agreement is None:
            return True
        if agreement.is_asked:
            return agreement.allows(job, planned)
        progress.close()
        from aihub_runner.apply.pagecount import count_plan  # slow to import

        found = Preview(job.shown, job.app_and_version, job.place, job.goal.target, planned, scan.files, scan.skipped)
        found = replace(found, pages=count_plan(job, scan, planned), values=job.values)
        say(render_plan(found, verbose=agreement.verbose), err=True)
        agreed = ask_yes(found.ask())
        progress.resume()
        return agreed

    with interrupt.shown_by(progress.close):
        reporter = Reporter(progress, *listeners)
        if job.lacks_context:
            reporter.emit(ContextUnset(job.target_name))
        return apply_job(job, reporter, confirm, interrupt.stop)
