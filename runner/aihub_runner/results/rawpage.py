"""Read a raw page of results a file at a time: as values, a whole page takes several times the memory of its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from aihub_runner.text.jsontext import READER, SKIPPER, may_be_odd

_SPACE = re.compile(r"[ \t\n\r]*")


class RawPage:
    """A page by its text. Raises ValueError, IndexError or RecursionError where that is not a page.

    Of members of one name the last counts, as everywhere. `is_odd` tells whether what is read may hold what
    `jsontext.settle` takes out.
    """

    def __init__(self, text: str) -> None:
        self.is_odd = may_be_odd(text)
        self._text = text
        self._starts: list[int] = []  # of the files that were come across
        self._more: Iterator[tuple[int, Any]] | None = None  # of the text alone: a page is gone when it is let go

    def file(self, position: int) -> Any:
        """Read one of the files; in order, each is read once only."""
        if position < len(self._starts):
            return READER.raw_decode(self._text, self._starts[position])[0]
        if self._more is None:
            self._more = _elements(self._text, self._find("files"))
        for start, value in self._more:
            self._starts.append(start)
            if len(self._starts) > position:
                return value
        raise IndexError("no such file")

    def _find(self, name: str) -> int:
        start = self._find_last(name)
        if start is None:
            raise ValueError(f"no {name}")
        return start

    def _find_last(self, name: str) -> int | None:
        found = (start for member, start in _members(self._text) if member == name)
        if self._text.count(f'"{name}"') == 1:  # no need to look any further
            return next(found, None)
        return max(found, default=None)

    def member(self, name: str) -> Any:
        """Read another part of the page; None where there is none."""
        if f'"{name}"' not in self._text:
            return None
        start = self._find_last(name)
        return None if start is None else READER.raw_decode(self._text, start)[0]


def _members(text: str) -> Iterator[tuple[str, int]]:
    """Return the name of each member of an object, and where its value begins."""
    place = _after(text, 0, "{")
    while text[place] != "}":
        name, place = SKIPPER.raw_decode(text, place)
        start = _after(text, place, ":")
        yield name, start
        place = _next(text, _end(text, start))


def _end(text: str, start: int) -> int:
    """Find where a value ends, an array an element at a time."""
    if text[start] != "[":
        return SKIPPER.raw_decode(text, start)[1]
    place = _after(text, start, "[")
    while text[place] != "]":
        place = _next(text, SKIPPER.raw_decode(text, place)[1])
    return place + 1


def _elements(text: str, start: int) -> Iterator[tuple[int, Any]]:
    """Return each element of an array: where it begins, and its value."""
    place = _after(text, start, "[")
    while text[place] != "]":
        value, end = READER.raw_decode(text, place)
        yield place, value
        place = _next(text, end)


def _after(text: str, place: int, expected: str) -> int:
    """Pass over what must stand here, and the space around it."""
    place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
    if text[place] != expected:
        raise ValueError(f"{expected} is missing at {place}")
    return _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]


def _next(text: str, place: int) -> int:
    """Pass over the comma behind a value, or stop at the end of what holds it."""
    place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
    return place if text[place] in "]}" else _after(text, place, ",")
