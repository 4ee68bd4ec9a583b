"""The command `report`: an HTML page about a job."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click import option

from aihub_runner.apply.assess import describe_job
from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_output
from aihub_runner.cli.inspection import as_at_work, opened_state
from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, FILE, PLACES, Answer, Asked, over_specs
from aihub_runner.cli.planning import scan_quietly
from aihub_runner.cli.product import refuse_two_products, say_beside
from aihub_runner.cli.types import Share
from aihub_runner.files import write_file
from aihub_runner.outfile import write_output
from aihub_runner.report.overview import Facts, as_json, render_overview
from aihub_runner.report.statistics import take_census
from aihub_runner.report.timeline import make_timeline
from aihub_runner.results.documents import find_damage
from aihub_runner.results.reader import find_results
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count

FILE_NAME = "report.html"


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    option("--output", type=FILE, help="Path of the page, instead of report.html."),
    option(
        "--below-confidence",
        "threshold",
        type=Share(),
        metavar="NUMBER",
        default=0.8,
        show_default=True,
        help="Mark fields of lower confidence as needing review.",
    ),
    option("--open", "opens", is_flag=True, help="Open the page in your browser."),
    example="runner report invoices.aihub.toml --below-confidence 0.9 --open",
)
def report(asked: Asked, output: Path | None, threshold: float, opens: bool) -> None:
    """Write an HTML report of a job.

    Shows the job, the time that each step took, the problems, and the results. Sends no requests.
    """
    refuse_two_products(output, as_json=asked.as_json)
    if output and len(asked.specs) > 1:
        raise click.UsageError("--output needs exactly one spec")

    def act(job: Job) -> Answer:
        page, text, data = write_report(job, output, threshold)
        if opens:
            click.launch(page.absolute().as_uri())
        return say_beside(output, text), data, 0

    asked.each_job(act)


def write_report(job: Job, output: Path | None, threshold: float) -> tuple[Path, str, dict[str, Any]]:
    """Write the report of a job. Return its path, a summary as text, and the same as values.

    A field with a confidence below the threshold, from 0 to 1, needs review. Raises InputError if nothing was applied,
    ResultsError if raw pages are missing.
    """
    check_output(job, output)
    write = write_output if output else write_file
    output = output or job.results_path / FILE_NAME
    with opened_state(job) as state:
        shards, goal, scan = state.load_shards(), job.goal, scan_quietly(job, state, may_be_empty=True)
        damaged = find_damage(state, shards, goal, job.results_path)
        results = find_results(state, shards, scan, goal, job.results_path)
        found = Facts(
            job,
            as_at_work(job, describe_job(job, state, scan, damaged)),
            make_timeline(shards, goal.run_key, goal.include, state.load_pauses()),
            take_census(results.documents(), threshold),
        )
    write(output, render_overview(found, output, datetime.now(UTC)))
    text = f"{job.shown}: {count(found.census.documents, 'document')}, {found.census.needs_review} to review"
    return output, escape_control_chars(f"{text}\n  report     {output}", keep="\n"), dict(as_json(found, output))
