"""The positions of bars in plots."""

from __future__ import annotations

import pytest

from aihub_runner.report.svg import draw_counts, draw_histogram, draw_timeline, ticks


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, [0]), (1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (7, [0, 2, 4, 6]), (250, [0, 50, 100, 150, 200, 250])],
)
def test_ticks_are_few_and_round(most: float, expected: list[float]) -> None:
    assert ticks(most) == pytest.approx(expected)


def test_timeline_begins_each_bar_where_the_one_before_ends() -> None:
    drawing = draw_timeline("title", ["a", "b"], [[0, 1, 2], [2, 0, 2]], ["run", "fetch"])
    assert [bar[:2] for bar in drawing.bars] == [("run", 80), ("fetch", 295), ("fetch", 510)]
    assert [bar[1] + bar[3] for bar in drawing.bars] == [295, 725, 940]
    assert drawing.bars[1][2] < drawing.bars[2][2]


def test_timeline_of_no_time_at_all_has_no_bars() -> None:
    assert draw_timeline("title", ["a"], [[0, 0]], ["run"]).bars == []


def test_histogram_scales_to_the_fullest_bin() -> None:
    drawing = draw_histogram("title", [0, 2, 4])
    low, high = (bar[4] for bar in drawing.bars)
    assert high == 2 * low
    assert draw_histogram("title", [0, 0]).bars == []


def test_counts_are_as_long_as_they_are_large() -> None:
    drawing = draw_counts("title", [("a", 8), ("b", 2), ("c", 0)])
    assert [bar[3] for bar in drawing.bars] == [640, 160, 1]
    assert [text[3] for text in drawing.texts] == ["a", "8", "b", "2", "c", "0"]
