"""The recorded facts of one spec. Only the modules of this package know the tables of schema.sql.

Every `record_` and `forget_` is one transaction, durable when it returns, unless it runs inside `transaction()`.
Raises StateError for every error of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aihub_runner.errors import StateError
from aihub_runner.model import Batch, Member, Run, Shard
from aihub_runner.plan.identity import VERSION as FINGERPRINT_VERSION
from aihub_runner.state.database import fits_column
from aihub_runner.state.deletions import Deletions
from aihub_runner.state.fetches import Fetches
from aihub_runner.state.files import Files
from aihub_runner.state.handing import Handing
from aihub_runner.state.keeping import Keeping
from aihub_runner.state.outputs import Outputs
from aihub_runner.state.shards import IS_DELETED, Shards
from aihub_runner.system.moment import now as moment_now

if TYPE_CHECKING:
    from aihub_runner.plan.planner import Move


class State(Shards, Deletions, Handing, Keeping, Outputs, Fetches, Files):
    """The state of one spec, for one thread. With `write=False` nothing is created or changed."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        super().__init__(path, write=write)
        self.is_exclusive = True  # whether the lock beside it excludes others

    @property
    def is_unused(self) -> bool:
        """Whether no work was ever recorded here."""
        return not self.read("SELECT 1 FROM shards LIMIT 1")

    # Shards

    def record_shard(self, members: Iterable[Member], fingerprint: str = "") -> int:
        """Record a new shard, closed if it has a fingerprint, and return its id."""
        with self.transaction():
            version = FINGERPRINT_VERSION if fingerprint else None
            cursor = self.write("INSERT INTO shards VALUES (NULL, ?, ?)", fingerprint or None, version)
            shard_id = int(cursor.lastrowid or 0)
            self.record_members(shard_id, members)
        return shard_id

    def record_members(self, shard_id: int, members: Iterable[Member]) -> None:
        """Replace the members of an open shard. On a closed one only paths and unknown names may change."""
        self._members_of.pop(shard_id, None)
        with self.transaction():
            self.write("DELETE FROM members WHERE shard = ?", shard_id)
            self.write_all(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((shard_id, m.name, m.path, m.size, m.digest, m.password, m.is_stale) for m in members),
            )

    def record_digests(self, shard_id: int, digests: Iterable[tuple[str, str]]) -> None:
        """Record the digests of members of an open shard, by name, which were only read as they were sent."""
        self._members_of.pop(shard_id, None)
        of_open = "shard = (SELECT id FROM shards WHERE id = ? AND fingerprint IS NULL)"
        rows = ((digest, name, shard_id) for name, digest in digests)
        self.write_all(f"UPDATE members SET digest = ? WHERE name = ? AND {of_open}", rows)

    def record_moves(self, moves: Iterable[Move]) -> None:
        """Update the paths of recorded files that moved."""
        pairs = [(move.new, move.old) for move in moves]
        if pairs:
            self._members_of.clear()
            self.write_all("UPDATE members SET path = ? WHERE path = ?", pairs)

    def close_shard(self, shard_id: int, fingerprint: str) -> None:
        """Close an open shard for good."""
        self.write(
            "UPDATE shards SET fingerprint = ?, fingerprint_version = ? WHERE id = ? AND fingerprint IS NULL",
            *(fingerprint, FINGERPRINT_VERSION, shard_id),
        )

    def forget_shard(self, shard_id: int) -> None:
        """Forget an open shard; its files are grouped again."""
        self._members_of.pop(shard_id, None)
        self._uploads_to.clear()  # those to its batches are forgotten, too
        self.record_left(shard_id)
        self.write("DELETE FROM shards WHERE id = ? AND fingerprint IS NULL", shard_id)

    # Batches

    def record_batch_intent(self, shard_id: int, target: str, name: str, now_s: float, before: Iterable[int]) -> None:
        """Record, before the request, that a batch is about to be created. `before` are batches of its name so far."""
        with self.transaction():
            self.check_lease()
            moment = moment_now()
            self.write(
                "INSERT INTO batches (shard, target, name, intent_s, since_boot, since_mono, before) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (shard, target, gone) DO UPDATE "
                "SET intent_s = excluded.intent_s, since_boot = excluded.since_boot, "
                "since_mono = excluded.since_mono, before = excluded.before, lost_s = NULL",
                *(shard_id, target, name, now_s, moment.boot, moment.mono_s, _join_ids(before)),
            )

    def _set(self, table: str, row: int, where: str = "", **facts: object) -> None:
        """Set facts in a row, and that the wait for their effect starts now."""
        moment = moment_now()
        facts |= {"since_boot": moment.boot, "since_mono": moment.mono_s}
        columns = ", ".join(f"{name} = ?" for name in facts)
        self.write(f"UPDATE {table} SET {columns} WHERE id = ? {where}", *facts.values(), row)

    def record_batch(self, batch: int, remote_id: int) -> None:
        """Record the service's id of a batch, once. It is never replaced by another."""
        self._set("batches", batch, "AND remote_id IS NULL", remote_id=remote_id)

    def record_batch_verified(self, batch: int, created_ms: int) -> None:
        """Record that a batch is confirmed as ours, and when the service created it (milliseconds)."""
        self.write("UPDATE batches SET verified = 1, created_ms = ? WHERE id = ?", created_ms, batch)

    def record_batch_foreign(self, batch: Batch, now_s: float) -> None:
        """Record that the response to a batch's creation named somebody else's batch; it counts as lost."""
        with self.transaction():
            self.record_batch_lost(batch.id, now_s)
            before = batch.before | ({batch.remote_id} if batch.remote_id else set())
            self.write("UPDATE batches SET remote_id = NULL, before = ? WHERE id = ?", _join_ids(before), batch.id)

    def record_imported_batch(self, shard_id: int, target: str, remote_id: int) -> int:
        """Record a batch that another state created, and return its row."""
        cursor = self.write(
            "INSERT INTO batches (shard, target, name, intent_s, remote_id, verified) VALUES (?, ?, '', 0, ?, 1)",
            *(shard_id, target, remote_id),
        )
        return int(cursor.lastrowid or 0)

    def record_batch_lost(self, batch: int, now_s: float) -> None:
        """Record when the response to a batch's creation was lost."""
        self._set("batches", batch, lost_s=now_s)

    def forget_batch_intent(self, batch: int) -> None:
        """Forget the intent of a batch whose request was never sent."""
        self._uploads_to.pop(batch, None)
        self.write("DELETE FROM batches WHERE id = ? AND remote_id IS NULL", batch)

    def record_batch_gone(self, batch: int) -> None:
        """Record that a batch is gone or superseded. Its row stays for its runs, and is never used again."""
        self.write("UPDATE batches SET gone = id WHERE id = ?", batch)

    def record_uploads(self, batch: int, files: Iterable[tuple[str, str]]) -> None:
        """Record that a batch contains files: names and digests."""
        self._uploads_to.pop(batch, None)
        self.write_all(
            "INSERT OR REPLACE INTO uploads (batch, name, digest) VALUES (?, ?, ?)",
            ((batch, name, digest) for name, digest in files),
        )

    def record_uploads_begun(self, batch: int, names: Iterable[str]) -> None:
        """Record, before the requests, which names are sent to a batch. Only these may be deleted from it."""
        self._uploads_to.pop(batch, None)
        self.write_all(
            "INSERT INTO uploads (batch, name, digest) VALUES (?, ?, '') "
            "ON CONFLICT (batch, name) DO UPDATE SET digest = ''",
            ((batch, name) for name in names),
        )

    def record_modified(self, batch: int, modified: Mapping[str, int]) -> None:
        """Record the time that the service lists for each file after its upload."""
        self._uploads_to.pop(batch, None)
        self.write_all(
            "UPDATE uploads SET modified_s = ? WHERE batch = ? AND name = ?",
            ((seconds, batch, name) for name, seconds in modified.items()),
        )

    def record_sent(self, batch: int, now_s: float) -> None:
        """Record when the last file was sent to a batch."""
        self.write("UPDATE batches SET sent_s = ? WHERE id = ?", now_s, batch)

    def record_pause(self, now_s: float) -> None:
        """Record, before an apply works, that none has since the last upload, start or fetch. It may be repeated."""
        facts = (("intent_s", "batches"), ("sent_s", "batches"), ("intent_s", "runs"), ("fetched_s", "fetches"))
        begun_s = max(self.read(f"SELECT max({fact}) FROM {table}")[0][0] or 0.0 for fact, table in facts)
        if 0 < begun_s < now_s:
            self.write(
                "INSERT INTO pauses VALUES (?, ?) ON CONFLICT (begun_s) DO UPDATE SET ended_s = excluded.ended_s",
                *(begun_s, now_s),
            )

    def load_pauses(self) -> list[tuple[float, float]]:
        """Return when no apply worked, each with begin and end in Unix seconds of the service's clock."""
        return [(row["begun_s"], row["ended_s"]) for row in self.read("SELECT * FROM pauses ORDER BY begun_s")]

    def forget_uploads(self, batch: int, names: Iterable[str]) -> None:
        """Forget the digests of names that the batch's listing does not confirm."""
        self._uploads_to.pop(batch, None)
        self.write_all(
            "UPDATE uploads SET digest = '', modified_s = 0 WHERE batch = ? AND name = ?",
            ((batch, name) for name in names),
        )

    # Runs

    def record_run_intent(self, shard: Shard, run: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Record, before the request, that a run is about to be paid. This closes the shard.

        `run` has run_key, attempt, tag, batch, remote_batch, bound_s and intent_s. `settings` is what the run key
        stands for.
        """
        moment = moment_now()
        with self.transaction():
            self.check_lease()
            self.close_shard(shard.id, run["fingerprint"])
            self.record_run_key(run["run_key"], settings)
            self.write(
                "INSERT INTO runs (shard, batch, remote_batch, bound_s, run_key, attempt, tag, intent_s, since_boot, "
                "since_mono) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (shard, run_key, attempt, twin) DO "
                "UPDATE SET intent_s = excluded.intent_s, since_boot = excluded.since_boot, "
                "since_mono = excluded.since_mono, batch = excluded.batch, remote_batch = excluded.remote_batch, "
                "lost_s = NULL, unknown = '', refused = '', given_up = 0 WHERE coalesce(runs.remote_id, '') = ''",
                *(shard.id, run["batch"], run["remote_batch"], run["bound_s"], run["run_key"], run["attempt"]),
                *(run["tag"], run["intent_s"], moment.boot, moment.mono_s),
            )

    def has_gone(self, run_key: str) -> bool:
        """Whether a run of a run key was gone before its results were fetched."""
        never = "id NOT IN (SELECT run FROM fetches)"
        where = f"run_key = ? AND gone AND {never} AND NOT is_deleted"
        return bool(self.read(f"SELECT {IS_DELETED} FROM runs WHERE {where} LIMIT 1", run_key))

    def known_batches(self, name: str = "") -> frozenset[int]:
        """Return the service's ids of all batches ever recorded; with a name, of those that may have it."""
        where = "remote_id > 0 AND (? = '' OR name IN (?, ''))"  # the name of one that was imported is not recorded
        rows = self.read(f"SELECT remote_id FROM batches WHERE {where}", name, name)
        return frozenset(row["remote_id"] for row in rows)

    def knows_batch(self, remote_id: int) -> bool:
        """Whether a batch of this id was ever recorded."""
        return bool(self.read("SELECT 1 FROM batches WHERE remote_id = ? LIMIT 1", remote_id))

    def knows_run(self, remote_id: str) -> bool:
        """Whether a run of this id was ever recorded."""
        return bool(self.read("SELECT 1 FROM runs WHERE remote_id = ?", remote_id))

    def known_runs(self) -> frozenset[str]:
        """Return the service's ids of all runs ever recorded."""
        return frozenset(row["remote_id"] for row in self.read("SELECT remote_id FROM runs WHERE remote_id <> ''"))

    def runs_of_tag(self, tag: str) -> frozenset[str]:
        """Return the service's ids of the runs with a tag."""
        rows = self.read("SELECT remote_id FROM runs WHERE tag = ? AND remote_id <> ''", tag)
        return frozenset(row["remote_id"] for row in rows)

    def has_intent(self, tag: str) -> bool:
        """Whether an intent with a tag has no run: it is open, or given up."""
        return bool(self.read("SELECT 1 FROM runs WHERE tag = ? AND coalesce(remote_id, '') = ''", tag))

    def names_in(self, remote_id: int) -> frozenset[str]:
        """Return the names of all files that were ever sent to a batch."""
        rows = self.read(
            "SELECT uploads.name FROM uploads JOIN batches ON batches.id = uploads.batch WHERE remote_id = ? "
            "UNION SELECT name FROM placed_files WHERE remote_id = ?",
            *(remote_id, remote_id),
        )
        return frozenset(row["name"] for row in rows)

    def batches_of_runs(self) -> dict[str, int]:
        """Return the batch of each recorded run, 0 where it is unknown, by the service's ids."""
        rows = self.read("SELECT remote_id, remote_batch FROM runs WHERE remote_id <> ''")
        return {row["remote_id"]: row["remote_batch"] for row in rows}

    def batches_of_tag(self, tag: str, but_run: int = 0) -> frozenset[int]:
        """Return the service's batch ids of all other runs with a tag: shards with the same names and bytes."""
        rows = self.read("SELECT remote_batch FROM runs WHERE tag = ? AND id <> ?", tag, but_run)
        return frozenset(row["remote_batch"] for row in rows)

    def list_visible(self, target: str, limit: int) -> list[Run]:
        """Return the newest runs of a target that any list of its runs should contain, at most `limit`."""
        rows = self.read(
            f"SELECT runs.*, {IS_DELETED} FROM runs JOIN batches ON batches.id = runs.batch WHERE target = ? "
            "AND runs.remote_id <> '' AND NOT runs.gone AND NOT is_deleted "
            "ORDER BY started_ns DESC, runs.id DESC LIMIT ?",
            *(target, limit),
        )
        return [self._run(row) for row in rows]

    def bound_of(self, runs: Iterable[int]) -> int:
        """Return a time (Unix seconds) before all of the given runs."""
        marks = ", ".join(str(int(run)) for run in runs)
        return int(self.read(f"SELECT coalesce(min(bound_s), 1) AS s FROM runs WHERE id IN ({marks})")[0]["s"])

    def load_foreign(self, batch: int, runs: int) -> bytes | None:
        """Return what `record_foreign` stored for a batch, unless its number of runs has changed."""
        rows = self.read("SELECT marks FROM foreign_batches WHERE remote_id = ? AND runs = ?", batch, runs)
        return bytes(rows[0]["marks"]) if rows else None

    def record_foreign(self, batch: int, runs: int, marks: bytes) -> None:
        """Record the listing of somebody else's batch, so that later applies need not list it again.

        Of a batch that was deleted, `runs` is the number of those whose results were read, as less than 0.
        """
        self.write("INSERT OR REPLACE INTO foreign_batches VALUES (?, ?, ?)", batch, runs, marks)

    def newest_run_row(self) -> int:
        """Return the number of the newest run row, 0 without runs."""
        return int(self.read("SELECT coalesce(max(id), 0) AS id FROM runs")[0]["id"])

    def list_runs(self) -> list[dict[str, Any]]:
        """List all batches and their runs, oldest first, as values for people. Cheap: reads no members."""
        rows = self.read(
            f"SELECT {IS_DELETED}, batches.remote_id AS batch, runs.remote_id AS run, runs.status, runs.refused,"
            " runs.given_up,"
            " batches.gone AS batch_gone, runs.gone AS run_gone, runs.started_ns, runs.intent_s,"
            " (SELECT count(*) FROM members WHERE members.shard = batches.shard) AS files"
            " FROM batches LEFT JOIN runs ON runs.batch = batches.id ORDER BY batches.id, runs.id"
        )
        return [dict(row) for row in rows]

    def load_run_times(self) -> dict[str, float]:
        """Return when each run was started (Unix seconds), by the service's id, as far as it is known."""
        rows = self.read("SELECT remote_id, max(intent_s, started_ns / 1e9) AS s FROM runs WHERE remote_id <> ''")
        return {row["remote_id"]: row["s"] for row in rows if row["s"]}

    def count_started(self) -> int:
        """Count the runs that this state started, and that are confirmed."""
        [row] = self.read("SELECT count(*) AS number FROM runs WHERE intent_s > 0 AND remote_id <> ''")
        return int(row["number"])

    def record_run_key(self, run_key: str, settings: Mapping[str, Any]) -> None:
        """Record the settings that a run key stands for."""
        self.write("INSERT OR IGNORE INTO run_keys VALUES (?, ?)", run_key, json.dumps(settings, sort_keys=True))

    def load_run_keys(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each run key."""
        return {row["run_key"]: json.loads(row["settings"]) for row in self.read("SELECT * FROM run_keys")}

    def record_imported_run(
        self, shard_id: int, batch: Batch, run: tuple[str, int, str], remote_id: str | None = None
    ) -> int:
        """Record a run that another state started, as an intent without a time, and return its row.

        `run` has run key, attempt and tag. If its row has another run's id already, the run gets a row of its own.
        """
        known = "shard = ? AND run_key = ? AND attempt = ?"
        mine = "AND coalesce(remote_id, '') IN ('', ?)"
        found = self.read(f"SELECT id FROM runs WHERE {known} {mine}", shard_id, *run[:2], remote_id)
        if found:
            if remote_id:  # an intent that was open turns out to be a run on this batch
                self.write(
                    "UPDATE runs SET batch = ?, remote_batch = ?, bound_s = 1 "
                    "WHERE id = ? AND coalesce(remote_id, '') = ''",
                    *(batch.id, batch.remote_id or 0, found[0]["id"]),
                )
            return int(found[0]["id"])
        twins = self.read(f"SELECT coalesce(max(twin) + 1, 0) AS next FROM runs WHERE {known}", shard_id, *run[:2])
        cursor = self.write(
            "INSERT INTO runs (shard, batch, remote_batch, run_key, attempt, tag, intent_s, twin) "
            "VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            *(shard_id, batch.id, batch.remote_id or 0, *run, twins[0]["next"]),
        )
        return int(cursor.lastrowid or 0)

    def record_run(self, run: int, remote_id: str, status: str, message: str, times: tuple[int, int]) -> None:
        """Record what the service reports about a run; `times` are start and finish in nanoseconds, 0 if unknown.

        A time that no column can hold counts as unknown. A recorded id is never replaced: for another id, nothing is
        recorded.
        """
        started_ns, finished_ns = (time if fits_column(time) else 0 for time in times)
        self._set("runs", run, "AND coalesce(remote_id, '') = ''")
        self.write(
            "UPDATE runs SET remote_id = ?, status = ?, message = ?, started_ns = ?, finished_ns = ?, unknown = '', "
            "refused = '', gone = 0, given_up = 0 WHERE id = ? AND coalesce(remote_id, '') IN ('', ?)",
            *(remote_id, status, message, started_ns, finished_ns, run, remote_id),
        )

    def record_status(self, run: int, status: str) -> None:
        """Record the status of a run that the service cannot be asked about any more."""
        self._set("runs", run, status=status)

    def record_run_lost(self, run: int, now_s: float) -> None:
        """Record when the response to a run's start was lost."""
        self._set("runs", run, lost_s=now_s)

    def record_run_refused(self, run: int, why: str) -> None:
        """Record how the service refused a run. The intent stays, because a gateway may have refused it."""
        self._set("runs", run, refused=why)

    def record_run_gone(self, run: int) -> None:
        """Record that the service does not have a run any more. Its last status stays."""
        self.write("UPDATE runs SET gone = 1 WHERE id = ?", run)

    def record_run_unknown(self, run: int, why: str) -> None:
        """Record why it is unconfirmed whether a run was started."""
        self.write("UPDATE runs SET unknown = ? WHERE id = ?", why, run)

    def record_given_up(self, run: int) -> None:
        """Record the user's decision that no run was started under an intent."""
        self.write("UPDATE runs SET given_up = 1 WHERE id = ? AND coalesce(remote_id, '') = ''", run)

    def forget_run_intent(self, run: int) -> None:
        """Forget an intent whose request was never sent. Its shard stays closed."""
        self.write("DELETE FROM runs WHERE id = ? AND coalesce(remote_id, '') = ''", run)


def _join_ids(ids: Iterable[int]) -> str:
    return " ".join(map(str, sorted(ids)))


def read_holder(path: Path) -> str:
    """Return who holds a state file, as recorded; empty if that cannot be read."""
    with suppress(StateError), closing(State(path, write=False)) as state:
        return state.describe_holder()
    return ""
