"""The formats of tables. Rows are written as they come, and not kept in memory.

Spreadsheet programs run text that looks like a formula. In CSV such text gets a leading `'`; in a workbook the cell
has the type text.
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

# Characters that start a formula, also in full width, or that are ignored before one.
_FORMULA = "=+@\t\r\n\0\uff1d\uff0b\uff0d\uff20-"
_FIRST = frozenset(f"{_FORMULA}'")  # a quick check: most texts start with none of them
_DANGEROUS = re.compile(f"'*[{_FORMULA}]")
_PLAIN_NUMBER = re.compile(
    r"[+\uff0b\uff0d-]?[0-9\uff10-\uff19]+([.,][0-9\uff10-\uff19]+)*([eE][+-]?[0-9]+)?[%\uff05]?"
)


def open_sink(format: str, file: File, table: Table, memory: int = MEMORY_BYTES, folder: Path | None = None) -> Sink:
    """Open a table for writing. It keeps up to `memory` bytes of values in memory, or temporary files in `folder`.

    Raises ResultsError if the format cannot hold the table, InputError if its extra is not installed, OSError.
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
    """Put a `'` before text that a spreadsheet would run. A plain number such as -12.50 is unchanged.

    Also put it before such text with leading quotes, so that removing one quote always restores the text.
    """
    if text[:1] not in _FIRST or not _DANGEROUS.match(text) or _PLAIN_NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def unguard(text: str) -> str:
    """Remove the `'` that `guard` put before a text."""
    return text[1:] if text[:1] == "'" and _DANGEROUS.match(text) else text


# Formats


class JsonlSink:
    """JSON Lines: an object per row."""

    def __init__(self, file: File, table: Table) -> None:
        self._file = file
        self._names = [column.name for column in table.columns]

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        for row in rows:
            self._file.write(as_line(dict(zip(self._names, row, strict=True))))

    def close(self) -> None:
        """Do nothing: all lines are written."""

    def drop(self) -> None:
        """Do nothing."""


class CsvSink:
    """CSV by RFC 4180: UTF-8, commas, CRLF, with a header. Null is an empty cell."""

    def __init__(self, file: File, table: Table) -> None:
        self._render = [_CSV_CELLS[column.kind] for column in table.columns]
        self._writer = csv.writer(_Encoder(file), lineterminator="\r\n")
        self._writer.writerow([_csv_text(column.name) for column in table.columns])

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows."""
        for row in rows:
            self._writer.writerow([render(cell) for render, cell in zip(self._render, row, strict=True)])

    def close(self) -> None:
        """Do nothing: all rows are written."""

    def drop(self) -> None:
        """Do nothing."""


class _Encoder:
    def __init__(self, file: File) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Append text as UTF-8."""
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
