"""The command `results`: export fetched results from the raw pages and the state. Sends no requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import click
from click import option

from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_output
from aihub_runner.cli.inspection import find_holder, opened_state
from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, FILE, PLACES, Answer, Asked, over_specs
from aihub_runner.cli.output import say
from aihub_runner.cli.planning import scan_quietly
from aihub_runner.cli.product import JsonArray, StandardOutput
from aihub_runner.cli.types import Moment, Share
from aihub_runner.errors import DONE, STILL_GOING
from aihub_runner.files import File
from aihub_runner.outfile import is_standard_output, opened_output
from aihub_runner.results.filters import Filter
from aihub_runner.results.query import NESTED, Request, extract
from aihub_runner.results.reader import Found, find_results
from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import count

_BINARY = ("xlsx", "parquet")
_FORMATS = ("jsonl", "csv", *_BINARY)
_SHOWN = 10
_TABLES = ("nested", "fields", "documents", "cases")


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    option("--format", type=click.Choice(_FORMATS), help="Default: by --output, else jsonl. A terminal gets a table."),
    option(
        "--table",
        type=click.Choice(_TABLES),
        help="A row is a field, a document or a cross-class field (cases). With nested, for jsonl only, it is a "
        "document as in documents.jsonl. Default: nested for jsonl, else fields.",
    ),
    option("--class", "classes", multiple=True, metavar="NAME", help="Only documents of this class. Repeatable."),
    option("--only-errors", is_flag=True, help="Only fields with an error, and documents with such fields."),
    option("--below-confidence", "below", type=Share(), metavar="NUMBER", help="Only fields of lower confidence."),
    option("--since", "since_s", type=Moment(), help="Only runs that ended since, say, 2026-01-31, 2h or 7d ago."),
    option("--output", type=FILE, help="Write to a file instead of printing."),
    option(
        "--prune",
        type=click.IntRange(min=1),
        metavar="KEEP",
        help="Instead, remove raw pages: of files that are gone, and of all but the KEEP newest runs of each file.",
    ),
    option("--yes", is_flag=True, help="With --prune: remove without asking."),
    many=False,
    example="runner results invoices.aihub.toml --table fields --output fields.csv",
)
def results(asked: Asked, output: Path | None, prune: int | None, yes: bool, **chosen: Any) -> None:
    """Export fetched results.

    Exports all results, or those that the options select. Sends no requests.
    """
    if prune:
        if output or any(chosen.values()):
            raise click.UsageError("--prune exports nothing; leave the other options out")
        from aihub_runner.cli.prune import prune_job

        asked.each_job(lambda job: prune_job(job, prune, ask=not asked.as_json, yes=yes))
    on_screen = _is_for_screen(output, asked.as_json, chosen)
    if on_screen and chosen["table"] is None:
        chosen["table"] = "fields"
    if is_standard_output(output):
        chosen["format"] = chosen["format"] or _find_format(output) or "jsonl"
        output = None
    request = _request(output, asked.as_json, chosen)

    def act(job: Job) -> Answer:
        check_output(job, output)
        with _opened_results(job) as found:

            def write(file: File) -> int:
                rows, warnings = extract(found, request, file)
                _warn(warnings)
                return rows

            about = {"spec": job.shown, "table": request.table, "format": request.format}
            holder = find_holder(job)
            code = STILL_GOING if holder else DONE
            if holder:
                say(f"note: {holder}; more results may follow", err=True)
            if on_screen:
                _show(write, code)
            if not output:
                _print(about, asked.as_json, write, code)
            with opened_output(output) as file:
                rows = write(file)
        return f"{output}: {count(rows, 'row')}", about | {"output": str(output), "rows": rows}, code

    asked.each_job(act)


@contextmanager
def _opened_results(job: Job) -> Iterator[Found]:
    """Open the results of a job read-only. Raises InputError if there are none yet."""
    with opened_state(job) as state:
        scan = scan_quietly(job, state, may_be_empty=True)  # results outlive the files
        yield find_results(state, state.load_shards(), scan, job.goal, job.results_path)


def _request(output: Path | None, as_json: bool, asked: dict[str, Any]) -> Request:
    """Build the request from the options. Raises UsageError if the options contradict each other."""
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


def _is_for_screen(output: Path | None, as_json: bool, chosen: dict[str, Any]) -> bool:
    """Whether a person reads the rows: no format and no file was asked for, and standard output is a terminal."""
    asked = output or as_json or chosen["format"] or chosen["table"] == NESTED
    return not asked and sys.stdout.isatty()


def _show(write: Callable[[File], int], code: int) -> NoReturn:
    """Print rows as a table, and exit with a code."""
    from aihub_runner.cli.table import RowsOnScreen  # rich is slow to import

    screen = RowsOnScreen()
    if not write(screen):
        say("note: no results match", err=True)
    with suppress(BrokenPipeError):
        screen.show()
    sys.exit(code)


def _warn(warnings: Sequence[str]) -> None:
    """Print what could not be exported as the service returned it."""
    for warning in warnings[:_SHOWN]:
        say(f"warning: {warning}", err=True)
    if len(warnings) > _SHOWN:
        say(f"warning: and {len(warnings) - _SHOWN} more; runner status --json lists all", err=True)


def _print(about: dict[str, str], as_json: bool, write: Callable[[File], int], code: int) -> NoReturn:
    """Print rows as they come, or as one JSON document, and exit with a code."""
    out, rows = StandardOutput(), 1
    with suppress(BrokenPipeError):  # the reader closed the pipe early, as `head` does
        if as_json:
            begin = render_json({"specs": [about | {"rows": []}]}, only_ascii=True).removesuffix("]}]}")
            array = JsonArray(
                out, begin.encode(), f'], "exit_code": {code}}}], "exit_code": {code}, "format_version": 1}}\n'.encode()
            )
            rows = write(array)
            array.finish()
        else:
            rows = write(out)
        out.finish()
    if not rows and not as_json:
        say("note: no results match", err=True)
    sys.exit(code)
