"""Tables hold what the raw pages say: in every format the same, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from aihub_runner.errors import ResultsError
from aihub_runner.results.documents import read_documents, update_documents
from aihub_runner.results.folder import update_tables
from aihub_runner.results.naming import fold_name, name_classes, parse_names
from aihub_runner.results.reader import find_results
from aihub_runner.results.tables import FIELDS, Column, Shape, Table, field_names, form_of, survey
from aihub_runner.results.writers.formats import guard, open_sink, unguard
from aihub_runner.state.store import State
from aihub_runner.text.jsontext import as_unicode
from support.made import goal, made_results, record_run, scan_of

GOLDEN = Path(__file__).parents[2] / "golden"
FORMATS = ("jsonl", "csv", "xlsx", "parquet")
Rows = list[tuple[Any, ...]]


def golden_pages() -> list[Any]:
    return [json.loads((GOLDEN / "raw" / name).read_text(encoding="utf-8")) for name in ("0.json", "2.json")]


def write_all(folder: Path, *runs: list[Any], include: str = "plain") -> list[ResultsError]:
    """Write documents.jsonl and every table in every format, and give what could not be."""
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
    """Compare every table in every format with its form in jsonl."""
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
    """Compare the long table with the documents that it is made of."""
    expected = [
        (document["path"], document["document_index"], index, one["name"], one["value"])
        for document in read_documents(folder / "documents.jsonl")
        for index, one in enumerate(document["fields"])
    ]
    _, rows = read_jsonl(folder / "fields.jsonl")
    names = [column.name for column in FIELDS]
    places = [names.index(name) for name in ("path", "document_index", "field_index", "field", "value")]
    assert [tuple(row[place] for place in places) for row in rows] == expected


# Golden files


def test_tables_of_every_documented_property_are_as_kept(tmp_path: Path) -> None:
    assert write_all(tmp_path, golden_pages(), include="confidence+review+source+validation") == []
    kept = GOLDEN / "expected"
    names = [
        "documents.jsonl",
        *(f"{name}.{ending}" for ending in ("jsonl", "csv") for name in list_tables(kept, "csv")),
    ]
    for name in names:
        assert (tmp_path / name).read_bytes() == (kept / name).read_bytes(), name
    assert list_tables(tmp_path, "csv") == list_tables(kept, "csv")
    check_tables(tmp_path)
    check_fields(tmp_path)


def test_line_of_json_is_one_line_whoever_reads_it(tmp_path: Path) -> None:
    write_all(tmp_path, [page_of({"field_name": "a", "value": "1\x852\u20283\u20294\n5\r6\x0c7"})])
    for name in ("documents.jsonl", "fields.jsonl", "documents/Invoice.jsonl"):
        assert len((tmp_path / name).read_text(encoding="utf-8").splitlines()) == 1
    check_tables(tmp_path)
    check_fields(tmp_path)


def test_tables_are_the_same_bytes_when_written_again(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_all(folder, golden_pages())
    for path in (tmp_path / "one").rglob("*.*"):
        if path.is_file() and path.suffix != ".db":
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


# Whatever the description allows

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
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
NAME = st.sampled_from(["total", "Total", "path", "class", "item", "_3rd_category", ""]) | TEXT
CLASS = st.sampled_from([None, "Invoice", "invoice", "..", "/etc/passwd", "a" * 300, "CON", "unclassified"]) | TEXT


def objects(**properties: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects of which any property may be missing or null."""
    return st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in properties.items()})


