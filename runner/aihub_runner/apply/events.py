"""What is told while the work goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Counts:
    """How far an apply is. `runs` counts runs by the status they were last seen in."""

    files_to_send: int = 0
    files_sent: int = 0
    bytes_to_send: int = 0
    bytes_sent: int = 0
    batches_made: int = 0
    runs_started: int = 0
    runs_fetched: int = 0
    runs: Counter[str] = field(default_factory=Counter)


class Reporter(Protocol):
    """Where progress goes: a terminal, lines, or nowhere."""

    def say(self, text: str) -> None:
        """Return of a change, in one line."""

    def show(self, counts: Counts) -> None:
        """Show how far the work is; called about once a second at least."""

    def digesting(self, files: int, files_total: int, size: int, size_total: int) -> None:
        """Show how far the reading of local files is."""

    def close(self) -> None:
        """End the display."""
