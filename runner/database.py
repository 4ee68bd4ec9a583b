"""One SQLite file: opening it, transactions, and its errors in plain words.

`journal_mode=DELETE` and `synchronous=FULL`: a commit is durable, and a copied file is complete, which it is not in
WAL mode after a kill.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

from runner.errors import StateError

SCHEMA_VERSION = 2
# What makes the schema of the next version of each version; columns come last, as in schema.sql.
MIGRATIONS = {
    1: "ALTER TABLE batches ADD COLUMN sent_s REAL; ALTER TABLE fetches ADD COLUMN fetched_s REAL;",
}
BUSY_TIMEOUT_S = 10.0

_ADVICE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room and apply again; nothing is lost"),
    sqlite3.SQLITE_IOERR: ("it cannot be read or written", "check the disk and apply again"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", "check its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "check that its folder exists and can be written"),
    sqlite3.SQLITE_BUSY: ("another program holds it", "close the program that has it open, and apply again"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", "restore it from a backup, or take up work with --adopt"),
    sqlite3.SQLITE_NOTADB: ("it is no state file", "name another place with --state"),
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what, hint = _ADVICE.get(code, (f"it cannot be used, {error}", "report this, with the file kept as it is"))
        raise StateError(f"{path.name}: {what}", hint) from error


def _connect(path: Path, *, write: bool) -> sqlite3.Connection:
    if write and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    mode = "rw" if write else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    if write:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
    return db


def _roll_back(path: Path) -> None:
    """Undo what a process that died left half-written: a reader that may not write cannot even read before that."""
    journal = path.with_name(f"{path.name}-journal")
    if path.exists() and journal.exists() and journal.stat().st_size:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _prepare(db: sqlite3.Connection, path: Path, *, write: bool) -> sqlite3.Connection:
    """Bring a file to today's schema; one that may not be written is copied to memory and brought there."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path.name}: made by a newer version, schema {version} where this one knows {SCHEMA_VERSION}",
            "upgrade aihub-runner",
        )
    if version == 0 and write:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StateError(f"{path.name}: is no state file of aihub-runner", "name another place with --state")
        schema = resources.files("runner").joinpath("schema.sql").read_text(encoding="utf-8")
        db.executescript(f"BEGIN IMMEDIATE;{schema};PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    elif 0 < version < SCHEMA_VERSION:
        if not write:
            db = _copy_to_memory(db)
        steps = "".join(MIGRATIONS[old] for old in range(version, SCHEMA_VERSION))
        db.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    return db


def _copy_to_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    copy.row_factory = sqlite3.Row
    with closing(db):
        db.backup(copy)
    return copy


class Database:
    """An open database file. One thread uses it; with `write=False` nothing is created or changed."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self.is_new = not path.exists() or path.stat().st_size == 0
        try:
            with _explained(path):
                _roll_back(path)
                self._db = _prepare(_connect(path, write=write), path, write=write)
        except OSError as error:
            raise StateError(
                f"{path.name}: cannot be created, {error.strerror}", "check the folder, or give --state"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all records inside durable at once, or none. May be nested."""
        with _explained(self.path):
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def write(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement that changes something, in the transaction at hand or one of its own."""
        with self.transaction():
            return self._db.execute(sql, values)

    def write_all(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row, in the transaction at hand or one of its own."""
        with self.transaction():
            self._db.executemany(sql, rows)

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Run a query and give all rows."""
        with _explained(self.path):
            return self._db.execute(sql, values).fetchall()
