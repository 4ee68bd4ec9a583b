"""Remember which bytes of an output came from which file, so that the next output copies what has not changed.

The outputs themselves hold the pieces. A record says where they begin and end, and is bound to the digest of its output
and of itself: without a record that fits, or after an edit, everything is rendered again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct

from aihub_runner.errors import RunnerError
from aihub_runner.files import open_regular, read_regular, write_file
from aihub_runner.results.tables import Form

VERSION = 1
_CHUNK_BYTES = 1 << 20


def _path(folder: Path, kind: str) -> Path:
    return folder / f".aihub-pieces-{kind}"


class Pieces(Struct):
    """The pieces of all outputs of one kind, in the order of the files.

    `keys` identify what each piece was made from. `sizes` has for each output its digest, what its pieces look like,
    and their sizes in bytes, after that of the header. `forms` are the distinct forms of files, `form_of` says which
    one each file has. `warnings` are about files, by position. `plain_runs` have no fields of packets.
    """

    keys: Sequence[str] = ()
    sizes: dict[str, tuple[str, str, Sequence[int]]] = {}
    forms: list[Form] = []
    form_of: list[int] = []
    warnings: dict[int, list[str]] = {}
    plain_runs: frozenset[str] = frozenset()

    def save(self, folder: Path, kind: str) -> None:
        """Write the record. Errors are ignored: without it, the next outputs are rendered again."""
        parts = [self.keys, self.sizes, self.forms, self.form_of, list(self.warnings.items()), sorted(self.plain_runs)]
        body = json.dumps([VERSION, *parts], separators=(",", ":")).encode()
        with suppress(RunnerError, OSError):
            write_file(_path(folder, kind), [hashlib.sha256(body).hexdigest().encode(), b"\n", body])

    def positions(self) -> dict[str, int]:
        """Return the position of each key."""
        return {key: position for position, key in enumerate(self.keys)}

    def open_source(self, path: str, looks: str, folder: Path) -> Source | None:
        """Open the output whose pieces can be copied; None if it was changed, or its pieces look different."""
        digest, found, sizes = self.sizes.get(path, ("", "", ()))
        if not digest or found != looks:
            return None
        try:
            file = open_regular(folder / path)
        except (OSError, RunnerError):
            return None
        if digest == "sha256:" + hashlib.file_digest(file, "sha256").hexdigest():
            return Source(file, [*accumulate(sizes)])
        file.close()
        return None


def load_pieces(folder: Path, kind: str) -> Pieces:
    """Load the record of a kind of outputs; an empty one if there is none that is valid."""
    try:
        digest, _, body = read_regular(_path(folder, kind)).partition(b"\n")
        if digest.decode() == hashlib.sha256(body).hexdigest():
            version, keys, sizes, forms, form_of, warnings, plain = json.loads(body)
            if version == VERSION:
                return Pieces(keys, sizes, [*map(_as_form, forms)], form_of, dict(warnings), frozenset(plain))
    except (OSError, ValueError, RunnerError):
        pass
    return Pieces()


def _as_form(found: Iterable[Any]) -> Form:
    return tuple((name, tuple(fields)) for name, fields in found)


class Source(Struct, frozen=True):
    """An open output. The piece at a position is between that one and the next one of `ends`."""

    file: BufferedReader
    ends: Sequence[int]


class Weaver:
    """Writes an output of pieces: new ones, and copies of old ones, adjacent ones at once."""

    def __init__(self, write: Callable[[bytes], object], source: Source | None) -> None:
        self.source = source
        self.sizes: list[int] = []
        self._write = write
        self._start = self._end = 0  # of what is to be copied

    def add(self, piece: bytes) -> None:
        """Append a new piece."""
        if piece:
            self.flush()
            self._write(piece)
        self.sizes.append(len(piece))

    def copy(self, position: int, number: int) -> None:
        """Append some old pieces, from a position on."""
        assert self.source
        ends = self.source.ends[position : position + number + 1]
        start, end = ends[0], ends[-1]
        if start < end:
            if start != self._end:
                self.flush()
                self._start = start
            self._end = end
        self.sizes += [after - before for before, after in pairwise(ends)]

    def flush(self) -> None:
        """Copy what was announced."""
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


def spans(keys: Sequence[str], known: Mapping[str, int]) -> Iterator[tuple[int, int | None, int]]:
    """Yield where each span of files begins, its old position or None, and the number of its files.

    The files of a span are adjacent, and were. A file without an old position is a span of its own.
    """
    start = 0
    while start < len(keys):
        position, end = known.get(keys[start]), start + 1
        if position is not None:
            while end < len(keys) and known.get(keys[end]) == position + end - start:
                end += 1
        yield start, position, end - start
        start = end


class Forms(Struct):
    """Gathers the form of each file's documents. Equal forms are kept once."""

    numbers: dict[Form, int] = {}
    of: list[int] = []

    def add(self, form: Form) -> None:
        """Add the form of the next file."""
        self.of.append(self.numbers.setdefault(form, len(self.numbers)))


def known_forms(pieces: Pieces) -> Mapping[str, Form]:
    """Return the forms that a record knows, by key."""
    return {key: pieces.forms[number] for key, number in zip(pieces.keys, pieces.form_of, strict=True)}
