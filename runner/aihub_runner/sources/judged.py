"""Many files, each with its stat or why it is skipped, in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from msgspec.structs import astuple

from aihub_runner.model import SkippedFile, Stat

Verdict = Stat | SkippedFile | None  # None if the file is ignored
Row = tuple[str, int, int, int, int]  # a path and its stat
_NOTHING = [0, 0, 0, 0]


class Judged:
    """Paths with verdicts, in order. A stat takes 32 bytes here; an object with its numbers takes 176."""

    def __init__(self, items: Iterable[tuple[str, Verdict]] = ()) -> None:
        self._paths: list[str] = []
        self._numbers = array("q")
        self._others: dict[int, Verdict] = {}  # by position: verdicts that are no four numbers of 64 bits
        for path, verdict in items:
            self.add(path, verdict)

    def add(self, path: str, verdict: Verdict) -> None:
        """Append a file."""
        if isinstance(verdict, Stat):
            self.add_stat(path, *astuple(verdict))
        else:
            self._add_other(path, verdict)

    def add_stat(self, path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> None:
        """Append a file with its stat."""
        try:
            self._numbers.fromlist([size, mtime_ns, ctime_ns, inode])  # all of them, or none
        except OverflowError:
            self._add_other(path, Stat(size, mtime_ns, ctime_ns, inode))
        else:
            self._paths.append(path)

    def _add_other(self, path: str, verdict: Verdict) -> None:
        self._others[len(self._paths)] = verdict
        self._paths.append(path)
        self._numbers.fromlist(_NOTHING)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, place: int) -> tuple[str, Verdict]:
        if place in self._others:
            return self._paths[place], self._others[place]
        return self._paths[place], Stat(*self._numbers[4 * place : 4 * place + 4])

    def __iter__(self) -> Iterator[tuple[str, Verdict]]:
        for place, (path, *numbers) in enumerate(self.rows()):
            yield path, self._others[place] if place in self._others else Stat(*numbers)

    def rows(self) -> Iterator[Row]:
        """Yield path and stat of each file: without objects, it takes half the time. Other verdicts are zeros."""
        numbers = iter(self._numbers)
        return zip(self._paths, numbers, numbers, numbers, numbers, strict=True)

    @property
    def is_plain(self) -> bool:
        """Whether `rows` says all: every file has a stat."""
        return not self._others

    def only_files(self) -> Judged:
        """Return those that have a stat."""
        return self if self.is_plain else Judged(item for item in self if isinstance(item[1], Stat))

    def clear(self) -> None:
        """Forget all files."""
        self.__init__()  # type: ignore[misc]
