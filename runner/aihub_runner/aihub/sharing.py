"""Read a list once for all who ask for it at the same time: with thousands of batches, it has hundreds of pages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

E = TypeVar("E")


class _Readings(Generic[E]):
    """The readings of one list: how many began, whether one goes on, and the last one that succeeded."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.is_reading = False
        self.entries: list[E] = []


class Sharing(Generic[E]):
    """Lists that several threads read. Nobody receives what was read, even in part, before they asked."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readings: dict[Hashable, _Readings[E]] = {}

    def read(self, key: Hashable, ask: Callable[[], list[E]]) -> list[E]:
        """Return the entries of a list. Only one thread reads it at a time; if it fails, the next one tries."""
        with self._changed:
            readings = self._readings.setdefault(key, _Readings())
            wanted = readings.begun + 1
            while readings.is_reading and readings.ended < wanted:
                self._changed.wait()
            if readings.ended >= wanted:
                return list(readings.entries)
            readings.begun += 1
            number = readings.begun
            readings.is_reading = True
        try:
            entries = ask()
            with self._changed:
                readings.entries, readings.ended = entries, number
            return list(entries)
        finally:
            with self._changed:
                readings.is_reading = False
                self._changed.notify_all()
