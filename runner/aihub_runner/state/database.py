"""One SQLite file: open it, run transactions, and explain its errors.

`journal_mode=DELETE` and `synchronous=FULL`: a commit is durable, and a copy of the file is complete. In WAL mode a
copy is incomplete after a kill.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from aihub_runner.errors import Shortage, StateError
from aihub_runner.system.shortage import describe_too_large, file_size_limit, find_shortage, probe_shortage

SCHEMA_VERSION = 11
# Statements that migrate each version to the next. New columns come last, as in schema.sql.
MIGRATIONS = {
    1: "ALTER TABLE batches ADD COLUMN sent_s REAL; ALTER TABLE fetches ADD COLUMN fetched_s REAL;",
    2: """
        INSERT INTO new_batches (id, shard, target, name, intent_s, lost_s, remote_id, sent_s, verified)
            SELECT id, shard, target, name, intent_s, lost_s, remote_id, sent_s, remote_id IS NOT NULL FROM batches;
        INSERT INTO new_uploads (batch, name, digest) SELECT batch, name, digest FROM uploads;
        INSERT INTO new_runs (id, shard, batch, run_key, attempt, tag, intent_s, lost_s, unknown, remote_id, status,
                              message, started_ns, finished_ns, given_up, gone, remote_batch)
            SELECT id, shard, batch, run_key, attempt, tag, intent_s, lost_s, unknown, nullif(remote_id, ''),
                   replace(status, 'RESUBMITTED', ''), message, started_ns, finished_ns, status = 'RESUBMITTED',
                   message = 'it is not on the server any more',
                   coalesce((SELECT remote_id FROM batches WHERE batches.id = runs.batch), 0) FROM runs;
        INSERT INTO new_members (shard, name, path, size, digest, password, stale)
            SELECT shard, name, path, size, replace(digest, 'sha256/16:', ''), password, digest LIKE 'sha256/16:%'
            FROM members;
        DROP INDEX members_by_path;
        CREATE INDEX members_by_path ON new_members (path);
    """,
    3: """
        CREATE TEMP VIEW facts AS SELECT key AS fact, value FROM meta WHERE value <> '';
        INSERT INTO job (id) VALUES (1);
        UPDATE job SET root = value FROM facts WHERE fact = 'root';
        UPDATE job SET results = value FROM facts WHERE fact = 'results';
        UPDATE job SET column_names = value FROM facts WHERE fact = 'columns';
        INSERT INTO agains SELECT substr(fact, 7, 16), substr(fact, 24), value FROM facts WHERE fact LIKE 'again %';
        INSERT INTO matched_parts
            SELECT one.value FROM facts, json_each(facts.value) AS one WHERE fact = 'patterns that took files';
        INSERT INTO dismissed_runs
            SELECT one.value FROM facts, json_each(facts.value) AS one WHERE fact = 'dismissed entries';
        INSERT INTO pending_entries
            SELECT NULL, json_extract(one.value, '$.fingerprint'), json_extract(one.value, '$.fingerprint_version'),
                   json_extract(one.value, '$.target'), json_extract(one.value, '$.run_key'),
                   json_extract(one.value, '$.batch_id'), json_extract(one.value, '$.run_id'),
                   json_extract(one.value, '$.attempt'), json_extract(one.value, '$.app'),
                   json_extract(one.value, '$.status'), json_extract(one.value, '$.files'),
                   json_extract(one.value, '$.documents'), json_extract(one.value, '$.when'),
                   json_extract(one.value, '$.members')
            FROM facts, json_each(facts.value) AS one WHERE fact = 'pending entries';
        INSERT INTO outputs (path, digest) SELECT 'documents.jsonl', value FROM facts WHERE fact = 'documents_digest';
        INSERT INTO outputs (path, digest, size, mtime_ns)
            SELECT one.key, json_extract(one.value, '$[0]'), coalesce(json_extract(one.value, '$[1]'), 0),
                   coalesce(json_extract(one.value, '$[2]'), 0)
            FROM facts, json_each(facts.value) AS one WHERE fact = 'tables';
        INSERT INTO outputs (path, announced)
            SELECT 'documents.jsonl', value FROM facts WHERE fact = 'documents_next'
            ON CONFLICT (path) DO UPDATE SET announced = excluded.announced;
        INSERT INTO outputs (path, announced)
            SELECT one.key, one.value FROM facts, json_each(facts.value) AS one WHERE fact = 'tables_next'
            ON CONFLICT (path) DO UPDATE SET announced = excluded.announced;
        INSERT INTO made_from SELECT substr(fact, 1, instr(fact, '_') - 1), value
            FROM facts WHERE fact IN ('documents_from', 'tables_from');
        INSERT INTO result_warnings
            SELECT iif(fact = 'cases_warnings', 'tables', 'documents'), one.key, one.value
            FROM facts, json_each(facts.value) AS one WHERE fact IN ('documents_warnings', 'cases_warnings');
        INSERT INTO table_errors
            SELECT NULL, json_extract(one.value, '$[0]'), json_extract(one.value, '$[1]'),
                   coalesce(json_extract(one.value, '$[2]'), 0)
            FROM facts, json_each(facts.value) AS one WHERE fact = 'tables_refused';
        DROP VIEW facts;
        DROP TABLE meta;
    """,
    4: "",
    5: "",
    6: "",
    7: "",
    8: "",
    9: "",
    10: "",
}
# A schema 3 was in use before the last two of its columns.
LATE_COLUMNS_OF_3 = """
    ALTER TABLE members ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
    UPDATE members SET stale = 1, digest = replace(digest, 'sha256/16:', '') WHERE digest LIKE 'sha256/16:%';
    ALTER TABLE runs ADD COLUMN given_up INTEGER NOT NULL DEFAULT 0;
    UPDATE runs SET given_up = 1, status = '' WHERE status = 'RESUBMITTED';
    UPDATE runs SET gone = 1 WHERE message = 'it is not on the server any more';
