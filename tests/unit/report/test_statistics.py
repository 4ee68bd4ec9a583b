"""What is counted in documents, and that a page of them is limited in size."""

from __future__ import annotations

from typing import Any

import pytest

from aihub_runner.report.html import Table, size_of
from aihub_runner.report.statistics import DOCUMENTS_BYTES, OTHERS, ROWS_BYTES, take_census


def document(*fields: dict[str, Any], path: str = "in/a.txt", kind: str | None = "Invoice") -> dict[str, Any]:
    known = {"path": path, "present": True, "run_id": "run", "document_index": 0, "class": kind, "pages": [1]}
    return known | {"fields": list(fields)}


def field(name: Any, confidence: Any = None, error: Any = None, value: Any = "x") -> dict[str, Any]:
    return {"name": name, "value": value, "type": "TEXT", "error": error, "confidence": {"model": confidence}}


def test_census_counts_classes_fields_and_what_needs_review() -> None:
    documents = [document(field("total", 1.0), field("date", 0.79996)), document(field("total", 0.8), kind=None)]
    census = take_census([*documents, document(field("total", error="none"))], 0.8)
    assert {name: counts.documents for name, counts in census.classes.items()} == {"Invoice": 2, "(none)": 1}
    total = census.fields["total"]
    assert (total.documents, total.failed, total.below, total.lowest, total.bins[8:]) == (3, 1, 0, 0.8, [1, 1])
    assert census.needs_review == 2
    assert [row[6] for row in census.rows] == [0.79996, 0.8, None]
    assert [row[3] for row in census.failed] == ["total"]


def test_census_takes_no_confidence_that_is_no_share() -> None:
    for odd in (None, True, "0.9", 7, -0.1, float("nan"), {"a": 1}):
        census = take_census([document(field("total", odd))], 0.8)
        assert not census.has_confidence
    assert take_census([document(field("total") | {"confidence": 0.5})], 0.8).rows[0][6] is None


def test_census_of_names_without_end_counts_the_rest_together() -> None:
    census = take_census([document(*(field(f"name {n}") for n in range(2000)))], 0.8)
    assert len(census.fields) <= 501
    assert census.fields[OTHERS].documents == 1500
    assert sum(counts.documents for counts in census.fields.values()) == 2000


@pytest.mark.slow
def test_census_leaves_out_fields_where_a_page_would_grow_too_large() -> None:
    names = [field(f"{n}" + "<" * 500, 0.9, value="&" * 1_000_000) for n in range(200)]
    look = [field("total", 0.1), *names]
    census = take_census([document(*names), document(*look)] * 40, 0.8)
    assert census.documents == len(census.rows) == 80
    with_fields = [bool(row[-1]) for row in census.rows]
    assert not any(with_fields[::2])  # what needs no review makes room first
    needy = with_fields[1::2]
    assert 0 < needy.index(False) == sum(needy)  # the first of them stay
    assert census.fields_left_out == 80 - sum(needy)
    assert DOCUMENTS_BYTES * 0.95 < size_of(census.rows) < DOCUMENTS_BYTES


@pytest.mark.slow
def test_census_keeps_all_fields_where_all_have_room() -> None:
    shown = [field("total", 0.9, value="x" * 140)] * 5
    census = take_census([document(*shown, path=f"in/{number}.txt") for number in range(10_000)], 0.8)
    assert census.fields_left_out == 0
    assert all(row[-1] for row in census.rows)
    assert size_of(census.rows) > 8_000_000


@pytest.mark.slow
def test_census_counts_names_that_no_two_documents_share() -> None:
    odd = [document(path=f"in/{number}.txt", kind=f"{number}" + "<" * 95) for number in range(30_000)]
    census = take_census(odd, 0.8)
    assert census.rows_left_out > 0
    assert size_of(Table((), census.rows, (2, 7)).as_json()) < ROWS_BYTES[True]
