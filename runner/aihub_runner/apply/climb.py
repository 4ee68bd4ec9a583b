"""How many uploads at once: found while they run, since no constant suits every service and line."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf, sqrt
from typing import NamedTuple

START, LEAST = 8, 2
SPACING_S = 0.003  # between the first uploads: one that is answered within 6 ms gains nothing from many at once


class Window(NamedTuple):
    """How long to measure, in rounds of as many uploads as are in flight, and in seconds.

    The first rounds do not count: their uploads began with fewer or more in flight, or opened connections.
    """

    skipped: float
    rounds: float
    least_s: float


FIRST, SECOND, LONG = Window(0.5, 0.5, 0.02), Window(0, 3, 0.06), Window(1, 3, 0.1)
FEWEST, MOST = 60, 250  # uploads in a long window
SURE = 0.04  # a long window goes on until its rounds tell the rate this well, or until it has the most uploads

CLEAR = 1.5  # twice as many that pay less than this are measured again
MANY = 32  # so many are always measured again: a service that they slow down shows it only when all are in flight
PAYS = 0.25  # a step up must pay this part of what it would if nothing slowed down
STEP, FARTHEST = 1.1, 8  # the factor of the smallest step, and how many of them are the largest
CHANGED = 0.25  # a rate that differs by more than this is no noise
STAYS = 4, 32  # windows between two tries if no direction pays: at first, and at most


def start_with(latency_s: float) -> int:
    """Return how many uploads to begin with, where a request without a body takes this long."""
    return int(max(LEAST, min(START, latency_s / SPACING_S)))


class Climb:
    """Finds the number of parallel uploads, from 1 to `most`, with the highest throughput.

    It doubles the number while that helps. Then it tries a few more and a few less, and goes farther each time that
    pays. A try that does not pay is taken back. If no direction pays, it waits longer and longer before it tries again.

    Throughput is the number in flight divided by how long one takes. To count those that end within a time would need
    far longer: they end in bursts, one in each round. Of several rounds, the middle one counts: the machine may pause.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, start: int = START) -> None:
        self.most, self.limit = most, min(start, most)
        self._clock = clock
        self._base, self._base_rate = self.limit, 0.0
        self._least_s = inf  # the shortest time that an upload took, for each unit of its work
        self._doubles, self._up = True, True
        self._steps, self._paid, self._narrows = 1, 0, False
        self._failed = 0  # directions that did not pay
        self._wait, self._stay = 0, STAYS[0]
        self._measure(FIRST)

    def _measure(self, window: Window) -> None:
        self._window, self._begun_s = window, self._clock()
        self._to_skip = round(window.skipped * self.limit)
        self._rounds: list[float] = []  # how long an upload took, for each unit of work, the shortest first
        self._count, self._work, self._spent_s = 0, 0.0, 0.0

    def lower(self, most: int) -> None:
        """Allow no more than this from now on."""
        self.most = max(1, most)
        self.limit, self._base = min(self.limit, self.most), min(self._base, self.most)

    def finish(self, work: float, in_flight: int, begun_s: float) -> None:
        """Count an upload, of which `in_flight` ran at once. A large file is the work of several."""
        now_s = self._clock()
        self._least_s = min(self._least_s, (now_s - begun_s) / work)
        if in_flight != self.limit:  # too few files to compare, or more are still in flight than should be
            self._measure(self._window)
        elif self._to_skip > 0:
            self._to_skip -= 1
        else:
            self._count, self._work, self._spent_s = self._count + 1, self._work + work, self._spent_s + now_s - begun_s
            if self._count >= min(1, self._window.rounds) * self.limit * (1 + len(self._rounds)):
                self._end_round(now_s)

    def _end_round(self, now_s: float) -> None:
        self._rounds = sorted([*self._rounds, self._spent_s / self._work])
        self._work = self._spent_s = 0.0
        rate = self.limit / max(1e-9, self._rounds[(len(self._rounds) - 1) // 2 if self._window is LONG else 0])
        if now_s - self._begun_s >= self._window.least_s and self._is_known(rate):
            self._decide(rate)

    def _is_known(self, rate: float) -> bool:
        """Whether the rounds so far tell the rate well enough."""
        rounds = len(self._rounds)
        if self._window is SECOND and (self._is_clear(rate) or (rounds > 1 and rate < self._base_rate)):
            return True
        if rounds < self._window.rounds:
            return False
        spread_s = self._rounds[-1 - rounds // 4] - self._rounds[rounds // 4]
        is_sure = self._count >= FEWEST and spread_s * rate <= SURE * sqrt(rounds) * self.limit
        return is_sure or self._window is not LONG or self._count >= MOST

    def _is_clear(self, rate: float) -> bool:
        """Whether more pay, even if fewer took as little as the fastest upload."""
        return rate * self._least_s >= CLEAR * self._base

    def _decide(self, rate: float) -> None:
        """Go on, measure again, take the try back, or try another number."""
        gain = rate / self._base_rate if self._base_rate else 0.0
        if self.limit == self._base:
            self._stay_or_try(rate)
        elif self._window is FIRST and (self.limit >= MANY or not self._is_clear(rate)):
            self._measure(SECOND)
        elif gain >= 1 + PAYS * max(0.0, self.limit / self._base - 1):
            self._base, self._base_rate = self.limit, rate
            self._failed, self._stay = 1, STAYS[0]  # the other direction is where it comes from
            self._paid += 1
            if self._narrows:
                self._steps = max(1, self._steps // 2)
            elif self._paid > 1:
                self._steps = min(FARTHEST, self._steps * 2)
            self._try()
        elif self._doubles:
            # As many as would do the same if all others only waited are too few, and this is too many.
            waits = max(self._base / self.limit, min(1.0, gain))
            self.limit = self._base = round(sqrt(self._base * self.limit * waits))
            self._base_rate, self._doubles = 0.0, False
            self._turn()
            self._failed = 0
            self._measure(LONG)
        else:
            self._take_back()

    def _stay_or_try(self, rate: float) -> None:
        if abs(rate - self._base_rate) > CHANGED * self._base_rate:
            self._base_rate, self._wait, self._stay = rate, 0, STAYS[0]
        self._base_rate = (self._base_rate + rate) / 2
        self._wait -= 1
        if self._wait <= 0:
            self._try()
        else:
            self._measure(LONG)

    def _take_back(self) -> None:
        """Try a smaller step, or the other direction after another look at where it was."""
        while self._steps > 1 and self._next() == self.limit:
            self._steps, self._narrows = self._steps // 2, True
        if self._next() != self.limit:
            self._try()
        else:
            self._turn()
            self.limit = self._base
            self._measure(LONG)

    def _turn(self) -> None:
        """Try the other direction next, after a while if neither pays."""
        self._up, self._steps, self._paid, self._narrows = not self._up, 1, 0, False
        self._failed += 1
        if self._failed == 2:
            self._failed, self._wait, self._stay = 0, self._stay, min(2 * self._stay, STAYS[1])

    def _next(self) -> int:
        factor = 2.0 if self._doubles else STEP**self._steps
        more, less = max(round(self._base * factor), self._base + 1), min(round(self._base / factor), self._base - 1)
        return max(1, min(self.most, more if self._up else less))

    def _try(self) -> None:
        self.limit = self._next()
        if self.limit == self._base:
            self._doubles = False
            self._turn()
        self._measure(FIRST if self._doubles else LONG)
