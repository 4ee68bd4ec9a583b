"""Columns of fields: one for each name, which never changes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.results.folder import update_tables
from aihub_runner.results.naming import fold_name, parse_names
from aihub_runner.results.reader import find_results
from aihub_runner.results.record import as_record
from aihub_runner.results.tables import Shape, field_names, form_of, survey
from aihub_runner.state.store import State
from aihub_runner.text.jsontext import as_unicode
from support.made import goal, made_results, record_run, scan_of
from support.tables import (
    FORMATS,
    NAME,
    check_tables,
    documents_of,
    read_duckdb,
    read_jsonl,
    write_all,
)

DOCUMENT_OF = {"path": "p", "present": True, "run_id": "r", "document_index": 0, "class": None, "pages": []}


def test_columns_of_fields_are_in_order_of_their_names_and_every_one_its_own() -> None:
    shape = Shape()
    names = ["b", "a", "b", "Path", "b_2", "", "B"]
    fields = [{"name": name, "value": str(place), "error": None} for place, name in enumerate(names)]
    document = DOCUMENT_OF | {"fields": fields}
    shape.add(field_names(document))
    columns = [column.name for column in shape.columns()][11:]
    assert columns == ["B_4", "Path_2", "a", "b", "b_3", "b_2", "unnamed"]
    assert dict(zip(columns, shape.row(as_record(document))[11:], strict=True)) == {
        **{"B_4": "6", "a": "1", "b": "0", "b_3": "2", "b_2": "4", "Path_2": "3", "unnamed": "5"}
    }


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
