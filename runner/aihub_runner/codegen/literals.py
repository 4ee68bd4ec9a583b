"""Write values as literals of a language. Everything in a generated script that is not ours goes through here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from aihub_runner.text.escape import ACTS, escape_control_chars, escape_for_json


class Code(str):
    """Text that is safe to be part of a script."""

    __slots__ = ()


def python_literal(value: Any, indent: str = "") -> Code:
    """Return a value as Python writes it, each entry of a dictionary on a line of its own."""
    if not isinstance(value, dict) or not value:
        return Code(repr(value))
    inner = f"{indent}    "
    lines = (f"{inner}{name!r}: {python_literal(entry, inner)},\n" for name, entry in value.items())
    return Code(f"{{\n{''.join(lines)}{indent}}}")


def json_literal(value: Any) -> Code:
    """Return a value as JSON, which JavaScript reads, too. Characters that act unseen are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict) and value else None)
    return Code(escape_for_json(text, keep="\n"))


def shell_literal(value: Any) -> Code:
    """Return a word of the shell: a text as it is, any other value as JSON."""
    text = value if isinstance(value, str) else json_literal(value)
    if not ACTS.search(text.replace("\n", "")):
        return Code(shlex.quote(text))
    return Code(f"$'{''.join(map(_escape_byte, text.encode()))}'")


def _escape_byte(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"


def comment(text: str) -> Code:
    """Return a text as one line of a comment."""
    return Code(escape_control_chars(text))


LITERALS: dict[str, Callable[[Any], Code]] = {
    "python-sdk": python_literal,
    "python": python_literal,
    "curl": shell_literal,
    "javascript": json_literal,
}
