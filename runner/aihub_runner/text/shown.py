"""Make text from outside safe to show on a terminal or a page: control characters are escaped, and visible."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from aihub_runner.text.align import common_length
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.jsontext import render_json

_MB = 1024 * 1024
_NEAR = 300  # how many characters around a difference are compared


def show_value(value: Any, limit: int) -> str:
    """Render any JSON value in one line of at most `limit` characters."""
    text = value if isinstance(value, str) else "" if value is None else render_json(value)
    shown = escape_control_chars(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def count(number: int, thing: str) -> str:
    """Render a count with its noun: `1 file`, `2 files`, `2 batches`."""
    return f"{number:d} {thing}" + ("" if number == 1 else "es" if thing.endswith("h") else "s")


def are(number: int) -> str:
    """Return `is` or `are`, whichever agrees with a count."""
    return "is" if number == 1 else "are"


def render_size(size_bytes: int) -> str:
    """Render a size as text."""
    if size_bytes < 1024:
        return count(size_bytes, "byte")
    if size_bytes < _MB // 10:
        return f"{size_bytes / 1024:.1f} KB"
    return f"{size_bytes / _MB:.1f} MB" if size_bytes < 1024 * _MB else f"{size_bytes / _MB / 1024:.1f} GB"


def show_difference(before: str, after: str, limit: int) -> tuple[str, str]:
    """Render two different texts, each in one line of at most `limit` characters, such that the difference is visible.

    The lines start a little before the difference. Texts that look alike are shown as JSON strings, with spaces as ␣.
    """
    left, right = escape_control_chars(before), escape_control_chars(after)
    if before != after and _look_alike(left, right):
        left, right = (json.dumps(text)[1:-1].replace(" ", "␣") for text in (before, after))
    same, longest = common_length(left, right), max(len(left), len(right))
    start = max(0, min(same - limit // 3, longest - limit + 1)) if left != right and same > limit // 2 else 0
    return _window(left, start, limit), _window(right, start, limit)


def _window(text: str, start: int, limit: int) -> str:
    shown = "…" * bool(start) + text[start:]
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _look_alike(left: str, right: str) -> bool:
    """Whether two texts differ only invisibly: in spaces, invisible characters, Unicode forms or alphabets."""
    place = common_length(left, right)
    near = slice(max(0, place - _NEAR), place + _NEAR)
    if _skeleton(left[near]) == _skeleton(right[near]):
        return True
    alphabets = {unicodedata.name(text[place], "").split(" ")[0] for text in (left, right) if place < len(text)}
    return len(alphabets) == 2 and alphabets <= {"LATIN", "CYRILLIC", "GREEK"}


def _skeleton(text: str) -> str:
    if text.isascii():
        return " ".join(text.split())
    seen = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return " ".join("".join(seen).split())
