"""Show the line of a mistake with carets below it, and without values that may be secrets."""

from __future__ import annotations

import re
import unicodedata

from aihub_runner.errors import Range
from aihub_runner.text.escape import escape_control_chars

_LINE, _BEFORE = 100, 60  # how much of a line is shown, and how much of that before a mistake


def mask_values(line: str) -> str:
    """Return a line of TOML without its values, which may be secrets. Its length stays, so that columns fit."""
    key, equals, value = line.partition("=")
    return key + equals + re.sub(r"[^\s\[\]{}=,'\"#]", "…", value) if equals else re.sub(r"[^\s\[\].]", "…", line)


def render_excerpt(line: str, at: Range | None) -> str:
    """Render a line with carets below a range in it, and without the ends that are too far away."""
    if not at:
        return ""
    start = max(0, at.column - _BEFORE)
    shown = line[start : start + _LINE].replace("\t", " ")
    before, marked = shown[: at.column - 1 - start], shown[at.column - 1 - start : at.end - 1 - start]
    number, gap = str(at.line), " " * len(str(at.line))
    carets = " " * _width(before) + "^" * max(1, _width(marked))
    return f"  {number} | {escape_control_chars(shown)}\n  {gap} | {carets}"


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes once it is escaped."""
    escaped = escape_control_chars(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in escaped
    )
