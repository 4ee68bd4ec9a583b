"""Facts about the whole job: its places, its holder, and what a person or an earlier apply decided."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime

from aihub_runner.errors import StateError
from aihub_runner.spec.kinds import list_keys
from aihub_runner.state.database import Database
from aihub_runner.state.lockfile import Entry

_ENTRY = tuple(name for name in list_keys(Entry) if name not in ("kept", "places"))  # found on no kept batch


class JobFacts(Database):
    """The tables of facts about the whole job."""

    _lease = ""

    def _fact(self, column: str) -> str:
        return str(self.read(f"SELECT {column} AS fact FROM job")[0]["fact"])

    @property
    def root(self) -> str:
        """The API root that the state was created for; empty in a new state."""
        return self._fact("root")

    @property
    def results(self) -> str:
        """The results folder, relative to the spec's folder; empty in a new state."""
        return self._fact("results")

    def record_results_folder(self, place: str) -> None:
        """Record the results folder."""
        self.write("UPDATE job SET results = ?", place)

    # Who holds the state

    def record_lease(self, lease: str, root: str, version: str = "") -> None:
        """Take over the state: from now on only the holder of this lease may record an intent."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        self.write(
            "UPDATE job SET lease = ?, root = ?, version = ?, holder_pid = ?, holder_host = ?, holder_since = ?",
            *(lease, root, version, os.getpid(), platform.node(), since),
        )
        self._lease = lease

    def check_lease(self) -> None:
        """Raise StateError if another process has taken over."""
        if not self.read("SELECT 1 FROM job WHERE lease = ?", self._lease):
            raise StateError(
                f"{self.path.name}: another apply has taken over, {self.describe_holder() or 'an unknown process'}",
                "wait until it ends; nothing was sent",
            )

    def describe_holder(self) -> str:
        """Return which process took over last; empty if none did, or if it is dead.

        An apply that finds nothing to do holds the lock without taking over.
        """
        row = self.read("SELECT * FROM job")[0]
        if not row["holder_pid"] or (row["holder_host"] == platform.node() and _is_dead(row["holder_pid"])):
            return ""
        return f"pid {row['holder_pid']} on {row['holder_host']} since {row['holder_since']}"

    # Decisions

    def find_again(self, target: str, run_key: str) -> int | None:
        """Find the newest run (row) from before an interrupted `--again`."""
        rows = self.read("SELECT after_run FROM agains WHERE target = ? AND run_key = ?", target, run_key)
        return int(rows[0]["after_run"]) if rows else None

    def has_again(self) -> bool:
        """Whether any `--again` was interrupted."""
        return bool(self.read("SELECT 1 FROM agains LIMIT 1"))

    def record_again(self, target: str, run_key: str, after: int) -> None:
        """Record, before it pays, that `--again` has begun."""
        self.write("INSERT OR REPLACE INTO agains VALUES (?, ?, ?)", target, run_key, after)

    def forget_again(self, target: str, run_key: str) -> None:
        """Forget an `--again` that is complete."""
        self.write("DELETE FROM agains WHERE target = ? AND run_key = ?", target, run_key)

    def load_matched(self) -> set[str]:
        """Return the parts of patterns that matched files."""
        return {row["part"] for row in self.read("SELECT part FROM matched_parts")}

    def record_matched(self, parts: Iterable[str]) -> None:
        """Replace the parts of patterns that matched files."""
        with self.transaction():
            self.write("DELETE FROM matched_parts")
            self.write_all("INSERT INTO matched_parts VALUES (?)", ((part,) for part in parts))

    def load_pending(self) -> list[Entry]:
        """Return the runs found on the service that are not verified yet."""
        rows = self.read("SELECT * FROM pending_entries ORDER BY id")
        return [Entry(**{name: row[name] for name in _ENTRY}) for row in rows]

    def record_pending(self, entries: Iterable[Entry]) -> None:
        """Replace the runs found on the service that are not verified."""
        columns, marks = ", ".join(f'"{name}"' for name in _ENTRY), ", ".join("?" * len(_ENTRY))
        with self.transaction():
            self.write("DELETE FROM pending_entries")
            self.write_all(
                f"INSERT INTO pending_entries ({columns}) VALUES ({marks})",
                ([getattr(entry, name) for name in _ENTRY] for entry in entries),
            )

    def load_dismissed(self) -> set[str]:
        """Return the runs, by id or tag, whose files the user decided to pay for again."""
        return {row["name"] for row in self.read("SELECT name FROM dismissed_runs")}

    def record_dismissed(self, entries: Iterable[Entry]) -> None:
        """Skip entries from now on: the user decided to pay for their files again."""
        names = {entry.run_id or entry.tag for entry in entries}
        self.write_all("INSERT OR IGNORE INTO dismissed_runs VALUES (?)", ((name,) for name in sorted(names)))


def _is_dead(pid: int) -> bool:
    if os.name != "posix":  # elsewhere, `os.kill` ends the process
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
