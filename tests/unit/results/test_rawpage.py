"""A raw page is read a file at a time, and says the same as when it is read as a whole."""

import gc
import json
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.aihub.schemas import Unreadable, parse_results
from aihub_runner.results.rawpage import RawPage

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PAGE = st.dictionaries(st.sampled_from(["id", "keys", "case_info", "more"]) | st.text(), VALUE, max_size=3)


@given(PAGE, st.lists(VALUE, max_size=4), st.sampled_from([None, 0, 2]), st.booleans(), st.randoms())
def test_file_of_a_page_is_what_the_whole_page_has(
    page: dict[str, Any], files: list[Any], indent: int | None, ascii_only: bool, chance: Any
) -> None:
    page.pop("files", None)
    members = [*page.items(), ("files", files)]
    chance.shuffle(members)
    raw = RawPage(" \n" + json.dumps(dict(members), indent=indent, ensure_ascii=ascii_only))
    positions = list(range(len(files))) * 2
    chance.shuffle(positions)
    assert [raw.file(position) for position in positions] == [files[position] for position in positions]
    assert raw.member("case_info") == page.get("case_info")
    with pytest.raises(IndexError):
        raw.file(len(files))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"files": null}', '{"files": [{}', '{"id" 1}', '{"files": [1 2]}', "x"]
)
def test_page_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        RawPage(text).file(1)


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
        page = RawPage('{"files": [1, 2, 3]}')
        page.file(1)
        left = weakref.ref(page)
        del page
        assert left() is None
    finally:
        gc.enable()
