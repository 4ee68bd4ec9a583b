"""The command `plan`."""

from __future__ import annotations

from click import option

from aihub_runner.apply.job import Job
from aihub_runner.cli.inspection import preview
from aihub_runner.cli.options import ALLOW_OUTSIDE, LOCK_FILE, PLACES, VERBOSE, Answer, Asked, over_specs
from aihub_runner.errors import DONE, PLAN_HAS_CHANGES, STILL_GOING
from aihub_runner.report.summary import plan_as_json, render_plan


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    LOCK_FILE,
    VERBOSE,
    option("--exit-code", "shows_changes", is_flag=True, help="Exit with code 10 if there is something to apply."),
    option("--retry-failed", is_flag=True, help="Include failed runs. Applying pays for them again."),
    option("--again", is_flag=True, help="Include finished runs. Applying pays for all of them again."),
    here=True,
    example="runner plan invoices.aihub.toml",
)
def plan(asked: Asked, shows_changes: bool) -> None:
    """Show what apply would upload, create and pay for, and why. Sends no requests."""

    def act(job: Job) -> Answer:
        found = preview(job)
        code = STILL_GOING if found.at_work else PLAN_HAS_CHANGES if shows_changes and found.plan.work else DONE
        return render_plan(found, verbose=asked.verbose), plan_as_json(found), code

    asked.each_job(act)