EDITS = st.lists(
    objects(timestamp=TEXT, user_id=TEXT, modifications=st.lists(objects(message=TEXT), max_size=1)), max_size=2
)
BOX = objects(top_x=NUMBER, top_y=NUMBER, bottom_x=NUMBER, bottom_y=NUMBER, page_number=st.integers(0, 9))
ALERT = objects(alert_level=TEXT, msg=TEXT, blocked=st.booleans(), type=TEXT, locations=st.lists(objects(), max_size=1))
FIELD = objects(
    field_name=NAME,
    value=TEXT,
    type=TEXT,
    error_msg=TEXT,
    source_coordinates=st.lists(BOX, max_size=2),
    edit_history=EDITS,
    confidence=objects(model=NUMBER, ocr=NUMBER),
    validations=objects(valid=st.booleans(), alerts=st.lists(ALERT, max_size=2)),
)
DOCUMENT = objects(
    fields=st.lists(FIELD, max_size=4),
    review_completed=st.booleans(),
    class_name=CLASS,
    page_numbers=st.lists(st.integers(0, 2**70), max_size=3),
    page_layouts=st.lists(objects(page_number=st.integers(), width=NUMBER, height=NUMBER), max_size=1),
    post_processed_paths=st.lists(TEXT, max_size=1),
    post_processed_pdf_path=TEXT,
    class_edit_history=EDITS,
    validations=objects(final_result_pass=st.booleans()),
    classification_confidence=objects(model=NUMBER),
)
CHOICE = objects(record_index=st.integers(), refined_phrase_name=TEXT)
CASE = objects(
    name=NAME,
    value=TEXT,
    input_fields=st.lists(CHOICE, max_size=2),
    chosen_field=CHOICE,
    error_msg=TEXT,
    edit_history=EDITS,
    validations=objects(valid=st.booleans(), failures=st.lists(objects(type=TEXT, msg=TEXT), max_size=1)),
)
DOCUMENTS = st.lists(DOCUMENT, max_size=4) | st.lists(DOCUMENT, min_size=1, max_size=1).map(lambda one: one * 100)


@st.composite
def run_pages(draw: st.DrawFn) -> list[Any]:
    """Draw the pages of a run; names of files are told apart by their number."""
    counts = draw(st.lists(st.integers(1, 3), max_size=2)) or [0]
    pages = []
    for page, count in enumerate(counts):
        files = [
            {"original_file_name": f"{page}-{n}.pdf"} | draw(objects(documents=DOCUMENTS, input_file_path=TEXT))
            for n in range(count)
        ]
        pages.append({"files": files} | draw(objects(case_info=objects(fields=st.lists(CASE, max_size=2)))))
    return pages


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(run_pages(), min_size=1, max_size=2))
def test_every_format_holds_whatever_the_description_allows(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[Any]]
) -> None:
    for number, pages in enumerate(runs):  # a file lies in one run
        for file in (file for page in pages for file in page["files"]):
            file["original_file_name"] = f"{number}-{file['original_file_name']}"
    folder = tmp_path_factory.mktemp("results")
    assert write_all(folder, *runs) == []
    check_tables(folder)
    check_fields(folder)
    assert {path.parent for path in folder.rglob("*.csv")} <= {folder, folder / "documents"}
    assert list(folder.rglob("*.tmp")) == []


# Nothing dangerous


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


def page_of(*fields: dict[str, Any], name: str | None = "Invoice") -> dict[str, Any]:
    return {"files": [{"original_file_name": "a.pdf", "documents": [{"class_name": name, "fields": list(fields)}]}]}


@given(st.lists(st.text(alphabet="aé=+-'\" ,\r\n\t1.\u2028\uff1d\ud800") | st.none(), min_size=2, max_size=4))
def test_line_of_a_csv_is_what_the_standard_library_writes(cells: list[str | None]) -> None:
    ours, theirs = io.BytesIO(), io.StringIO()
    sink = open_sink("csv", ours, Table("t", tuple(Column(f"c{n}", "text") for n in range(len(cells)))))
    sink.write([cells])
    writer = csv.writer(theirs, lineterminator="\r\n")
    writer.writerow([f"c{n}" for n in range(len(cells))])
    writer.writerow([cell and guard(as_unicode(cell)) for cell in cells])
    assert ours.getvalue().decode() == theirs.getvalue()


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


