"""Progress of an apply, as it is reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Counts:
    """Progress of an apply. `runs` counts runs by their last known status."""

    files_to_send: int = 0
    files_sent: int = 0
    bytes_to_send: int = 0
    bytes_sent: int = 0
    runs_started: int = 0
    runs_fetched: int = 0
    runs: Counter[str] = field(default_factory=Counter)


class Reporter(Protocol):
    """Where progress goes: a terminal, plain lines, or nowhere."""

    def say(self, text: str) -> None:
        """Report a change, in one line."""

    def show(self, counts: Counts) -> None:
        """Show the progress. Called at least about once a second."""

    def digesting(self, files: int, files_total: int, size: int, size_total: int) -> None:
        """Show how much of the local files was read."""

    def close(self) -> None:
        """End the display."""
