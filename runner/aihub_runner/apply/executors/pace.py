"""One pace for a whole cluster: how many tasks may be in flight, however many workers there are."""

from __future__ import annotations

import time
from collections.abc import Callable

from aihub_runner.aihub.throttle import DEFAULT_PAUSE_S, MAX_PAUSE_S


class ClusterPace:
    """Lets at most `limit` tasks be in flight. If the service is pressed, all wait, and then half as many go on.

    Only the coordinator decides, so that one refusal slows all workers. `is_pressed` says that fewer than `most` run.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.limit = most, most
        self._clock = clock
        self._successes = 0
        self._not_before_s = 0.0
        self._pressed_since_s: float | None = None

    @property
    def is_pressed(self) -> bool:
        """Whether the service was pressed, and all may not run yet."""
        return self.limit < self.most

    @property
    def rests(self) -> bool:
        """Whether nothing may be sent now."""
        return self._clock() < self._not_before_s

    def press(self, in_flight: int, seconds: float | None) -> tuple[float, float]:
        """Slow down. Return for how long nothing succeeded, and how long all wait if that is news.

        Refusals of tasks in flight together count once.
        """
        now_s, is_news = self._clock(), not self.rests
        if is_news:
            self.limit = max(1, min(self.limit, in_flight) // 2)
            self._successes = 0
        wait_s = min(MAX_PAUSE_S, DEFAULT_PAUSE_S if seconds is None else seconds)
        self._not_before_s = max(self._not_before_s, now_s + wait_s)
        if self._pressed_since_s is None:
            self._pressed_since_s = now_s
        return now_s - self._pressed_since_s, wait_s * is_news

    def succeed(self) -> None:
        """Count a task that sent something. After a full round of them, one more may run."""
        self._pressed_since_s = None
        self._successes += 1
        if self._successes >= self.limit and self.is_pressed:
            self._successes = 0
            self.limit += 1
