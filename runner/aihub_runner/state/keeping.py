"""Facts about batches that are kept."""

from __future__ import annotations

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
