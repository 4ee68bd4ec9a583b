"""Points in time that do not depend on the wall clock: the boot of this machine, and its monotonic clock."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from msgspec import Struct

DAY_S = 86_400
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def _boot_id() -> str:
    """Return the id of this boot of the machine; empty if the system has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Moment(Struct, frozen=True):
    """A point in time by the monotonic clock, in seconds, of one boot. An empty `boot` means unknown."""

    boot: str = ""
    mono_s: float = 0.0

    def left_s(self, wait_s: float) -> float:
        """Return how much of a wait that began then is left now. After a reboot, it is all of it."""
        passed_s = time.monotonic() - self.mono_s
        if not self.boot or self.boot != _boot_id() or passed_s < 0:
            return wait_s
        return max(0.0, wait_s - passed_s)


UNKNOWN = Moment()


def now() -> Moment:
    """Return the current time."""
    return Moment(_boot_id(), time.monotonic())


def is_to_come(seconds: float) -> bool:
    """Whether a time from the service (Unix seconds) is in the future: a search from then on would find nothing.

    If our own clock is wrong, a search only starts earlier than necessary.
    """
    return seconds > time.time() + DAY_S


def awake_and_asleep_s() -> float:
    """Return seconds by a clock that cannot be set, and that also counts while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
