"""The JSON that we write is strictly valid, and numbers keep their spelling."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.aihub.schemas import parse_results
from aihub_runner.files import digest_file
from aihub_runner.results.documents import read_documents, update_documents
from aihub_runner.results.folder import update_tables
from aihub_runner.results.reader import find_results
from aihub_runner.results.writers.sink import as_line
from aihub_runner.text.jsontext import READER, Numeral, render_json, settle
from support.made import goal, open_state, record_run, scan_of

NUMBERS = [
    *("1.10", "12345678901234567.89", "-0", "-0.0", "0", "1", "-17", "1e5", "1E400", "1.0", "100.00", "0.1e-7"),
    *("9" * 30, "1" * 5000, "0." + "3" * 60, "5e-324", "-1.50"),
]


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def loads(text: str | bytes) -> Any:
    """Read JSON by the letter, numbers as their texts."""
    text = text.decode() if isinstance(text, bytes) else text
    assert not any("\ud800" <= char <= "\udfff" for char in text)
    return json.loads(text, parse_constant=refuse, parse_float=str, parse_int=str)


@pytest.mark.parametrize("text", NUMBERS)
def test_number_is_written_as_it_came(text: str) -> None:
    value = READER.decode(f'{{"a": [{text}]}}')
    for indent in (None, 2):
        assert loads(render_json(value, indent=indent)) == {"a": [text]}


@given(st.decimals(allow_nan=False, allow_infinity=False).map(str) | st.integers().map(str))
def test_any_number_is_written_as_it_came(text: str) -> None:
    assert render_json(READER.decode(text)) == text


@pytest.mark.parametrize("only_ascii", [False, True])
def test_no_numbers_are_null_and_lone_surrogates_are_replaced_wherever_they_come_from(only_ascii: bool) -> None:
    read = READER.decode('[NaN, Infinity, -Infinity, "\\ud800", "\\ud83d\\ude00"]')
    ours = [float("nan"), (float("inf"),), {"a": float("-inf"), "b\udcff": 1}]
    text = render_json([*read, *ours], only_ascii=only_ascii)
    assert loads(text) == [None, None, None, "\ufffd", "😀", None, [None], {"a": None, "b\ufffd": "1"}]
    assert text.isascii() == only_ascii


@pytest.mark.parametrize("value", ["\ue000", "\ue0000123:1.5", '"', "NaN", "Infinity", "\\ud800"])
def test_text_that_looks_like_a_number_stays_a_text(value: str) -> None:
    assert loads(render_json([value, Numeral("1.10")])) == [value, "1.10"]


def test_what_is_no_json_is_taken_out_and_told_by_its_place() -> None:
    value = READER.decode('{"a": [{"b": NaN}, "x\\udfff", 1.10], "\\ud800": {"c": -Infinity}, "\\ud801": 1}')
    told = list(settle(value))
    assert value == {"a": [{"b": None}, "x\ufffd", Numeral("1.10")], "\ufffd": {"c": None}, "\ufffd_2": 1}
    assert (("a", 0, "b"), "NaN") in told
    assert (("a", 1), "a lone surrogate") in told
    assert (("\ufffd", "c"), "-Infinity") in told
    assert list(settle(value)) == []


PAGE = rb"""{"files": [{"original_file_name": "gone.pdf"}], "files": [{"original_file_name": "a.pdf", "documents": [
 {"class_name": "x", "class_name": "Invoice", "page_numbers": [0], "quality": 1.10, "big": 12345678901234567.89,
  "fields": [
   {"field_name": "total", "value": "1", "confidence": {"model": 0.950, "ocr": NaN}},
   {"field_name": "note\ud800", "value": NaN, "value": Infinity},
   {"field_name": "weight", "value": 2.500, "source_coordinates": [{"top_x": 1.10, "top_y": -Infinity}]},
   {"field_name": "huge", "value": LONG}
  ]}]}], "case_info": {"fields": [{"name": "sum", "value": 7.0, "chosen_field": {"record_index": 0}},
                                  {"name": "odd", "value": NaN}]}, "has_more": false}""".replace(b"LONG", b"9" * 5000)


def test_page_of_odd_numbers_and_names_is_read_and_written_by_the_letter(tmp_path: Path) -> None:
    [file] = parse_results(PAGE, "results").files or []
    assert file.original_file_name == "a.pdf"
    plain = json.dumps({"files": [{"original_file_name": "a.pdf", "documents": [{}]}]}).encode()
    state = open_state(tmp_path)
    members = record_run(state, tmp_path, "run-1", [plain])
    page = tmp_path / "raw/run-1/plain/0.json"
    page.write_bytes(PAGE)
    state.write("UPDATE pages SET digest = ?", digest_file(page))
    found = find_results(state, state.load_shards(), scan_of(members), goal(), tmp_path)
    update_documents(found)
    assert update_tables(found, ("jsonl", "csv", "xlsx", "parquet")) == []
    warnings = state.load_warnings()
    state.close()

    line = (tmp_path / "documents.jsonl").read_bytes()
    document = loads(line)
    assert (document["class"], document["quality"], document["big"]) == ("Invoice", "1.10", "12345678901234567.89")
    total, note, weight, huge = document["fields"]
    assert total["confidence"] == {"model": "0.950", "ocr": None}
    assert (note["name"], note["value"]) == ("note\ufffd", None)
    assert (weight["value"], weight["source_coordinates"]) == ("2.500", [{"top_x": "1.10", "top_y": None}])
    assert huge["value"] == "9" * 5000
    [read] = read_documents(tmp_path / "documents.jsonl")
    assert read["fields"][3]["value"] == 10**5000 - 1
    assert [*map(as_line, read_documents(tmp_path / "documents.jsonl", as_written=True))] == [line]
    rows = [loads(row) for row in (tmp_path / "fields.jsonl").read_bytes().splitlines()]
    assert [row["value"] for row in rows] == ["1", None, "2.500", "9" * 5000]
    assert (rows[0]["confidence_model"], rows[0]["confidence_ocr"]) == ("0.950", None)
    assert ",0.950," in (tmp_path / "fields.csv").read_text()
    assert [loads(row)["value"] for row in (tmp_path / "cases.jsonl").read_bytes().splitlines()] == ["7.0", None]
    for name in ("documents", "fields", "cases"):
        assert duckdb.execute(f"SELECT count(*) FROM read_json('{tmp_path}/{name}.jsonl')").fetchone() != (0,)
    [share] = duckdb.execute(f"SELECT confidence_model FROM '{tmp_path}/fields.parquet'").fetchall()[0]
    assert share == 0.95

    assert "in/a.pdf, document 0, field total, confidence.ocr: NaN is invalid JSON, replaced by null" in warnings
    assert any(text.startswith("in/a.pdf, document 0, field note") and "Infinity" in text for text in warnings)
    assert any("field weight, source_coordinates.0.top_y: -Infinity" in text for text in warnings)
    assert any(text.startswith("run run-1, field odd, value: NaN") for text in warnings)
    assert len(warnings) == 5
