"""Make text from outside safe to show, on a terminal or a page: nothing in it acts, everything in it can be seen."""

from __future__ import annotations

import re
from typing import Any

from runner.jsontext import render_json

# Control characters, line and paragraph separators, what turns the direction of text, surrogates, and invisible
# tags; not the joiners, which scripts and emoji are written with.
_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)


def make_visible(text: str, keep: str = "") -> str:
    """Write control and direction characters as escapes, such as `\\x1b`, but for those to keep."""

    def escape(match: re.Match[str]) -> str:
        char = match.group()
        return char if char in keep else ascii(char)[1:-1]

    return _ACTS.sub(escape, text)


def show_value(value: Any, limit: int) -> str:
    """Show any value of JSON in one line of at most `limit` characters."""
    text = value if isinstance(value, str) else "" if value is None else render_json(value)
    shown = make_visible(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def count(number: int, thing: str) -> str:
    """Say how many there are of a thing, which forms its plural with an s, or, as `batch`, with es."""
    return f"{number:d} {thing}" + ("" if number == 1 else "es" if thing.endswith("h") else "s")


def are(number: int) -> str:
    """Choose the verb that goes with so many."""
    return "is" if number == 1 else "are"
