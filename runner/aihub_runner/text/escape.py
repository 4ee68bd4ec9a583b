"""Make foreign text harmless: control and direction characters are escaped, and visible."""

from __future__ import annotations

import re
import unicodedata

# Control characters, line and paragraph separators, direction controls, surrogates, and invisible tags. Joiners are
# not in the list: some scripts and emoji need them.
_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)


def escape_control_chars(text: str, keep: str = "") -> str:
    """Replace control and direction characters by escapes such as `\\x1b`, except for those in `keep`."""

    def escape(match: re.Match[str]) -> str:
        char = match.group()
        return char if char in keep else ascii(char)[1:-1]

    return _ACTS.sub(escape, text)


def show_bytes(chunk: bytes) -> bytes:
    """Escape control and direction characters in UTF-8 bytes, to show them on a terminal."""
    text = chunk.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(_show_char(char) if unicodedata.category(char) in ("Cc", "Cf") else char for char in text).encode()


def _show_char(char: str) -> str:
    return char if char in "\n\t" else f"\\u{ord(char):04x}"
