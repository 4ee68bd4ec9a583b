"""A state file of an earlier version is brought to today's schema, with every fact kept."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.database import MIGRATIONS, SCHEMA_VERSION
from runner.state import State

RELEASES = sorted(path.parent for path in (Path(__file__).parent.parent / "data").glob("*/state.db"))


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
        assert state.load_shards()[0].batches[0].sent_s == 0.0
    assert path.read_bytes() == before


def test_migrations_lead_from_every_version_to_todays() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))
