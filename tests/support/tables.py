"""Results as tables: made, written in every format, and read back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow.parquet
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from aihub_runner.errors import ResultsError
from aihub_runner.results.documents import read_documents, update_documents
from aihub_runner.results.folder import update_tables
from aihub_runner.results.tables import FIELDS
from aihub_runner.results.writers.formats import unguard
from aihub_runner.text.jsontext import as_unicode
from support.made import made_results

FORMATS = ("jsonl", "csv", "xlsx", "parquet")
Rows = list[tuple[Any, ...]]

# Texts that a format may get wrong, and names of fields

TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        "=1+1",
        "+49 170",
        "-12.50",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "'",
        "'=1",
        "\ud800",
        "a\x00b",
        "_x0041_",
        "\ufeff",
    ]
)
NAME = st.sampled_from(["total", "Total", "path", "class", "item", "_3rd_category", ""]) | TEXT


def page_of(*fields: dict[str, Any], name: str | None = "Invoice") -> dict[str, Any]:
    return {"files": [{"original_file_name": "a.pdf", "documents": [{"class_name": name, "fields": list(fields)}]}]}


def documents_of(*documents: list[str], kind: str = "Invoice") -> dict[str, Any]:
    """Make a page with a file for each list of names of fields; a field's value is its name."""
    files = [
        {
            "original_file_name": f"{number}.pdf",
            "documents": [{"class_name": kind, "fields": [{"field_name": name, "value": name} for name in names]}],
        }
        for number, names in enumerate(documents)
    ]
    return {"files": files}


def write_all(folder: Path, *runs: list[Any], include: str = "plain") -> list[ResultsError]:
    """Write documents.jsonl and every table in every format, and return what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    with made_results(folder, *runs, include=include) as found:
        update_documents(found)
        return update_tables(found, FORMATS)


def list_tables(folder: Path, ending: str) -> list[str]:
    paths = [*folder.glob(f"*.{ending}"), *folder.glob(f"documents/*.{ending}")]
    names = {path.relative_to(folder).as_posix().removesuffix(f".{ending}") for path in paths}
    return sorted(names - {"documents"})


# Reading tables: heads and rows, with the values that a table of that format can tell apart


def read_jsonl(path: Path) -> tuple[list[str], Rows]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list(lines[0]) if lines else [], [tuple(line.values()) for line in lines]


def read_csv(path: Path) -> tuple[list[str], Rows]:
    csv.field_size_limit(10**8)
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    return [unguard(name) for name in head], [tuple(unguard(cell) for cell in row) for row in rows]


def read_xlsx(path: Path) -> tuple[list[str], Rows]:
    book = openpyxl.load_workbook(path, read_only=True)
    assert all(cell.data_type != "f" for row in book.active.iter_rows() for cell in row)
    head, *rows = book.active.iter_rows(values_only=True)
    width = len(head)
    cells = [tuple(unescape(c) if isinstance(c, str) else c for c in row) for row in rows]
    book.close()
    return [unescape(name) for name in head], [row + (None,) * (width - len(row)) for row in cells]


def read_parquet(path: Path) -> tuple[list[str], Rows]:
    table = pyarrow.parquet.read_table(path)
    return table.column_names, list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def read_duckdb(path: Path) -> tuple[list[str], Rows]:
    found = duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)])
    return [column[0] for column in found.description], found.fetchall()


# The same rows, as each format can tell them apart


def as_json(cell: Any) -> Any:
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":")) if isinstance(cell, list | dict) else cell


def as_csv(cell: Any, _: str) -> str:
    if cell is None or isinstance(cell, bool):
        return {None: "", True: "true", False: "false"}[cell]
    return as_unicode(str(as_json(cell)))


def as_xlsx(cell: Any, _: str) -> Any:
    if isinstance(cell, float):
        return float(f"{cell:.16G}")
    if isinstance(cell, int) and abs(cell) > 2**53:
        return str(cell)
    cell = as_json(cell)
    return as_unicode(cell) if isinstance(cell, str) else cell


def as_parquet(cell: Any, column: str) -> Any:
    cell = cell if column == "pages" else as_json(cell)
    return as_unicode(cell) if isinstance(cell, str) else cell


READERS: list[tuple[str, Callable[[Path], tuple[list[str], Rows]], Callable[[Any, str], Any]]] = [
    ("csv", read_csv, as_csv),
    ("xlsx", read_xlsx, as_xlsx),
    ("parquet", read_parquet, as_parquet),
    ("parquet", read_duckdb, as_parquet),
]


def check_tables(folder: Path, missing: set[str] | frozenset[str] = frozenset()) -> None:
    """Compare every table in every format with its JSON Lines."""
    for name in list_tables(folder, "jsonl"):
        head, rows = read_jsonl(folder / f"{name}.jsonl")
        for ending, read, convert in READERS:
            if f"{name}.{ending}" in missing:
                continue
            found_head, found = read(folder / f"{name}.{ending}")
            if rows and read is not read_duckdb:  # which tells names apart without regard to case
                assert found_head == [as_unicode(column) for column in head]
            expected = [tuple(convert(cell, column) for cell, column in zip(row, head, strict=True)) for row in rows]
            assert found == expected, f"{name}.{ending}"


def check_fields(folder: Path) -> None:
    """Compare the long table with its documents."""
    expected = [
        (document["path"], document["document_index"], index, one["name"], one["value"])
        for document in read_documents(folder / "documents.jsonl")
        for index, one in enumerate(document["fields"])
    ]
    _, rows = read_jsonl(folder / "fields.jsonl")
    names = [column.name for column in FIELDS]
    places = [names.index(name) for name in ("path", "document_index", "field_index", "field", "value")]
    assert [tuple(row[place] for place in places) for row in rows] == expected
