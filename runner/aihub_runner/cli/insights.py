"""The commands that show results to people: a report of a job, and what differs between two runs or versions.

Everything heavy is imported where it is used, so that `runner --version` answers at once.
"""

from __future__ import annotations

from pathlib import Path

import click

from aihub_runner.cli.options import Answer, each, opened_job, placed, placed_one, say
from aihub_runner.cli.types import Share


@click.command()
@placed
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write another file than report.html.")
@click.option(
    "--below-confidence",
    "threshold",
    type=Share(),
    default=0.8,
    show_default=True,
    help="A field whose confidence is lower is one to look at.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
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
    """Write a page to look at.

    What was asked and done, how long it took, and what came out. Sends nothing.
    """
    from aihub_runner.apply.job import Options
    from aihub_runner.outfile import is_standard_output

    def act(spec: Path) -> Answer:
        from aihub_runner.cli.views import write_report

        with opened_job(spec, Options(allow_outside=allow_outside), state, fake, offline=True) as job:
            page, text, data = write_report(job, output, threshold)
        if is_standard_output(output):  # the page is there
            say(text, err=True)
            text = ""
        if opens:
            click.launch(page.absolute().as_uri())
        return text, data, 0

    if as_json and is_standard_output(output):
        raise click.UsageError("--json and the page do not both go to standard output")
    if output and len(specs) > 1:
        raise click.UsageError("--output goes with one spec")
    each(specs, as_json, act)


@click.command()
@placed_one
@click.option("--run", "runs", multiple=True, metavar="RUN_ID", help="Compare this run with that of a second --run.")
@click.option(
    "--version",
    "versions",
    multiple=True,
    metavar="VERSION",
    help='Compare this version of the app with that of a second --version; "" is that of specs without one.',
)
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page to look at, too.")
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
    """Show which fields changed between two runs, or two versions.

    Or appeared, or vanished. The versions are those of the app. Sends nothing.
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
        raise click.UsageError("--json and the page do not both go to standard output")
    if sorted((len(runs), len(versions))) != [0, 2]:
        raise click.UsageError("give --run twice, or --version twice: the one before and the one after")
    each((spec,), as_json, act)
