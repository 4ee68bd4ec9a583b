"""What a table is written through, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from runner.tables import Row

WAITING = ".aihub-runner-"  # begins the name of a folder where rows wait to be put into a file
_SURROGATE = re.compile("[\ud800-\udfff]")


class File(Protocol):
    """What a table is written to."""

    def write(self, chunk: bytes, /) -> object:
        """Add bytes at the end."""


class Sink(Protocol):
    """A table that is being written. Raises ResultsError where the format cannot hold it, OSError."""

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows at the end."""

    def close(self) -> None:
        """Write what is left; without it the file is not complete."""

    def drop(self) -> None:
        """Give up what has not been written; may be repeated, and after `close`."""


def as_unicode(text: str) -> str:
    """Replace lone surrogates, which no encoding can carry, by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
