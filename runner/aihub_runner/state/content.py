"""Show and check a whole state: what is in it, and whether it is sound. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from aihub_runner.state.database import SCHEMA_VERSION
from aihub_runner.state.store import State


def export_state(state: State) -> dict[str, Any]:
    """Return all rows of all tables. A state holds no secrets, but names of files."""
    names = [row["name"] for row in state.read("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    tables = {name: [_show(row) for row in state.read(f'SELECT * FROM "{name}"')] for name in names}
    return {"schema": SCHEMA_VERSION, "tables": tables}


def _show(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row for JSON, which has no bytes: as hexadecimal digits."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in dict(row).items()}


def find_flaws(state: State) -> list[str]:
    """List what SQLite finds wrong with the file, and rows that refer to rows that are not there."""
    found = [str(row[0]) for row in state.read("PRAGMA integrity_check") if row[0] != "ok"]
    lost = Counter(
        f"{row['table']} refers to missing {row['parent']}" for row in state.read("PRAGMA foreign_key_check")
    )
    return found + [f"{what}, {number} times" for what, number in lost.items()]


def sum_up(state: State) -> dict[str, Any]:
    """Return the counts of what is recorded."""

    def count(sql: str) -> int:
        return int(state.read(f"SELECT count(*) AS number FROM {sql}")[0]["number"])

    statuses = Counter(one["status"] or "unconfirmed" for one in state.list_runs() if one["status"] is not None)
    return {
        "root": state.root,
        "results": state.results,
        "files": count("members"),
        "shards": count("shards"),
        "closed": count("shards WHERE fingerprint IS NOT NULL"),
        "batches": count("batches WHERE remote_id IS NOT NULL AND NOT gone"),
        "runs": dict(sorted(statuses.items())),
        "unconfirmed": count("runs WHERE remote_id IS NULL AND NOT given_up"),
    }