"""
REBUILT = {
    2: ("batches", "uploads", "runs", "members")
}  # tables to copy into new ones, because their constraints change
ADDED = {
    2: ("foreign_batches",),
    3: (
        *("job", "agains", "matched_parts", "pending_entries", "dismissed_runs"),
        *("outputs", "kept_files", "settled", "made_from", "result_warnings", "table_errors"),
    ),
    4: ("deletions",),
    5: ("kept_batches",),
    6: ("placed_files",),
    7: ("pauses",),
    8: ("handed_batches",),
    9: ("turns",),
    10: ("left_batches",),
}
BUSY_TIMEOUT_S = 10.0
ONE_WRITE_BYTES = 1 << 16  # the largest page of SQLite

PATIENCE_S = (0.05, 0.1, 0.2, 0.4, 0.8)  # between attempts, while our other threads have too many files open

_ADVICE = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space and apply again; nothing is lost"),
    sqlite3.SQLITE_NOMEM: ("not enough memory", "close other programs, and apply again"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check the disk and apply again"),
    sqlite3.SQLITE_READONLY: ("cannot be written", "check its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check that its folder exists and is writable"),
    sqlite3.SQLITE_BUSY: ("locked by another program", "close that program and apply again"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "restore it from a backup, or import work with --adopt"),
    sqlite3.SQLITE_NOTADB: ("is not a state file", "use --state with another path"),
}


def fits_column(value: object) -> bool:
    """Whether a column can hold a value: whole numbers have 64 bits there."""
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


# What SQLite reports for a file that it cannot open because too many are open. It does not say why.
_MAY_LACK = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR})


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except OverflowError as error:  # a number from the service that no column can hold
        hint = "report this bug with the service's response"
        raise StateError(f"{path.name}: cannot store a number, {error}", hint) from error


def _explain(path: Path, error: sqlite3.Error) -> StateError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _MAY_LACK and (shortage := probe_shortage()):
        return Shortage(f"{path.name}: {shortage.message}", shortage.hint, transient=True)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) and _is_at_limit(path):
        return Shortage(f"{path.name}: {describe_too_large()}", "raise the limit and apply again; nothing is lost")
    what, hint = _ADVICE.get(code, (f"cannot be used, {error}", "keep the file and report this bug"))
    kind = Shortage if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM) else StateError
    return kind(f"{path.name}: {what}", hint)


def _is_at_limit(path: Path) -> bool:
    """Whether the file or its journal is about as large as a file of this process may be. SQLite does not say so."""
    limit = file_size_limit()
    if limit is None:
        return False
    parts = (path, path.with_name(f"{path.name}-journal"))
    return any(part.exists() and part.stat().st_size + ONE_WRITE_BYTES > limit for part in parts)


def _connect(path: Path, *, write: bool) -> sqlite3.Connection:
    if write and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    mode = "rw" if write else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        _configure(db, write=write)
    except BaseException:
        db.close()
        raise
    return db


def _configure(db: sqlite3.Connection, *, write: bool) -> None:
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    if write:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")


def _check_companions(path: Path) -> None:
    """Raise StateError for a pipe or a device instead of SQLite's own files: it would wait forever."""
    for part in (path.with_name(f"{path.name}-{kind}") for kind in ("journal", "wal", "shm")):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(part.stat().st_mode):
                raise StateError(f"{part.name}: is a pipe, a device or a folder, not a file", "remove it")


