"""The command `status`."""

from __future__ import annotations

import time

from aihub_runner.apply.job import Job
from aihub_runner.cli.inspection import inspect_job, list_runs
from aihub_runner.cli.options import ALLOW_OUTSIDE, LOCK_FILE, PLACES, VERBOSE, Answer, Asked, over_specs
from aihub_runner.cli.output import print_problems
from aihub_runner.report.runtable import render_rows
from aihub_runner.report.summary import render_briefly, render_report


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    LOCK_FILE,
    VERBOSE,
    here=True,
    example="runner status invoices.aihub.toml --json",
)
def status(asked: Asked) -> None:
    """Show the state of jobs, and their runs, oldest first.

    Compares the recorded state with the local files. The exit code shows the state, too. Sends no requests.
    """

    def act(job: Job) -> Answer:
        report = inspect_job(job)
        print_problems(report)
        rows = list_runs(job, is_at_work=bool(report.at_work))
        if asked.quiet:
            return render_briefly(report), report.as_json() | {"table": rows}, report.exit_code
        lines = [render_report(report, applied=False, verbose=asked.verbose)]
        lines += render_rows(rows, time.time(), verbose=asked.verbose)
        return "\n".join(lines), report.as_json() | {"table": rows}, report.exit_code

    asked.each_job(act)
