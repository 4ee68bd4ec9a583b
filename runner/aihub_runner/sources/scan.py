"""Scan the local files that a spec selects: hash them, and skip those that cannot be sent."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TypeGuard

from msgspec import Struct

from aihub_runner.errors import InputError
from aihub_runner.model import MB, CachedDigest, CacheRow, Scan, SkippedFile, Source, Stat
from aihub_runner.sources.digests import Progress, digest_all
from aihub_runner.sources.disks import Disks
from aihub_runner.sources.exclude import RESULTS_MARKER
from aihub_runner.sources.walk import find_files
from aihub_runner.spec.model import Limits, Spec
from aihub_runner.spec.patterns import Globs, anchor_names, expand_pattern, explain_pattern, find_idle_parts
from aihub_runner.text.escape import escape_control_chars, has_control_chars

_SUPPORTED = """
    .bat .bashc .c .cc .chtml .cmake .cmd .cpp .cs .css .csv .cxx .cy .dockerfile .doc .docx .eml .gdoc .go .gsheet
    .gslides .h++ .hpp .html .java .jpeg .jpg .js .json .mht .mhtml .mkfile .msg .pdf .perl .php .plsql .png .pptx .py
    .pxi .pyx .r .rd .rs .rtf .ruby .tif .tiff .ts .txt .xls .xlsx .xml .yaml .yml .zsh
