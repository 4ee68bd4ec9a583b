"""What a job takes on this machine does not grow faster than it must: queries, opened files, bytes read and written."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import aihub_runner.state.database

from .conftest import WRITES, Project
from .test_settled import COMMANDS, change_state, settle

PER_BATCH = 100


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock be ahead of all files: none of them is young."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10**10)


@dataclass
class Effort:
    """What a command did on this machine: queries, opened files with their sizes, and written bytes."""

    selects: int = 0
    opened: list[str] = field(default_factory=list)
    size: int = 0
    written: int = 0

    def opened_in(self, folder: str) -> list[str]:
        return [path for path in self.opened if f"/{folder}/" in path]


_watched: list[Effort] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str) and not arguments[0].endswith((".py", ".pyc")):
        _watched[-1].opened.append(os.path.abspath(arguments[0]))
        _watched[-1].size += os.path.getsize(arguments[0]) if os.path.isfile(arguments[0]) else 0


sys.addaudithook(_hear)


def written_so_far() -> int:
    """Return how many bytes this process has written, as the kernel counts them; 0 where it does not."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line.split()[1] for line in lines if line.startswith("wchar:")))


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Effort]:
    """Count what the commands inside do."""
    effort, connect = Effort(), sqlite3.connect

    def count(sql: str) -> None:
        effort.selects += sql.startswith("SELECT")

    def connect_and_count(*args: Any, **how: Any) -> sqlite3.Connection:
        db = connect(*args, **how)
        db.set_trace_callback(count)
        return db

    with monkeypatch.context() as patched:
        patched.setattr(aihub_runner.state.database.sqlite3, "connect", connect_and_count)
        _watched.append(effort)
        before = written_so_far()
        try:
            yield effort
        finally:
            effort.written = written_so_far() - before
            _watched.pop()


def apply_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Effort, Effort]]:
    """Return for each command what it takes with nothing to do: where that is recorded, and where it must plan."""
    efforts = {}
    settle(project)
    project.forget_requests()
    for command in COMMANDS:
        with watched(monkeypatch) as short:
            project.run(command)
        change_state(project, "DELETE FROM settled")
        with watched(monkeypatch) as long:
            project.run(command)
        settle(project)
        efforts[command] = short, long
    assert project.fake.journal == []
    return efforts


def change_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> Effort:
    """Return what an apply takes for one changed file."""
    project.write("in/00007.txt", f"changed at {time.monotonic()}")
    project.forget_requests()
    with watched(monkeypatch) as effort:
        assert project.apply().code == 0
    sent = [entry["operation"] for entry in project.fake.journal if entry["method"] in WRITES]
    assert sorted(sent) == ["addFileToBatch", "createBatch", "runApp"]
    opened = effort.opened_in("in")
    assert set(opened) == {str(project.folder / "in/00007.txt")}
    assert len(opened) <= 4  # for its digest, and to be sent: each with `open`, which calls `os.open`
    return effort


def output_bytes(project: Project) -> int:
    """Return the size of all that an apply replaces as a whole: documents, tables, records and the lock file."""
    folder = project.folder / "results/job"
    files = [*folder.glob("*"), *folder.glob("documents/*"), project.folder / "job.lock.toml"]
    return sum(path.stat().st_size for path in files if path.is_file())


@pytest.mark.parametrize(("few", "many"), [(20, 400), pytest.param(200, 2000, marks=pytest.mark.slow)])
def test_effort_does_not_grow_faster_than_it_must(
    project: Project, monkeypatch: pytest.MonkeyPatch, few: int, many: int
) -> None:
    batches = (many - few) // PER_BATCH
    project.change_spec("[limits]", f"[limits]\nfiles_per_batch = {PER_BATCH}")
    idle, changes = [], []
    for files in (few, many):
        project.write_files(files)
        idle.append(apply_again(project, monkeypatch))
        changes.append(change_one(project, monkeypatch))
    for command in COMMANDS:
        (short, long), (short_of_many, long_of_many) = (efforts[command] for efforts in idle)
        assert short_of_many.selects == short.selects
        assert len(short_of_many.opened) == len(short.opened)
        assert long_of_many.selects <= long.selects + 12 * batches
        assert len(long_of_many.opened) <= len(long.opened) + 2
        assert short_of_many.opened_in("in") == long_of_many.opened_in("in") == []
    of_few, of_many = changes
    assert of_many.selects <= of_few.selects + 20 * batches
    assert len(of_many.opened) <= len(of_few.opened) + 2
    assert len(of_many.opened_in("raw")) == len(of_few.opened_in("raw"))  # unchanged results are not read again
    assert of_many.written <= 1.1 * output_bytes(project) + 500_000  # each output once, a few pages of the state
    assert of_many.size <= 6 * output_bytes(project) + 500_000
