"""Read a list until it can be trusted to show what was created."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from aihub_runner.aihub.client import AIHub

READINGS = 20
LOOK_EVERY_S = 1.0

T = TypeVar("T")


def is_settled(
    client: AIHub, read: Callable[[], Mapping[T, object]], settled_at_s: float, found: Callable[[], bool]
) -> bool:
    """Read a listing until two readings agree, the second started when the effect of the request must show.

    They agree if nothing disappeared; others may start runs at any time. Stops as soon as the target is found. Returns
    False if the readings never agree.
    """
    first = set(read())
    if found():
        return True
    client.pause(settled_at_s - time.monotonic())
    for _ in range(READINGS):
        second = set(read())
        if found() or second >= first:
            return True
        first = second
        client.pause(LOOK_EVERY_S)
    return False
