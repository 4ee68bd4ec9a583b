"""The interface of all table writers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aihub_runner.results.tables import Row
from aihub_runner.text.jsontext import render_quickly

WAITING = ".aihub-runner-"  # prefix of folders for temporary files
_LINE_END = re.compile(b"\xc2\x85|\xe2\x80[\xa8\xa9]")  # U+0085, U+2028, U+2029 in UTF-8


class Sink(Protocol):
    """A table that is being written. Methods raise ResultsError if the format cannot hold it, OSError."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Write what is buffered. Without this call the file is incomplete."""

    def drop(self) -> None:
        """Discard what is not written. May be repeated, and called after `close`."""


def as_line(value: Mapping[str, Any]) -> bytes:
    """Render an object that was read from JSON as one line of it."""
    return escape_line_ends(render_quickly(value)) + b"\n"


def escape_line_ends(line: bytes) -> bytes:
    """Escape all Unicode line separators in JSON, because some readers split lines there."""
    return line if line.isascii() else _LINE_END.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), line)
