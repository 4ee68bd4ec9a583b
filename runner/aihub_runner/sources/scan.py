"""Scan the files that a spec selects: hash them, and skip those that cannot be sent."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TypeGuard

from msgspec import Struct

from aihub_runner.errors import InputError
from aihub_runner.model import (
    MB,
    RACY_NS,
    Allowed,
    CachedDigest,
    CacheRow,
    Scan,
    SkippedFile,
    Source,
    Stat,
    defer_digest,
)
from aihub_runner.sources.digests import Found, Progress, digest_all
from aihub_runner.sources.disks import Disks
from aihub_runner.sources.exclude import RESULTS_MARKER
from aihub_runner.sources.judge import judge_name, judge_size
from aihub_runner.sources.judged import Judged, Verdict
from aihub_runner.sources.walk import find_files
from aihub_runner.spec.model import Limits, Spec
from aihub_runner.spec.patterns import Globs, anchor_names, expand_pattern, explain_pattern, find_idle_parts
from aihub_runner.spec.urls import is_url

HERE = Allowed()
_AT_ONCE = 1000
# Reasons that a file is skipped for which end only with another name or stat.
_LASTING = frozenset({"empty", "too large", "unsupported type", "name"})


def scan_sources(
    spec: Spec,
    spec_path: Path,
    cache: Iterable[CacheRow],
    *,
    allowed: Allowed = HERE,
    may_be_empty: bool = False,
    now_ns: int,
    on_progress: Progress | None = None,
    selection: Selection | None = None,
    defers: Callable[[str], bool] | None = None,
) -> Scan:
    """Find and hash the files of a spec.

    `cache`, in the order of paths, avoids hashing files with an unchanged stat; `selection`, if these files were just
    selected, another walk at its time. `on_progress` receives files done, total files, bytes done and total bytes, of
    the files to hash. `defers` says which files elsewhere are only hashed as they are sent; never those in the cache.
    Raises InputError if no file matches, unless `may_be_empty`, or if a path leads outside; StateError if a disk cannot
    be read, StoreError if a store cannot. Reads only; may be repeated.
    """
    if not spec.files:
        return Scan((), (), {})
    selection = selection or select_files(spec, spec_path, allowed, now_ns)
    folder, judged, now_ns = selection.folder, selection.judged, selection.now_ns
    skipped, kept = [*selection.skipped], judged.only_files()
    if not len(kept) and not skipped and not may_be_empty:
        raise _nothing(spec, spec_path, folder, len(judged))
    known, outdated = _recall(spec, kept, cache, defers)
    passwords, sources, news = _list_passwords(spec, folder), list[Source](), dict[str, CachedDigest]()
    lasts = all(item.reason in _LASTING for item in skipped)
    wanted = [item for item in (kept[place] for place, digest in enumerate(known) if not digest) if _is_file(item)]
    with closing(_digest_all(spec, selection, wanted, on_progress)) as hashed:
        news_of = zip(wanted, hashed, strict=True)
        for (path, size, mtime_ns, ctime_ns, _), digest in zip(kept.rows(), known, strict=True):
            if digest:
                lasts = lasts and mtime_ns <= now_ns - RACY_NS >= ctime_ns  # as `Stat.is_older`
            else:
                (_, info), found = next(news_of)
                if isinstance(found, SkippedFile):
                    skipped.append(found)
                    outdated.append(path)
                    continue
                now, digest = found
                news[path] = CachedDigest(now, digest, now_ns)
                size, lasts = now.size, lasts and now == info and info.is_older(now_ns)
            sources.append(Source(path, size, digest, _password(path, passwords) if passwords else ""))
    selection.disks.check(f"{folder}/{source.path}" for source in sources)
    busy, idle = find_idle_parts(spec.files, folder, (path for path, item in judged if item))
    identity = selection.identity if lasts and len(sources) == len(kept) else ""
    return Scan(tuple(sources), _in_order(skipped), news, tuple(busy), tuple(idle), identity, tuple(outdated))


def _is_remote(spec: Spec) -> bool:
    return is_url(spec.files[0])


def _recall(
    spec: Spec, kept: Judged, cache: Iterable[CacheRow], defers: Callable[[str], bool] | None
) -> tuple[list[str], list[str]]:
    """Return the known digest of each file, empty if it must be hashed, and the cached paths that are no file.

    A file elsewhere that is only hashed as it is sent has a placeholder for a digest.
    """
    if not (_is_remote(spec) and defers):
        return _find_cached(kept, cache)
    cache = [*cache]
    known, outdated = _find_cached(kept, cache)
    were_hashed = {row[0] for row in cache}
    for place, (path, info) in enumerate(filter(_is_file, kept)):
        if not known[place] and path not in were_hashed and defers(path):
            known[place] = defer_digest(path, info)
    return known, outdated


def _digest_all(
    spec: Spec, selection: Selection, wanted: Sequence[tuple[str, Stat]], on_progress: Progress | None
) -> Generator[Found]:
    """Yield stat and digest of each file, or why it is skipped."""
    if not _is_remote(spec):
        judge = partial(_judge_open, spec.limits)
        return digest_all(judge, selection.folder, wanted, on_progress, selection.disks)
    from aihub_runner.sources.remote import digest_remote

    return digest_remote(spec.limits, wanted, on_progress)


def _is_file(item: tuple[str, Verdict]) -> TypeGuard[tuple[str, Stat]]:
    return isinstance(item[1], Stat)


def _find_cached(kept: Judged, cache: Iterable[CacheRow]) -> tuple[list[str], list[str]]:
    """Return the cached digest of each file, empty if it must be hashed, and the cached paths that are no file.

    A file that was written shortly before it was hashed may have changed again under the same stat, since file times
    are coarse. Both are in the order of paths, so that they need not be in memory at once.
    """
    digests, outdated, rows = list[str](), list[str](), iter(cache)
    row = next(rows, None)
    for path, size, mtime_ns, ctime_ns, inode in kept.rows():
        while row and row[0] < path:
            outdated.append(row[0])
            row = next(rows, None)
        if not row or row[0] != path:
            digests.append("")
            continue
        is_same = row[3:] == (size, mtime_ns, ctime_ns, inode)
        is_known = is_same and mtime_ns <= row[2] - RACY_NS >= ctime_ns  # as `Stat.is_older`
        digests.append(row[1] if is_known else "")
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
        digest, lines = hashlib.sha256(), _render_lines(self.judged)
        while some := "".join(islice(lines, _AT_ONCE)):
            digest.update(some.encode("utf-8", "surrogateescape"))
        digest.update("".join(f"{item!r}\n" for item in _in_order(self.skipped)).encode())
        return digest.hexdigest()


def _render_lines(judged: Judged) -> Iterator[str]:
    if judged.is_plain:
        return (f"{path}\0{size} {mtime} {ctime} {inode}\n" for path, size, mtime, ctime, inode in judged.rows())
    return (
        f"{path}\0{info.size} {info.mtime_ns} {info.ctime_ns} {info.inode}\n"
        if isinstance(info, Stat)
        else f"{path}\0{info!r}\n"
        for path, info in judged
    )


def check_files(spec: Spec, spec_path: Path, allowed: Allowed) -> Scan:
    """Find the files of a spec, the skipped ones, and the patterns that match none, without reading any file.

    Raises InputError like `scan_sources`.
    """
    if not spec.files:
        return Scan((), (), {})
    found = select_files(spec, spec_path, allowed, 0)
    judged, skipped = found.judged, found.skipped
    passwords = _list_passwords(spec, found.folder)
    sources = tuple(
        Source(path, item.size, "", _password(path, passwords)) for path, item in judged if isinstance(item, Stat)
    )
    if not sources and not skipped:
        raise _nothing(spec, spec_path, found.folder, len(judged))
    busy, idle = find_idle_parts(spec.files, found.folder, (path for path, item in judged if item))
    return Scan(sources, _in_order(skipped), {}, tuple(busy), tuple(idle))


def select_files(spec: Spec, spec_path: Path, allowed: Allowed, now_ns: int) -> Selection:
    """Select the files of a spec. Raises InputError, StateError and StoreError as `scan_sources` does."""
    folder, disks = os.path.realpath(spec_path.parent), Disks()
    if _is_remote(spec):
        from aihub_runner.sources.remote import select_remote

        return Selection("", *select_remote(spec, spec_path, allowed.remote), disks, now_ns)
    found = find_files(spec.files, folder, spec_path, allowed.outside)
    judged, skipped = _judge_all(spec.limits, folder, sorted(found.paths), disks)
    return Selection(folder, judged, [*found.skipped, *skipped], disks, now_ns)


def _in_order(skipped: Iterable[SkippedFile]) -> tuple[SkippedFile, ...]:
    return tuple(sorted(skipped, key=lambda item: item.path))


def _nothing(spec: Spec, spec_path: Path, folder: str, ignored: int) -> InputError:
    left = f" except {ignored} of unsupported types, which on_unsupported ignores" if ignored else ""
    if _is_remote(spec):
        return InputError(
            f"{spec_path}: no file matches {', '.join(spec.files)}{left}", "check the bucket and the folders"
        )
    hints = (explain_pattern(pattern) for pattern in spec.files)
    hint = next(filter(None, hints), "check files in the spec, and that the documents exist")
    if os.path.exists(f"{folder}/{RESULTS_MARKER}"):
        hint = f"move the spec out of the results folder, which {RESULTS_MARKER} marks"
    for pattern in spec.files:
        if not pattern.startswith("!") and os.path.isdir(os.path.join(folder, pattern)):
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


def _judge_all(limits: Limits, folder: str, paths: Iterable[str], disks: Disks) -> tuple[Judged, list[SkippedFile]]:
    """Return the files with their stats, why they are skipped, or None if they are ignored; and the skipped ones."""
    judged, skipped = Judged(), list[SkippedFile]()
    fits_bytes = MB * min(limits.file_size_mb, limits.spreadsheet_size_mb)  # of a file with any name
    for path in paths:
        named = judge_name(limits, path)
        verdict: Verdict = named if isinstance(named, SkippedFile) else None
        if named is True:
            try:
                info = os.stat(f"{folder}/{path}")
            except OSError as error:
                verdict = disks.explain(f"{folder}/{path}", path, error)
            else:
                if 0 < info.st_size < fits_bytes and stat.S_ISREG(info.st_mode):
                    judged.add_stat(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
                    continue
                verdict = _judge_open(limits, path, info)
        judged.add(path, verdict)
        skipped += [verdict] if isinstance(verdict, SkippedFile) else []
    return judged, skipped


def _judge_open(limits: Limits, path: str, info: os.stat_result) -> Stat | SkippedFile:
    if not stat.S_ISREG(info.st_mode):
        return SkippedFile(path, "unreadable", "not a regular file")
    return judge_size(limits, path, info.st_size) or Stat.of(info)
