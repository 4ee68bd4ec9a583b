"""Parse a raw page of results one file at a time. A whole parsed page takes several times the memory of its text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeVar

from msgspec import Raw, Struct
from msgspec.json import Decoder

from aihub_runner.text.jsontext import QUICK_READER, READER, SKIPPER, may_be_odd

_Read = TypeVar("_Read")
_SPACE = re.compile(r"[ \t\n\r]*")
_NEGATIVE_ZERO = re.compile(rb"-0(?![0-9.eE])")


class _Split(Struct):
    """A page whose files are not parsed yet."""

    files: list[Raw]


_SPLITTER = Decoder(_Split)


class RawPage:
    """The bytes of a page. Methods raise ValueError, IndexError or RecursionError if it is not a page.

    Most pages are plain JSON, and read quickly. Others are read as text.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._text: _TextPage | None = None

    @cached_property
    def _files(self) -> list[Raw] | None:
        return _split(self._content)

    @property
    def is_odd(self) -> bool:
        """Whether what was read so far may contain what `jsontext.settle` replaces."""
        return self._text is not None and self._text.is_odd

    def file(self, position: int) -> Any:
        """Parse one of the files. Reading in order parses each file once."""
        if self._files is not None:
            raw = self._files[position]
            try:
                return QUICK_READER.decode(raw)
            except (ValueError, RecursionError):
                self._files = None
        return self._as_text().file(position)

    def file_as(self, reader: Decoder[_Read], position: int) -> _Read | None:
        """Parse one of the files as values of other types; None if it may not be what they hold."""
        try:
            return None if self._files is None else reader.decode(self._files[position])
        except (ValueError, RecursionError):
            return None

    def member(self, name: str) -> Any:
        """Parse another member of the page; None if there is none."""
        if f'"{name}"'.encode() not in self._content and json.detect_encoding(self._content).startswith("utf-8"):
            return None
        return self._as_text().member(name)

    def _as_text(self) -> _TextPage:
        if self._text is None:
            text = self._content.decode(json.detect_encoding(self._content), "surrogatepass")  # as when it was fetched
            self._text = _TextPage(text)
        return self._text


def _split(content: bytes) -> list[Raw] | None:
    """Return the files of a page, or None if it may not be plain JSON."""
    if _NEGATIVE_ZERO.search(content):
        return None
    try:
        return _SPLITTER.decode(content).files
    except (ValueError, RecursionError):
        return None


class _TextPage:
    """The text of a page. Of members with the same name, the last one counts, as in `json`."""

    def __init__(self, text: str) -> None:
        self.is_odd = may_be_odd(text)
        self._text = text
        self._starts: list[int] = []  # of the files that were parsed
        self._more: Iterator[tuple[int, Any]] | None = None  # refers to the text only: a cycle would leak the page

    def file(self, position: int) -> Any:
        """Parse one of the files. Reading in order parses each file once."""
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
        if self._text.count(f'"{name}"') == 1:  # there is no later one
            return next(found, None)
        return max(found, default=None)

    def member(self, name: str) -> Any:
        """Parse another member of the page; None if there is none."""
        if f'"{name}"' not in self._text:
            return None
        start = self._find_last(name)
        return None if start is None else READER.raw_decode(self._text, start)[0]


def _members(text: str) -> Iterator[tuple[str, int]]:
    """Yield the name of each member of an object, and the start of its value."""
    place = _after(text, 0, "{")
    while text[place] != "}":
        name, place = SKIPPER.raw_decode(text, place)
        start = _after(text, place, ":")
        yield name, start
        place = _next(text, _end(text, start))


def _end(text: str, start: int) -> int:
    """Return the end of a value. Arrays are skipped one element at a time."""
    if text[start] != "[":
        return SKIPPER.raw_decode(text, start)[1]
    place = _after(text, start, "[")
    while text[place] != "]":
        place = _next(text, SKIPPER.raw_decode(text, place)[1])
    return place + 1


def _elements(text: str, start: int) -> Iterator[tuple[int, Any]]:
    """Yield the start and the value of each element of an array."""
    place = _after(text, start, "[")
    while text[place] != "]":
        value, end = READER.raw_decode(text, place)
        yield place, value
        place = _next(text, end)


def _after(text: str, place: int, expected: str) -> int:
    """Return the position after an expected character and the space around it."""
    place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
    if text[place] != expected:
        raise ValueError(f"{expected} is missing at {place}")
    return _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]


def _next(text: str, place: int) -> int:
    """Return the position after the comma behind a value, or that of the closing bracket."""
    place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
    return place if text[place] in "]}" else _after(text, place, ",")
