"""Write a table as Parquet, one row group at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from aihub_runner.errors import ResultsError
from aihub_runner.files import File
from aihub_runner.results.tables import Kind, Row, Table
from aihub_runner.text.jsontext import as_unicode, render_json

_TYPES: Mapping[Kind, Any] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "integers": pa.list_(pa.int64()),
    "json": pa.string(),
}
_CELL_BYTES = 40  # approximate memory of a cell without its text


class ParquetSink:
    """A Parquet file. A row group is written when the buffered values take more than `memory` bytes."""

    def __init__(self, file: File, table: Table, memory: int) -> None:
        self._name = table.name
        self._kinds = [column.kind for column in table.columns]
        self._texts = [place for place, kind in enumerate(self._kinds) if kind in ("text", "json")]
        self._schema = pa.schema([(as_unicode(column.name), _TYPES[column.kind]) for column in table.columns])
        self._writer = ParquetWriter(file, self._schema, compression="zstd")
        self._memory = memory
        self._rows: list[Row] = []
        self._bytes = 0

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows. Raises ResultsError, OSError."""
        for row in rows:
            cells = [_cell(kind, cell) for kind, cell in zip(self._kinds, row, strict=True)]
            self._rows.append(cells)
            self._bytes += _CELL_BYTES * len(cells) + sum(len(cells[place] or "") for place in self._texts)
            if self._bytes > self._memory:
                self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True)
        try:
            arrays = [_array(kind, cells) for kind, cells in zip(self._kinds, columns, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        except pa.ArrowException as error:
            raise ResultsError(f"{self._name}.parquet: cannot be written, {error}", "use jsonl or csv") from error
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        """Write the buffered rows and the footer. Raises ResultsError, OSError."""
        if self._rows:
            self._flush()
        self._writer.close()

    def drop(self) -> None:
        """Discard the buffered rows."""
        self._rows = []


def _cell(kind: Kind, cell: Any) -> Any:
    if cell is None or kind not in ("json", "number"):
        return cell
    return render_json(cell, compact=True) if kind == "json" else float(cell)


def _array(kind: Kind, cells: Sequence[Any]) -> Any:
    try:
        return pa.array(cells, _TYPES[kind])
    except UnicodeEncodeError:
        return pa.array([cell and as_unicode(cell) for cell in cells], _TYPES[kind])
