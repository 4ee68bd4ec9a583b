"""Hash files, several at once where there is much to hash: SHA-256 needs a processor, and lets other threads go on."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

from aihub_runner.files import open_without_waiting
from aihub_runner.model import MB, SkippedFile, Stat
from aihub_runner.sources.disks import Disks

if TYPE_CHECKING:
    from concurrent.futures import Future

HASH_TRIES = 3
MUCH_BYTES = 16 * MB  # from here on, threads pay
THREADS = min(4, os.cpu_count() or 1)
TASK_BYTES, TASK_FILES = 4 * MB, 64  # of the files that are one task
LOOK_EVERY_S = 0.2  # while a thread hashes: to show progress, and to stop

Progress = Callable[[int, int, int, int], None]
Judge = Callable[[str, os.stat_result], Stat | SkippedFile]  # whether a file can be sent, by path and stat
Found = tuple[Stat, str] | SkippedFile
Item = tuple[str, Stat]


class _Over(Exception):
    """The digest is not needed any more."""


class _Meter:
    """Count hashed files and bytes for the progress display. Threads only add bytes."""

    def __init__(self, sizes: Sequence[int], on_progress: Progress | None) -> None:
        self._on_progress, self._files, self.total = on_progress, len(sizes), sum(sizes)
        self._files_done = self._bytes_done = self.bytes_read = 0
        self.show()

    def show(self) -> None:
        """Report the files that are done, and the bytes that are read."""
        if self._on_progress and self._files:
            shown = min(max(self._bytes_done, self.bytes_read), self.total)
            self._on_progress(self._files_done, self._files, shown, self.total)

    def finish(self, size: int) -> None:
        """Count a file as done."""
        self._files_done += 1
        self._bytes_done += size
        self.bytes_read = max(self.bytes_read, self._bytes_done)
        self.show()


def digest_all(
    judge: Judge, folder: str, wanted: Sequence[Item], on_progress: Progress | None, disks: Disks
) -> Generator[Found]:
    """Yield stat and digest of each file, or why it is skipped."""
    meter = _Meter([info.size for _, info in wanted], on_progress)
    with closing(_hash_all(judge, folder, wanted, meter)) as hashed:
        for (path, info), found in zip(wanted, hashed, strict=True):
            one = disks.explain(f"{folder}/{path}", path, found) if isinstance(found, OSError) else found
            meter.finish(info.size)
            yield one


def _hash_all(judge: Judge, folder: str, wanted: Sequence[Item], meter: _Meter) -> Generator[Found | OSError]:
    """Yield what came of each file, in order."""
    if meter.total < MUCH_BYTES or THREADS == 1:
        for path, _ in wanted:
            yield _digest(judge, folder, path, meter, meter.show)
        return
    hashing = _Hashing(judge, folder, meter)
    ahead: deque[Future[list[Found | OSError]]] = deque()
    try:
        for items in _tasks(wanted):
            ahead.append(hashing.begin(items))
            if len(ahead) > 2 * THREADS:
                yield from _wait(ahead.popleft(), meter)
        while ahead:
            yield from _wait(ahead.popleft(), meter)
    finally:
        hashing.end()


class _Hashing:
    """Threads that hash files."""

    def __init__(self, judge: Judge, folder: str, meter: _Meter) -> None:
        from concurrent.futures import ThreadPoolExecutor  # slow to import

        self._judge, self._folder, self._meter = judge, folder, meter
        self._pool, self._over = ThreadPoolExecutor(THREADS, "hash"), Event()

    def begin(self, items: Sequence[Item]) -> Future[list[Found | OSError]]:
        """Begin to hash some files; hash them at once where no thread can start."""
        try:
            return self._pool.submit(self._hash, items)
        except RuntimeError:
            from concurrent.futures import Future

            done: Future[list[Found | OSError]] = Future()
            done.set_result(self._hash(items))
            return done

    def end(self) -> None:
        """End the threads. Nobody waits for a digest any more."""
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def _hash(self, items: Sequence[Item]) -> list[Found | OSError]:
        found = []
        for path, _ in items:
            self._check()
            found.append(_digest(self._judge, self._folder, path, self._meter, self._check))
        return found

    def _check(self) -> None:
        if self._over.is_set():
            raise _Over


def _wait(task: Future[list[Found | OSError]], meter: _Meter) -> list[Found | OSError]:
    while True:
        try:
            return task.result(LOOK_EVERY_S)
        except TimeoutError:
            meter.show()


def _tasks(wanted: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield files that follow each other, as many as are worth a task."""
    items, size = list[Item](), 0
    for item in wanted:
        items.append(item)
        size += item[1].size
        if size >= TASK_BYTES or len(items) == TASK_FILES:
            yield items
            items, size = [], 0
    if items:
        yield items


def _digest(judge: Judge, folder: str, path: str, meter: _Meter, check: Callable[[], None]) -> Found | OSError:
    """Hash a file. If it changes meanwhile, hash it again, up to `HASH_TRIES` times. `check` may end it."""
    try:
        for _ in range(HASH_TRIES):
            with open(f"{folder}/{path}", "rb", opener=open_without_waiting) as file:
                found = judge(path, os.fstat(file.fileno()))
                if isinstance(found, SkippedFile):
                    return found
                digest = _hash(file, meter, check)
                if found == judge(path, os.fstat(file.fileno())):
                    return found, digest
    except OSError as error:
        return error
    return SkippedFile(path, "vanished", "it keeps changing while being read")


def _hash(file: BinaryIO, meter: _Meter, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(MB):
        digest.update(chunk)
        if len(chunk) == MB:
            meter.bytes_read += MB
            check()
    return f"sha256:{digest.hexdigest()}"
