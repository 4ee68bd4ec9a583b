"""Wait for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(happened: Callable[[], object], at_most_s: float = 20.0) -> None:
    """Wait until something has happened elsewhere. Raises AssertionError if it does not in time."""
    until_s = time.monotonic() + at_most_s
    while not happened():
        assert time.monotonic() < until_s, "it never happened"
        time.sleep(0.005)
