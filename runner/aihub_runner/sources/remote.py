"""Select and hash files elsewhere: those below URLs that a spec names. All reading goes through `stores`."""

from __future__ import annotations

import hashlib
import os
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from aihub_runner.errors import InputError, Interrupted
from aihub_runner.model import MB, SkippedFile, Stat
from aihub_runner.sources import exclude
from aihub_runner.sources.judge import judge_name, judge_size
from aihub_runner.sources.judged import Judged, Verdict
from aihub_runner.sources.stores import (
    Entry,
    Object,
    ObjectChanged,
    Pause,
    Refused,
    check_installed,
    has_folders,
    list_all,
    list_folder,
    split_ranges,
)
from aihub_runner.spec.model import Limits, Spec
from aihub_runner.spec.patterns import ANY_FOLDERS, Matcher, compile_globs, expand_pattern, name_exactly
from aihub_runner.spec.urls import is_below, list_roots, place_of
from aihub_runner.text.escape import escape_control_chars

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aihub_runner.sources.digests import Found, Progress

READERS = 16  # files that are read at once: a store answers late
RANGE_BYTES = 4 * MB
TRIES = 3
LOOK_EVERY_S = 0.2

Item = tuple[str, Stat]


def select_remote(spec: Spec, spec_path: Path, allowed: Collection[str]) -> tuple[Judged, list[SkippedFile]]:
    """Return the files elsewhere that a spec selects, by URL, each with its stat or why it is skipped, and the skipped.

    Raises InputError for a place that is not allowed; StoreError.
    """
    roots = list_roots(spec.files)
    _check_allowed(spec_path, roots, allowed)
    check_installed(place_of(roots[0]))
    find = _Find(spec, allowed)
    for root in roots:
        for form in dict.fromkeys((root, unicodedata.normalize("NFD", root))):  # macOS writes names so
            find.look_at(form)
    judged = sorted(find.judged.items())
    return Judged(judged), [item for _, item in judged if isinstance(item, SkippedFile)] + find.skipped


def _check_allowed(spec_path: Path, roots: Iterable[str], allowed: Collection[str]) -> None:
    """Raise InputError for places that were not allowed on the command line. A spec may come from a pull request."""
    refused = [root for root in roots if not any(is_below(root, prefix) for prefix in allowed)]
    if refused:
        how = " ".join(f"--allow-remote {root}" for root in refused)
        shown = escape_control_chars(", ".join(refused))
        raise InputError(
            f"{spec_path}: files reads from elsewhere, {shown}", f"pass {escape_control_chars(how)} to allow it"
        )
    for root in roots:
        _check_links(spec_path, root, allowed)


def _check_links(spec_path: Path, root: str, allowed: Collection[str]) -> None:
    """Raise InputError for a folder on this machine that is reached by a link from an allowed one."""
    if not root.startswith("file://"):
        return
    real = f"file://{os.path.realpath(root.removeprefix('file://'))}"
    real_allowed = {
        f"file://{os.path.realpath(one.removeprefix('file://'))}" for one in allowed if one.startswith("file:")
    }
    if not any(is_below(real, prefix) for prefix in real_allowed):
        raise InputError(f"{spec_path}: {root} is a link to {real}", f"pass --allow-remote {real} to allow it")


class _Find:
    """Finds the files below roots."""

    def __init__(self, spec: Spec, allowed: Collection[str]) -> None:
        self.judged: dict[str, Verdict] = {}
        self.skipped: list[SkippedFile] = []
        self._limits = spec.limits
        self._take, self._leave = compile_globs(spec.files, "/")
        self._takes, self._leaves = Matcher(self._take), Matcher(self._leave)
        self._exact = name_exactly(spec.files)
        self._is_deep = any(
            ANY_FOLDERS in names for one in spec.files for names in expand_pattern(one.removeprefix("!"))
        )
        self._own: dict[str, bool] = {}  # by folder

    def look_at(self, root: str) -> None:
        """Look at all files below a folder that may match."""
        if self._is_deep and not has_folders(root):
            self._take_keys(list_all(root, time.sleep))
            return
        stack = [] if self._is_own(root) else [root]
        while stack:
            url = stack.pop()
            stack += self._list(url)

    def _take_keys(self, entries: Iterable[Entry]) -> None:
        found = list(entries)
        results = _find_marked(found)
        for entry in found:
            if not (results and _is_in(entry.url, results)):
                self._consider(entry)

    def _list(self, url: str) -> list[str]:
        """Consider the files of a folder, and return the folders in it where others may match."""
        try:
            found = list_folder(url, time.sleep)
        except Refused as error:
            if not has_folders(url):
                raise
            self.skipped.append(SkippedFile(f"{escape_control_chars(url)}/", "unreadable", f"folder, {error.reason}"))
            return []
        if found is None or _find_marked(found.files):
            return []
        for entry in found.files:
            self._consider(entry)
        return [one for one in found.folders if self._may_hold(one)]

    def _may_hold(self, url: str) -> bool:
        """Whether files in a folder may match."""
        take, leave = self._take.start(), self._leave.start()
        for name in _names(url):
            take, leave = self._take.enter(take, name), self._leave.enter(leave, name)
        return bool(take) and not self._leave.takes_all(leave) and not self._is_own(url)

    def _is_own(self, folder: str) -> bool:
        """Whether a folder is, or is in, one that holds no documents."""
        if folder not in self._own:
            above, _, name = folder.rpartition("/")
            is_own = name.lower() == ".git" or name.lower().startswith(".env")
            is_own = is_own or (exclude.is_litter_folder(name) and name not in self._exact)
            is_own = is_own or (folder.startswith("file://") and exclude.is_own_folder(folder.removeprefix("file://")))
            self._own[folder] = is_own or ("://" in above and self._is_own(above))
        return self._own[folder]

    def _consider(self, entry: Entry) -> None:
        """Judge a file if a pattern selects it."""
        plain = "/".join(_names(entry.url))  # as patterns see it, also where its key is none that can be sent
        name = plain.rpartition("/")[2]
        if not self._takes.matches(plain) or self._leaves.matches(plain) or self._is_own(entry.url.rpartition("/")[0]):
            return
        if exclude.is_own_name(name) or (exclude.is_litter(name) and name not in self._exact):
            return
        if entry.url.endswith("/") and not entry.stat.size:
            return  # the mark of a folder
        verdict = _judge(self._limits, entry)
        key = verdict.path if isinstance(verdict, SkippedFile) else entry.url
        self.judged[key] = verdict


