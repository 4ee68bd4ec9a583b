"""How many uploads at once: found while they run, since no constant suits every service and line."""

from __future__ import annotations

import time
from collections.abc import Callable

START = 8
WINDOW_S = 0.1
ROUNDS = 2  # uploads in a window, for each one in flight
GAIN = 1.1  # a step up must pay at least this much
SAME = 0.97
STAY = 8  # windows between two tries


class Climb:
    """Finds how many uploads at once give the most, between 1 and `most`: doubles while that pays, then tries.

    It compares the work done in windows of time: `work` is in files, and a large file counts as several. A try that
    does not pay is taken back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.limit = most, min(START, most)
        self._clock = clock
        self._factor = 2.0
        self._base, self._base_rate = self.limit, 0.0
        self._wait = 0
        self._restart()

    def _restart(self) -> None:
        self._begun_s, self._count, self._work = self._clock(), 0, 0.0

    def lower(self, most: int) -> None:
        """Allow no more than this from now on."""
        self.most = max(1, most)
        self.limit, self._base = min(self.limit, self.most), min(self._base, self.most)

    def finish(self, work: float, in_flight: int) -> None:
        """Count an upload, of which `in_flight` ran at once."""
        if in_flight < self.limit:  # too few files to compare
            self._restart()
            return
        self._count, self._work = self._count + 1, self._work + work
        took_s = self._clock() - self._begun_s
        if self._count >= ROUNDS * self.limit and took_s >= WINDOW_S:
            self._decide(self._work / took_s)
            self._restart()

    def _decide(self, rate: float) -> None:
        """Go on, take the try back, or try the other direction."""
        if self.limit == self._base:
            self._base_rate = rate
            self._wait -= 1
            if self._wait <= 0:
                self._try()
        elif rate >= self._base_rate * (GAIN if self.limit > self._base else SAME):
            self._base, self._base_rate = self.limit, rate
            self._try()
        else:
            was_doubling, went_up = self._factor == 2, self.limit > self._base
            self.limit, self._wait = self._base, STAY
            self._factor = 1.25 if was_doubling or not went_up else 0.8

    def _try(self) -> None:
        self.limit = max(1, min(self.most, round(self._base * self._factor)))
        if self.limit == self._base:
            self._factor, self._wait = 0.8 if self._factor > 1 else 1.25, STAY
