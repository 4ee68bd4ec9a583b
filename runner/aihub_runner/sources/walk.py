"""Walk the folders that can contain a match, and find the files that the patterns select."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from aihub_runner.model import SkippedFile
from aihub_runner.sources import exclude
from aihub_runner.sources.disks import disk_error, is_of_disk
from aihub_runner.spec.patterns import State, compile_globs, name_exactly
from aihub_runner.system.shortage import explain_shortage


class Found(Struct, frozen=True):
    """The paths of the selected files, relative to the spec's folder, and the folders that cannot be listed."""

    paths: set[str]
    skipped: set[SkippedFile]


class _Place(NamedTuple):
    """A folder, relative to the spec's, and its state in the including and excluding patterns."""

    path: str
    take: State
    leave: State


def find_files(patterns: Iterable[str], folder: str, spec_path: Path, allow_outside: bool) -> Found:
    """Find the files that patterns select, except for our own files.

    `folder` is the spec's, absolute and without symlinks. `**` and wildcards do not enter symlinked folders, so that
    no file is found twice. A pattern that names such a folder does. Raises InputError with all paths that lead outside.
    """
    patterns = list(patterns)
    absolute = {one for one in patterns if one.startswith("/") and not allow_outside}
    walk = _Walk([one for one in patterns if one not in absolute], folder, spec_path, allow_outside)
    outside = walk.run() | absolute
    if outside:
        raise exclude.lead_outside(spec_path, "files", outside)
    return walk.found


class _Walk:
    def __init__(self, patterns: list[str], folder: str, spec_path: Path, allow_outside: bool) -> None:
        self.folder, self.own = folder, spec_path.name
        self.take, self.leave = compile_globs(patterns, folder)
        self.exact = name_exactly(patterns)
        self.tree = exclude.find_work_tree(spec_path.parent)
        self.allow_outside = allow_outside
        self.found = Found(set(), set())
        self.outside: set[str] = set()

    def run(self) -> set[str]:
        """Walk. Return the paths that lead outside without permission."""
        seen: set[str] = set()
        for prefix in self.take.prefixes:
            stack = self._go_to(prefix)
            while stack:
                place = stack.pop()
                if place.path not in seen:
                    seen.add(place.path)
                    stack += self._list(place)
        return self.outside

    def _go_to(self, prefix: tuple[str, ...]) -> list[_Place]:
        """Return the start of a walk, reached by names alone. Its parent folders need not be readable."""
        place = _Place("", self.take.start(), self.leave.start())
        if prefix[:1] != ("..",) and os.path.lexists(f"{self.folder}/{exclude.RESULTS_MARKER}"):
            return []
        for name in prefix:
            path = f"{self.folder}/{place.path}/{name}"
            entered = self._enter(place, name, linked=name != ".." and os.path.islink(path))
            if entered is None:
                return []
            place = entered
        return [place] if self._may_go(place.path) else []

    def _may_go(self, path: str) -> bool:
        if not self.allow_outside and exclude.is_outside(Path(self.folder, path), self.tree):
            self.outside.add(path)
            return False
        return True

    def _enter(self, place: _Place, name: str, *, linked: bool = False) -> _Place | None:
        """Step into a folder. Returns None if nothing below it can be a source."""
        plain = _nfc(name)
        take = self.take.enter(place.take, plain, linked=linked)
        if not take or (exclude.is_litter_folder(name) and plain not in self.exact):
            return None
        path = _join(place.path, name)
        leave = self._leave_at(path) if ".." in path else self.leave.enter(place.leave, plain)
        if self.leave.takes_all(leave) or (name != ".." and exclude.is_own_folder(f"{self.folder}/{path}")):
            return None
        if linked and (self._leads_to_own(path) or not self._may_go(path)):
            return None
        return _Place(path, take, leave)

    def _leads_to_own(self, path: str) -> bool:
        return exclude.leads_to_own(os.path.realpath(f"{self.folder}/{path}"), self.tree)

    def _leave_at(self, path: str) -> State:
        """Return the state of a folder in the excluding patterns, by its path as reached and as normalised."""
        found: State = frozenset()
        for names in (path, self._write(path)):
            state = self.leave.start()
            for name in names.split("/") if names else ():
                state = self.leave.enter(state, _nfc(name))
            found |= state
        return found

    def _write(self, path: str) -> str:
        """Normalise a path: `../specs/a` from within `specs` is `a`."""
        if ".." not in path:
            return path
        written = posixpath.relpath(posixpath.normpath(f"{self.folder}/{path}"), self.folder)
        return "" if written == "." else written

    def _list(self, place: _Place) -> list[_Place]:
        """Collect the selected files of a folder. Return the folders to walk next."""
        try:
            with explain_shortage(), os.scandir(f"{self.folder}/{place.path}") as entries:
                listed = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            shown = f"{self._write(place.path) or '.'}/"
            if is_of_disk(error):  # it may affect several files
                raise disk_error(shown, error.strerror or str(error)) from error
            self.found.skipped.add(SkippedFile(shown, "unreadable", f"folder, {error.strerror}"))
            return []
        written, below = self._write(place.path), []
        start = f"{written}/" if written else ""
        takes, leaves = self.take.files_in(place.take), self.leave.files_in(place.leave)
        for entry in listed:
            name, is_link = entry.name, entry.is_symlink()
            if not is_link and _is_folder(entry):
                below.append(self._enter(place, name))
            elif is_link and os.path.isdir(entry.path):
                below.append(self._enter(place, name, linked=True))
            elif not is_link and name != self.own and exclude.is_plain(name):  # most files
                if takes(name) and not leaves(name):
                    self.found.paths.add(start + name)
            elif self._selects(place, entry):
                self.found.paths.add(start + name)
        return [one for one in below if one]

    def _selects(self, place: _Place, entry: os.DirEntry[str]) -> bool:
        plain = exclude.is_plain(entry.name)
        name = entry.name if plain else _nfc(entry.name)
        if not self.take.files_in(place.take)(name) or self.leave.files_in(place.leave)(name):
            return False
        if not plain and (exclude.is_own_name(name) or (exclude.is_litter(name) and name not in self.exact)):
            return False
        if name == self.own and not self._write(place.path):
            return False
        if entry.is_symlink():
            path = _join(place.path, entry.name)
            return not self._leads_to_own(path) and self._may_go(path)
        return plain or not (name.lower().endswith(".toml") and exclude.is_spec(entry.path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, not a link to one. If that is unknown, reading it reports the error."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _nfc(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)
