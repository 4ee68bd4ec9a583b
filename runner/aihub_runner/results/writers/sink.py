"""What a table is written through, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from aihub_runner.results.tables import Row
from aihub_runner.text.jsontext import render_json

WAITING = ".aihub-runner-"  # begins the name of a folder where rows wait to be put into a file
_LINE_END = re.compile("[\x85\u2028\u2029]")


class Sink(Protocol):
    """A table that is being written. Raises ResultsError where the format cannot hold it, OSError."""

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows at the end."""

    def close(self) -> None:
        """Write what is left; without it the file is not complete."""

    def drop(self) -> None:
        """Return up what has not been written; may be repeated, and after `close`."""


def as_line(value: Mapping[str, Any]) -> bytes:
    """Render an object as one line of JSON, by whatever a reader takes for the end of a line."""
    text = render_json(value)
    if not text.isascii():
        text = _LINE_END.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode() + b"\n"
