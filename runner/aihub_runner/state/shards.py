"""Read the shards with their files, batches and runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from aihub_runner.model import Batch, Member, Run, Shard, Source
from aihub_runner.state.database import Database
from aihub_runner.state.later import Later
from aihub_runner.system.moment import Moment

# Columns of a run that do not map to its fields one to one.
_NOT_PLAIN = frozenset({"lost_s", "since_boot", "since_mono", "gone", "given_up", "twin", "is_deleted"})

# Results that we asked the service to delete: not logs alone, and not a request that may have been refused.
IS_DELETED = (
    "EXISTS (SELECT 1 FROM deletions WHERE kind = 'run' AND remote_id = runs.remote_id "
    "AND ' ' || parts || ' ' LIKE '% output %' AND (done OR jobs <> '')) AS is_deleted"
)

_KEPT = "coalesce((SELECT kind FROM kept_batches WHERE batch = batches.id), '') AS kept"

Uploads = tuple[dict[str, str], dict[str, int]]  # digest, and time if listed, by name in the batch


class Shards(Database):
    """The tables of shards, as they are read. Who writes must drop what is kept here of them."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        super().__init__(path, write=write)
        self._all_shards: tuple[int, list[Shard]] | None = None
        self._members_of: dict[int, tuple[Member, ...]] = {}  # by shard
        self._uploads_to: dict[int, Uploads] = {}  # by batch
        self._sources: dict[str, Source] = {}  # by path, while all shards are loaded

    def load_shards(self, shard_id: int | None = None) -> list[Shard]:
        """Return all shards with all facts, oldest first, or one shard.

        All shards are kept until the next write, and their files until these change: they are needed often.
        """
        if shard_id is not None:
            return self._load_shards(shard_id)
        if self.in_transaction:  # what is read now may be undone
            return self._load_shards(None)
        if self._all_shards is None or self._all_shards[0] != self.changes:
            self._all_shards = self.changes, self._load_shards(None)
        return list(self._all_shards[1])

    def find_shards(self, remote_batch: int) -> list[Shard]:
        """Return the shards that have a batch with this id."""
        rows = self.read("SELECT DISTINCT shard FROM batches WHERE remote_id = ?", remote_batch)
        return [shard for row in rows for shard in self._load_shards(row["shard"])]

    def share_texts(self, sources: Iterable[Source]) -> None:
        """Load the files of all shards with the paths and digests of equal sources: a second copy takes 0.2 KB."""
        self._sources = {source.path: source for source in sources}
        self.load_shards()
        self._sources = {}

    def _load_shards(self, shard_id: int | None) -> list[Shard]:
        where, values = ("", ()) if shard_id is None else ("WHERE shard = ?", (shard_id,))
        batches = _by_shard(self.read(f"SELECT *, {_KEPT} FROM batches {where}", *values))
        runs = _by_shard(self.read(f"SELECT *, {IS_DELETED} FROM runs {where} ORDER BY id", *values))
        where = where.replace("shard", "id")
        return [
            Shard(
                row["id"],
                row["fingerprint"] or "",
                self._load_members(row["id"]),
                tuple(self._batch(batch, is_lazy=shard_id is None) for batch in batches.get(row["id"], ())),
                tuple(self._run(run) for run in runs.get(row["id"], ())),
            )
            for row in self.read(f"SELECT * FROM shards {where} ORDER BY id", *values)
        ]

    def _load_members(self, shard_id: int) -> tuple[Member, ...]:
        found = self._members_of.get(shard_id)
        if found is None:
            found = tuple(self._read_members(shard_id))
            if not self.in_transaction:
                self._members_of[shard_id] = found
        return found

    def _read_members(self, shard_id: int) -> Iterator[Member]:
        sql = "SELECT name, path, size, digest, password, stale FROM members WHERE shard = ? ORDER BY path, name"
        for name, path, size, digest, password, is_stale in self.each_tuple(sql, shard_id):
            source = self._sources.get(path)
            if source and source.digest == digest and source.size == size:
                path, size, digest = source.path, source.size, source.digest
            yield Member(name, path, size, digest, password, bool(is_stale))

    def _load_uploads(self, batch: int, shard_id: int) -> Uploads:
        """Return digest and time of each upload, with the texts of the shard's members where they are equal."""
        found = self._uploads_to.get(batch)
        if found is None:
            members = {member.name: member for member in self._load_members(shard_id)}
            found = {}, {}
            sql = "SELECT name, digest, modified_s FROM uploads WHERE batch = ?"
            for name, digest, seconds in self.each_tuple(sql, batch):
                if (member := members.get(name)) and member.digest == digest:
                    name, digest = member.name, member.digest
                found[0][name] = digest
                if seconds:
                    found[1][name] = seconds
            if not self.in_transaction:
                self._uploads_to[batch] = found
        return found

    def _batch(self, row: sqlite3.Row, *, is_lazy: bool) -> Batch:
        """Return a batch. Of all shards, only the uploads to a few batches are ever needed."""
        load = partial(self._load_uploads, row["id"], row["shard"])
        uploads, modified = (Later(load, 0), Later(load, 1)) if is_lazy else load()
        return Batch(
            row["id"],
            row["target"],
            row["name"],
            row["intent_s"],
            row["remote_id"],
            uploads,
            row["sent_s"] or 0.0,
            Moment(row["since_boot"], row["since_mono"]),
            frozenset(map(int, row["before"].split())),
            row["created_ms"],
            bool(row["verified"]),
            bool(row["gone"]),
            modified,
            row["kept"],
        )

    def _run(self, row: sqlite3.Row) -> Run:
        fetches = self.read("SELECT include, fetched_s FROM fetches WHERE run = ?", row["id"])
        facts = {name: row[name] for name in row.keys() if name not in _NOT_PLAIN}  # noqa: SIM118
        fetched = {fetch["include"]: fetch["fetched_s"] or 0.0 for fetch in fetches}
        since = Moment(row["since_boot"], row["since_mono"])
        return Run(
            **facts,
            fetched=fetched,
            since=since,
            is_gone=bool(row["gone"]),
            is_given_up=bool(row["given_up"]),
            is_deleted=bool(row["is_deleted"]),
        )


def _by_shard(rows: Iterable[sqlite3.Row]) -> dict[int, list[sqlite3.Row]]:
    grouped: dict[int, list[sqlite3.Row]] = {}
    for row in rows:
        grouped.setdefault(row["shard"], []).append(row)
    return grouped
