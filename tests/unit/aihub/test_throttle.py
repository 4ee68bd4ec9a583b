"""The pace that all workers share, with a manual clock."""

from __future__ import annotations

import pytest

from aihub_runner.aihub.throttle import Pace


class Hand:
    """A clock that moves only during waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: list[float] = []

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_pace_holds_all_back_for_as_long_as_asked(hand: Hand) -> None:
    pace = Pace(8, hand.pause, lambda: hand.now)
    pace.slow_down(7)
    with pace:
        assert hand.waited == [7]


def test_pace_halves_once_for_refusals_that_come_together_and_grows_step_by_step(hand: Hand) -> None:
    pace = Pace(8, hand.pause, lambda: hand.now)
    for _ in range(5):
        pace.slow_down(1)
    assert pace.limit == 4
    hand.now += 2
    pace.slow_down(None)
    assert pace.limit == 2
    for _ in range(2):
        pace.succeed()
    assert pace.limit == 3
    for _ in range(100):
        pace.succeed()
    assert pace.limit == 8


def test_pace_never_stops_altogether(hand: Hand) -> None:
    pace = Pace(8, hand.pause, lambda: hand.now)
    for _ in range(10):
        hand.now += 10
        pace.slow_down(0)
    assert pace.limit == 1
    with pace:
        pass


def test_pace_follows_an_earlier_one_that_was_slowed_down_and_no_other() -> None:
    earlier, free = Pace(16, lambda seconds: None, lambda: 0.0), Pace(4, lambda seconds: None, lambda: 0.0)
    later = Pace(32, lambda seconds: None, lambda: 0.0)
    later.follow(free)
    assert later.limit == 32
    earlier.slow_down(9)
    later.follow(earlier)
    assert later.limit == 8
