"""The commands that read results: from the raw pages and the state, without a request.

Everything heavy is imported where it is used, so that `runner --version` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.commands import Answer, each, opened_job, placed


@click.command()
@placed
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write a file; printed where absent.")
def results(
    specs: tuple[Path, ...], as_json: bool, state: Path | None, fake: bool, allow_outside: bool, output: Path | None
) -> None:
    """Write the results of specs again, from the raw pages. Sends nothing."""
    from runner.job import Options

    def act(spec: Path) -> Answer:
        from runner.files import write_file
        from runner.inspection import opened_results
        from runner.jsonl import render_document

        with (
            opened_job(spec, Options(allow_outside=allow_outside), state, fake, offline=True) as job,
            opened_results(job) as found,
        ):
            lines = map(render_document, found.documents())
            if output:
                write_file(output, lines)
            else:
                sys.stdout.buffer.writelines(lines)
                sys.stdout.flush()
        return "", {"spec": spec.name}, 0

    each(specs, as_json, act)
