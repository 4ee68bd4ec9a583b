"""The facts that are remembered of one spec: with `fetches`, the only module that knows the tables of schema.sql.

Every `record_` and `forget_` is one transaction, durable when it returns, unless it stands inside `transaction()`.
Raises StateError for everything that can go wrong with the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.database import fits_column
from runner.errors import StateError
from runner.fetches import Fetches
from runner.fingerprint import VERSION as FINGERPRINT_VERSION
from runner.model import GIVEN_UP, Batch, CachedDigest, Member, Run, Shard, Stat
from runner.plan import Move


class State(Fetches):
    """The state of one spec. One thread uses it; with `write=False` nothing is created or changed."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        super().__init__(path, write=write)
        self._lease = ""

    # What holds the state

    def get_meta(self, key: str) -> str:
        """Get a fact about the whole, or an empty string."""
        rows = self.read("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0]["value"]) if rows else ""

    @property
    def is_unused(self) -> bool:
        """Whether nothing of the service was ever recorded here."""
        return not self.read("SELECT 1 FROM shards LIMIT 1")

    def record_meta(self, key: str, value: str) -> None:
        """Record a fact about the whole."""
        self.write("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", key, value)

    def record_lease(self, lease: str, holder: Mapping[str, object]) -> None:
        """Take over the state: from here on only the process that knows this lease may record an intent."""
        with self.transaction():
            self.record_meta("lease", lease)
            self.record_meta("holder", json.dumps(holder))
        self._lease = lease

    def _check_lease(self) -> None:
        if not self.read("SELECT 1 FROM meta WHERE key = 'lease' AND value = ?", self._lease):
            raise StateError(
                f"{self.path.name}: another apply has taken over, {self.get_meta('holder')}",
                "let that one finish; nothing was sent",
            )

    # Files

    def load_cache(self) -> dict[str, CachedDigest]:
        """Load the stat cache."""
        return {
            row["path"]: CachedDigest(
                Stat(row["size"], row["mtime_ns"], row["ctime_ns"], row["inode"]),
                row["digest"],
                row["scanned_ns"],
            )
            for row in self.read("SELECT * FROM scanned")
        }

    def record_cache(self, cache: Mapping[str, CachedDigest]) -> None:
        """Replace the stat cache; a file whose numbers no column can hold is hashed each time."""
        rows = (
            (path, c.stat.size, c.stat.mtime_ns, c.stat.ctime_ns, c.stat.inode, c.digest, c.scanned_ns)
            for path, c in cache.items()
        )
        with self.transaction():
            self.write("DELETE FROM scanned")
            self.write_all(
                "INSERT INTO scanned VALUES (?, ?, ?, ?, ?, ?, ?)", (row for row in rows if all(map(fits_column, row)))
            )

    def record_refused(self, path: str, identity: str, detail: str) -> None:
        """Record that the service would not take a file as it is."""
        self.write("INSERT OR REPLACE INTO refused_files VALUES (?, ?, ?)", path, identity, detail)

    def forget_refused(self) -> None:
        """Let files that the service would not take be tried again."""
        self.write("DELETE FROM refused_files")

    def load_refused(self) -> dict[tuple[str, str], str]:
        """Load the (path, identity) of files that the service would not take, with what it said."""
        rows = self.read("SELECT * FROM refused_files")
        return {(row["path"], row["identity"]): row["detail"] for row in rows}

    # Shards

    def load_shards(self, shard_id: int | None = None) -> list[Shard]:
        """Load all shards with all facts, in the order in which they were made, or one."""
        where, values = ("", ()) if shard_id is None else ("WHERE shard = ?", (shard_id,))
        members = _by_shard(self.read(f"SELECT * FROM members {where} ORDER BY shard, path, name", *values))
        batches = _by_shard(self.read(f"SELECT * FROM batches {where}", *values))
        runs = _by_shard(self.read(f"SELECT * FROM runs {where} ORDER BY id", *values))
        where = where.replace("shard", "id")
        return [
            Shard(
                row["id"],
                row["fingerprint"] or "",
                tuple(_member(member) for member in members.get(row["id"], ())),
                tuple(self._batch(batch) for batch in batches.get(row["id"], ())),
                tuple(self._run(run) for run in runs.get(row["id"], ())),
            )
            for row in self.read(f"SELECT * FROM shards {where} ORDER BY id", *values)
        ]

    def _batch(self, row: sqlite3.Row) -> Batch:
        sent = self.read("SELECT name, digest FROM uploads WHERE batch = ?", row["id"])
        return Batch(
            row["id"],
            row["target"],
            row["name"],
            row["intent_s"],
            row["lost_s"] or 0.0,
            row["remote_id"],
            {upload["name"]: upload["digest"] for upload in sent},
            row["sent_s"] or 0.0,
        )

    def _run(self, row: sqlite3.Row) -> Run:
        fetches = self.read("SELECT include, fetched_s FROM fetches WHERE run = ?", row["id"])
        facts = {name: row[name] for name in row.keys() if name != "lost_s"}  # noqa: SIM118
        fetched = {fetch["include"]: fetch["fetched_s"] or 0.0 for fetch in fetches}
        return Run(**facts, lost_s=row["lost_s"] or 0.0, fetched=fetched)

    def record_shard(self, members: Iterable[Member], fingerprint: str = "") -> int:
        """Record a new shard, closed where it has a fingerprint, and give its id."""
        with self.transaction():
            version = FINGERPRINT_VERSION if fingerprint else None
            cursor = self.write("INSERT INTO shards VALUES (NULL, ?, ?)", fingerprint or None, version)
            shard_id = int(cursor.lastrowid or 0)
            self.record_members(shard_id, members)
        return shard_id

    def record_members(self, shard_id: int, members: Iterable[Member]) -> None:
        """Replace the members of an open shard; of a closed one only the paths may change."""
        with self.transaction():
            self.write("DELETE FROM members WHERE shard = ?", shard_id)
            self.write_all(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?)",
                ((shard_id, m.name, m.path, m.size, m.digest, m.password) for m in members),
            )

    def record_moves(self, moves: Iterable[Move]) -> None:
        """Re-address recorded files that were found under another path."""
        self.write_all("UPDATE members SET path = ? WHERE path = ?", ((move.new, move.old) for move in moves))

    def forget_shard(self, shard_id: int) -> None:
        """Forget an open shard; its files are grouped anew."""
        self.write("DELETE FROM shards WHERE id = ? AND fingerprint IS NULL", shard_id)

    # Batches

    def record_batch_intent(self, shard_id: int, target: str, name: str, now_s: float) -> None:
        """Record, before the request, that a batch is about to be created."""
        with self.transaction():
            self._check_lease()
            self.write(
                "INSERT INTO batches (shard, target, name, intent_s) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (shard, target) DO UPDATE SET intent_s = excluded.intent_s, lost_s = NULL",
                shard_id,
                target,
                name,
                now_s,
            )

    def record_batch(self, batch: int, remote_id: int) -> None:
        """Record the service's id of a batch."""
        self.write("UPDATE batches SET remote_id = ? WHERE id = ?", remote_id, batch)

    def record_taken_batch(self, shard_id: int, target: str, remote_id: int) -> int:
        """Record a batch that another state created, and give its row."""
        cursor = self.write(
            "INSERT INTO batches (shard, target, name, intent_s, remote_id) VALUES (?, ?, '', 0, ?)",
            *(shard_id, target, remote_id),
        )
        return int(cursor.lastrowid or 0)

    def record_batch_lost(self, batch: int, now_s: float) -> None:
        """Record when the answer to a batch's creation was lost."""
        self.write("UPDATE batches SET lost_s = ? WHERE id = ?", now_s, batch)

    def forget_batch(self, batch: int) -> None:
        """Forget a batch that surely is not there (any more), and with it what was uploaded to it.

        Runs keep their row's number of the batch, so the row stays where there are any.
        """
        with self.transaction():
            self.write("DELETE FROM uploads WHERE batch = ?", batch)
            if self.read("SELECT 1 FROM runs WHERE batch = ? LIMIT 1", batch):
                unknown = "remote_id = NULL, lost_s = NULL, sent_s = NULL, intent_s = 0"
                self.write(f"UPDATE batches SET {unknown} WHERE id = ?", batch)
            else:
                self.write("DELETE FROM batches WHERE id = ?", batch)

    def record_upload(self, batch: int, name: str, digest: str) -> None:
        """Record that a file lies in a batch."""
        self.write("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?)", batch, name, digest)

    def record_sent(self, batch: int, now_s: float) -> None:
        """Record when the last file so far was sent to a batch."""
        self.write("UPDATE batches SET sent_s = ? WHERE id = ?", now_s, batch)

    def forget_uploads(self, batch: int, names: Iterable[str]) -> None:
        """Forget uploads that the batch's listing does not confirm."""
        self.write_all("DELETE FROM uploads WHERE batch = ? AND name = ?", ((batch, name) for name in names))

    # Runs

    def record_run_intent(self, shard: Shard, run: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Record, before the request, that a run is about to be paid; this closes the shard.

        `run` has run_key, attempt, tag, batch and intent_s; `settings` is what the run key stands for.
        """
        with self.transaction():
            self._check_lease()
            self.write(
                "UPDATE shards SET fingerprint = ?, fingerprint_version = ? WHERE id = ? AND fingerprint IS NULL",
                run["fingerprint"],
                FINGERPRINT_VERSION,
                shard.id,
            )
            self.record_run_key(run["run_key"], settings)
            self.write(
                "INSERT INTO runs (shard, batch, run_key, attempt, tag, intent_s) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (shard, run_key, attempt) DO UPDATE "
                "SET intent_s = excluded.intent_s, lost_s = NULL, unknown = ''",
                shard.id,
                run["batch"],
                run["run_key"],
                run["attempt"],
                run["tag"],
                run["intent_s"],
            )

    def record_run_key(self, run_key: str, settings: Mapping[str, Any]) -> None:
        """Record what a run key stands for."""
        self.write("INSERT OR IGNORE INTO run_keys VALUES (?, ?)", run_key, json.dumps(settings, sort_keys=True))

    def load_run_keys(self) -> dict[str, dict[str, Any]]:
        """Load what each run key stands for."""
        return {row["run_key"]: json.loads(row["settings"]) for row in self.read("SELECT * FROM run_keys")}

    def record_taken_run(self, shard_id: int, batch: int, run_key: str, attempt: int, tag: str) -> int:
        """Record a run that another state started, as an intent without a time, and give its row."""
        self.write(
            "INSERT OR IGNORE INTO runs (shard, batch, run_key, attempt, tag, intent_s) VALUES (?, ?, ?, ?, ?, 0)",
            *(shard_id, batch, run_key, attempt, tag),
        )
        found = self.read(
            "SELECT id FROM runs WHERE shard = ? AND run_key = ? AND attempt = ?", shard_id, run_key, attempt
        )
        return int(found[0]["id"])

    def record_run(self, run: int, remote_id: str, status: str, message: str, times: tuple[int, int]) -> None:
        """Record what the service says of a run; `times` are its start and finish in nanoseconds, 0 if unknown.

        A time that no column can hold is as good as unknown.
        """
        started_ns, finished_ns = (time if fits_column(time) else 0 for time in times)
        self.write(
            "UPDATE runs SET remote_id = ?, status = ?, message = ?, started_ns = ?, finished_ns = ?, unknown = '' "
            "WHERE id = ?",
            remote_id,
            status,
            message,
            started_ns,
            finished_ns,
            run,
        )

    def record_run_lost(self, run: int, now_s: float) -> None:
        """Record when the answer to a run's start was lost."""
        self.write("UPDATE runs SET lost_s = ? WHERE id = ?", now_s, run)

    def record_run_unknown(self, run: int, why: str) -> None:
        """Record that it could not be found out whether a run was started."""
        self.write("UPDATE runs SET unknown = ? WHERE id = ?", why, run)

    def record_given_up(self, run: int) -> None:
        """Record a person's decision that no run was started under an intent."""
        self.write("UPDATE runs SET status = ? WHERE id = ? AND remote_id IS NULL", GIVEN_UP, run)

    def forget_run_intent(self, run: int) -> None:
        """Forget an intent whose run was surely not started; its shard stays closed."""
        self.write("DELETE FROM runs WHERE id = ? AND remote_id IS NULL", run)


def _by_shard(rows: Iterable[sqlite3.Row]) -> dict[int, list[sqlite3.Row]]:
    grouped: dict[int, list[sqlite3.Row]] = {}
    for row in rows:
        grouped.setdefault(row["shard"], []).append(row)
    return grouped


def _member(row: sqlite3.Row) -> Member:
    return Member(row["name"], row["path"], row["size"], row["digest"], row["password"])


def read_holder(path: Path) -> str:
    """Say who holds a state file, as it was recorded, or nothing where that cannot be read."""
    try:
        state = State(path, write=False)
    except StateError:
        return ""
    try:
        holder = json.loads(state.get_meta("holder") or "{}")
    except (StateError, ValueError):
        return ""
    finally:
        state.close()
    return ", ".join(f"{key} {value}" for key, value in holder.items())
