"""The clock of the fake. No other module reads the time."""

from __future__ import annotations

import time
from contextvars import ContextVar
from datetime import UTC, datetime

FROZEN_AT_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z: the fixed start of a frozen clock
END_S = 250_000_000_000.0  # in the year 9892: Python's dates end in 9999, and a fault can skew the clock by 31 years
# Tests may freeze time.time and time.monotonic for their own code. A server in the same process must keep running.
REAL_CLOCK: int | None = getattr(time, "CLOCK_REALTIME", None)  # Windows has neither
MONOTONIC_CLOCK: int | None = getattr(time, "CLOCK_MONOTONIC", None)
SKEW_S: ContextVar[float] = ContextVar("SKEW_S", default=0.0)  # clock skew for the current request


class Clock:
    """Real time plus `offset_s`, or a frozen time that only moves when you advance it."""

    def __init__(self, frozen_at_s: float | None = None) -> None:
        self._frozen_at_s = frozen_at_s
        self.offset_s = 0.0

    @property
    def is_frozen(self) -> bool:
        """Whether the time moves only when you advance it."""
        return self._frozen_at_s is not None

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
        """Advance the clock. Raises ValueError if the result is before 1970 or too far in the future."""
        self.set_offset(self.offset_s + seconds)

    def set_offset(self, offset_s: float) -> None:
        """Set the clock's offset. Raises ValueError if the result is before 1970 or too far in the future."""
        if abs(offset_s) > END_S or not 0 <= self._base_s() + offset_s < END_S:
            raise ValueError("The time would be before 1970 or too far in the future.")
        self.offset_s = offset_s


def ticks_s() -> float:
    """Return a monotonic time in seconds that tests cannot freeze."""
    return time.monotonic() if MONOTONIC_CLOCK is None else time.clock_gettime(MONOTONIC_CLOCK)


def parse_clock(text: str) -> Clock:
    """Return a clock that is `real`, `frozen`, or frozen at an ISO time. Raises ValueError for anything else."""
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
        raise ValueError(f"invalid clock {text!r}; allowed: real, frozen, 2026-01-31T12:00:00Z")
    return Clock(at_s)