"""
SUPPORTED = frozenset(_SUPPORTED.split())
SPREADSHEETS = frozenset({".csv", ".xls", ".xlsx"})
_AT_ONCE = 1000
# Reasons that a file is skipped for which end only with another name or stat.
_LASTING = frozenset({"empty", "too large", "unsupported type", "name"})

Judged = list[tuple[str, Stat | SkippedFile | None]]


def scan_sources(
    spec: Spec,
    spec_path: Path,
    cache: Iterable[CacheRow],
    *,
    allow_outside: bool = False,
    may_be_empty: bool = False,
    now_ns: int,
    on_progress: Progress | None = None,
    selection: Selection | None = None,
) -> Scan:
    """Find and hash the files of a spec.

    `cache`, in the order of paths, avoids hashing files with an unchanged stat; `selection`, if these files were just
    selected, another walk at its time. `on_progress` receives files done, total files, bytes done and total bytes, of
    the files to hash. Raises InputError if no file matches, unless `may_be_empty`, or if a path leads outside;
    StateError if a disk cannot be read. Reads only; may be repeated.
    """
    if not spec.files:
        return Scan((), (), {})
    selection = selection or select_files(spec, spec_path, allow_outside, now_ns)
    folder, judged, skipped = selection.folder, selection.judged, [*selection.skipped]
    now_ns, disks = selection.now_ns, selection.disks
    kept = [item for item in judged if _can_be_sent(item)]
    if not kept and not skipped and not may_be_empty:
        raise _nothing(spec, spec_path, folder, len(judged))
    known, outdated = _find_cached(kept, cache)
    passwords, sources, news = _list_passwords(spec, folder), list[Source](), dict[str, CachedDigest]()
    lasts = all(item.reason in _LASTING for item in skipped)
    digested = digest_all(partial(_judge_open, spec.limits), folder, kept, known, on_progress, disks)
    for (path, info), cached, found in zip(kept, known, digested, strict=True):
        if isinstance(found, SkippedFile):
            skipped.append(found)
            outdated.append(path)
            continue
        if not cached:
            news[path] = CachedDigest(*found, now_ns)
        lasts = lasts and found[0] == info and info.is_older(now_ns)
        sources.append(Source(path, found[0].size, found[1], _password(path, passwords) if passwords else ""))
    disks.check(f"{folder}/{source.path}" for source in sources)
    busy, idle = find_idle_parts(spec.files, folder, (path for path, item in judged if item))
    return Scan(
        tuple(sources),
        _in_order(skipped),
        news,
        tuple(busy),
        tuple(idle),
        selection.identity if lasts and len(sources) == len(kept) else "",
        tuple(outdated),
    )


def _can_be_sent(item: tuple[str, Stat | SkippedFile | None]) -> TypeGuard[tuple[str, Stat]]:
    return isinstance(item[1], Stat)


def _find_cached(kept: Iterable[tuple[str, Stat]], cache: Iterable[CacheRow]) -> tuple[list[str], list[str]]:
    """Return the cached digest of each file, empty if it must be hashed, and the cached paths that are no file.

    A file that was written shortly before it was hashed may have changed again under the same stat, since file times
    are coarse. Both are in the order of paths, so that they need not be in memory at once.
    """
    digests, outdated, rows = list[str](), list[str](), iter(cache)
    row = next(rows, None)
    for path, found in kept:
        while row and row[0] < path:
            outdated.append(row[0])
            row = next(rows, None)
        is_known = row is not None and row[0] == path and row[3:] == found and found.is_older(row[2])
        digests.append(row[1] if row and is_known else "")
        if row and row[0] == path:
            row = next(rows, None)
    if row:
        outdated += [row[0], *(row[0] for row in rows)]
    return digests, outdated


class Selection(Struct, frozen=True, dict=True):
    """The files of a spec, each with its stat or why it is skipped, and the folders that cannot be listed.

    `now_ns` is a time before. No file is read.
    """

    folder: str
    judged: Judged
    skipped: Sequence[SkippedFile]
    disks: Disks
    now_ns: int

    @cached_property
    def identity(self) -> str:
        """The digest of all paths and stats, as in `Scan.identity`."""
        digest, judged = hashlib.sha256(), self.judged
        for start in range(0, len(judged), _AT_ONCE):
            digest.update("".join(map(_line, judged[start : start + _AT_ONCE])).encode("utf-8", "surrogateescape"))
        digest.update("".join(f"{item!r}\n" for item in _in_order(self.skipped)).encode())
        return digest.hexdigest()


def _line(item: tuple[str, Stat | SkippedFile | None]) -> str:
    path, info = item
    if isinstance(info, Stat):
        return f"{path}\0{info.size} {info.mtime_ns} {info.ctime_ns} {info.inode}\n"
    return f"{path}\0{info!r}\n"


def check_files(spec: Spec, spec_path: Path, allow_outside: bool) -> Scan:
    """Find the files of a spec, the skipped ones, and the patterns that match none, without reading any file.

    Raises InputError like `scan_sources`.
    """
    if not spec.files:
        return Scan((), (), {})
    found = select_files(spec, spec_path, allow_outside, 0)
    judged, skipped = found.judged, found.skipped
    passwords = _list_passwords(spec, found.folder)
    sources = tuple(
        Source(path, item.size, "", _password(path, passwords)) for path, item in judged if isinstance(item, Stat)
    )
    if not sources and not skipped:
        raise _nothing(spec, spec_path, found.folder, len(judged))
    busy, idle = find_idle_parts(spec.files, found.folder, (path for path, item in judged if item))
    return Scan(sources, _in_order(skipped), {}, tuple(busy), tuple(idle))


def select_files(spec: Spec, spec_path: Path, allow_outside: bool, now_ns: int) -> Selection:
    """Select the files of a spec. Raises InputError, StateError as `scan_sources` does."""
    folder, disks = os.path.realpath(spec_path.parent), Disks()
    found = find_files(spec.files, folder, spec_path, allow_outside)
    judged: Judged = [(path, _judge(spec.limits, folder, path, disks)) for path in sorted(found.paths)]
    skipped = [*found.skipped, *(item for _, item in judged if isinstance(item, SkippedFile))]
    return Selection(folder, judged, skipped, disks, now_ns)


def _in_order(skipped: Iterable[SkippedFile]) -> tuple[SkippedFile, ...]:
    return tuple(sorted(skipped, key=lambda item: item.path))


def _nothing(spec: Spec, spec_path: Path, folder: str, ignored: int) -> InputError:
    left = f" except {ignored} of unsupported types, which on_unsupported ignores" if ignored else ""
    hints = (explain_pattern(pattern) for pattern in spec.files)
    hint = next(filter(None, hints), "check files in the spec, and that the documents exist")
    if Path(folder, RESULTS_MARKER).exists():
        hint = f"move the spec out of the results folder, which {RESULTS_MARKER} marks"
    for pattern in spec.files:
        if not pattern.startswith("!") and Path(folder, pattern).is_dir():
            hint = f'set files = "{pattern.rstrip("/")}/**" to match the files in that folder'
    return InputError(f"{spec_path}: no file matches {', '.join(spec.files)} in {folder}{left}", hint)


def _list_passwords(spec: Spec, folder: str) -> list[tuple[Globs, str]]:
    return [
        (Globs([anchor_names(names, folder) for names in expand_pattern(pattern)], hidden=True), ref.env)
        for pattern, ref in spec.run.pdf_passwords.items()
    ]


def _password(path: str, passwords: Iterable[tuple[Globs, str]]) -> str:
    if not path.lower().endswith(".pdf"):
        return ""
    return next((variable for globs, variable in passwords if globs.matches(path)), "")


# One file


def _judge(limits: Limits, folder: str, path: str, disks: Disks) -> Stat | SkippedFile | None:
    """Return the stat of a file, why it is skipped, or None if it is ignored."""
    if not (path.isascii() and path.isprintable()) and (unfit := _unfit_name(path)):
        return unfit
    suffix = _suffix(path)
    if suffix not in SUPPORTED and limits.on_unsupported != "send":
        ignored = limits.on_unsupported == "ignore"
        return None if ignored else SkippedFile(path, "unsupported type", suffix or "no extension")
    try:
        info = os.stat(f"{folder}/{path}")
    except OSError as error:
        return disks.explain(f"{folder}/{path}", path, error)
    return _judge_stat(limits, path, suffix, info)


def _suffix(path: str) -> str:
    dot, slash = path.rfind("."), path.rfind("/")
    if dot > slash + 1 and path[slash + 1] != ".":
        return path[dot:].lower()
    return os.path.splitext(path[slash + 1 :])[1].lower()


def _unfit_name(path: str) -> SkippedFile | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        return SkippedFile(escape_control_chars(shown), "name", "the name is not UTF-8")
    if has_control_chars(path):
        return SkippedFile(escape_control_chars(path), "name", "the name contains control characters")
    return None


def _judge_open(limits: Limits, path: str, info: os.stat_result) -> Stat | SkippedFile:
    return _judge_stat(limits, path, _suffix(path), info)


def _judge_stat(limits: Limits, path: str, suffix: str, info: os.stat_result) -> Stat | SkippedFile:
    size = info.st_size
    if not stat.S_ISREG(info.st_mode):
        return SkippedFile(path, "unreadable", "not a regular file")
    if size == 0:
        return SkippedFile(path, "empty")
    if suffix in SPREADSHEETS and size >= limits.spreadsheet_size_mb * MB:
        return SkippedFile(
            path, "too large", f"{size} bytes, spreadsheets must be under {limits.spreadsheet_size_mb:g} MB"
        )
    if size > limits.file_size_mb * MB:
        return SkippedFile(path, "too large", f"{size} bytes, at most {limits.file_size_mb:g} MB")
    return Stat.of(info)
