"""Facts about batches whose files were handed to workers beyond this process."""

from __future__ import annotations

from aihub_runner.model import Handed
from aihub_runner.state.facts import JobFacts


class Handing(JobFacts):
    """The table of batches that workers send files to."""

    def load_handed(self) -> dict[int, Handed]:
        """Return the batches, by row, that workers may still be sending files to."""
        rows = self.read("SELECT batch, fingerprint, late_s FROM handed_batches")
        return {row["batch"]: Handed(row["fingerprint"], row["late_s"]) for row in rows}

    def record_handed(self, batch: int, handed: Handed) -> None:
        """Record, before any task is submitted, that workers send files to a batch."""
        self.write("INSERT OR REPLACE INTO handed_batches VALUES (?, ?, ?)", batch, handed.fingerprint, handed.late_s)

    def forget_handed(self, batch: int) -> None:
        """Record that no worker can send anything to a batch any more."""
        self.write("DELETE FROM handed_batches WHERE batch = ?", batch)
