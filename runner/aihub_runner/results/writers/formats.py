"""The formats of tables. Rows are written as they come, and not kept in memory.

Spreadsheet programs run text that looks like a formula. In CSV such text gets a leading `'`; in a workbook the cell
has the type text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from aihub_runner.files import File
from aihub_runner.results.tables import OF_DOCUMENT, Kind, Row, Table
from aihub_runner.results.writers.sink import Sink, escape_line_ends
from aihub_runner.system.extras import find_missing
from aihub_runner.text.jsontext import as_unicode, render_json

MEMORY_BYTES = 16_000_000
LINES = frozenset({"csv", "jsonl"})  # the formats with a line for each row

# Characters that start a formula, also in full width, or that are ignored before one.
_FORMULA = "=+@\t\r\n\0\uff1d\uff0b\uff0d\uff20-"
_FIRST = frozenset(f"{_FORMULA}'")  # a quick check: most texts start with none of them
_QUOTED = re.compile('[",\r\n]')
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


class TextSink:
    """A format with a line for each row.

    The cells that say which document a row is of repeat in all rows of the document, and are rendered once.
    """

    empty: str  # what null is rendered as
    render_cell: Mapping[Kind, Callable[[Any], str]]

    def __init__(self, file: File, table: Table, first: str, rest: str) -> None:
        """`first` is a format for the repeated cells, `rest` for the others."""
        self._file = file
        self._first, self._rest = first, rest
        self._repeated = _count_repeated(table)
        self._render = [self.column_renderer(column.kind) for column in table.columns]
        self._head: tuple[Row | None, str] = (None, "")

    def column_renderer(self, kind: Kind) -> Callable[[Sequence[Any]], Iterable[str]]:
        """Return a function that renders cells of a kind, none of them null."""
        return partial(map, self.render_cell[kind])

    def render(self, rows: Sequence[Row]) -> bytes:
        """Render rows, column by column: a call for each cell took twice as long."""
        start = self._repeated
        heads = [self._render_head(row[:start]) for row in rows]
        columns = zip(self._render[start:], [*zip(*rows, strict=True)][start:], strict=bool(rows))
        cells = [self._column(render, column) for render, column in columns]
        lines = [head + self._rest % line for head, line in zip(heads, zip(*cells, strict=True), strict=True)]
        return self.encode("".join(lines))

    def _render_head(self, cells: Row) -> str:
        if cells != self._head[0]:
            rendered = (self._column(render, [cell]) for render, cell in zip(self._render, cells, strict=False))
            self._head = cells, self._first % tuple([text for column in rendered for text in column])
        return self._head[1]

    def _column(self, render: Callable[[Sequence[Any]], Iterable[str]], cells: Sequence[Any]) -> Iterable[str]:
        nulls = cells.count(None)
        if not nulls:
            return render(cells)
        if nulls == len(cells):
            return repeat(self.empty, nulls)
        found = iter(render([cell for cell in cells if cell is not None]))
        return [self.empty if cell is None else next(found) for cell in cells]

    def encode(self, text: str) -> bytes:
        """Encode lines."""
        return as_unicode(text).encode()

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""
        self._file.write(self.render(rows))

    def close(self) -> None:
        """Do nothing: all rows are written."""

    def drop(self) -> None:
        """Do nothing."""


def _count_repeated(table: Table) -> int:
    most = len(OF_DOCUMENT)
    return most if table.columns[:most] == OF_DOCUMENT else 0


class JsonlSink(TextSink):
    """JSON Lines: an object per row."""

    empty = "null"
    render_cell: Mapping[Kind, Callable[[Any], str]] = {
        "text": encode_basestring,
        "integer": str,
        "number": repr,  # a Numeral as its text
        "flag": lambda cell: "true" if cell else "false",
        "integers": render_json,
        "json": render_json,
    }

    def __init__(self, file: File, table: Table) -> None:
        names = [f"{render_json(column.name)}: ".replace("%", "%%") + "%s" for column in table.columns]
        start = _count_repeated(table)
        super().__init__(
            file, table, "{" + "".join(f"{name}, " for name in names[:start]), ", ".join(names[start:]) + "}\n"
        )

    def encode(self, text: str) -> bytes:
        """Encode lines."""
        return escape_line_ends(as_unicode(text)).encode()


class CsvSink(TextSink):
    """CSV by RFC 4180: UTF-8, commas, CRLF, with a header. Null is an empty cell."""

    empty = ""
    render_cell: Mapping[Kind, Callable[[Any], str]] = {
        "text": lambda cell: _quote(guard(as_unicode(cell))),
        "integer": str,
        "number": repr,  # a Numeral as its text
        "flag": lambda cell: "true" if cell else "false",
        "integers": lambda cell: _quote(render_json(cell, compact=True)),
        "json": lambda cell: _quote(render_json(cell, compact=True)),
    }

    def __init__(self, file: File, table: Table) -> None:
        start, columns = _count_repeated(table), len(table.columns)
        super().__init__(file, table, "%s," * start, ",".join(["%s"] * (columns - start)) + "\r\n")
        names = [self.render_cell["text"](column.name) for column in table.columns]
        file.write(self.encode(",".join(names) + "\r\n"))

    def column_renderer(self, kind: Kind) -> Callable[[Sequence[Any]], Iterable[str]]:
        """Return a function that renders cells of a kind, none of them null."""
        return _render_texts if kind == "text" else super().column_renderer(kind)


def _render_texts(cells: Sequence[str]) -> Iterable[str]:
    """Return texts for CSV: themselves if none of them needs a quote."""
    if _QUOTED.search("".join(cells)) or not _FIRST.isdisjoint([cell[:1] for cell in cells]):
        return map(CsvSink.render_cell["text"], cells)
    return cells


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
