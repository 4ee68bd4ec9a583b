"""The number of parallel uploads, found on simulated services with a manual clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise, repeat
from math import inf

import pytest

from aihub_runner.apply.climb import LEAST, START, Climb, start_with

LATENCY_S = 0.05
UNIT = 1 << 18  # bytes that count as much as a request

Law = Callable[[int, float, int], float]  # seconds for a file, by the number in flight, the time, and its size


@dataclass
class Sent:
    """When files ended, and how many were allowed in flight then."""

    climb: Climb
    ends_s: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    def rate(self, first: int = 0) -> float:
        """Return the files per second from one file on."""
        begun_s = self.ends_s[first - 1] if first else 0.0
        return (len(self.ends_s) - first) / (self.ends_s[-1] - begun_s)

    def tries(self, first: int) -> int:
        limits = self.limits[first:]
        return sum(before != after for before, after in pairwise(limits))


def slower_beyond(capacity: int, power: float = 2.0) -> Law:
    """Return a service that slows down if more are in flight than this."""
    return lambda busy, now_s, size: LATENCY_S * max(1.0, busy / capacity) ** power


def varying(law: Law, seed: int) -> Law:
    chance = random.Random(seed)
    return lambda busy, now_s, size: law(busy, now_s, size) * chance.uniform(0.5, 1.5)


def send(
    files: int,
    law: Law,
    most: int = 64,
    sizes: Iterator[int] | None = None,
    connect_s: Callable[[], float] = float,
) -> Sent:
    """Send files. Each number in flight that is new opens a connection."""
    sizes = sizes or repeat(0)
    now_s, opened = 0.0, 0
    sent = Sent(Climb(most, lambda: now_s, start_with(LATENCY_S)))
    flying: list[tuple[float, int, float, int]] = []
    number = count()
    for left in range(files, 0, -1):
        while len(flying) < min(sent.climb.limit, left):
            opens_s, size = 0.0, next(sizes)
            if len(flying) == opened:
                opens_s, opened = connect_s(), opened + 1
            end_s = now_s + opens_s + law(len(flying) + 1, now_s, size)
            heapq.heappush(flying, (end_s, next(number), now_s, size))
        in_flight = len(flying)
        now_s, _, begun_s, size = heapq.heappop(flying)
        sent.climb.finish(1 + size / UNIT, in_flight, begun_s)
        sent.ends_s.append(now_s)
        sent.limits.append(sent.climb.limit)
    return sent


def test_climb_reaches_the_most_where_more_at_once_are_faster() -> None:
    sent = send(3000, lambda *_: LATENCY_S)
    assert sent.limits[-1] == 64
    assert sent.rate(1000) > 0.95 * 64 / LATENCY_S


def test_climb_is_at_the_most_after_a_few_rounds() -> None:
    """One round each with 8 and 16 in flight, and two with 32: hardly more than 88 files."""
    assert send(200, lambda *_: LATENCY_S).climb.limit == 64


@pytest.mark.parametrize("capacity", [5, 10, 13, 20, 28, 40])
@pytest.mark.parametrize("power", [2.0, 4.0])
def test_climb_settles_near_the_best_where_a_service_slows_down_under_load(capacity: int, power: float) -> None:
    sent = send(6000, slower_beyond(capacity, power))
    assert sent.rate(1500) > 0.9 * capacity / LATENCY_S
    assert sent.limits[-1] <= 1.2 * capacity


def test_climb_settles_soon() -> None:
    assert send(2000, slower_beyond(20)).rate() > 0.9 * 20 / LATENCY_S


@pytest.mark.parametrize("seed", range(5))
def test_connections_that_are_slow_to_open_lead_to_no_other_number(seed: int) -> None:
    """They make the first rounds slow, so the next ones seem to pay."""
    chance = random.Random(seed)
    assert send(2000, slower_beyond(20), connect_s=lambda: chance.expovariate(20)).rate() > 0.85 * 20 / LATENCY_S


def test_service_that_slows_down_a_little_later_is_not_sent_far_too_many() -> None:
    load = 0.0

    def law(busy: int, now_s: float, size: int) -> float:
        nonlocal load
        load += (busy - load) / 15
        return slower_beyond(20)(max(1, round(load)), now_s, size)

    assert max(send(2000, law).limits) == 32


@pytest.mark.parametrize("seed", range(5))
def test_climb_settles_near_the_best_where_each_file_takes_another_time(seed: int) -> None:
    sent = send(6000, varying(slower_beyond(20), seed))
    assert sent.rate(1500) > 0.9 * 20 / LATENCY_S
    sent = send(6000, varying(lambda *_: LATENCY_S, seed))
    assert sent.rate(1500) > 0.9 * 64 / LATENCY_S


@pytest.mark.parametrize("seed", range(5))
def test_climb_settles_near_the_best_where_large_files_take_longer(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [int(min(chance.paretovariate(1.2), 200) * 10_000) for _ in range(6000)]

    def law(busy: int, now_s: float, size: int) -> float:
        return (0.03 + size / 4e6) * max(1.0, busy / 20) ** 2

    best = 4500 / sum(law(1, 0.0, size) for size in sizes[1500:]) * 20
    assert send(6000, law, sizes=iter(sizes)).rate(1500) > 0.9 * best


@pytest.mark.parametrize(("before", "after"), [(10, 40), (40, 10)])
def test_climb_follows_a_service_that_becomes_faster_or_slower(before: int, after: int) -> None:
    def law(busy: int, now_s: float, size: int) -> float:
        return slower_beyond(before if now_s < 4 else after)(busy, now_s, size)

    sent = send(8000, law)
    assert sent.rate(6000) > 0.9 * after / LATENCY_S


@pytest.mark.parametrize("seed", range(5))
def test_pauses_of_the_machine_are_not_the_fault_of_the_number(seed: int) -> None:
    """In each pause of a tenth of a second, nothing ends. They take a tenth of the time."""
    chance = random.Random(seed)
    pauses = [number + chance.uniform(0.0, 0.9) for number in range(60)]

    def paused(law: Law) -> Law:
        def with_pauses(busy: int, now_s: float, size: int) -> float:
            end_s = now_s + law(busy, now_s, size)
            return max([end_s, *(pause_s + 0.1 for pause_s in pauses if pause_s < end_s < pause_s + 0.1)]) - now_s

        return with_pauses

    assert send(6000, paused(lambda *_: LATENCY_S)).rate(1500) > 0.8 * 64 / LATENCY_S
    assert send(6000, paused(slower_beyond(20))).rate(1500) > 0.8 * 20 / LATENCY_S


def test_climb_uses_few_where_more_are_no_faster() -> None:
    sent = send(6000, lambda busy, now_s, size: 0.001 * busy)
    assert sent.limits[-1] <= START
    assert send(6000, slower_beyond(10, power=1.0)).rate(1500) > 0.9 * 10 / LATENCY_S


@pytest.mark.parametrize("law", [slower_beyond(20), lambda *_: LATENCY_S])
def test_climb_tries_seldom_once_it_has_settled(law: Law) -> None:
    assert send(20_000, law).tries(10_000) <= 20


@pytest.mark.parametrize(
    ("latency_s", "start"), [(0.0, LEAST), (0.001, LEAST), (0.015, 5), (0.05, START), (inf, START)]
)
def test_climb_starts_low_where_an_answer_comes_at_once(latency_s: float, start: int) -> None:
    assert start_with(latency_s) == start


def test_climb_stays_within_what_is_allowed() -> None:
    assert max(send(1000, lambda *_: LATENCY_S, most=3).limits) == 3
    climb = send(1000, lambda *_: LATENCY_S).climb
    climb.lower(2)
    assert (climb.limit, climb.most) == (2, 2)
    climb.lower(0)
    assert climb.limit == 1


def test_files_that_do_not_suffice_to_fill_the_limit_are_not_compared() -> None:
    clock = count()
    climb = Climb(64, lambda: float(next(clock)))
    for ended_s in range(1000):
        climb.finish(1.0, START - 1, float(ended_s))
    assert climb.limit == START
