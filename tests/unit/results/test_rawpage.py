"""Reading a raw page file by file returns the same as reading it whole."""

import gc
import json
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aihub_runner.aihub.schemas import Unreadable, parse_results
from aihub_runner.results.rawpage import RawPage
from aihub_runner.results.reader import find_results
from aihub_runner.results.record import Record, as_record
from aihub_runner.text.jsontext import read_json, render_json, render_quickly
from support.made import goal, open_state, record_run, scan_of

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PAGE = st.dictionaries(st.sampled_from(["id", "keys", "case_info", "more"]) | st.text(), VALUE, max_size=3)


@given(PAGE, st.lists(VALUE, max_size=4), st.sampled_from([None, 0, 2]), st.booleans(), st.randoms())
@pytest.mark.slow
def test_file_of_a_page_is_what_the_whole_page_has(
    page: dict[str, Any], files: list[Any], indent: int | None, ascii_only: bool, chance: Any
) -> None:
    page.pop("files", None)
    members = [*page.items(), ("files", files)]
    chance.shuffle(members)
    text = " \n" + json.dumps(dict(members), indent=indent, ensure_ascii=ascii_only)
    raw, whole = RawPage(text.encode()), read_json(text.encode())
    positions = list(range(len(files))) * 2
    chance.shuffle(positions)
    assert [raw.file(position) for position in positions] == [whole["files"][position] for position in positions]
    assert raw.member("case_info") == whole.get("case_info")
    with pytest.raises(IndexError):
        raw.file(len(files))


# Values that parsers and writers treat differently.
ODD = [
    *("-0", "-0.0", "-0e5", "1E5", "1e-07", "1e400", "1.10", "12345678901234567890123", "9" * 4001, "9" * 4400),
    *("NaN", "-Infinity", r'"\ud800"', r'"\ud83d\ude00"', r'"\udc00\ud83d"', '"\ud800"', r'"\/\u0000\u001f"'),
    *('"\x7f\x85\u2028"', '"05-0, -0"', '{"a": 1, "b": 2, "a": -0}', '{"\ud800": 1}', "[" * 600 + "]" * 600, "{ }"),
]
PLAIN = st.floats().map(json.dumps) | st.integers().map(str) | st.text().map(json.dumps)


def check_values(values: list[str], encoding: str = "utf-8") -> None:
    """Check that values are read and written as the standard library does."""
    files = ", ".join(f'{{"documents": [{value}]}}' for value in values)
    content = f'{{"files": [{files}]}}'.encode(encoding, "surrogatepass")
    raw, whole = RawPage(content), read_json(content)
    found = [raw.file(position) for position in range(len(values))]
    assert repr(found) == repr(whole["files"])
    assert [*map(render_quickly, found)] == [render_json(file).encode() for file in whole["files"]]


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value[:20]))
def test_odd_value_is_read_and_written_as_by_the_standard_library(value: str) -> None:
    check_values(["1", value])


@given(st.lists(st.sampled_from(ODD) | PLAIN, max_size=4), st.sampled_from(["utf-8-sig", "utf-16", "utf-32-le"]))
def test_any_values_are_read_and_written_as_by_the_standard_library(values: list[str], encoding: str) -> None:
    check_values(values)
    check_values(values, encoding)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"files": null}', '{"files": [{}', '{"id" 1}', '{"files": [1 2]}', "x"]
)
def test_page_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        RawPage(text.encode()).file(1)


def test_page_with_a_lone_surrogate_is_read() -> None:
    documents = rb'[{"fields": [{"value": "\ud800"}]}]'
    body = rb'{"files": [{"original_file_name": "a", "documents": %b}], "has_more": false}' % documents
    [file] = parse_results(body, "results").files or []
    assert file.original_file_name == "a"
    with pytest.raises(Unreadable):
        parse_results(body[:-1], "results")


def test_page_that_is_let_go_is_gone_at_once() -> None:
    gc.disable()
    try:
        page = RawPage(b'{"files": [1, 2, 3]}')
        page.file(1)
        left = weakref.ref(page)
        del page
        assert left() is None
    finally:
        gc.enable()


# Members of a file with values that tables expect, or that only the slower way reads.
MEMBERS = [
    '"fields": null',
    '"fields": [{}, {"field_name": null, "value": {"b": 1.10}, "type": 7, "error_msg": ""}], "class_name": 3',
    '"fields": [{"name": "not it", "error": "nor that", "field_name": "a", "value": 1e400}]',
    '"fields": [{"value": "1", "value": "2", "field_name": "a", "confidence": 1, "confidence": {"model": 1.50}}]',
    '"fields": [{"confidence": {"model": 1, "model": 0.5, "ocr": 1e308}}, {"confidence": {"ocr": -0.0}}]',
    '"fields": [{"confidence": null}, {"confidence": "high"}], "page_numbers": [1, true, 2.0, 99999999999999999999]',
    '"fields": [{"value": -0}, {"value": 99999999999999999999999}, {"value": 0.10}]',
    r'"fields": [{"value": "\ud800"}, {"value": NaN}], "more": "\ud800"',
    '"fields": [{"validations": {"valid": true, "alerts": [{"a": 1E5}]}, "edit_history": [{"user_id": 1}]}]',
    '"fields": [{"source_coordinates": [{"x": 0.10, "y": -0}]}], "path": "not ours", "cells": 1, "present": 2',
    '"fields": [{"field_name": "a"}], "fields": [{"field_name": "b"}], "review_completed": true, "page_numbers": 5',
    '"classification_confidence": {"model": 0.90}, "validations": {"final_result_pass": false}',
]


def test_tables_take_from_a_page_what_the_documents_of_it_hold(tmp_path: Path) -> None:
    pages = [
        f'{{"files": [{{"original_file_name": "{number}.pdf", "documents": [{{{members}}}, {{}}]}}]}}'.encode()
        for number, members in enumerate(MEMBERS)
    ]
    with closing(open_state(tmp_path)) as state:
        members = record_run(state, tmp_path, "run-1", pages)
        found = find_results(state, state.load_shards(), scan_of(members), goal(), tmp_path)
        read, read_records = found.reader(), found.record_reader()
        for choice in found.chosen:
            documents = [*map(as_record, read(choice))]
            assert [*map(show, read_records(choice))] == [*map(show, documents)]


def show(record: Record) -> str:
    return repr(replace(record, fields=record.fields or [], page_numbers=None))  # they are in `cells`
