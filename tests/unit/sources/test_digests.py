"""Much to hash is hashed by threads: in the same order, with the same outcomes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from aihub_runner.errors import Interrupted
from aihub_runner.model import MB, SkippedFile, Stat
from aihub_runner.sources import digests
from aihub_runner.sources.digests import Found, Progress, digest_all
from aihub_runner.sources.disks import Disks


def judge(_path: str, info: os.stat_result) -> Stat | SkippedFile:
    return Stat.of(info)


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "THREADS", 3)
    monkeypatch.setattr(digests, "MUCH_BYTES", 1)
    monkeypatch.setattr(digests, "TASK_FILES", 2)


def make(folder: Path, sizes: Sequence[int]) -> list[tuple[str, Stat]]:
    for number, size in enumerate(sizes):
        (folder / str(number)).write_bytes(bytes([number]) * size)
    return [(str(number), Stat.of(os.stat(folder / str(number)))) for number in range(len(sizes))]


def hash_files(folder: Path, files: Sequence[tuple[str, Stat]], on_progress: Progress | None = None) -> list[Found]:
    return list(digest_all(judge, str(folder), files, on_progress, Disks()))


def test_digests_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    files = make(tmp_path, [*[3] * 20, 3 * MB, *[7] * 20, 0])
    seen: list[tuple[int, int, int, int]] = []
    found = hash_files(tmp_path, files, lambda *far: seen.append(far))
    wanted = [(info, "sha256:" + hashlib.sha256((tmp_path / path).read_bytes()).hexdigest()) for path, info in files]
    assert found == wanted
    assert seen == sorted(seen)
    assert seen[-1] == (42, 42, 3 * MB + 20 * 7 + 20 * 3, 3 * MB + 20 * 7 + 20 * 3)


def test_file_that_cannot_be_read_is_skipped_and_the_others_are_hashed(tmp_path: Path) -> None:
    files = make(tmp_path, [5] * 12)
    (tmp_path / "4").unlink()
    found = hash_files(tmp_path, files)
    assert [number for number, one in enumerate(found) if isinstance(one, SkippedFile)] == [4]
    assert found[4] == SkippedFile("4", "vanished", "No such file or directory")


def test_interruption_ends_the_threads(tmp_path: Path) -> None:
    files = make(tmp_path, [5] * 200)
    opened: list[str] = []

    def interrupt(done: int, *_: int) -> None:
        if done == 10:
            raise Interrupted("interrupted")

    def look(path: str, info: os.stat_result) -> Stat | SkippedFile:
        opened.append(path)
        return Stat.of(info)

    with pytest.raises(Interrupted):
        list(digest_all(look, str(tmp_path), files, interrupt, Disks()))
    assert len(set(opened)) < 50


def test_files_are_hashed_without_threads_where_none_can_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    files = make(tmp_path, [5] * 12)
    assert [one[0] for one in hash_files(tmp_path, files) if not isinstance(one, SkippedFile)] == [
        info for _, info in files
    ]
