"""Recorded facts about the files in the results folder, and what went wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from aihub_runner.errors import ResultsError, RunnerError, Shortage
from aihub_runner.model import Stat
from aihub_runner.state.database import Database, fits_column
from aihub_runner.text.jsontext import as_unicode

DOCUMENTS, TABLES, PDFS = "documents", "tables", "pdfs"  # the kinds of outputs
PDF_FOLDER = "pdf/"


class Output(Struct, frozen=True):
    """A file as we wrote it. `announced` is the digest recorded just before it was written."""

    digest: str
    announced: str
    size: int
    mtime_ns: int


class Settled(Struct, frozen=True):
    """What an apply had read when it left nothing to do, as digests, and its report as JSON; see schema.sql."""

    inputs: str
    files: str
    lock_file: str
    report: str


class Outputs(Database):
    """The tables of outputs."""

    def load_outputs(self) -> dict[str, Output]:
        """Return all files that were written or announced, by their paths in the results folder."""
        return {row["path"]: Output(*tuple(row)[1:]) for row in self.read("SELECT * FROM outputs")}

    def record_announced(self, digests: Mapping[str, str]) -> None:
        """Record which digests are about to be written."""
        self.write_all(
            "INSERT INTO outputs (path, announced) VALUES (?, ?) "
            "ON CONFLICT (path) DO UPDATE SET announced = excluded.announced",
            digests.items(),
        )

    def record_output(self, path: str, digest: str, size: int = 0, mtime_ns: int = 0) -> None:
        """Record a file that was written."""
        self.write(
            "INSERT INTO outputs (path, digest, size, mtime_ns) VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE "
            "SET digest = excluded.digest, size = excluded.size, mtime_ns = excluded.mtime_ns",
            *(path, digest, size, mtime_ns),
        )

    def forget_outputs(self, paths: Iterable[str]) -> None:
        """Forget files that were removed."""
        self.write_all("DELETE FROM outputs WHERE path = ?", ((path,) for path in paths))

    def forget_all_outputs(self) -> None:
        """Forget all files, because the results folder has changed."""
        with self.transaction():
            for table in ("outputs", "kept_files", "made_from", "table_errors"):
                self.write(f"DELETE FROM {table}")

    def load_kept(self) -> dict[str, tuple[Stat, str]]:
        """Return the stat and digest under which files in the results folder were last read, by path."""
        rows = self.read("SELECT path, digest, size, mtime_ns, ctime_ns, inode FROM kept_files")
        return {path: (Stat(*stat), digest) for path, digest, *stat in rows}

    def record_kept(self, kept: Mapping[str, tuple[Stat, str]]) -> None:
        """Record files that were read. One whose numbers no column can hold is read each time."""
        rows = ((path, s.size, s.mtime_ns, s.ctime_ns, s.inode, digest) for path, (s, digest) in kept.items())
        self.write_all(
            "INSERT OR REPLACE INTO kept_files VALUES (?, ?, ?, ?, ?, ?)",
            (row for row in rows if all(map(fits_column, row))),
        )

    def load_fetched(self, run_key: str, include: str) -> list[tuple[str, str]]:
        """Return path and digest of the raw pages of all runs of a run key."""
        rows = self.read(
            "SELECT path, digest FROM pages JOIN runs ON runs.id = pages.run WHERE run_key = ? AND include = ?",
            *(run_key, include),
        )
        return [(row["path"], row["digest"]) for row in rows]

    def find_settled(self) -> Settled | None:
        """Return what was recorded last, unless the state was changed since."""
        rows = self.read("SELECT inputs, files, lock_file, report FROM settled WHERE revision = ?", self.revision)
        return Settled(*rows[0]) if rows else None

    def record_settled(self, settled: Settled) -> None:
        """Record what an apply had read when it left nothing to do. Any later write voids it."""
        self.write(
            "INSERT OR REPLACE INTO settled VALUES (1, ?, ?, ?, ?, ?)",
            *(self.revision + 1, settled.inputs, settled.files, settled.lock_file, settled.report),
        )

    def find_made_from(self, kind: str) -> str:
        """Return the identity of what a kind of output was made from; empty if it must be written again."""
        rows = self.read("SELECT identity FROM made_from WHERE kind = ?", kind)
        return str(rows[0]["identity"]) if rows else ""

    def record_made_from(self, kind: str, identity: str) -> None:
        """Record what a kind of output was made from; empty before it is written again."""
        self.write("INSERT OR REPLACE INTO made_from VALUES (?, ?)", kind, identity)

    def load_warnings(self) -> list[str]:
        """Return the warnings about invalid JSON in the results, and its replacements."""
        rows = self.read("SELECT message FROM result_warnings ORDER BY kind, position")
        return [row["message"] for row in rows]

    def record_warnings(self, kind: str, messages: Iterable[str]) -> None:
        """Replace the warnings about one kind of output."""
        with self.transaction():
            self.write("DELETE FROM result_warnings WHERE kind = ?", kind)
            self.write_all(
                "INSERT INTO result_warnings VALUES (?, ?, ?)",
                ((kind, position, as_unicode(message)) for position, message in enumerate(messages)),
            )

    def load_table_errors(self) -> list[RunnerError]:
        """Return the errors of tables that could not be written."""
        rows = self.read("SELECT message, hint, is_shortage FROM table_errors ORDER BY id")
        return [(Shortage if is_shortage else ResultsError)(message, hint) for message, hint, is_shortage in rows]

    def record_table_errors(self, errors: Iterable[RunnerError]) -> None:
        """Replace the errors of tables that could not be written."""
        with self.transaction():
            self.write("DELETE FROM table_errors")
            self.write_all(
                "INSERT INTO table_errors (message, hint, is_shortage) VALUES (?, ?, ?)",
                ((as_unicode(error.message), error.hint, isinstance(error, Shortage)) for error in errors),
            )

    def load_column_names(self) -> str:
        """Return the column names of earlier applies, as text; empty at first."""
        return str(self.read("SELECT column_names FROM job")[0]["column_names"])

    def record_column_names(self, names: str) -> None:
        """Record the column names, as text."""
        self.write("UPDATE job SET column_names = ?", names)
