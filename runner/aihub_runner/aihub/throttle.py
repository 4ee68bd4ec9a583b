"""One pace for all workers: how many requests may be in flight, and how long to slow down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

DEFAULT_PAUSE_S = 1.0
MAX_PAUSE_S = 300.0


class Pace:
    """Lets at most `limit` requests run at once. Under pressure fewer run, and later gradually more again.

    `pause` waits for some seconds, and raises what ends the wait. Many threads may share a pace.
    """

    def __init__(self, limit: int, pause: Callable[[float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._most = limit
        self._pause, self._clock = pause, clock
        self._free = threading.Condition()
        self._in_flight = 0
        self._successes = 0
        self._not_before = 0.0

    def follow(self, earlier: Pace) -> None:
        """Begin as slowly as the service asked an earlier client to be."""
        with self._free:
            if earlier.limit < earlier._most:
                self.limit = min(self.limit, earlier.limit)
            self._not_before = max(self._not_before, earlier._not_before)

    @property
    def rests(self) -> bool:
        """Whether all wait, because the service asked for it."""
        return self._clock() < self._not_before

    def __enter__(self) -> None:
        """Wait for a turn to send one request, and hold it while the request is in flight."""
        while True:
            with self._free:
                wait_s = self._not_before - self._clock()
                if wait_s <= 0 and self._in_flight < self.limit:
                    self._in_flight += 1
                    return
                if wait_s <= 0:
                    self._free.wait(0.1)
            self._pause(max(0.0, wait_s))

    def __exit__(self, *_: object) -> None:
        with self._free:
            self._in_flight -= 1
            self._free.notify()

    def succeed(self) -> None:
        """Count a successful request. After a full round of them, one more may run."""
        with self._free:
            self._successes += 1
            if self._successes >= self.limit and self.limit < self._most:
                self._successes = 0
                self.limit += 1
                self._free.notify()

    def slow_down(self, seconds: float | None) -> None:
        """Slow down for the service: all wait, and then half as many requests run at once.

        Refusals of requests that were in flight together count once.
        """
        with self._free:
            until = self._clock() + min(MAX_PAUSE_S, DEFAULT_PAUSE_S if seconds is None else seconds)
            if self._clock() >= self._not_before:
                self.limit = max(1, self.limit // 2)
                self._successes = 0
            self._not_before = max(self._not_before, until)
