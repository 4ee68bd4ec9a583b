"""The one clock of the fake: no other code here reads the time."""

from __future__ import annotations

import time


class Clock:
    """Real time, moved by `offset_s`; or frozen, and moved by hand only."""

    def __init__(self, frozen_at_s: float | None = None) -> None:
        self._frozen_at_s = frozen_at_s
        self.offset_s = 0.0

    def now_s(self) -> float:
        """Tell the time in Unix seconds."""
        return (time.time() if self._frozen_at_s is None else self._frozen_at_s) + self.offset_s

    def now_ns(self) -> int:
        """Tell the time in Unix nanoseconds."""
        return int(self.now_s() * 1e9)

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.offset_s += seconds