HOSTILE = [
    *(
        "",
        ".",
        "..",
        "...",
        "../../x",
        "/etc/passwd",
        "C:\\x",
        "a/b",
        "a\\b",
        "a\x00b",
        "\x1b[31m",
        "\ud800",
        "-rf",
        ".git",
    ),
    *(
        "CON",
        "con.txt",
        "NUL",
        "Lpt1",
        "COM9.csv",
        "x" * 300,
        "ä",
        "a b",
        "a.",
        "Unclassified",
        "~",
        "$HOME",
        "\u202egpj",
    ),
]


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**63)])
def test_whole_number_of_a_workbook_is_the_same_however_large(tmp_path: Path, number: int) -> None:
    table = Table("t", (Column("n", "integer"),))
    with (tmp_path / "t.xlsx").open("wb") as file:
        sink = open_sink("xlsx", file, table)
        sink.write([(number,)])
        sink.close()
    assert str(read_xlsx(tmp_path / "t.xlsx")[1][0][0]) == str(number)


def test_names_of_classes_stay_in_their_folder_and_apart(tmp_path: Path) -> None:
    names: list[str | None] = [*HOSTILE, "Invoice", "invoice", "Total", None, "a" * 300, "a" * 301]
    files = name_classes(names)
    assert len({file.casefold() for file in files.values()}) == len(names)
    for file in files.values():
        path = tmp_path / "documents" / f"{file}.parquet"
        assert path.resolve().parent == (tmp_path / "documents").resolve()
        assert len(f".{path.name}.1234567890.tmp") <= 255
        assert file.isascii()
        assert not file.startswith((".", "-"))
        assert file.split(".")[0].upper() not in {"CON", "NUL", "LPT1", "COM9"}
    assert (files["Total"], files[None]) == ("Total", "unclassified")


