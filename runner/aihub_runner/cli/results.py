"""The command `results`: export fetched results from the raw pages and the state. Sends no requests.

Heavy modules are imported inside functions, to keep `runner --version` fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from aihub_runner.cli.options import Answer, each, ignore_broken_pipe, opened_job, placed_one, say
from aihub_runner.cli.types import Moment, Share
from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import count

if TYPE_CHECKING:
    from aihub_runner.files import File
    from aihub_runner.results.query import Request

_BINARY = ("xlsx", "parquet")
_FORMATS = ("jsonl", "csv", *_BINARY)
_SHOWN = 10
_TABLES = ("nested", "fields", "documents", "cases")


@click.command()
@placed_one
@click.option(
    "--format",
    "format",
    type=click.Choice(_FORMATS),
    help="Default: by --output, else jsonl.",
)
@click.option(
    "--table",
    type=click.Choice(_TABLES),
    help="A row is a field, a document or a cross-class field (cases). With nested, for jsonl only, it is a document "
    "as in documents.jsonl. Default: nested for jsonl, else fields.",
)
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Only documents of this class. Repeatable.")
@click.option("--only-errors", is_flag=True, help="Only fields with an error, and documents with such fields.")
@click.option("--below-confidence", "below", type=Share(), metavar="NUMBER", help="Only fields of lower confidence.")
@click.option("--since", "since_s", type=Moment(), help="Only runs that ended since, say, 2026-01-31, 2h or 7d ago.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to a file instead of printing.",
)
def results(
    spec: Path, as_json: bool, state: Path | None, fake: bool, allow_outside: bool, output: Path | None, **asked: Any
) -> None:
    """Export fetched results.

    Exports all results, or those that the options select. Sends no requests.
    """
    from aihub_runner.apply.job import Options
    from aihub_runner.outfile import is_standard_output

    if is_standard_output(output):
        asked["format"] = asked["format"] or _find_format(output) or "jsonl"
        output = None
    request = _request(output, as_json, asked)

    def act(path: Path) -> Answer:
        from aihub_runner.apply.places import check_output
        from aihub_runner.cli.inspection import WORKING, find_holder, opened_results

        with opened_job(path, Options(allow_outside=allow_outside), state, fake, offline=True) as job:
            check_output(job, output)
        with opened_results(job) as found:

            def write(file: File) -> int:
                from aihub_runner.results.query import extract

                rows, warnings = extract(found, request, file)
                _warn(warnings)
                return rows

            about = {"spec": str(path), "table": request.table, "format": request.format}
            holder = find_holder(job)
            code = WORKING if holder else 0
            if holder:
                say(f"note: {holder}; more results may follow", err=True)
            if not output:
                _print(about, as_json, write, code)
            rows = _save(output, write)
        return f"{output}: {count(rows, 'row')}", about | {"output": str(output), "rows": rows}, code

    each((spec,), as_json, act)


def _request(output: Path | None, as_json: bool, asked: dict[str, Any]) -> Request:
    """Build the request from the options. Raises UsageError if the options contradict each other."""
    from aihub_runner.results.filters import Filter
    from aihub_runner.results.query import NESTED, Request

    format = asked["format"] or _format_of(output)
    table = asked["table"] or (NESTED if format == "jsonl" else "fields")
    chosen = Filter(frozenset(asked["classes"]), asked["only_errors"], asked["below"])
    if table == NESTED and format != "jsonl":
        raise click.UsageError(f"--table nested needs --format jsonl, not {format}")
    if table == "cases" and (chosen.classes or chosen.below is not None):
        raise click.UsageError("--table cases cannot be used with --class or --below-confidence")
    if as_json and not output and format != "jsonl":
        raise click.UsageError("--json needs --output with this --format")
    if format in _BINARY and not output and sys.stdout.isatty():
        raise click.UsageError(f"refusing to write {format} to a terminal; pass --output, or pipe it to a program")
    return Request(table, format, chosen, asked["since_s"] or 0.0)


def _format_of(output: Path | None) -> str:
    found = _find_format(output) if output else "jsonl"
    if not found:
        raise click.UsageError(f"cannot derive the format from --output {output}; pass --format")
    return found


def _find_format(output: Path | None) -> str | None:
    ending = output.suffix.removeprefix(".").lower() if output else ""
    return ending if ending in _FORMATS else None


def _warn(warnings: Sequence[str]) -> None:
    """Print what could not be exported as the service returned it."""
    for warning in warnings[:_SHOWN]:
        say(f"warning: {warning}", err=True)
    if len(warnings) > _SHOWN:
        say(f"warning: and {len(warnings) - _SHOWN} more; runner status --json lists all", err=True)


def _save(output: Path, write: Callable[[File], int]) -> int:
    """Write the file, whole or not at all."""
    from aihub_runner.outfile import opened_output

    with opened_output(output) as file:
        return write(file)


def _print(about: dict[str, str], as_json: bool, write: Callable[[File], int], code: int) -> NoReturn:
    """Print rows as they come, or as one JSON document, and exit with a code."""
    from aihub_runner.cli.output import JsonArray, StandardOutput

    out, rows = StandardOutput(), 1
    with ignore_broken_pipe():
        if as_json:
            begin = render_json({"specs": [about | {"rows": []}]}, only_ascii=True).removesuffix("]}]}")
            array = JsonArray(out, begin.encode(), f'], "exit_code": {code}}}], "exit_code": {code}}}\n'.encode())
            rows = write(array)
            array.finish()
        else:
            rows = write(out)
        out.finish()
    if not rows and not as_json:
        say("note: no results match", err=True)
    sys.exit(code)
