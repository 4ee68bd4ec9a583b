"""The formats that a table can be written in: rows go into a file as they come, none is kept.

Spreadsheets run what looks like a formula. In CSV such a text gets a leading `'`; a cell of a workbook is a text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aihub_runner.files import File
from aihub_runner.results.tables import Kind, Row, Table
from aihub_runner.results.writers.sink import Sink, as_line
from aihub_runner.system.extras import find_missing
from aihub_runner.text.jsontext import as_unicode, render_json

MEMORY_BYTES = 16_000_000

# What begins a formula, also as a full-width character, or is passed over before one.
_FORMULA = "=+@\t\r\n\0\uff1d\uff0b\uff0d\uff20-"
_FIRST = frozenset(f"{_FORMULA}'")  # a quick look: most texts begin with none of them
_DANGEROUS = re.compile(f"'*[{_FORMULA}]")
_PLAIN_NUMBER = re.compile(
    r"[+\uff0b\uff0d-]?[0-9\uff10-\uff19]+([.,][0-9\uff10-\uff19]+)*([eE][+-]?[0-9]+)?[%\uff05]?"
)


def open_sink(format: str, file: File, table: Table, memory: int = MEMORY_BYTES, folder: Path | None = None) -> Sink:
    """Open a table for writing; `memory` is how many bytes of values may be kept, others wait in `folder`.

    Raises ResultsError where the format cannot hold the table, InputError where it is not installed, OSError.
    """
    if missing := find_missing(format):
        raise missing
    if format == "csv":
        return CsvSink(file, table)
    if format == "xlsx":
        from aihub_runner.results.writers.xlsx import XlsxSink

        return XlsxSink(file, table, folder)
    if format == "parquet":
        from aihub_runner.results.writers.parquet import ParquetSink

        return ParquetSink(file, table, memory)
    return JsonlSink(file, table)


# Texts


def guard(text: str) -> str:
    """Put a `'` before what a spreadsheet would run; a plain number such as -12.50 stays as it is.

    Also before what would be one without quotes at its begin, so that taking one off gives every text back.
    """
    if text[:1] not in _FIRST or not _DANGEROUS.match(text) or _PLAIN_NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def unguard(text: str) -> str:
    """Take off the `'` that `guard` put before a text."""
    return text[1:] if text[:1] == "'" and _DANGEROUS.match(text) else text


# Formats


class JsonlSink:
    """A line of JSON for each row."""

    def __init__(self, file: File, table: Table) -> None:
        self._file = file
        self._names = [column.name for column in table.columns]

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows at the end."""
        for row in rows:
            self._file.write(as_line(dict(zip(self._names, row, strict=True))))

    def close(self) -> None:
        """Do nothing: every line is written."""

    def drop(self) -> None:
        """Do nothing."""


class CsvSink:
    """RFC 4180: UTF-8, commas, CRLF, a head; null is an empty cell."""

    def __init__(self, file: File, table: Table) -> None:
        self._render = [_CSV_CELLS[column.kind] for column in table.columns]
        self._writer = csv.writer(_Encoder(file), lineterminator="\r\n")
        self._writer.writerow([_csv_text(column.name) for column in table.columns])

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows at the end."""
        for row in rows:
            self._writer.writerow([render(cell) for render, cell in zip(self._render, row, strict=True)])

    def close(self) -> None:
        """Do nothing: every row is written."""

    def drop(self) -> None:
        """Do nothing."""


class _Encoder:
    def __init__(self, file: File) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Add text at the end, as UTF-8."""
        self._file.write(text.encode())


def _csv_text(cell: str | None) -> str | None:
    return cell and guard(as_unicode(cell))


def _csv_flag(cell: bool | None) -> str | None:
    return cell if cell is None else "true" if cell else "false"


def _csv_json(cell: Any) -> str | None:
    return cell if cell is None else render_json(cell, compact=True)


_CSV_CELLS: Mapping[Kind, Callable[[Any], object]] = {
    "text": _csv_text,
    "integer": lambda cell: cell,
    "number": lambda cell: cell,  # a Numeral as its text
    "flag": _csv_flag,
    "integers": _csv_json,
    "json": _csv_json,
}
