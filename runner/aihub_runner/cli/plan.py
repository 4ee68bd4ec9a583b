"""The command `plan`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from click import option

from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_output
from aihub_runner.cli.inspection import preview
from aihub_runner.cli.options import (
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    FILE,
    LOCK_FILE,
    PLACES,
    SELECTION,
    VERBOSE,
    Answer,
    Asked,
    over_specs,
    require_one,
)
from aihub_runner.cli.output import say
from aihub_runner.errors import DONE, PLAN_HAS_CHANGES, STILL_GOING
from aihub_runner.outfile import write_output
from aihub_runner.report.preview import plan_as_json, render_markdown, render_plan


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    VERBOSE,
    *SELECTION,
    option("--exit-code", "shows_changes", is_flag=True, help="Exit with code 10 if there is something to apply."),
    option("--retry-failed", is_flag=True, help="Include failed runs. Applying pays for them again."),
    option("--again", is_flag=True, help="Include finished runs. Applying pays for all of them again."),
    option("--out", type=FILE, help="Also write the plan to this file, for apply --plan."),
    option(
        "--format",
        "form",
        type=click.Choice(["text", "markdown"]),
        default="text",
        help="Format of the output. markdown: for a pull request. Default: text.",
    ),
    here=True,
    example="runner plan invoices.aihub.toml",
)
def plan(asked: Asked, shows_changes: bool, out: Path | None, form: str) -> None:
    """Show what apply would upload, create and pay for, and why.

    Sends no requests, except to list a batch that is kept.

    Signs: + new, ~ changed or to finish, - deleted, = unchanged, ! not sent.
    """
    if out:
        require_one(asked, "--out")
    if form == "markdown":
        asked = asked.as_product()

    def act(job: Job) -> Answer:
        check_output(job, out)
        found = preview(job, binds=out is not None)
        if out and found.bound:
            write_output(out, [found.bound.render()])
            if not asked.quiet:
                say(f"plan written; to apply it: {job.command('apply')} --plan {shlex.quote(str(out))}", err=True)
        code = STILL_GOING if found.at_work else PLAN_HAS_CHANGES if shows_changes and not found.plan.is_empty else DONE
        text = render_markdown(found) if form == "markdown" else render_plan(found, verbose=asked.verbose)
        return found.sum_up() if asked.quiet else text, plan_as_json(found), code

    asked.each_job(act, is_online=lambda job: bool(job.goal.kept))
