"""Recorded facts about fetched results: the pages, and the place of each answer."""

from __future__ import annotations

from collections.abc import Iterable

from aihub_runner.model import Answer, Page
from aihub_runner.state.database import Database

KEPT_RUNS = 16  # whose answers are kept in memory, of at most 1,000 files each


class Fetches(Database):
    """The tables of fetches, pages and answers."""

    _answers: dict[tuple[int, str], dict[str, tuple[Page, int, int]]]
    _answers_of = -1

    def record_fetch(
        self, run: int, include: str, pages: Iterable[Page], answers: Iterable[Answer], now_s: float
    ) -> None:
        """Record a complete fetch of a run's results. It replaces an earlier one of the same kind."""
        with self.transaction():
            self.write("DELETE FROM fetches WHERE run = ? AND include = ?", run, include)
            self.write("INSERT INTO fetches VALUES (?, ?, ?)", run, include, now_s)
            self.write("UPDATE runs SET gone = 0 WHERE id = ?", run)
            self.write_all(
                "INSERT INTO pages VALUES (?, ?, ?, ?, ?)",
                ((run, include, page.file_offset, page.path, page.digest) for page in pages),
            )
            self.write_all(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((run, include, a.name, a.file_offset, a.position, a.documents, a.field_errors) for a in answers),
            )

    def record_pruned(self, run: int, paths: Iterable[str]) -> None:
        """Record that the pages of a run were removed on request. The run was fetched all the same."""
        with self.transaction():
            self.write("DELETE FROM pages WHERE run = ?", run)
            self.write_all("DELETE FROM kept_files WHERE path = ?", ((path,) for path in paths))

    def load_pruned(self) -> frozenset[tuple[int, str]]:
        """Return the fetches whose pages were removed on request: the row of the run, and what was included."""
        rows = self.read("SELECT run, include FROM fetches EXCEPT SELECT run, include FROM pages")
        return frozenset((row["run"], row["include"]) for row in rows)

    def list_unfetched_gone(self, include: str) -> list[tuple[int, int]]:
        """Return the row and the shard of each run that is gone, and whose results were not fetched in this form."""
        where = "gone AND remote_id <> '' AND id NOT IN (SELECT run FROM fetches WHERE include = ?)"
        rows = self.read(f"SELECT id, shard FROM runs WHERE {where} ORDER BY id", include)
        return [(row["id"], row["shard"]) for row in rows]

    def load_pages(self, run: int, include: str) -> list[Page]:
        """Return the raw pages of a fetch, in order."""
        rows = self.read(
            "SELECT file_offset, path, digest FROM pages WHERE run = ? AND include = ? ORDER BY file_offset",
            run,
            include,
        )
        return [Page(*row) for row in rows]

    def load_answers(self, run: int, include: str) -> dict[str, Answer]:
        """Return the place of each file's answer, by the file's name in the batch (NFC)."""
        rows = self.read(
            "SELECT name, file_offset, position, documents, field_errors FROM answers WHERE run = ? AND include = ?",
            run,
            include,
        )
        return {row["name"]: Answer(*row) for row in rows}

    def load_counts(self, run: int, include: str) -> dict[str, tuple[int, int]]:
        """Return the number of documents and of errors of each answered file, by its name in the batch (NFC)."""
        sql = "SELECT name, documents, field_errors FROM answers WHERE run = ? AND include = ?"
        return {name: (documents, errors) for name, documents, errors in self.each_tuple(sql, run, include)}

    def sum_whole(self, include: str) -> dict[int, tuple[int, int]]:
        """Return the sums of `load_counts` of each run that has an answer with documents for each file, and no other.

        That is one query for most runs, instead of a row for each file.
        """
        rows = self.read(
            "SELECT run, documents, errors FROM (SELECT answers.run, runs.shard, count(*) AS answers, "
            "count(members.name) AS answered, sum(documents) AS documents, sum(field_errors) AS errors, "
            "min(documents) AS least FROM answers JOIN runs ON runs.id = answers.run "
            "LEFT JOIN members ON members.shard = runs.shard AND members.name = answers.name "
            "WHERE include = ? GROUP BY answers.run) AS run "
            "WHERE answers = answered AND least > 0 "
            "AND answers = (SELECT count(*) FROM members WHERE members.shard = run.shard) "
            "AND EXISTS (SELECT 1 FROM pages WHERE pages.run = run.run AND pages.include = ?)",
            *(include, include),
        )
        return {row["run"]: (row["documents"], row["errors"]) for row in rows}

    def count_documents(self) -> dict[int, int]:
        """Return the number of documents of each fetched run, by row id: those of its first kind of fetch."""
        rows = self.read("SELECT run, include, sum(documents) AS documents FROM answers GROUP BY run, include")
        return {row["run"]: row["documents"] for row in sorted(rows, key=lambda row: row["include"], reverse=True)}

    def find_answer(self, run: int, include: str, name: str) -> tuple[Page, int, int] | None:
        """Find the answer for a file, by its name in the batch (NFC): its page, its position there, and its documents.

        The answers of a few runs are cached until the next write: a query per file took a minute for 100,000 files.
        """
        if self._answers_of != self.changes:
            self._answers, self._answers_of = {}, self.changes
        key = run, include
        if key not in self._answers:
            if len(self._answers) >= KEPT_RUNS:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = self._find_answers(run, include)
        return self._answers[key].get(name)

    def _find_answers(self, run: int, include: str) -> dict[str, tuple[Page, int, int]]:
        pages = {page.file_offset: page for page in self.load_pages(run, include)}
        sql = "SELECT name, file_offset, position, documents FROM answers WHERE run = ? AND include = ?"
        rows = self.each_tuple(sql, run, include)
        return {
            name: (pages[offset], position, documents) for name, offset, position, documents in rows if offset in pages
        }
