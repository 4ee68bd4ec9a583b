"""JSON that every reader takes, and numbers in it by the text that they came with.

Python reads and writes `NaN`, which is no JSON, turns `1.10` into `1.1`, and writes lone surrogates, which strict
readers refuse together with all that stands around them.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any

_MARK = f"\ue000{secrets.token_hex(16)}:"  # begins what is written without quotes; nobody can know it
_MARKED = re.compile(f'"{_MARK}([^"]*)"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile("[^\x00-\x7f]")
_WHOLE_DIGITS = 4000  # Python refuses to read whole numbers that are much longer
_FRACTIONS_KEPT = 20_000
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")

Place = tuple[str | int, ...]  # the names and numbers that lead to a value


class Numeral:
    """A number by its text, where Python would write it otherwise; or what Python reads as one and is none."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def is_number(self) -> bool:
        """Whether JSON knows it."""
        return self.text not in _NO_NUMBERS

    def __float__(self) -> float:
        return float(self.text)

    def __bool__(self) -> bool:
        return bool(float(self.text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numeral) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return self.text


def read_float(value: Any) -> float | None:
    """Read a number of JSON as a float; None where it is none, or one that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float | Numeral):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# Reading


class _Fractions(dict[str, "float | Numeral"]):
    """Numbers by their texts; many come again, and to look one up is several times as fast as to read it."""

    def __missing__(self, text: str) -> float | Numeral:
        if len(self) >= _FRACTIONS_KEPT:
            self.clear()
        value = float(text)
        self[text] = found = value if repr(value) == text else Numeral(text)
        return found


_read_fraction = _Fractions().__getitem__


def _read_whole(text: str) -> int | Numeral:
    return int(text) if len(text) <= _WHOLE_DIGITS and text != "-0" else Numeral(text)


READER = json.JSONDecoder(parse_float=_read_fraction, parse_int=_read_whole, parse_constant=Numeral)
SKIPPER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)  # for what is only passed over


def read_whole(text: str) -> int | Decimal:
    """Read a whole number however long it is."""
    return int(text) if len(text) <= _WHOLE_DIGITS else Decimal(text)


def read_json(body: bytes) -> Any:
    """Read JSON, leniently. Raises ValueError, RecursionError."""
    return json.loads(body, parse_float=_read_fraction, parse_int=_read_whole, parse_constant=Numeral)


def may_be_odd(text: str) -> bool:
    """Return whether a text may have what `settle` looks for."""
    return "NaN" in text or "Infinity" in text or "\\ud" in text or "\\uD" in text or not _is_unicode(text)


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def settle(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Take what is no JSON out of lists and objects: no numbers become null, lone surrogates U+FFFD.

    Gives the place of each, and what was there.
    """
    if isinstance(value, dict):
        yield from _settle_names(value, place)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in list(items):
        if isinstance(one, dict | list):
            yield from settle(one, (*place, name))
        elif isinstance(one, Numeral) and not one.is_number:
            value[name] = None
            yield (*place, name), one.text
        elif isinstance(one, str) and as_unicode(one) != one:
            value[name] = as_unicode(one)
            yield (*place, name), "a lone surrogate"


def _settle_names(value: dict[str, Any], place: Place) -> Iterator[tuple[Place, str]]:
    """Do the same for the names in an object; one that would take the place of another is kept apart by a number."""
    if all(as_unicode(name) == name for name in value):
        return
    items, names = list(value.items()), {name for name in value if as_unicode(name) == name}
    value.clear()
    for name, one in items:
        settled, number = as_unicode(name), 1
        while settled != name and settled in names:
            number += 1
            settled = f"{as_unicode(name)}_{number}"
        names.add(settled)
        value[settled] = one
        if settled != name:
            yield (*place, settled), "a lone surrogate in the name"


# Writing


def as_unicode(text: str) -> str:
    """Replace lone surrogates, which no encoding can carry, by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def render_json(value: Any, *, compact: bool = False, indent: int | None = None, only_ascii: bool = False) -> str:
    """Render a value as JSON by the letter: numbers as they came, no numbers as null, lone surrogates as U+FFFD."""
    encoder = _encoder(compact, indent)
    try:
        text = encoder.encode(value)
    except ValueError:  # a float that is no number
        text = encoder.encode(_without_no_numbers(value))
    if _MARK in text:
        text = _MARKED.sub(r"\1", text)
    text = as_unicode(text)
    return text if text.isascii() or not only_ascii else _NOT_ASCII.sub(_escape, text)


@cache
def _encoder(compact: bool, indent: int | None) -> json.JSONEncoder:
    separators = (",", ":") if compact else None
    return json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, separators=separators, indent=indent, default=_render_other
    )


def _render_other(value: object) -> str | None:
    if isinstance(value, Numeral):
        return _MARK + value.text if value.is_number else None
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _without_no_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_no_numbers(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_no_numbers(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
