"""Write a table as a workbook with one sheet, row by row. No cell is a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError, XlsxWriterException
from xlsxwriter.worksheet import Worksheet

from aihub_runner.errors import ResultsError
from aihub_runner.files import File
from aihub_runner.results.tables import Kind, Row, Table
from aihub_runner.results.writers.sink import WAITING
from aihub_runner.text.jsontext import as_unicode, render_json
from aihub_runner.text.shown import show_value

NAME_LENGTH = 100
MAX_ROWS = 1_048_575  # without the header
MAX_COLUMNS = 16_384
MAX_TEXT = 32_767  # UTF-16 code units in a cell
MAX_WHOLE = 2**53  # cells hold integers exactly up to here
HINT = "use parquet"
_SHEET = re.compile(r"[\[\]:*?/\\']")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # a fixed creation time, so that the same rows give the same bytes


class XlsxSink:
    """A workbook in constant memory. Rows are buffered in a temporary folder that only its owner can enter."""

    def __init__(self, file: File, table: Table, folder: Path | None) -> None:
        _check_size(table)
        self._name = table.name
        self._kinds = [column.kind for column in table.columns]
        self._columns = [column.name for column in table.columns]
        self._row: Row = ()
        self._waiting = TemporaryDirectory(prefix=WAITING, dir=folder, ignore_cleanup_errors=True)
        options = {
            "constant_memory": True,
            "tmpdir": self._waiting.name,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "use_zip64": True,
        }
        self._book = Workbook(file, options)
        self._book.set_properties({"created": _LONG_AGO})
        self._sheet = self._book.add_worksheet(_SHEET.sub("_", table.name.rpartition("/")[2])[:31])
        self._sheet.freeze_panes(1, 0)
        self._next = 0
        for place, column in enumerate(table.columns):
            self._put(place, "text", column.name)

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows. Raises ResultsError if a text is too long or there are too many rows, OSError."""
        for row in rows:
            self._next += 1
            if self._next > MAX_ROWS:
                raise _too_large(self._name, f"more than {MAX_ROWS}", "rows", MAX_ROWS)
            self._row = row
            for place, (kind, cell) in enumerate(zip(self._kinds, row, strict=True)):
                if cell is not None:
                    self._put(place, kind, cell)

    def _put(self, place: int, kind: Kind, cell: Any) -> None:
        if kind == "number" or (kind == "integer" and abs(cell) <= MAX_WHOLE):
            self._sheet.write_number(self._next, place, float(cell))
        elif kind == "flag":
            self._sheet.write_boolean(self._next, place, cell)
        else:
            text = as_unicode(cell if kind == "text" else render_json(cell, compact=True))
            self._check_text(text, place)
            _put_text(self._sheet, self._next, place, text)

    def _check_text(self, text: str, place: int) -> None:
        if len(text) > MAX_TEXT // 2 and (length := len(text.encode("utf-16-le")) // 2) > MAX_TEXT:
            what = f"a text of {self._describe_cell(place)} has {length} characters, a cell holds {MAX_TEXT}"
            raise ResultsError(f"{self._name}.xlsx: {what}", HINT)

    def _describe_cell(self, place: int) -> str:
        """Describe a cell by its document and field, and by its row and column."""
        where = f"(row {self._next + 1}, column {place + 1})"
        if not self._row:
            return f"the header {where}"
        known, column = dict(zip(self._columns, self._row, strict=True)), self._columns[place]
        words = [str(known["path"])] if "path" in known else [f"run {known.get('run_id')}"]
        words += [f"document {known['document_index']}"] * ("document_index" in known)
        if "field" in known:
            words += [f"field {show_value(known['field'], NAME_LENGTH)}", column]
        else:
            words.append(f"field {show_value(column, NAME_LENGTH)}")
        return f"{', '.join(words)} {where}"

    def close(self) -> None:
        """Write the workbook. Raises OSError."""
        try:
            self._book.close()
        except FileCreateError as error:
            raise error.args[0] from error
        except XlsxWriterException as error:
            raise ResultsError(f"{self._name}.xlsx: cannot be written, {error}", HINT) from error
        finally:
            self.drop()

    def drop(self) -> None:
        """Remove the temporary files."""
        self._waiting.cleanup()


def _check_size(table: Table) -> None:
    """Raise ResultsError for a table that is too large for a workbook."""
    for what, number, most in (("rows", table.rows, MAX_ROWS), ("columns", len(table.columns), MAX_COLUMNS)):
        if number > most:
            raise _too_large(table.name, str(number), what, most)


def _too_large(name: str, number: str, what: str, most: int) -> ResultsError:
    return ResultsError(f"{name}.xlsx: would have {number} {what}, a workbook holds {most}", HINT)


def _put_text(sheet: Worksheet, row: int, column: int, text: str) -> None:
    """Write a text literally. The library treats `<r>…</r>` as its own markup, unless it comes in pieces."""
    if text.startswith("<r>") and text.endswith("</r>"):
        sheet.write_rich_string(row, column, "<", "r", text[2:])
    else:
        sheet.write_string(row, column, text)
