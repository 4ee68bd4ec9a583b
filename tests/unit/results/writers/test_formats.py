"""What a CSV file or a workbook must not do with a value, and what it cannot store."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.errors import ResultsError
from aihub_runner.results.folder import update_tables
from aihub_runner.results.record import as_record
from aihub_runner.results.tables import FIELDS, Column, Table, field_columns, field_rows
from aihub_runner.results.writers.formats import TextSink, guard, open_sink, unguard
from aihub_runner.text.jsontext import as_unicode
from support.made import made_results
from support.tables import (
    TEXT,
    check_tables,
    list_tables,
    page_of,
    read_xlsx,
    write_all,
)


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "+1+1",
        "-1-1",
        "@A1",
        "\t1",
        "\r1",
        "=",
        "-",
        "+49 170",
        "-12.50 EUR",
        "'=1",
        "-1\n",
        "\n=1",
        "\0=1",
        "\uff1d1",
        "\uff0dA1",
    ],
)
def test_text_that_a_spreadsheet_would_run_gets_a_quote(text: str) -> None:
    assert guard(text) == f"'{text}"
    assert unguard(guard(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "-12.50", "+3", "-1,234.50", "-5%", "-1e-5", "a=1", "1-2", "'", "'quoted'", " =1", "\uff0d\uff11\uff12"],
)
def test_plain_numbers_and_harmless_texts_stay_as_they_are(text: str) -> None:
    assert guard(text) == text
    assert unguard(text) == text


@given(TEXT)
def test_quote_that_is_taken_off_gives_every_text_back(text: str) -> None:
    assert unguard(guard(text)) == text


ANY = st.sampled_from(
    [None, "", "a", "=1", 'b,"\n', "\u2028\ud800", 7, True, 1.5, 1e309, [], {"valid": False}, [{"a": 1}]]
)
FIELD = st.fixed_dictionaries(
    dict.fromkeys(["name", "value", "type", "error"], ANY),
    optional={
        "confidence": ANY | st.fixed_dictionaries({"model": ANY}, optional={"ocr": ANY}),
        "validations": ANY | st.fixed_dictionaries({}, optional={"valid": ANY, "alerts": ANY}),
        "source_coordinates": ANY,
        "edit_history": ANY | st.lists(st.dictionaries(st.sampled_from(["user_id", "timestamp"]), ANY), max_size=2),
    },
)
DOCUMENT = st.fixed_dictionaries(
    {
        "path": st.sampled_from("ab"),
        "present": st.booleans(),
        "run_id": st.just("r"),
        "document_index": st.integers(0, 2),
        "class": ANY,
        "pages": st.lists(st.integers(0, 3), max_size=2),
        "fields": st.lists(FIELD, max_size=3),
    }
)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@given(files=st.lists(st.lists(DOCUMENT, max_size=3), max_size=3))
@pytest.mark.slow
def test_rows_that_are_rendered_together_are_those_of_each_field(form: str, files: list[list[dict[str, Any]]]) -> None:
    sink = open_sink(form, io.BytesIO(), Table("fields", FIELDS))
    assert isinstance(sink, TextSink)
    records = [[*map(as_record, file)] for file in files]
    rows = [[row for record in file for row in field_rows(record)] for file in records]
    expected = [b"".join(sink.render([row]) for row in file) for file in rows]
    assert sink.render_each(rows) == expected
    columns = field_columns([record for file in records for record in file])
    assert sink.render_fields(records, columns) == expected


@given(
    st.lists(
        st.lists(st.text(alphabet="aé=+-'\" ,\r\n\t1.\u2028\uff1d\ud800") | st.none(), min_size=2, max_size=2),
        min_size=1,
    ),
    st.sampled_from([1, 150]),  # many rows that repeat are rendered in another way
)
@pytest.mark.slow
def test_lines_are_what_the_standard_library_writes(rows: list[list[str | None]], times: int) -> None:
    rows = rows * times
    columns = tuple(Column(f"c{n}", "text") for n in range(2))
    ours, objects, theirs = io.BytesIO(), io.BytesIO(), io.StringIO()
    open_sink("csv", ours, Table("t", columns)).write(rows)
    open_sink("jsonl", objects, Table("t", columns)).write(rows)
    writer = csv.writer(theirs, lineterminator="\r\n")
    writer.writerows([["c0", "c1"], *([cell and guard(as_unicode(cell)) for cell in row] for row in rows)])
    assert ours.getvalue().decode() == theirs.getvalue()
    lines = [json.loads(line) for line in objects.getvalue().splitlines()]
    assert lines == [{f"c{n}": cell and as_unicode(cell) for n, cell in enumerate(row)} for row in rows]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("number", [(0.0, "0.0"), (-0.0, "-0.0"), (1.5, "1.5")]),
        ("integer", [(0, "0"), (1, "1")]),
        ("flag", [(False, "false"), (True, "true")]),
    ],
)
def test_cells_that_python_takes_for_equal_stay_different(kind: Any, shown: list[tuple[Any, str]]) -> None:
    shown = [*shown, (None, "null")] * 100
    for form, lines in [
        ("jsonl", [f'{{"n": {text}}}' for _, text in shown]),
        ("csv", ["n", *(text.replace("null", "") for _, text in shown)]),
    ]:
        file = io.BytesIO()
        open_sink(form, file, Table("t", (Column("n", kind),))).write([[cell] for cell, _ in shown])
        assert file.getvalue().decode().splitlines() == lines


def test_head_of_a_csv_is_guarded_too(tmp_path: Path) -> None:
    write_all(tmp_path, [page_of({"field_name": "=1+1", "value": "x"})])
    assert b",'=1+1\r\n" in (tmp_path / "documents/Invoice.csv").read_bytes()


@pytest.mark.parametrize(
    "value", ["<r></is></c><c><f>1+1</f></c></r>", "<r><t>x</t></r>", "{=1+1}", "=1+1", "http://x"]
)
def test_cell_of_a_workbook_is_a_text_whatever_it_looks_like(tmp_path: Path, value: str) -> None:
    write_all(tmp_path, [page_of({"field_name": value, "value": value})])
    check_tables(tmp_path)
    for name in ("fields", "documents/Invoice"):
        book = openpyxl.load_workbook(tmp_path / f"{name}.xlsx")
        assert all(cell.hyperlink is None and cell.data_type != "f" for row in book.active for cell in row)
        assert value in [cell.value for row in book.active for cell in row]


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**63)])
def test_whole_number_of_a_workbook_is_the_same_however_large(tmp_path: Path, number: int) -> None:
    table = Table("t", (Column("n", "integer"),))
    with (tmp_path / "t.xlsx").open("wb") as file:
        sink = open_sink("xlsx", file, table)
        sink.write([(number,)])
        sink.close()
    assert str(read_xlsx(tmp_path / "t.xlsx")[1][0][0]) == str(number)


def test_text_too_long_for_a_cell_is_refused_by_name_and_the_others_are_written(tmp_path: Path) -> None:
    pages = [page_of({"field_name": "text", "value": "x" * 32_768}, {"field_name": "emoji", "value": "😀" * 16_000})]
    refused = write_all(tmp_path, pages)
    assert [error.message.split(":")[0] for error in refused] == ["fields.xlsx", "documents/Invoice.xlsx"]
    assert {error.hint for error in refused} == {"use parquet"}
    what = "has 32768 characters, a cell holds 32767"
    assert refused[0].message.endswith(f"a text of in/a.pdf, document 0, field text, value (row 2, column 9) {what}")
    assert refused[1].message.endswith(f"a text of in/a.pdf, document 0, field text (row 2, column 13) {what}")
    assert list_tables(tmp_path, "xlsx") == []
    check_tables(tmp_path, {"fields.xlsx", "documents/Invoice.xlsx"})


@pytest.mark.slow
def test_table_of_too_many_columns_is_refused_by_name_and_the_others_are_written(tmp_path: Path) -> None:
    fields = [{"field_name": f"field_{number}", "value": "1"} for number in range(16_384 - 11 + 1)]
    with made_results(tmp_path, [page_of(*fields)]) as found:
        refused = update_tables(found, ("csv", "xlsx"))
    assert [error.message for error in refused] == [
        "documents/Invoice.xlsx: would have 16385 columns, a workbook holds 16384"
    ]
    assert (list_tables(tmp_path, "xlsx"), list_tables(tmp_path, "csv")) == (
        ["fields"],
        ["documents/Invoice", "fields"],
    )


def test_table_of_too_many_rows_is_refused_by_name_before_a_row_is_written() -> None:
    open_sink("xlsx", io.BytesIO(), Table("fields", FIELDS, 1_048_575)).drop()
    message = "^fields.xlsx: would have 1048576 rows, a workbook holds 1048575$"
    with pytest.raises(ResultsError, match=message) as refused:
        open_sink("xlsx", io.BytesIO(), Table("fields", FIELDS, 1_048_576))
    assert refused.value.hint == "use parquet"
