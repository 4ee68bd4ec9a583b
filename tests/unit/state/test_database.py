"""A state file of an earlier version is upgraded to today's schema, with every fact kept."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest
from msgspec.structs import astuple, replace

import aihub_runner.state.database
from aihub_runner.errors import StateError
from aihub_runner.model import CachedDigest, Stat
from aihub_runner.state.database import MIGRATIONS, SCHEMA_VERSION
from aihub_runner.state.outputs import DOCUMENTS, TABLES, Output
from aihub_runner.state.store import State

RELEASES = sorted(path.parent for path in (Path(__file__).parents[2] / "data").glob("*/state.db"))


def columns(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: sorted(row[1] for row in db.execute(f"PRAGMA table_info({table})")) for table in tables}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_state_of_a_release_is_migrated_and_keeps_its_facts(tmp_path: Path, release: Path) -> None:
    path = tmp_path / "job.state.db"
    shutil.copy(release / "state.db", path)
    with closing(State(path, write=False)) as state:
        before = state.load_shards()
        assert all(batch.uploads for shard in before for batch in shard.batches)
    assert before[0].runs[0].fetched
    with closing(State(path)) as state:
        assert state.load_shards() == before
        [batch] = before[0].batches
        with state.transaction():
            state.record_sent(batch.id, 12.5)
        assert state.load_shards()[0].batches[0].sent_s == 12.5
        run = before[0].runs[0].id
        state.record_fetch(run, "plain", [], [], 13.5)
        assert state.load_shards()[0].runs[0].fetched["plain"] == 13.5
    State(tmp_path / "new.db").close()
    assert (version(path), columns(path)) == (SCHEMA_VERSION, columns(tmp_path / "new.db"))


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_state_of_a_release_is_only_read_where_it_may_not_be_written(tmp_path: Path, release: Path) -> None:
    path = tmp_path / "job.state.db"
    shutil.copy(release / "state.db", path)
    before = path.read_bytes()
    path.chmod(0o400)
    with closing(State(path, write=False)) as state:
        assert all(run.status == "COMPLETE" for shard in state.load_shards() for run in shard.runs)
    assert path.read_bytes() == before


def test_words_that_stood_in_other_columns_become_facts(tmp_path: Path) -> None:
    path = tmp_path / "job.state.db"
    shutil.copy(RELEASES[0] / "state.db", path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE runs SET status = 'RESUBMITTED', remote_id = NULL WHERE id = 1")
        db.execute("UPDATE runs SET message = 'it is not on the server any more' WHERE id = 2")
        db.execute("UPDATE members SET digest = 'sha256/16:0123456789abcdef', path = '' WHERE shard = 1")
    with closing(State(path)) as state:
        runs = {run.id: run for shard in state.load_shards() for run in shard.runs}
        members = state.load_shards(1)[0].members
    assert (runs[1].is_given_up, runs[1].is_open, runs[1].status) == (True, False, "")
    assert (runs[2].is_gone, runs[1].is_gone) == (True, False)
    assert {(member.digest, member.is_stale) for member in members} == {("0123456789abcdef", True)}
    assert path.with_name("job.state.db.v1").exists()


META = {
    "root": "https://hub/api",
    "results": "out",
    "lease": "1234",
    "holder": '{"pid": 5, "on": "host", "since": "2026-11-01 10:00:00 UTC", "command": "apply"}',
    "again 0123456789abcdef fedcba9876543210": "7",
    "again 0123456789abcdef 0000000000000000": "",
    "patterns that took files": '["in/*.pdf", "in/\\u00e9.txt"]',
    "dismissed entries": '["run-1"]',
    "pending entries": '[{"fingerprint": "ab", "fingerprint_version": 1, "target": "t", "run_key": "k", "batch_id": 5, '
    '"run_id": "run-2", "attempt": 2, "app": "", "status": "COMPLETE", "files": 3, "documents": 4, "when": "w", '
    '"members": "m"}]',
    "documents_digest": "sha256:1",
    "documents_next": "sha256:2",
    "documents_from": "identity 1",
    "documents_warnings": '["odd"]',
    "cases_warnings": '["case"]',
    "columns": '{"classes": [], "whole": []}',
    "tables": '{"fields.csv": ["sha256:3", 10, 11], "old.csv": ["sha256:4"]}',
    "tables_next": '{"fields.csv": "sha256:5", "new.csv": "sha256:6"}',
    "tables_from": "",
    "tables_refused": '[["no room", "free some", true], ["too wide", "use jsonl"]]',
}


def test_facts_of_schema_3_get_tables_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "job.state.db"
    shutil.copy(RELEASES[-1] / "state.db", path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM meta")
        db.executemany("INSERT INTO meta VALUES (?, ?)", META.items())
        db.commit()
    with closing(State(path)) as state:
        assert (state.root, state.results, state.load_column_names()) == ("https://hub/api", "out", META["columns"])
        assert state.find_again("0123456789abcdef", "fedcba9876543210") == 7
        assert state.find_again("0123456789abcdef", "0" * 16) is None
        assert (state.load_matched(), state.load_dismissed()) == ({"in/*.pdf", "in/é.txt"}, {"run-1"})
        later = {"kept": "", "places": ""}
        pending = [entry | later for entry in json.loads(META["pending entries"])]
        assert [vars(entry) for entry in state.load_pending()] == pending
        assert state.load_outputs() == {
            "documents.jsonl": Output("sha256:1", "sha256:2", 0, 0),
            "fields.csv": Output("sha256:3", "sha256:5", 10, 11),
            "new.csv": Output("", "sha256:6", 0, 0),
            "old.csv": Output("sha256:4", "", 0, 0),
        }
        assert (state.find_made_from(DOCUMENTS), state.find_made_from(TABLES)) == ("identity 1", "")
        assert state.load_warnings() == ["odd", "case"]
        errors = [(type(error).__name__, error.message, error.hint) for error in state.load_table_errors()]
        assert errors == [("Shortage", "no room", "free some"), ("ResultsError", "too wide", "use jsonl")]
    assert version(path.with_name("job.state.db.v3")) == 3


def test_state_of_a_newer_version_names_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "job.state.db"
    with closing(State(path)) as state:
        state.record_lease("lease", "root", "9.1")
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StateError, match=r"written by aihub-runner 9\.1, schema") as caught:
        State(path)
    assert caught.value.hint == "upgrade aihub-runner"


def test_migrations_lead_from_every_version_to_todays() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize(
    "odd", [{"mtime_ns": 15 * 10**18}, {"inode": 1 << 63}, {"ctime_ns": -(1 << 63) - 1}, {"size": 1 << 63}]
)
def test_file_whose_numbers_no_column_can_hold_is_not_in_the_cache(tmp_path: Path, odd: dict[str, int]) -> None:
    plain = CachedDigest(Stat(1, -5, 1, 1), "sha256:" + "0" * 64, 3)
    strange = replace(plain, stat=replace(plain.stat, **odd))
    with closing(State(tmp_path / "job.state.db")) as state:
        state.record_cache({"plain": plain, "strange": strange})
        assert list(state.load_cache()) == [("plain", plain.digest, 3, *astuple(plain.stat))]


def test_times_of_a_run_that_no_column_can_hold_are_unknown(tmp_path: Path) -> None:
    with closing(State(tmp_path / "job.state.db")) as state:
        shard = state.record_shard([])
        state.record_imported_batch(shard, "target", 1)
        [batch] = state.load_shards()[0].batches
        run = state.record_imported_run(shard, batch, ("key", 1, "tag"))
        state.record_run(run, "run-1", "COMPLETE", "", (1 << 63, 5))
        [found] = state.load_shards()[0].runs
    assert (found.started_ns, found.finished_ns) == (0, 5)


def test_number_that_no_column_can_hold_is_an_error_of_the_state(tmp_path: Path) -> None:
    with closing(State(tmp_path / "job.state.db")) as state, pytest.raises(StateError, match="cannot store a number"):
        state.record_imported_batch(state.record_shard([]), "target", 1 << 64)


@contextmanager
def no_descriptor_left() -> Iterator[Callable[[], None]]:
    """Open files until no more can be opened, and return a function that closes them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    taken: list[int] = []

    def give_back() -> None:
        while taken:
            os.close(taken.pop())

    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield give_back
    finally:
        give_back()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_state_that_cannot_be_opened_for_want_of_descriptors_names_the_limit(tmp_path: Path) -> None:
    State(tmp_path / "job.state.db").close()
    with no_descriptor_left(), pytest.raises(StateError, match="too many open files, the limit is 64") as caught:
        State(tmp_path / "job.state.db")
    assert "ulimit -n" in caught.value.hint


def test_record_that_cannot_be_made_for_want_of_descriptors_names_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aihub_runner.state.database, "PATIENCE_S", ())
    with closing(State(tmp_path / "job.state.db")) as state:
        with no_descriptor_left(), pytest.raises(StateError, match="too many open files, the limit is 64"):
            state.record_results_folder("results")
        state.record_results_folder("results")


def test_record_is_made_as_soon_as_there_are_descriptors_again(tmp_path: Path) -> None:
    with closing(State(tmp_path / "job.state.db")) as state, no_descriptor_left() as give_back:
        with ThreadPoolExecutor(1) as pool:
            begun = Event()
            done = pool.submit(lambda: (begun.wait(10), give_back()))
            state._db.set_trace_callback(lambda sql: begun.set())  # it is at work
            state.record_results_folder("results")
            done.result()
        assert state.results == "results"