def _roll_back(path: Path) -> None:
    """Roll back what a killed process left half-written. Until then, a read-only connection cannot read."""
    journal = path.with_name(f"{path.name}-journal")
    if path.exists() and journal.exists() and journal.stat().st_size:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)) as db:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _open(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a file with the current schema. Close it again if it cannot be migrated."""
    db = _connect(path, write=write)
    try:
        return _prepare(db, path, write=write)
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection, path: Path, *, write: bool) -> sqlite3.Connection:
    """Migrate a file to the current schema; a read-only one is copied to memory and migrated there."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise _too_new(db, path, version)
    if version == 0 and write:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StateError(f"{path.name}: is not a state file of aihub-runner", "use --state with another path")
        db.executescript(f"BEGIN IMMEDIATE;{_schema()};PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
    elif 0 < version < SCHEMA_VERSION:
        if write:
            _keep_copy(db, path.with_name(f"{path.name}.v{version}"))
        else:
            db = _copy_to_memory(db)
        steps = "".join(_migrate(old) for old in range(version, SCHEMA_VERSION))
        if version == 3 and "given_up" not in {row["name"] for row in db.execute("PRAGMA table_info(runs)")}:
            steps = LATE_COLUMNS_OF_3 + steps
        db.execute("PRAGMA foreign_keys = OFF")  # else dropping a table would empty those that refer to it
        db.executescript(f"BEGIN IMMEDIATE;{steps}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
        db.execute("PRAGMA foreign_keys = ON")
    return db


def _too_new(db: sqlite3.Connection, path: Path, schema: int) -> StateError:
    try:
        writer = f"aihub-runner {db.execute('SELECT version FROM job').fetchone()[0]}"
    except (sqlite3.Error, TypeError):
        writer = "a newer version"
    copy = path.with_name(f"{path.name}.v{SCHEMA_VERSION}")
    older = f"; {copy.name} is a copy from before the upgrade, and does not know what was paid since" * copy.exists()
    return StateError(
        f"{path.name}: written by {writer}, schema {schema}; this version supports {SCHEMA_VERSION}",
        f"upgrade aihub-runner{older}",
    )


def _schema() -> str:
    from importlib import resources  # slow to import, and only a new state needs it

    return resources.files("aihub_runner.state").joinpath("schema.sql").read_text(encoding="utf-8")


def _migrate(version: int) -> str:
    """Return the statements that migrate a schema of this version to the next one."""
    tables = REBUILT.get(version, ())
    create = [_create(table).replace("CREATE TABLE ", "CREATE TABLE new_", 1) for table in tables]
    replace = [f"DROP TABLE {table}; ALTER TABLE new_{table} RENAME TO {table};" for table in tables]
    added = [_create(table) for table in ADDED.get(version, ())]
    return "\n".join([*create, *added, MIGRATIONS[version], *replace])


def _create(table: str) -> str:
    """Return the statement that creates a table of the current schema."""
    found = re.search(rf"CREATE TABLE {table} \(.*?\n\).*?;", _schema(), re.DOTALL)
    assert found is not None, table
    return found[0]


def _keep_copy(db: sqlite3.Connection, path: Path) -> None:
    """Copy the file before a migration. An existing copy is older, and stays."""
    if path.exists():
        return
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(sqlite3.connect(path)) as copy:
        db.backup(copy)


def _copy_to_memory(db: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    copy.row_factory = sqlite3.Row
    with closing(db):
        db.backup(copy)
    return copy


class Database:
    """An open database file, for one thread. With `write=False` nothing is created or changed."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self.is_writable = write
        self.is_new = not path.exists() or path.stat().st_size == 0
        try:
            _check_companions(path)
            with _explained(path):
                _roll_back(path)
                self._db = _open(path, write=write)
        except OSError as error:
            if shortage := find_shortage(error):
                raise shortage from error
            raise StateError(
                f"{path.name}: cannot be created, {error.strerror}",
                "check the folder, or use --state with another path",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside durable together, or none. May be nested."""
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
        """Run one statement that changes data, in the current transaction or its own."""
        with self.transaction():
            return self._execute(sql, values)

    def write_all(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement per row, in the current transaction or its own."""
        rest = iter(rows)
        with self.transaction():
            for first in islice(rest, 1):
                self._execute(sql, first)  # it opens the files that the rest needs
            self._db.executemany(sql, rest)

    def _execute(self, sql: str, values: Sequence[object]) -> sqlite3.Cursor:
        """Run one statement. Retry where its journal cannot be opened because too many files are open."""
        pauses_s = iter(PATIENCE_S)
        while True:
            try:
                return self._db.execute(sql, values)
            except sqlite3.OperationalError as error:
                cannot_open = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN
                pause_s = next(pauses_s, None)
                if not cannot_open or pause_s is None or not self._db.in_transaction:
                    raise
                time.sleep(pause_s)

    @property
    def revision(self) -> int:
        """The change counter of the file, which SQLite raises by one with each transaction that writes, whoever does.

        Not to be used in a transaction: closing the file would drop its lock.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(24)
                return int.from_bytes(file.read(4), "big")
        except OSError as error:
            what = f"{self.path.name}: cannot be read, {error.strerror or error}"
            raise find_shortage(error) or StateError(what, "check the state file and its folder") from error

    @property
    def changes(self) -> int:
        """Count the rows that this connection has changed so far; it never falls."""
        return self._db.total_changes

    @property
    def in_transaction(self) -> bool:
        """Whether changes were made that are not durable yet."""
        return self._db.in_transaction

    def each(self, sql: str, *values: object) -> Iterator[sqlite3.Row]:
        """Run a query and yield its rows one by one: a list of them takes half a kilobyte for each file."""
        with _explained(self.path):
            yield from self._db.execute(sql, values)

    def each_tuple(self, sql: str, *values: object) -> Iterator[Any]:
        """Run a query and yield its rows as tuples: they take half the time."""
        with _explained(self.path):
            cursor = self._db.cursor()
            cursor.row_factory = None
            yield from cursor.execute(sql, values)

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Run a query and return all rows."""
        with _explained(self.path):
            return self._db.execute(sql, values).fetchall()
