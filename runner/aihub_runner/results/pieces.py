"""Remember which bytes of an output came from which file, so that the next output copies what has not changed.

The outputs themselves hold the pieces. A record says where they begin and end, and is bound to the digest of its output
and of itself: without a record that fits, or after an edit, everything is rendered again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from msgspec import Struct

from aihub_runner.errors import RunnerError
from aihub_runner.files import open_regular, write_file
from aihub_runner.results.kept import KeptFiles
from aihub_runner.results.tables import Form

VERSION = f"2 {sys.byteorder} {array('Q').itemsize}"  # the numbers are written as this machine has them
KEY_BYTES = 16
_CHUNK_BYTES = 1 << 20
_HELD_BYTES = 1 << 16
_BEGIN = 65  # of what a record's first line is the digest of
_NEAR = 100  # files; where a file usually is, if others were added or removed before it
_FEW = 100  # files that may be looked for in all keys, one by one

Sizes = tuple[str, str, Sequence[int]]  # of an output: its digest, what its pieces look like, and their sizes


def _path(folder: Path, kind: str) -> Path:
    return folder / f".aihub-pieces-{kind}"


class Pieces(Struct):
    """The pieces of all outputs of one kind, in the order of the files.

    `keys` identify what each piece was made from. `sizes` has for each output its digest, what its pieces look like,
    and their sizes in bytes, after that of the header. `forms` are the distinct forms of files, `form_of` says which
    one each file has. `warnings` are about files, by position. `plain_runs` have no fields of packets.
    """

    keys: bytes = b""
    sizes: dict[str, Sizes] = {}
    forms: Sequence[Form] = ()
    form_of: Sequence[int] = ()
    warnings: Mapping[int, Sequence[str]] = {}
    plain_runs: frozenset[str] = frozenset()

    def save(self, folder: Path, kind: str) -> None:
        """Write the record. Errors are ignored: without it, the next outputs are rendered again."""
        outputs = [(path, digest, looks) for path, (digest, looks, _) in self.sizes.items()]
        facts = [self.forms, list(self.warnings.items()), sorted(self.plain_runs)]
        columns: list[Sequence[int]] = [self.form_of, *(sizes for _, _, sizes in self.sizes.values())]
        lengths = [len(self.keys), *map(len, columns)]
        header = json.dumps([VERSION, lengths, outputs, *facts], separators=(",", ":")).encode()
        parts: list[bytes | memoryview] = [header, b"\n", self.keys, *map(_as_bytes, columns)]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        with suppress(RunnerError, OSError):
            write_file(_path(folder, kind), [digest.hexdigest().encode(), b"\n", *parts])

    def open_source(self, path: str, looks: str, folder: Path, kept: KeptFiles) -> Source | None:
        """Open the output whose pieces can be copied; None if it was changed, or its pieces look different."""
        digest, found, sizes = self.sizes.get(path, ("", "", ()))
        if not digest or found != looks:
            return None
        try:
            file = open_regular(folder / path)
        except (OSError, RunnerError):
            return None
        is_known = kept.knows(path, os.fstat(file.fileno()), digest)
        if is_known or digest == "sha256:" + hashlib.file_digest(file, "sha256").hexdigest():
            return Source(file, sizes)
        file.close()
        return None


def _as_bytes(column: Sequence[int]) -> memoryview:
    """Return a column as its bytes; those of an array are not copied."""
    return memoryview(column if isinstance(column, array) else array("Q", column)).cast("B")


def load_pieces(folder: Path, kind: str) -> Pieces:
    """Load the record of a kind of outputs; an empty one if there is none that is valid."""
    try:
        with open_regular(_path(folder, kind)) as file:
            if file.read(_BEGIN) == hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n":
                file.seek(_BEGIN)
                return _parse(file)
    except (OSError, ValueError, EOFError, RunnerError):
        pass
    return Pieces()


def _parse(file: BufferedReader) -> Pieces:
    """Read a record that is whole, column by column: they need not be in memory twice."""
    version, *facts = json.loads(file.readline())
    if version != VERSION:
        return Pieces()
    (size, *lengths), outputs, forms, warnings, plain = facts
    keys, columns = file.read(size), list[Sequence[int]]()
    for length in lengths:
        column = array("Q")
        column.fromfile(file, length)
        columns.append(column)
    sizes = {path: (digest, looks, column) for (path, digest, looks), column in zip(outputs, columns[1:], strict=True)}
    return Pieces(keys, sizes, [*map(_as_form, forms)], columns[0], dict(warnings), frozenset(plain))


def _as_form(found: Iterable[Any]) -> Form:
    return tuple((name, tuple(fields)) for name, fields in found)


class Source(Struct):
    """An open output, and the sizes of its pieces, after that of the header."""

    file: BufferedReader
    sizes: Sequence[int]
    _place: int = 0  # in `sizes`, and where it begins in the file: pieces are mostly copied in order
    _begins: int = 0

    def find(self, position: int) -> int:
        """Return where the piece at a position begins."""
        place = position + 1
        if place < self._place:
            self._place = self._begins = 0
        self._begins += sum(self.sizes[self._place : place])
        self._place = place
        return self._begins


class Weaver:
    """Writes an output of pieces: new ones, and copies of old ones, adjacent ones at once."""

    def __init__(self, write: Callable[[bytes], object], source: Source | None) -> None:
        self.source = source
        self.sizes = array("Q")
        self._write = write
        self._start = self._end = 0  # of what is to be copied
        self._held, self._held_bytes = list[bytes](), 0  # small pieces to be written at once

    def add(self, piece: bytes) -> None:
        """Append a new piece."""
        if piece:
            if self._end:
                self.flush()
            self._held.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes >= _HELD_BYTES:
                self.flush()
        self.sizes.append(len(piece))

    def copy(self, position: int, number: int) -> None:
        """Append some old pieces, from a position on."""
        assert self.source
        start, end = self.source.find(position), self.source.find(position + number)
        if start < end:
            if self._held or start != self._end:
                self.flush()
                self._start = start
            self._end = end
        self.sizes.extend(self.source.sizes[position + 1 : position + 1 + number])

    def flush(self) -> None:
        """Write what is held, or copy what was announced."""
        if self._held:
            self._write(b"".join(self._held))
            self._held, self._held_bytes = [], 0
        if self.source and self._start < self._end:
            self.source.file.seek(self._start)
            while left := self._end - self._start:
                chunk = self.source.file.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise OSError("an output became shorter while it was read")
                self._write(chunk)
                self._start += len(chunk)
        self._start = self._end = 0

    def close(self) -> None:
        """Close the old output."""
        if self.source:
            self.source.file.close()


def spans(keys: bytes, old: bytes) -> Iterator[tuple[int, int | None, int]]:
    """Yield where each span of files begins, its old position or None, and the number of its files.

    The files of a span are adjacent, and were. A file without an old position is a span of its own.
    """
    start, finder = 0, _Finder(old)
    while start < len(keys):
        position = finder.find(keys[start : start + KEY_BYTES])
        number = 1 if position is None else _count_same(keys, start, old, position * KEY_BYTES)
        if position is not None:
            finder.near = position + number
        yield start // KEY_BYTES, position, number
        start += number * KEY_BYTES


def find_new(keys: bytes, old: bytes) -> array[int]:
    """Return the positions of the files without an old position."""
    return array("L", (start for start, position, _ in spans(keys, old) if position is None))


def _count_same(keys: bytes, start: int, old: bytes, position: int) -> int:
    """Count the keys that are the same from two places on, many at a time."""
    same, step = 0, KEY_BYTES << 10
    while step >= KEY_BYTES:
        one = keys[start + same : start + same + step]
        if len(one) == step and one == old[position + same : position + same + step]:
            same += step
        else:
            step >>= 1
    return same // KEY_BYTES


class _Finder:
    """Finds keys among old ones, first where the last one was found. A dictionary of all takes 0.1 KB for each."""

    def __init__(self, keys: bytes) -> None:
        self.near = 0
        self._keys, self._misses, self._all = keys, 0, dict[bytes, int]()

    def find(self, key: bytes) -> int | None:
        """Return the position of a key."""
        near = self._search(key, self.near, self.near + _NEAR)
        if near is not None or not self._keys:
            return near
        self._misses += 1
        if self._misses <= _FEW:
            return self._search(key, 0, len(self._keys))
        if not self._all:
            places = range(0, len(self._keys), KEY_BYTES)
            self._all = {self._keys[place : place + KEY_BYTES]: place // KEY_BYTES for place in places}
        return self._all.get(key)

    def _search(self, key: bytes, start: int, end: int) -> int | None:
        place = self._keys.find(key, start * KEY_BYTES, end * KEY_BYTES)
        while place > 0 and place % KEY_BYTES:  # in the middle of two
            place = self._keys.find(key, place + 1, end * KEY_BYTES)
        return None if place < 0 else place // KEY_BYTES


class Forms:
    """Gathers the form of each file's documents. Equal forms are kept once, the first one first."""

    def __init__(self) -> None:
        self.numbers: dict[Form, int] = {}
        self.of = array("Q")

    def add(self, form: Form) -> None:
        """Add the form of the next file."""
        self.of.append(self.numbers.setdefault(form, len(self.numbers)))

    def copy(self, old: Pieces, position: int, number: int) -> None:
        """Add the forms of some files as they were."""
        numbers, known = self.numbers, dict[int, int]()
        for form in old.form_of[position : position + number]:
            if form not in known:
                known[form] = numbers.setdefault(old.forms[form], len(numbers))
            self.of.append(known[form])

    def count(self) -> dict[Form, int]:
        """Return the number of files of each form."""
        counts = Counter(self.of)
        return {form: counts[number] for form, number in self.numbers.items()}
