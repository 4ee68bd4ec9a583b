"""The one clock of the fake: no other code here reads the time."""

from __future__ import annotations

import time
from contextvars import ContextVar
from datetime import UTC, datetime

FROZEN_AT_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z: a frozen clock is the same whenever it is started
END_S = 250_000_000_000.0  # in the year 9892: dates end soon after, and a fault may set the clock off by 31 years
# Tests freeze time.time and time.monotonic for their own code; a server in their process must not stand with them.
REAL_CLOCK: int | None = getattr(time, "CLOCK_REALTIME", None)  # Windows has neither
MONOTONIC_CLOCK: int | None = getattr(time, "CLOCK_MONOTONIC", None)
SKEW_S: ContextVar[float] = ContextVar("SKEW_S", default=0.0)  # how far the clock is off for the request in hand


class Clock:
    """Real time, moved by `offset_s`; or frozen, and moved by hand only."""

    def __init__(self, frozen_at_s: float | None = None) -> None:
        self._frozen_at_s = frozen_at_s
        self.offset_s = 0.0

    def now_s(self) -> float:
        """Return the time in Unix seconds."""
        return self._base_s() + self.offset_s + SKEW_S.get()

    def _base_s(self) -> float:
        if self._frozen_at_s is not None:
            return self._frozen_at_s
        return time.time() if REAL_CLOCK is None else time.clock_gettime(REAL_CLOCK)

    def now_ns(self) -> int:
        """Return the time in Unix nanoseconds."""
        return int(self.now_s() * 1e9)

    def advance(self, seconds: float) -> None:
        """Move the clock. Raises ValueError where it would be before 1970, or too far ahead."""
        self.set_offset(self.offset_s + seconds)

    def set_offset(self, offset_s: float) -> None:
        """Set by how much the clock is off. Raises ValueError where it would be before 1970, or too far ahead."""
        if abs(offset_s) > END_S or not 0 <= self._base_s() + offset_s < END_S:
            raise ValueError("The time would be before 1970, or too far ahead.")
        self.offset_s = offset_s


def ticks_s() -> float:
    """Return a time that only goes on, in seconds, whatever tests do to the clocks of their process."""
    return time.monotonic() if MONOTONIC_CLOCK is None else time.clock_gettime(MONOTONIC_CLOCK)


def parse_clock(text: str) -> Clock:
    """Make a clock that is `real`, `frozen`, or stands at an ISO time. Raises ValueError for anything else."""
    if text == "real":
        return Clock()
    if text == "frozen":
        return Clock(FROZEN_AT_S)
    try:
        at = datetime.fromisoformat(text)
        at_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        at_s = -1.0
    if not 0 <= at_s < END_S:
        raise ValueError(f"{text!r} is not a clock; allowed: real, frozen, 2026-01-31T12:00:00Z")
    return Clock(at_s)
