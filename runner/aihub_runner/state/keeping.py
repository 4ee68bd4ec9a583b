"""Facts about batches that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aihub_runner.plan.contents import Placed
from aihub_runner.state.facts import JobFacts


class Keeping(JobFacts):
    """The tables about batches that are kept."""

    def record_kept_batch(self, shard_id: int, target: str, remote_id: int, kind: str, name: str = "") -> int:
        """Record a kept batch as that of a shard, and return its row. `name` is the batch's name, if it is ours."""
        with self.transaction():
            cursor = self.write(
                "INSERT INTO batches (shard, target, name, intent_s, remote_id, verified) VALUES (?, ?, ?, 0, ?, 1)",
                *(shard_id, target, name, remote_id),
            )
            row = int(cursor.lastrowid or 0)
            self.record_kind(row, kind)
        return row

    def record_kind(self, batch: int, kind: str) -> None:
        """Record that a batch is one that is kept."""
        self.write("INSERT OR REPLACE INTO kept_batches VALUES (?, ?)", batch, kind)

    def load_placed(self, remote_id: int) -> dict[str, Placed]:
        """Return what this state put into a kept batch, by name."""
        rows = self.read("SELECT name, digest, modified_s FROM placed_files WHERE remote_id = ?", remote_id)
        return {row["name"]: Placed(row["digest"], row["modified_s"]) for row in rows}

    def record_placing(self, remote_id: int, names: Iterable[str]) -> None:
        """Record, before the requests, which files of a kept batch are about to be sent."""
        with self.transaction():
            self.check_lease()
            self.write_all(
                "INSERT OR REPLACE INTO placed_files (remote_id, name) VALUES (?, ?)",
                ((remote_id, name) for name in names),
            )

    def record_placed(self, remote_id: int, name: str, digest: str) -> None:
        """Record that a file was sent to a kept batch."""
        where = "WHERE remote_id = ? AND name = ?"
        self.write(f"UPDATE placed_files SET digest = ?, modified_s = 0 {where}", digest, remote_id, name)

    def record_listed(self, remote_id: int, times: Mapping[str, int]) -> None:
        """Record the time of each file that was sent, as it is listed now; forget those that are not there any more."""
        with self.transaction():
            gone = self.load_placed(remote_id).keys() - times.keys()
            self.write_all(
                "DELETE FROM placed_files WHERE remote_id = ? AND name = ?", ((remote_id, name) for name in gone)
            )
            self.write_all(
                "UPDATE placed_files SET modified_s = ? WHERE remote_id = ? AND name = ? AND modified_s = 0",
                ((seconds, remote_id, name) for name, seconds in times.items()),
            )

    def record_turn(self, remote_id: int, name: str) -> None:
        """Record, before the request, the batch by which this state says that it changes or runs one that is kept."""
        with self.transaction():
            self.check_lease()
            self.write("INSERT INTO turns (remote_id, name) VALUES (?, ?)", remote_id, name)

    def load_turns(self) -> dict[int, list[str]]:
        """Return the names of such batches that may still exist, by the id of the one that is kept."""
        found: dict[int, list[str]] = {}
        for row in self.read("SELECT remote_id, name FROM turns ORDER BY name"):
            found.setdefault(row["remote_id"], []).append(row["name"])
        return found

    def forget_turns(self, remote_id: int) -> None:
        """Forget those of a batch: they are deleted."""
        self.write("DELETE FROM turns WHERE remote_id = ?", remote_id)

    def record_left(self, shard_id: int) -> None:
        """Record the batches of an open shard that is about to be forgotten: they are ours, and never run."""
        self.write(
            "INSERT OR IGNORE INTO left_batches SELECT remote_id FROM batches WHERE shard = ? AND remote_id > 0",
            shard_id,
        )

    def load_left(self) -> frozenset[int]:
        """Return the ids of our batches whose shards were forgotten."""
        return frozenset(row["remote_id"] for row in self.read("SELECT remote_id FROM left_batches"))