def test_hostile_classes_are_written_inside_and_for_their_owner_only(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "results"
    documents = [{"class_name": name, "fields": [{"field_name": name, "value": name}]} for name in HOSTILE]
    assert write_all(inside, [{"files": [{"original_file_name": "a.pdf", "documents": documents}]}]) == []
    check_tables(inside)
    assert len(list_tables(inside, "csv")) == 1 + len(HOSTILE)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["results"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    made = [path for path in inside.rglob("*") if "raw" not in path.parts]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}


def test_properties_of_the_service_never_take_the_place_of_ours(tmp_path: Path) -> None:
    page = page_of({"field_name": "total", "value": "1", "name": "x", "error": "y"})
    page["files"][0]["documents"][0] |= {"path": "../../x", "run_id": "x", "present": False, "sha256": "x"}
    write_all(tmp_path, [page])
    [document] = read_documents(tmp_path / "documents.jsonl")
    assert (document["path"], document["run_id"], document["present"]) == ("in/a.pdf", "run-1", True)
    assert document["fields"] == [{"name": "total", "value": "1", "type": None, "error": None}]


@pytest.mark.parametrize("case_info", [None, [], "x", {"fields": None}, {"fields": "x"}, {"fields": [None, 1]}, {}])
def test_packet_that_is_none_has_no_table(tmp_path: Path, case_info: Any) -> None:
    assert write_all(tmp_path, [page_of() | {"case_info": case_info}]) == []
    assert list_tables(tmp_path, "csv") == ["documents/Invoice", "fields"]


# What a workbook cannot hold


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


# Columns

DOCUMENT_OF = {"path": "p", "present": True, "run_id": "r", "document_index": 0, "class": None, "pages": []}


def test_columns_of_fields_are_in_order_of_their_names_and_every_one_its_own() -> None:
    shape = Shape()
    names = ["b", "a", "b", "Path", "b_2", "", "B"]
    fields = [{"name": name, "value": str(place), "error": None} for place, name in enumerate(names)]
    document = DOCUMENT_OF | {"fields": fields}
    shape.add(field_names(document))
    columns = [column.name for column in shape.columns()][11:]
    assert columns == ["B_4", "Path_2", "a", "b", "b_3", "b_2", "unnamed"]
    assert dict(zip(columns, shape.row(document)[11:], strict=True)) == {
        **{"B_4": "6", "a": "1", "b": "0", "b_3": "2", "b_2": "4", "Path_2": "3", "unnamed": "5"}
    }


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


ALIKE = [
    ["total", "Total", "TOTAL", "total"],
    ["Straße", "STRASSE", "strasse"],
    ["caf\u00e9", "cafe\u0301", "CAFE\u0301"],
    ["total", "total", "total_2", "Total_2", "TOTAL_3"],
    ["Class", "PATH", "path", "Errors", "class"],
    ["\ud800", "\ud801", "\ufffd"],
    ["\u0130", "i\u0307", "I\u0307"],
]


@pytest.mark.parametrize("names", ALIKE, ids=ascii)
def test_columns_are_told_apart_by_readers_that_pass_over_case(tmp_path: Path, names: list[str]) -> None:
    assert write_all(tmp_path, [documents_of(names)]) == []
    check_tables(tmp_path)
    head, [row] = read_jsonl(tmp_path / "documents/Invoice.jsonl")
    columns = head[11:]
    assert len({fold_name(column) for column in head}) == len(head)
    assert sorted(row[11:]) == sorted(as_unicode(name) for name in names)
    if names[0] not in ("Class",):
        assert as_unicode(names[0]) in columns  # the one that was seen first
    found_head, [found] = read_duckdb(tmp_path / "documents/Invoice.parquet")
    assert (found_head, found[11:]) == (head, row[11:])  # duckdb has not renamed a thing
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE t (" + ", ".join('"' + name.replace('"', '""') + '"' for name in head) + ")")


@given(st.lists(NAME, max_size=8), st.lists(NAME, max_size=8))
def test_columns_keep_their_names_whatever_comes_later(before: list[str], later: list[str]) -> None:
    def lay_out(names: list[str], known: str) -> Any:
        fields = [{"name": name, "value": "", "error": None} for name in names]
        return survey({form_of([DOCUMENT_OF | {"fields": fields}]): 1}, 0, parse_names(known))

    first = lay_out(before, "").names()
    second = lay_out([*later, *before], first.as_text()).names()
    assert first.classes[None].items() <= second.classes[None].items()
    assert first.whole.items() <= second.whole.items()
    folded = [fold_name(label) for label in second.classes[None].values()]
    assert len(set(folded)) == len(folded)


def test_column_seen_first_keeps_its_name_at_later_applies(tmp_path: Path) -> None:
    with made_results(tmp_path, [documents_of(["total", "total"])]) as found:
        update_tables(found, FORMATS)
    with closing(State(tmp_path / "job.state.db")) as state:
        state.record_lease("lease", "root")
        pages = [json.dumps(documents_of(["Total", "total_2", "total"], ["TOTAL"])).replace('.pdf"', 'b.pdf"').encode()]
        members = record_run(state, tmp_path, "run-0", pages, number=2)
        every = scan_of([*members, *state.load_shards()[0].members])
        for formats in (FORMATS, ("csv",), FORMATS):
            update_tables(find_results(state, state.load_shards(), every, goal(), tmp_path), formats)
    head, rows = read_jsonl(tmp_path / "documents/Invoice.jsonl")
    check_tables(tmp_path)
    by_name = {row[head.index("path")]: dict(zip(head[11:], row[11:], strict=True)) for row in rows}
    none = dict.fromkeys(head[11:])
    assert by_name == {
        "in/0.pdf": none | {"total": "total", "total_2": "total"},
        "in/0b.pdf": none | {"total": "total", "Total_3": "Total", "total_2_2": "total_2"},
        "in/1b.pdf": none | {"TOTAL_4": "TOTAL"},
    }


def test_page_that_is_gone_leaves_the_tables_as_they_were(tmp_path: Path) -> None:
    with made_results(tmp_path, golden_pages()) as found:
        update_tables(found, FORMATS)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix[1:] in FORMATS}
        next(tmp_path.rglob("2.json")).unlink()
        with pytest.raises(ResultsError, match="is missing or damaged"):
            update_tables(found, FORMATS, again=True)
    assert {path: path.read_bytes() for path in before} == before
    assert list(tmp_path.rglob("*.tmp")) == []
