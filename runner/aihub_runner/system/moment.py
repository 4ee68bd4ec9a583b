"""Points in time that no wrong clock can spoil: the boot of this machine, and its monotonic clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DAY_S = 86_400
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def _boot_id() -> str:
    """Return what names this boot of the machine, empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, by the monotonic clock (seconds) of one boot; an empty `boot` is unknown."""

    boot: str = ""
    mono_s: float = 0.0

    def left_s(self, wait_s: float) -> float:
        """Return how much of a wait that began then is left now: all of it, where the boot is another one."""
        passed_s = time.monotonic() - self.mono_s
        if not self.boot or self.boot != _boot_id() or passed_s < 0:
            return wait_s
        return max(0.0, wait_s - passed_s)


UNKNOWN = Moment()


def now() -> Moment:
    """Return this moment."""
    return Moment(_boot_id(), time.monotonic())


def is_to_come(seconds: float) -> bool:
    """Whether a time that the service told (Unix seconds) is no past one: a search from there on would find nothing.

    Our own clock only takes belief away here: where it is wrong, a search begins earlier than it need.
    """
    return seconds > time.time() + DAY_S
