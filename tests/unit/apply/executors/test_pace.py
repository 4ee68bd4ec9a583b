from __future__ import annotations

from aihub_runner.apply.executors.pace import ClusterPace
from support.scripted import Clock


def test_pace_halves_the_tasks_in_flight_and_lets_more_run_after_full_rounds() -> None:
    clock = Clock()
    pace = ClusterPace(16, clock)
    assert pace.press(8, 2.0) == (0.0, 2.0)
    assert (pace.limit, pace.rests, pace.is_pressed) == (4, True, True)
    clock.now_s += 2.0
    assert not pace.rests
    for _ in range(4):
        pace.succeed()
    assert pace.limit == 5


def test_pace_counts_refusals_of_tasks_in_flight_together_once() -> None:
    pace = ClusterPace(16, Clock())
    pace.press(16, 2.0)
    assert pace.press(15, 5.0) == (0.0, 0.0)
    assert pace.limit == 8


def test_pace_waits_as_long_as_asked_but_not_for_ever() -> None:
    clock = Clock()
    pace = ClusterPace(2, clock)
    pace.press(1, 1e9)
    clock.now_s += 301
    assert (pace.rests, pace.limit) == (False, 1)


def test_pace_says_for_how_long_nothing_succeeded() -> None:
    clock = Clock()
    pace = ClusterPace(2, clock)
    pace.press(2, 1.0)
    clock.now_s += 10
    assert pace.press(1, None) == (10.0, 1.0)
    pace.succeed()
    assert pace.press(1, None)[0] == 0.0
