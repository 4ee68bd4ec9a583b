"""Suggest the nearest route for a request to an unknown one."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest

from fake_aihub.contract.operations import OPERATIONS, Operation

MAX_SEGMENTS = 12
MAX_SEGMENT = 60


def describe_nearest(method: str, path: str) -> str:
    """Return a message with the nearest route and the differences."""
    segments = [segment[:MAX_SEGMENT] for segment in path.removeprefix("/api").strip("/").split("/")[:MAX_SEGMENTS]]
    nearest = min(OPERATIONS, key=lambda operation: _distance(method, segments, operation))
    root = [] if f"{path}/".startswith("/api/") else ["'api' is missing at the start"]
    differs = ", ".join([*root, *_differences(method, segments, nearest)]) or "its length only"
    return f"Unknown route; the nearest is {nearest.method} /api{nearest.path}; differences: {differs}."


def _pairs(segments: list[str], operation: Operation) -> Iterator[tuple[str, str]]:
    """Return the pairs of different segments of the path and a route. A missing segment is empty."""
    for given, known in zip_longest(segments, operation.path.strip("/").split("/"), fillvalue=""):
        if given != known and not (known.startswith("{") and given):
            yield given, known


def _distance(method: str, segments: list[str], operation: Operation) -> float:
    unlike = sum(_unlikeness(given, known) for given, known in _pairs(segments, operation))
    return unlike + (0.4 if method != operation.method else 0)


def _unlikeness(given: str, known: str) -> float:
    # A forgotten segment is more likely than a wrong one.
    return 1.05 - SequenceMatcher(None, given, known).ratio() if given and known else 0.6


def _differences(method: str, segments: list[str], operation: Operation) -> Iterator[str]:
    if method != operation.method:
        yield f"the method, {method} instead of {operation.method}"
    for given, known in _pairs(segments, operation):
        if not known:
            yield f"{given!r} is unexpected"
        elif not given:
            yield f"{known!r} is missing"
        else:
            yield f"{given!r} instead of {known!r}"
