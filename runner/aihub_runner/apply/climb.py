"""How many uploads at once: found while they run, since no constant suits every service and line."""

from __future__ import annotations

import time
from collections.abc import Callable

START, LEAST = 8, 2
SPACING_S = 0.003  # between the first uploads: one that is answered within 6 ms gains nothing from many at once
GAIN, GAIN_OF_TWICE = 1.1, 1.2  # a step up, and twice as many, must pay at least this much
CLEAR = 1.5  # twice as many that pay less than this are measured for longer
SAME = 0.97
STAY, LONGEST_STAY = 8, 32  # windows between two tries: more after each one that does not pay

# A window to compare ends after so many rounds of uploads, each as many as are in flight, and so many seconds. At
# first it is short; if a short one shows no clear gain, it goes on, because new connections take a while.
FIRST, LONGER, LATER = (1, 0.02), (3, 0.06), (3, 0.1)


def start_with(latency_s: float) -> int:
    """Return how many uploads to begin with, where a request without a body takes this long."""
    return int(max(LEAST, min(START, latency_s / SPACING_S)))


class Climb:
    """Finds the number of parallel uploads, from 1 to `most`, with the highest throughput.

    It doubles the number while that helps, then tries others.

    It compares the work done in windows of time: `work` is in files, and a large file counts as several. A try that
    does not pay is taken back. If doubling does not pay, the number before may only have had a lucky short window: it
    is measured again, for longer, before that is believed.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, start: int = START) -> None:
        self.most, self.limit = most, min(start, most)
        self._clock = clock
        self._factor = 2.0
        self._base, self._base_rate = self.limit, 0.0
        self._wait, self._stay = 0, STAY
        self._doubted: tuple[int, float] | None = None  # twice as many, and their rate
        self._restart()

    def _restart(self) -> None:
        self._begun_s, self._count, self._work = self._clock(), 0, 0.0
        self._window = LATER if self._factor != 2 else LONGER if self._doubted else FIRST

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
        rounds, least_s = self._window
        if self._count >= rounds * self.limit and took_s >= least_s:
            self._decide(self._work / took_s)

    def _decide(self, rate: float) -> None:
        """Go on, measure longer, take the try back, or try the other direction."""
        if self._doubted:
            self._compare_again(self._doubted, rate)
        elif self.limit == self._base:
            self._base_rate = (self._base_rate + rate) / 2 if self._base_rate else rate  # one window says little
            self._wait -= 1
            if self._wait <= 0:
                self._try()
        elif self._window == FIRST and rate < CLEAR * self._base_rate:
            self._window = LONGER
            return
        elif rate >= self._base_rate * self._least_gain():
            self._keep(self.limit, rate)
        elif self._factor == 2:
            self._doubted, self.limit = (self.limit, rate), self._base
        else:
            self._factor = 0.8 if self.limit > self._base else 1.25
            self.limit, self._wait, self._stay = self._base, self._stay, min(2 * self._stay, LONGEST_STAY)
        self._restart()

    def _compare_again(self, doubted: tuple[int, float], rate: float) -> None:
        limit, their_rate = doubted
        self._doubted, self._base_rate = None, rate
        if their_rate >= rate * GAIN_OF_TWICE and limit <= self.most:
            self._keep(limit, their_rate)
        else:
            self._factor = 1.25
            self._try()

    def _least_gain(self) -> float:
        if self.limit < self._base:
            return SAME
        return GAIN_OF_TWICE if self._factor == 2 else GAIN

    def _keep(self, limit: int, rate: float) -> None:
        self._base, self._base_rate, self._stay = limit, rate, STAY
        self._try()

    def _try(self) -> None:
        step = round(self._base * self._factor)
        step = max(step, self._base + 1) if self._factor > 1 else min(step, self._base - 1)
        self.limit = max(1, min(self.most, step))
        if self.limit == self._base:
            self._factor, self._wait = 0.8 if self._factor > 1 else 1.25, self._stay