def _find_marked(entries: Iterable[Entry]) -> set[str]:
    """Return the folders of results among those of files: they hold a marker."""
    places = (entry.url.rpartition("/") for entry in entries)
    return {folder for folder, _, name in places if name == exclude.RESULTS_MARKER}


def _names(url: str) -> list[str]:
    """Return the names in a URL, beginning with its scheme, without empty ones."""
    return [name for name in url.split("/") if name not in ("", ".", "..")]


def _is_in(url: str, folders: Collection[str]) -> bool:
    while "/" in url:
        url = url.rpartition("/")[0]
        if url in folders:
            return True
    return False


def _judge(limits: Limits, entry: Entry) -> Stat | SkippedFile | None:
    """Return the stat of a file, why it is skipped, or None if it is ignored."""
    verdict = judge_name(limits, entry.url)
    if entry.detail and verdict:
        return verdict if isinstance(verdict, SkippedFile) and verdict.reason == "name" else _unreadable(entry)
    if verdict is not True:
        return verdict or None
    names = entry.url.partition("://")[2].removeprefix("/").split("/")
    if {"", ".", ".."} & {*names}:
        return SkippedFile(entry.url, "name", "the key has an empty name, . or .. between slashes")
    if "?versionId=" in entry.url:
        return SkippedFile(entry.url, "name", "the key contains ?versionId=")
    return judge_size(limits, entry.url, entry.stat.size) or entry.stat


def _unreadable(entry: Entry) -> SkippedFile:
    return SkippedFile(entry.url, "unreadable", entry.detail)


# Hashing


def digest_remote(limits: Limits, wanted: Sequence[Item], on_progress: Progress | None) -> Generator[Found]:
    """Yield stat and digest of each file, or why it is skipped."""
    if not wanted:
        return
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    total, done = sum(found.size for _, found in wanted), 0

    def show(files: int) -> None:
        if on_progress:
            on_progress(files, len(wanted), done, total)

    show(0)
    ahead: deque[Future[Found]] = deque()
    left, over = iter(wanted), Event()

    def pause(seconds: float) -> None:
        if over.wait(seconds):
            raise Interrupted("interrupted while reading files")

    pool = ThreadPoolExecutor(READERS, "hash")
    try:
        for number, (_, found) in enumerate(wanted):
            while len(ahead) < 2 * READERS and (item := next(left, None)):
                ahead.append(pool.submit(_digest, limits, item[0], pause))
            yield _wait(ahead.popleft(), lambda: show(number))  # noqa: B023, called at once
            done += found.size
            show(number + 1)
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)


def _wait(task: Future[Found], look: Callable[[], None]) -> Found:
    while True:
        try:
            return task.result(LOOK_EVERY_S)
        except TimeoutError:
            if task.done():
                return task.result()
            look()


def _digest(limits: Limits, url: str, pause: Pause) -> Found:
    """Hash a file elsewhere. If it changes meanwhile, hash it again, up to `TRIES` times."""
    for _ in range(TRIES):
        try:
            with Object(url, pause) as found:
                if skipped := judge_size(limits, url, found.stat.size):
                    return skipped
                digest = hashlib.sha256()
                for start, length in split_ranges(found.stat.size, RANGE_BYTES):
                    digest.update(found.read(start, length))
                found.check()
                return found.stat, f"sha256:{digest.hexdigest()}"
        except ObjectChanged:
            continue
        except FileNotFoundError as error:
            return SkippedFile(url, "vanished", error.strerror or "no such object")
        except Refused as error:
            if not has_folders(url):  # the account lacks something, rather than this file
                raise
            return SkippedFile(url, "unreadable", error.reason)
    return SkippedFile(url, "vanished", "it keeps changing while being read")
