"""Make foreign text harmless: control and direction characters are escaped and visible, or left out."""

from __future__ import annotations

import re

_CONTROL = "\x00-\x1f\x7f-\x9f"
_HAS_CONTROL = re.compile(f"[{_CONTROL}]")
# Control characters, line and paragraph separators, direction controls, surrogates, and invisible tags. Joiners are
# not in the list: some scripts and emoji need them.
ACTS = re.compile(
    f"[{_CONTROL}\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
MAX_REASON = 300  # characters of what a service says


def has_control_chars(text: str) -> bool:
    """Whether a text contains control characters."""
    return bool(_HAS_CONTROL.search(text))


def escape_control_chars(text: str, keep: str = "") -> str:
    """Replace control and direction characters by escapes such as `\\x1b`, except for those in `keep`."""
    return ACTS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def escape_for_json(text: str, keep: str = "") -> str:
    """Replace the same characters by escapes that mean them in JSON."""
    return ACTS.sub(lambda match: match[0] if match[0] in keep else _as_json(match[0]), text)


def _as_json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def show_bytes(chunk: bytes) -> bytes:
    """Escape control and direction characters in UTF-8 bytes, to show them on a terminal. JSON stays JSON."""
    return escape_for_json(chunk.decode("utf-8", "replace").replace("\r\n", "\n"), keep="\n\t").encode()


def clean_text(text: str) -> str:
    """Return an external text as one short line without control and direction characters, safe to print."""
    shown = " ".join(ACTS.sub(" ", text).split())
    return shown if len(shown) <= MAX_REASON else shown[: MAX_REASON - 1] + "…"
