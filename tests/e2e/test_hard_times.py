"""Random kills, two applies at once, and a full disk."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

import aihub_runner.state.database
from aihub_runner.state.store import State
from support.waiting import wait_for

from .conftest import Process, Project

KILLS = int(os.environ.get("AIHUB_KILLS", "20"))
RACES = 20
PARTS = 5  # kills and races are dealt out to this many tests


@pytest.mark.timeout(1200)
@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_random_moments_loses_and_repeats_nothing(project: Project, part: int) -> None:
    chance = random.Random(part)
    project.write_files(300)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 100")
    project.fake.service.run_seconds = 0.05
    kills, context = 0, 0
    while kills < KILLS // PARTS:
        process = project.start("apply", "job.toml")
        try:
            process.wait(timeout=chance.uniform(0.25, 0.8))
        except subprocess.TimeoutExpired:  # it is still at work, as hoped
            process.kill()
            kills += 1
        process.communicate()
        if process.returncode == 0:  # all is done: begin again in another context, where nothing is
            project.change_spec(f'context = "{context or "acme"}"', f'context = "{context + 1}"')
            context += 1
    assert project.apply().code == 0
    ledger = project.fake.ledger
    assert list(ledger["runs"].values()) == [1, 1, 1] * (context + 1)
    assert list(ledger["batches"].values()) == [1, 1, 1] * (context + 1)
    assert all(len(set(digests)) == 1 for digests in ledger["digests"].values())
    assert len({line["path"] for line in project.documents}) == 300


def finish_the_run(project: Project) -> None:
    """Let the run complete that is held, as soon as it is there."""
    wait_for(lambda: going(project))
    project.fake.set_run(going(project)[0], "COMPLETE")


def going(project: Project) -> list[str]:
    return [run["id"] for run in project.fake.runs() if run["status"] == "RUNNING"]


def in_order_of_their_ends(processes: list[Process], after_the_first: Callable[[], None]) -> list[Process]:
    with ThreadPoolExecutor(len(processes)) as pool:
        waiting = {pool.submit(process.wait, 60): process for process in processes}
        ended = [waiting[done] for done in wait(waiting, return_when=FIRST_COMPLETED).done]
        after_the_first()
    return ended + [process for process in processes if process not in ended]


@pytest.mark.timeout(300)
@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_applies_at_once_one_works_and_the_other_exits_with_5(project: Project, part: int) -> None:
    for race in range(part, RACES, PARTS):
        project.write_files(2, start=2 * race)
        project.fake.next_run(hold=True)  # so that the one that works is at it until the other has ended
        processes = [project.start("apply", "job.toml") for _ in range(2)]
        refused, working = in_order_of_their_ends(processes, lambda: finish_the_run(project))
        assert refused.returncode == 5, refused.communicate()
        assert working.returncode == 0, working.communicate()
    ledger = project.fake.ledger
    assert len(ledger["runs"]) == RACES // PARTS
    assert set(ledger["runs"].values()) == {1}
    assert set(ledger["uploads"].values()) == {1}


def test_lease_that_was_taken_over_pays_nothing(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(hold=True)
    project.fake.faults.add(operation="createBatch", do="status", status=429, headers={"Retry-After": "1"})
    process = project.start("apply", "job.toml")
    assert process.stderr
    wait_for(lambda: "POST createBatch" in project.sent())
    with sqlite3.connect(project.folder / "job.state.db") as db:
        db.execute("UPDATE job SET lease = 'somebody else'")
    process.communicate(timeout=20)
    assert process.returncode == 5
    assert project.fake.runs() == []


def pages_without_facts() -> int:
    with tempfile.TemporaryDirectory() as folder, closing(State(Path(folder) / "empty.db")) as state:
        return int(state.read("PRAGMA page_count")[0][0])


def leave_room(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Limit each state file to a number of pages above those of an empty one."""
    connect, empty = sqlite3.connect, pages_without_facts()

    def connect_with_little_room(*args: object, **how: object) -> sqlite3.Connection:
        db = connect(*args, **how)  # type: ignore[call-overload]
        used = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {max(used, empty) + pages}")
        return db  # type: ignore[no-any-return]

    monkeypatch.setattr(aihub_runner.state.database.sqlite3, "connect", connect_with_little_room)


@pytest.mark.matrix
@pytest.mark.parametrize("room", [0, 1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_full_disk_ends_with_5_and_the_next_apply_is_right(
    project: Project, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    project.write_files(200)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 100")
    with monkeypatch.context() as patched:
        leave_room(patched, room)
        first = project.apply()
    assert first.code == 5, first.text
    assert "the disk is full" in first.err
    assert project.apply().code == 0
    ledger = project.fake.ledger
    assert sorted(ledger["runs"].values()) == [1, 1]
    assert sorted(ledger["batches"].values()) == [1, 1]
    assert len({line["path"] for line in project.documents}) == 200


def test_full_disk_tells_of_open_intents_and_the_next_apply_finds_them(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full just when the id of a run is recorded: the trigger asks for more room than there is."""
    project.write_files(1)
    assert project.apply().code == 0
    with closing(sqlite3.connect(project.folder / "job.state.db")) as db, db:
        db.execute("CREATE TABLE filler (content BLOB)")
        db.execute(
            "CREATE TRIGGER fill AFTER UPDATE OF remote_id ON runs BEGIN"
            " INSERT INTO filler VALUES (zeroblob(1000000)); END"
        )
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    with monkeypatch.context() as patched:
        leave_room(patched, 20)
        outcome = project.apply()
    assert outcome.code == 5, outcome.text
    tags = open_intents(project)
    assert tags
    for tag in tags:
        assert f"with tag {tag} may have been started; the next apply checks" in outcome.err
    assert project.apply().code == 0
    assert set(project.fake.ledger["tags"].values()) == {1}
    assert len(project.fake.runs()) == 4
    assert len({line["path"] for line in project.documents}) == 4


def open_intents(project: Project) -> list[str]:
    with closing(sqlite3.connect(project.folder / "job.state.db")) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall():
            return []  # there was no room for the state itself
        return [tag for (tag,) in db.execute("SELECT tag FROM runs WHERE remote_id IS NULL")]


@pytest.mark.slow
def test_full_results_folder_ends_with_5_and_the_next_apply_fetches_the_rest(project: Project) -> None:
    project.write_files(100)
    project.change_spec("[limits]", '[results]\ninclude = ["confidence", "source", "review", "validation"]\n[limits]')
    limit = 220_000  # enough for the state, too little for a page of a hundred files

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = project.start("apply", "job.toml", prepare=with_little_room)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5, err
    assert "cannot be written, it would exceed the largest size of a file, 220,000 bytes, as `ulimit -f` says" in err
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []
    assert len({line["path"] for line in project.documents}) == 100
