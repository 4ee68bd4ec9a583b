"""The formats of tables. Rows are written as they come, and not kept in memory.

Spreadsheet programs run text that looks like a formula. In CSV such text gets a leading `'`; in a workbook the cell
has the type text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice, repeat
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from aihub_runner.files import File
from aihub_runner.results.tables import Document, Kind, Row, Table, document_cells
from aihub_runner.results.writers.sink import Sink, escape_line_ends
from aihub_runner.system.extras import find_missing
from aihub_runner.text.jsontext import as_unicode, render_json

MEMORY_BYTES = 16_000_000
NUMBERS_KEPT = 20_000
LINES = frozenset({"csv", "jsonl"})  # the formats with a line for each row

# Characters that start a formula, also in full width, or that are ignored before one.
_FORMULA = "=+@\t\r\n\0\uff1d\uff0b\uff0d\uff20-"
_FIRST = frozenset(f"{_FORMULA}'")  # a quick check: most texts start with none of them
_QUOTES = '",\r\n'
_QUOTED = re.compile(f"[{_QUOTES}]")
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
    """A format with a line for each row."""

    empty: str  # what null is rendered as
    render_cell: Mapping[Kind, Callable[[Any], str]]

    def __init__(self, file: File, table: Table, before: Sequence[str], end: str) -> None:
        """`before` has the text before each cell, `end` the text after the last one."""
        self._file = file
        self._before, self._end = before, end
        self._kinds = [column.kind for column in table.columns]
        self._numbers = _Rendered(self.render_cell["number"])

    def render(self, rows: Sequence[Row]) -> bytes:
        """Render rows."""
        return self.render_each([rows])[0]

    def render_each(self, groups: Sequence[Sequence[Row]]) -> list[bytes]:
        """Render each group of rows, all of them column by column: a call for each cell took four times as long."""
        rows = [*chain.from_iterable(groups)]
        if not rows:
            return [b""] * len(groups)
        return self._render_columns([], [*zip(*rows, strict=True)], [*map(len, groups)])

    def render_fields(self, groups: Sequence[Sequence[Document]], columns: Sequence[Sequence[Any]]) -> list[bytes]:
        """Render the rows of FIELDS of each group of documents, whose `field_columns` are given.

        What the rows of a document share is rendered once.
        """
        heads = [
            repeat(self._render_head(document_cells(document)), len(document["fields"]))
            for documents in groups
            for document in documents
        ]
        numbers = [sum(len(document["fields"]) for document in documents) for documents in groups]
        return self._render_columns([chain.from_iterable(heads)], columns, numbers)

    def _render_head(self, cells: Row) -> str:
        rendered = map(self._render_one, self._kinds, cells)
        return "".join(chain.from_iterable(zip(self._before, rendered, strict=False)))

    def _render_columns(
        self, pieces: list[Iterable[str]], columns: Sequence[Sequence[Any]], groups: Sequence[int]
    ) -> list[bytes]:
        """Render the last columns of rows, after `pieces` of each, and return the lines of each group."""
        start, number, text = len(self._kinds) - len(columns), sum(groups), ""
        for before, kind, cells in zip(self._before[start:], self._kinds[start:], columns, strict=True):
            text += before
            if not number or (cells[0] is None and cells.count(None) == number):
                text += self.empty
            else:
                pieces += [repeat(text, number), self._render_column(kind, cells)]
                text = ""
        lines = zip(*pieces, repeat(text + self._end, number), strict=True)
        return [self.encode("".join(chain.from_iterable(islice(lines, size)))) for size in groups]

    def _render_one(self, kind: Kind, cell: Any) -> str:
        return self.empty if cell is None else self.render_cell[kind](cell)

    def _render_column(self, kind: Kind, cells: Sequence[Any]) -> Iterable[str]:
        if kind == "text":
            try:
                return self.render_texts(cells)
            except TypeError:  # there are nulls among them
                pass
        elif kind == "number":
            return map(self._numbers.__getitem__, cells) if None not in cells else self._render_cells(kind, cells)
        return self._render_cells(kind, cells)

    def _render_cells(self, kind: Kind, cells: Sequence[Any]) -> Iterable[str]:
        render = self.render_cell[kind]
        return [self.empty if cell is None else render(cell) for cell in cells]

    def render_texts(self, cells: Sequence[str]) -> Sequence[str]:
        """Render texts. Raises TypeError for null."""
        return [*map(self.render_cell["text"], cells)]

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


class _Rendered(dict[Any, str]):
    """A cache of rendered numbers, of which many repeat. Zero is left out: -0.0 is equal to it."""

    def __init__(self, render: Callable[[Any], str]) -> None:
        self._render = render

    def __missing__(self, value: Any) -> str:
        text = self._render(value)
        if value:
            if len(self) >= NUMBERS_KEPT:
                self.clear()
            self[value] = text
        return text


class JsonlSink(TextSink):
    """JSON Lines: an object per row."""

    empty = "null"
    render_cell: Mapping[Kind, Callable[[Any], str]] = {
        "text": encode_basestring,
        "integer": str,
        "number": repr,  # a Numeral as its text
        "flag": lambda cell: "true" if cell else "false",
        "integers": lambda cell: f"[{', '.join(map(str, cell))}]",
        "json": render_json,
    }

    def __init__(self, file: File, table: Table) -> None:
        names = [f", {render_json(column.name)}: " for column in table.columns]
        super().__init__(file, table, ["{" + names[0][2:], *names[1:]], "}\n")

    def encode(self, text: str) -> bytes:
        """Encode lines."""
        return escape_line_ends(as_unicode(text).encode())


class CsvSink(TextSink):
    """CSV by RFC 4180: UTF-8, commas, CRLF, with a header. Null is an empty cell."""

    empty = ""
    render_cell: Mapping[Kind, Callable[[Any], str]] = {
        "text": lambda cell: _quote(guard(as_unicode(cell))),
        "integer": str,
        "number": repr,  # a Numeral as its text
        "flag": lambda cell: "true" if cell else "false",
        "integers": lambda cell: _quote(f"[{','.join(map(str, cell))}]"),
        "json": lambda cell: _quote(render_json(cell, compact=True)),
    }

    def __init__(self, file: File, table: Table) -> None:
        super().__init__(file, table, ["", *[","] * (len(table.columns) - 1)], "\r\n")
        names = [self.render_cell["text"](column.name) for column in table.columns]
        file.write(self.encode(",".join(names) + "\r\n"))

    def render_texts(self, cells: Sequence[str]) -> Sequence[str]:
        """Return texts themselves if none of them needs a quote."""
        text = "".join(cells)
        if any(map(text.__contains__, _QUOTES)) or not _FIRST.isdisjoint([cell[:1] for cell in cells]):
            return [*map(self.render_cell["text"], cells)]
        return cells


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
