"""Export results from the raw pages, all or a selection, as documents or as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.errors import InputError
from aihub_runner.files import File
from aihub_runner.results.filters import Filter
from aihub_runner.results.folder import load_names
from aihub_runner.results.naming import UNCLASSIFIED
from aihub_runner.results.reader import Found
from aihub_runner.results.record import Document, as_record
from aihub_runner.results.tables import CASES, FIELDS, Row, Shape, Table, case_row, field_names
from aihub_runner.results.writers.formats import open_sink
from aihub_runner.results.writers.sink import as_line

NESTED = "nested"  # not a table: documents as in documents.jsonl
_Rows = Iterable[Sequence[Row]]


class Request(Struct, frozen=True):
    """What to export: the table (or NESTED), the format, and the selection.

    Only runs that ended at `since_s` or later count, in Unix seconds.
    """

    table: str
    format: str
    filter: Filter
    since_s: float = 0.0


def extract(found: Found, request: Request, file: File) -> tuple[int, list[str]]:
    """Write the requested results into a file. Return the number of rows, and warnings about invalid JSON in them.

    May be repeated. Raises ResultsError if raw pages are missing or the format cannot hold the table, InputError if
    a filter needs data that was not fetched, OSError.
    """
    if request.filter.below is not None and "confidence" not in found.include.split("+"):
        raise InputError(
            "--below-confidence: no confidences were fetched",
            'add "confidence" to [results] include, and apply again; fetching is free',
        )
    if request.since_s:
        runs = ((choice, choice.run) for choice in found.chosen)
        chosen = [choice for choice, run in runs if (run.finished_ns / 1e9 or run.intent_s) >= request.since_s]
        found = replace(found, chosen=chosen)
    warnings: dict[str, None] = {}
    found = replace(found, warn=lambda text: warnings.setdefault(text))
    if request.table == NESTED:
        return _write_documents(request.filter.documents(found.documents()), file), list(warnings)
    table, parts = _TABLES[request.table](found, request.filter)
    sink = open_sink(request.format, file, table)
    try:
        written = 0
        for rows in parts:
            sink.write(rows)
            written += len(rows)
        sink.close()
    finally:
        sink.drop()
    return written, list(warnings)


def _write_documents(documents: Iterable[Document], file: File) -> int:
    written = 0
    for document in documents:
        file.write(as_line(document))
        written += 1
    return written


def _fields(found: Found, chosen: Filter) -> tuple[Table, _Rows]:
    return Table("fields", FIELDS), (chosen.field_rows(document) for document in chosen.documents(found.documents()))


def _documents(found: Found, chosen: Filter) -> tuple[Table, _Rows]:
    """Return a table with the fields of all selected classes as columns, under their stable names."""
    names = load_names(found.state)
    one = next(iter(chosen.classes)) if len(chosen.classes) == 1 else None
    known = names.classes.get(None if one == UNCLASSIFIED else one, {}) if one else names.whole
    shape = Shape(labels=dict(known))
    for document in chosen.documents(found.documents()):
        shape.add(field_names(document))
    table = Table("documents", shape.columns(), shape.documents)
    return table, ([shape.row(as_record(document))] for document in chosen.documents(found.documents()))


def _cases(found: Found, chosen: Filter) -> tuple[Table, _Rows]:
    cases = (case for case in found.cases() if not chosen.only_errors or case[1].get("error_msg"))
    return Table("cases", CASES), ([case_row(*case)] for case in cases)


_TABLES: dict[str, Callable[[Found, Filter], tuple[Table, _Rows]]] = {
    "fields": _fields,
    "documents": _documents,
    "cases": _cases,
}
