"""Facts about what was deleted on the service, or is about to be."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from aihub_runner.state.facts import JobFacts


class Deletion(Struct, frozen=True):
    """A deletion of parts of a batch or a run, of none if it was refused.

    `jobs` are the service's jobs for it, `is_done` says that it is confirmed.
    """

    parts: frozenset[str]
    jobs: tuple[str, ...]
    is_done: bool


class Deletions(JobFacts):
    """The table of deletions."""

    def load_deletions(self) -> dict[tuple[str, str], Deletion]:
        """Return all deletions, by kind and id."""
        rows = self.read("SELECT * FROM deletions")
        return {
            (row["kind"], row["remote_id"]): Deletion(
                frozenset(row["parts"].split()), tuple(row["jobs"].split()), bool(row["done"])
            )
            for row in rows
        }

    def record_deletion(self, kind: str, remote_id: str, parts: Iterable[str]) -> None:
        """Record, before the request, that parts are about to be deleted. From now on, a batch is not used again."""
        with self.transaction():
            self.check_lease()
            self.write(
                "INSERT INTO deletions (kind, remote_id, parts) VALUES (?, ?, ?) ON CONFLICT (kind, remote_id) "
                "DO UPDATE SET parts = excluded.parts, jobs = '', done = 0",
                *(kind, remote_id, " ".join(sorted(parts))),
            )
            if kind == "batch":
                self.write("UPDATE batches SET gone = id WHERE remote_id = ?", int(remote_id))

    def record_deletion_jobs(self, kind: str, remote_id: str, jobs: Iterable[str]) -> None:
        """Record the service's jobs for a deletion."""
        where = "WHERE kind = ? AND remote_id = ?"
        self.write(f"UPDATE deletions SET jobs = ? {where}", " ".join(jobs), kind, remote_id)

    def forget_closed(self, shards: Iterable[int]) -> None:
        """Forget closed shards, with their batches, runs and fetches. The lock file must say that they were paid."""
        with self.transaction():
            self.check_lease()
            for shard in shards:
                for kind, table in (("run", "runs"), ("batch", "batches")):
                    ids = f"SELECT CAST(remote_id AS TEXT) FROM {table} WHERE shard = ? AND remote_id IS NOT NULL"
                    self.write(f"DELETE FROM deletions WHERE kind = ? AND remote_id IN ({ids})", kind, shard)
                    self.write(f"DELETE FROM {table} WHERE shard = ?", shard)
                self.write("DELETE FROM shards WHERE id = ?", shard)

    def record_deleted(self, kind: str, remote_id: str, parts: Iterable[str]) -> None:
        """Record that parts of a batch or a run are deleted, which is confirmed."""
        marks = " ".join(sorted(parts))
        with self.transaction():
            self.write("INSERT OR REPLACE INTO deletions VALUES (?, ?, ?, '', 1)", kind, remote_id, marks)
            if kind == "batch":
                self.write("UPDATE batches SET gone = id WHERE remote_id = ?", int(remote_id))
            elif "output" in parts:
                self.write("UPDATE runs SET gone = 1 WHERE remote_id = ?", remote_id)
