"""The commands `report`, an HTML page about a job, and `diff`, a comparison of two runs or app versions.

Heavy modules are imported inside functions, to keep `runner --version` fast.
"""

from __future__ import annotations

from pathlib import Path

import click

from aihub_runner.cli.options import Answer, each, opened_job, placed, placed_one, say
from aihub_runner.cli.types import Share


@click.command()
@placed
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Path of the page, instead of report.html.",
)
@click.option(
    "--below-confidence",
    "threshold",
    type=Share(),
    metavar="NUMBER",
    default=0.8,
    show_default=True,
    help="Mark fields of lower confidence as needing review.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in your browser.")
def report(
    specs: tuple[Path, ...],
    as_json: bool,
    state: Path | None,
    fake: bool,
    allow_outside: bool,
    output: Path | None,
    threshold: float,
    opens: bool,
) -> None:
    """Write an HTML report of a job.

    Shows the job, the time that each step took, the problems, and the results. Sends no requests.
    """
    from aihub_runner.apply.job import Options
    from aihub_runner.outfile import is_standard_output

    def act(spec: Path) -> Answer:
        from aihub_runner.cli.views import write_report

        with opened_job(spec, Options(allow_outside=allow_outside), state, fake, offline=True) as job:
            page, text, data = write_report(job, output, threshold)
        if is_standard_output(output):  # the page goes there
            say(text, err=True)
            text = ""
        if opens:
            click.launch(page.absolute().as_uri())
        return text, data, 0

    if as_json and is_standard_output(output):
        raise click.UsageError("--json and the page cannot both go to standard output")
    if output and len(specs) > 1:
        raise click.UsageError("--output needs exactly one spec")
    each(specs, as_json, act)


@click.command()
@placed_one
@click.option("--run", "runs", multiple=True, metavar="RUN_ID", help="Compare two runs. Pass it twice.")
@click.option(
    "--version",
    "versions",
    multiple=True,
    metavar="VERSION",
    help='Compare two versions of the app. Pass it twice; "" stands for specs without a version.',
)
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page.")
def diff(
    spec: Path,
    runs: tuple[str, ...],
    versions: tuple[str, ...],
    page: Path | None,
    as_json: bool,
    state: Path | None,
    fake: bool,
    allow_outside: bool,
) -> None:
    """Compare the results of two runs or two app versions.

    Lists the fields that changed, appeared or vanished. Pass the older run or version first. Sends no requests.
    """
    from aihub_runner.apply.job import Options
    from aihub_runner.outfile import is_standard_output

    def act(path: Path) -> Answer:
        from aihub_runner.cli.views import compare_results

        with opened_job(path, Options(allow_outside=allow_outside), state, fake, offline=True) as job:
            text, data = compare_results(job, runs, versions, page)
        if is_standard_output(page):
            say(text, err=True)
            text = ""
        return text, data, 0

    if as_json and is_standard_output(page):
        raise click.UsageError("--json and the page cannot both go to standard output")
    if sorted((len(runs), len(versions))) != [0, 2]:
        raise click.UsageError("pass --run twice, or --version twice: the older one, then the newer one")
    each((spec,), as_json, act)
