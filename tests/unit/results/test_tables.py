"""Tables of results: every format has the same rows, and nothing is written outside the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aihub_runner.errors import ResultsError
from aihub_runner.results.documents import read_documents
from aihub_runner.results.folder import update_tables
from aihub_runner.results.naming import name_classes
from support.made import made_results
from support.tables import (
    FORMATS,
    NAME,
    TEXT,
    check_fields,
    check_tables,
    list_tables,
    page_of,
    write_all,
)

GOLDEN = Path(__file__).parents[2] / "golden"


def golden_pages() -> list[Any]:
    return [json.loads((GOLDEN / "raw" / name).read_text(encoding="utf-8")) for name in ("0.json", "2.json")]


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
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
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
    """Draw the pages of a run. File names differ by their number."""
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
@pytest.mark.slow
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


# Hostile names

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


@pytest.mark.slow
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


def test_page_that_is_gone_leaves_the_tables_as_they_were(tmp_path: Path) -> None:
    with made_results(tmp_path, golden_pages()) as found:
        update_tables(found, FORMATS)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix[1:] in FORMATS}
        next(tmp_path.rglob("2.json")).unlink()
        with pytest.raises(ResultsError, match="is missing or damaged"):
            update_tables(found, FORMATS, again=True)
    assert {path: path.read_bytes() for path in before} == before
    assert list(tmp_path.rglob("*.tmp")) == []
