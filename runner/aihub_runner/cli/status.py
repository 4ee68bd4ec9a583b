"""The command `status`."""

from __future__ import annotations

from pathlib import Path

import click
from click import option

from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, LOCK_FILE, PLACES, VERBOSE, Answer, Asked, over_specs
from aihub_runner.cli.output import print_problems
from aihub_runner.cli.watching import look, render_look, watch_status


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    VERBOSE,
    option("--refresh", is_flag=True, help="Also ask the service whether batches and runs are still as recorded."),
    option("--watch", is_flag=True, help="Show it again until nothing is left to do or to wait for."),
    here=True,
    example="runner status invoices.aihub.toml --watch",
)
def status(asked: Asked, watch: bool) -> None:
    """Show the state of jobs, and their runs, oldest first.

    Compares the recorded state with the local files. The exit code shows the state, too. Sends no requests without
    --refresh, and records nothing.
    """
    if watch and asked.as_json:
        raise click.UsageError("--watch and --json cannot be used together; repeat status --json instead")
    if watch:
        watch_status(asked)

    def act(path: Path) -> Answer:
        report, rows = look(asked, path)
        print_problems(report)
        return render_look(asked, report, rows), report.as_json() | {"table": rows}, report.exit_code

    asked.each_spec(act)
