"""The number of parallel uploads, found on simulated services with a manual clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from math import inf

import pytest

from aihub_runner.apply.climb import LEAST, START, Climb, start_with


def send(files: int, seconds: Callable[[int], float], most: int = 64) -> tuple[Climb, float]:
    """Send files to a service where one takes `seconds` with so many in flight; return files per second at the end."""
    now_s = 0.0
    climb = Climb(most, lambda: now_s)
    ends: list[float] = []
    halfway_s = 0.0
    for left in range(files, 0, -1):
        while len(ends) < min(climb.limit, left):
            heapq.heappush(ends, now_s + seconds(len(ends) + 1))
        in_flight = len(ends)
        now_s = heapq.heappop(ends)
        climb.finish(1.0, in_flight)
        if left == files // 2:
            halfway_s = now_s
    return climb, (files // 2 - 1) / (now_s - halfway_s)


def test_climb_reaches_the_most_where_more_at_once_are_faster() -> None:
    climb, rate = send(3000, lambda _: 0.05)
    assert climb.limit == 64
    assert rate > 0.9 * 64 / 0.05


@pytest.mark.parametrize("capacity", [5, 20, 40])
def test_climb_settles_near_the_best_where_a_service_slows_down_under_load(capacity: int) -> None:
    climb, rate = send(6000, lambda busy: 0.05 * max(1.0, busy / capacity) ** 2)
    assert rate > 0.9 * capacity / 0.05
    assert climb.limit <= 1.3 * capacity


@pytest.mark.parametrize("seed", range(30))
def test_climb_is_not_stopped_by_times_that_vary_at_random(seed: int) -> None:
    vary = random.Random(seed)
    _, rate = send(3000, lambda _: vary.expovariate(20))
    assert rate > 0.6 * 64 / 0.05


@pytest.mark.parametrize("seed", range(20))
def test_climb_settles_where_a_service_slows_down_and_times_vary(seed: int) -> None:
    vary = random.Random(seed)
    _, rate = send(2000, lambda busy: 0.05 * max(1.0, busy / 20) ** 2 * vary.lognormvariate(0, 0.3))
    assert rate > 0.85 * 20 / 0.05


def test_climb_uses_fewer_where_more_are_no_faster() -> None:
    climb, _ = send(6000, lambda busy: 0.001 * busy)
    assert climb.limit <= START


@pytest.mark.parametrize(
    ("latency_s", "start"), [(0.0, LEAST), (0.001, LEAST), (0.015, 5), (0.05, START), (inf, START)]
)
def test_climb_starts_low_where_an_answer_comes_at_once(latency_s: float, start: int) -> None:
    assert start_with(latency_s) == start


def test_climb_is_at_the_most_after_a_few_rounds() -> None:
    """One round each with 8, 16 and 32 in flight: hardly more than 56 files."""
    assert send(200, lambda _: 0.05)[0].limit == 64


def test_climb_stays_within_what_is_allowed() -> None:
    assert send(1000, lambda _: 0.05, most=3)[0].limit == 3
    climb, _ = send(1000, lambda _: 0.05)
    climb.lower(2)
    assert (climb.limit, climb.most) == (2, 2)
    climb.lower(0)
    assert climb.limit == 1


def test_climb_measures_for_longer_where_twice_as_many_hardly_pay() -> None:
    """A pause of the machine makes one round slow; the next step must not be compared with that."""
    now_s = 0.0
    climb = Climb(64, lambda: now_s)

    def go_on(files: int, seconds: float) -> int:
        nonlocal now_s
        now_s += seconds
        for _ in range(files):
            climb.finish(1.0, climb.limit)
        return climb.limit

    assert go_on(8, 0.05) == 16
    assert go_on(16, 0.08) == 16
    assert go_on(32, 0.1) == 32
