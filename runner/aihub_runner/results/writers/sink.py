"""The interface of all table writers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aihub_runner.results.tables import Row
from aihub_runner.text.jsontext import render_json

WAITING = ".aihub-runner-"  # prefix of folders for temporary files
_LINE_END = re.compile("[\x85\u2028\u2029]")


class Sink(Protocol):
    """A table that is being written. Methods raise ResultsError if the format cannot hold it, OSError."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what is buffered. Without this call the file is incomplete."""

    def drop(self) -> None:
        """Discard what is not written. May be repeated, and called after `close`."""


def as_line(value: Mapping[str, Any]) -> bytes:
    """Render an object as one line of JSON."""
    return escape_line_ends(render_json(value)).encode() + b"\n"


def escape_line_ends(text: str) -> str:
    """Escape all Unicode line separators in JSON, because some readers split lines there."""
    return text if text.isascii() else _LINE_END.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
