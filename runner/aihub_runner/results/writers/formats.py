"""The formats of tables. Rows are written as they come, and not kept in memory.

Spreadsheet programs run text that looks like a formula. In CSV such text gets a leading `'`; in a workbook the cell
has the type text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain, islice, pairwise, repeat
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from aihub_runner.files import File
from aihub_runner.results.record import Record
from aihub_runner.results.tables import Kind, Row, Table
from aihub_runner.results.writers.sink import Sink, escape_line_ends
from aihub_runner.system.extras import explain_broken, find_missing
from aihub_runner.text.jsontext import as_unicode, render_json

MEMORY_BYTES = 16_000_000
CELLS_KEPT = 20_000
_SAMPLE = 100  # cells that show whether many repeat
_SIMPLE = frozenset({"text", "integer", "flag"})  # kinds of cells of which many may repeat
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

    Raises ResultsError if the format cannot hold the table, InputError if its extra is not installed or cannot be
    loaded, OSError.
    """
    if missing := find_missing(format):
        raise missing
    if format == "xlsx":
        with explain_broken(format):
            from aihub_runner.results.writers.xlsx import XlsxSink

        return XlsxSink(file, table, folder)
    if format == "parquet":
        with explain_broken(format):
            from aihub_runner.results.writers.parquet import ParquetSink

        return ParquetSink(file, table, memory)
    return CsvSink(file, table) if format == "csv" else JsonlSink(file, table)


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
    quote: str  # around a text without special characters
    special: str
    render_cell: Mapping[Kind, Callable[[Any], str]]

    def __init__(self, file: File, table: Table, before: Sequence[str], end: str) -> None:
        """`before` has the text before each cell, `end` the text after the last one."""
        self._file = file
        self._before, self._end = before, end
        self._kinds = [column.kind for column in table.columns]
        self._numbers: dict[int, _Known] = {}

    def render(self, rows: Sequence[Row]) -> bytes:
        """Render rows."""
        return self.render_each([rows])[0]

    def render_each(self, groups: Sequence[Sequence[Row]]) -> list[bytes]:
        """Render each group of rows, all of them column by column: a call for each cell took four times as long."""
        columns = [*zip(*chain.from_iterable(groups), strict=True)]
        return [*map(self.encode, _join(self._render_columns(0, columns, self._end), [*map(len, groups)]))]

    def render_fields(self, files: Sequence[Sequence[Record]], columns: Sequence[Sequence[Any]]) -> list[bytes]:
        """Render the rows of FIELDS of each file, whose `field_columns` are given.

        What the rows of a document share is rendered once.
        """
        records = [*chain.from_iterable(files)]
        heads = self._render_columns(0, [*zip(*[record.cells for record in records], strict=True)])
        fields = [len(record.fields or ()) for record in records]
        shared = chain.from_iterable(map(repeat, _join(heads, [1] * len(records)), fields))
        pieces = [shared, *self._render_columns(len(self._kinds) - len(columns), columns, self._end)]
        numbers = iter(fields)
        return [*map(self.encode, _join(pieces, [sum(islice(numbers, len(records))) for records in files]))]

    def _render_columns(self, start: int, columns: Sequence[Sequence[Any]], end: str = "") -> list[Iterable[str]]:
        """Return the pieces that each row is joined from, for some of the columns. A text is the same in all rows."""
        pieces, text = list[Iterable[str]](), ""
        for place, cells in enumerate(columns, start):
            text += self._before[place]
            if not cells or (cells[0] is None and cells.count(None) == len(cells)):
                text += self.empty
                continue
            found, text = self._render_column(place, text, cells)
            pieces += found
        return [*pieces, text + end]

    def _render_column(self, place: int, text: str, cells: Sequence[Any]) -> tuple[list[Iterable[str]], str]:
        """Return the pieces of a column, with the text before them, and the text after them."""
        kind, render = self._kinds[place], self.render_cell[self._kinds[place]]
        if kind == "number":
            known = self._numbers.get(place)
            if known is None or known.before != text:
                known = self._numbers[place] = _Known(text, self.empty, render)
            return [map(known.__getitem__, cells)], ""
        if kind in _SIMPLE and len({*(some := cells[:_SAMPLE])}) * 4 <= len(some):
            return [map(_Known(text, self.empty, render).__getitem__, cells)], ""
        if kind == "text" and self.are_plain(cells):
            return [text + self.quote, cells], self.quote
        return [text, [self.empty if cell is None else render(cell) for cell in cells]], ""

    def are_plain(self, cells: Sequence[str | None]) -> bool:
        """Whether texts need only be put between `quote`. May be wrong with False only."""
        try:
            text = "".join(cells)  # type: ignore[arg-type]
        except TypeError:  # there are nulls among them
            return False
        return not any(map(text.__contains__, self.special))

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


class _Known(dict[Any, str]):
    """Cells that were rendered already, after a text, since many repeat. Zero is left out: -0.0 is equal to it."""

    def __init__(self, before: str, empty: str, render: Callable[[Any], str]) -> None:
        self.before, self._empty, self._render = before, empty, render

    def __missing__(self, cell: Any) -> str:
        text = self.before + (self._empty if cell is None else self._render(cell))
        if cell or cell.__class__ is not float:
            if len(self) >= CELLS_KEPT:
                self.clear()
            self[cell] = text
        return text


def _join(pieces: Sequence[Iterable[str]], groups: Sequence[int]) -> list[str]:
    """Return the rows of each group. All pieces of all rows are put into one list: to zip them takes twice as long."""
    width = len(pieces)
    rows = [piece if isinstance(piece, str) else "" for piece in pieces] * sum(groups)
    for place, piece in enumerate(pieces):
        if not isinstance(piece, str):
            rows[place::width] = piece
    ends = [*accumulate(groups, initial=0)]
    return ["".join(rows[start * width : end * width]) for start, end in pairwise(ends)]


class JsonlSink(TextSink):
    """JSON Lines: an object per row."""

    empty = "null"
    quote = '"'
    special = "".join(map(chr, range(32))) + '"\\'
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
    quote = ""
    special = _QUOTES
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

    def are_plain(self, cells: Sequence[str | None]) -> bool:
        """Whether texts need no quotes, and look like no formula."""
        return super().are_plain(cells) and _FIRST.isdisjoint([cell[:1] for cell in cells if cell])


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
