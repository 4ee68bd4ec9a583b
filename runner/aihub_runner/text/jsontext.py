"""JSON that every reader accepts, with numbers that keep their text.

Python's `json` reads and writes `NaN`, which is invalid JSON, turns `1.10` into `1.1`, and writes lone surrogates,
because of which strict readers reject the whole document.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

_MARK = f"\ue000{os.urandom(16).hex()}:"  # marks text to write without quotes; random, so that no input contains it
_MARKED = re.compile(f'"{_MARK}([^"]*)"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_ASCII = re.compile("[^\x00-\x7f]")
_WHOLE_DIGITS = 4000  # Python refuses to parse integers that are much longer
_FRACTIONS_KEPT = 20_000
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")

Place = tuple[str | int, ...]  # the keys and indexes that lead to a value


class Numeral:
    """A number that keeps its text, since Python would render it differently; or NaN or an infinity."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def is_number(self) -> bool:
        """Whether it is a number in JSON."""
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
    """Return a JSON number as a float; None for other values, and for numbers beyond the range of floats."""
    if isinstance(value, bool) or not isinstance(value, int | float | Numeral):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# Reading


class _Fractions(dict[str, "float | Numeral"]):
    """A cache of numbers by their text. Many repeat, and a lookup is several times as fast as parsing.

    Numbers with an exponent keep their text, since `msgspec` writes exponents otherwise than `repr`.
    """

    def __missing__(self, text: str) -> float | Numeral:
        if len(self) >= _FRACTIONS_KEPT:
            self.clear()
        value = float(text)
        self[text] = found = value if repr(value) == text and "e" not in text else Numeral(text)
        return found


read_fraction = _Fractions().__getitem__


def _read_whole(text: str) -> int | Numeral:
    return int(text) if len(text) <= _WHOLE_DIGITS and text != "-0" else Numeral(text)


READER = json.JSONDecoder(parse_float=read_fraction, parse_int=_read_whole, parse_constant=Numeral)
SKIPPER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)  # for values that are skipped


# Parses twice as fast as READER, and the same, or raises ValueError or RecursionError; except for the integer -0.
QUICK_READER = msgspec.json.Decoder(float_hook=read_fraction)


def read_whole(text: str) -> int | Decimal:
    """Parse an integer of any length."""
    return int(text) if len(text) <= _WHOLE_DIGITS else Decimal(text)


def read_json(body: bytes) -> Any:
    """Parse JSON, leniently. Raises ValueError, RecursionError."""
    return json.loads(body, parse_float=read_fraction, parse_int=_read_whole, parse_constant=Numeral)


def may_be_odd(text: str) -> bool:
    """Whether a text may contain what `settle` replaces. May be wrong with True only."""
    return "NaN" in text or "Infinity" in text or "\\ud" in text or "\\uD" in text or not _is_unicode(text)


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def settle(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Replace invalid JSON in lists and objects, in place: NaN and infinities by null, lone surrogates by U+FFFD.

    Yields the place of each replacement, and what was there.
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
    """Replace lone surrogates in the keys of an object. A key that would collide with another gets a number."""
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
    """Replace lone surrogates, which UTF-8 cannot encode, by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def render_json(value: Any, *, compact: bool = False, indent: int | None = None, only_ascii: bool = False) -> str:
    """Render a value as valid JSON: numbers with their text, NaN and infinities as null, surrogates as U+FFFD."""
    encoder = _encoder(compact, indent)
    try:
        text = encoder.encode(value)
    except ValueError:  # a float that is NaN or infinite
        text = encoder.encode(_without_no_numbers(value))
    if _MARK in text:
        text = _MARKED.sub(r"\1", text)
    text = as_unicode(text)
    return text if text.isascii() or not only_ascii else _NOT_ASCII.sub(_escape, text)


def render_quickly(value: Any) -> bytes:
    """Render a value that was read from JSON as `render_json` does, in UTF-8. It takes a third of the time."""
    try:
        return msgspec.json.format(_QUICK_WRITER.encode(value), indent=0)
    except (ValueError, OverflowError, RecursionError):  # a lone surrogate, among others
        return render_json(value).encode()


def _encode_other(value: object) -> msgspec.Raw | None:
    if isinstance(value, Numeral):
        return msgspec.Raw(value.text.encode()) if value.is_number else None
    raise TypeError(f"{type(value).__name__} cannot be rendered as JSON")


_QUICK_WRITER = msgspec.json.Encoder(enc_hook=_encode_other)


@cache
def _encoder(compact: bool, indent: int | None) -> json.JSONEncoder:
    separators = (",", ":") if compact else None
    return json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, separators=separators, indent=indent, default=_render_other
    )


def _render_other(value: object) -> str | None:
    if isinstance(value, Numeral):
        return _MARK + value.text if value.is_number else None
    raise TypeError(f"{type(value).__name__} cannot be rendered as JSON")


def _without_no_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_no_numbers(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_no_numbers(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
