"""Verdicts come back as they were given, whatever their numbers are."""

from __future__ import annotations

from aihub_runner.model import SkippedFile, Stat
from aihub_runner.sources.judged import Judged

ITEMS = [
    ("a.pdf", Stat(1, -2, 3, 4)),
    ("b.pdf", SkippedFile("b.pdf", "empty")),
    ("c.pdf", Stat(5, 6, 7, (1 << 63) + 8)),
    ("d.pdf", None),
    ("e.pdf", Stat(9, 10, 11, 12)),
]


def test_verdicts_stay_as_they_are_in_order() -> None:
    judged = Judged(ITEMS)
    assert list(judged) == [judged[place] for place in range(len(judged))] == ITEMS
    assert [path for path, *_ in judged.rows()] == [path for path, _ in ITEMS]
    assert list(judged.only_files()) == [ITEMS[0], ITEMS[2], ITEMS[4]]


def test_rows_of_plain_files_have_their_stats() -> None:
    judged = Judged([ITEMS[0], ITEMS[4]])
    assert list(judged.rows()) == [("a.pdf", 1, -2, 3, 4), ("e.pdf", 9, 10, 11, 12)]
    assert judged.is_plain
    judged.clear()
    assert (len(judged), list(judged)) == (0, [])
