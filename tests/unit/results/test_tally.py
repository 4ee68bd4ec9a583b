"""What the results of a job hold, in numbers: whole runs are summed up by a query, the others file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from aihub_runner.results.documents import Tally, tally_documents
from aihub_runner.results.reader import Choices, Found
from support.made import made_results


def page(*names: str, documents: int = 1) -> dict[str, Any]:
    found = [{"class_name": "Invoice", "fields": []}] * documents
    return {"files": [{"original_file_name": name, "documents": found} for name in names]}


def tally(found: Found) -> Tally:
    return tally_documents(found.state, found.state.load_shards(), found.chosen, found.include)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", Tally(5, 0, 0, (), (), ())),
        ("DELETE FROM answers WHERE name = 'a.pdf'", Tally(4, 0, 0, ("in/a.pdf",), (), ())),
        ("UPDATE answers SET documents = 0 WHERE name = 'a.pdf'", Tally(4, 0, 0, (), ("in/a.pdf",), ())),
        ("UPDATE answers SET field_errors = 2 WHERE name < 'd'", Tally(5, 0, 6, (), (), ())),
        ("UPDATE answers SET name = 'z.pdf' WHERE name = 'a.pdf'", Tally(4, 0, 0, ("in/a.pdf",), (), ("z.pdf",))),
        ("INSERT INTO answers VALUES (1, 'plain', 'z.pdf', 0, 9, 1, 0)", Tally(5, 0, 0, (), (), ("z.pdf",))),
        ("DELETE FROM pages WHERE run = 1", Tally(2, 0, 0, ("in/a.pdf", "in/b.pdf", "in/c.pdf"), (), ())),
    ],
)
def test_tally_of_runs_with_and_without_an_answer_for_each_file(tmp_path: Path, sql: str, expected: Tally) -> None:
    with made_results(tmp_path, [page("a.pdf", "b.pdf", "c.pdf")], [page("d.pdf", documents=2)]) as found:
        found.state.write(sql)
        assert tally(found) == expected


def test_tally_counts_the_documents_of_removed_files(tmp_path: Path) -> None:
    with made_results(tmp_path, [page("a.pdf", "b.pdf")]) as found:
        chosen = Choices(found.chosen.members, found.chosen.runs, {"in/a.pdf"})
        assert tally(replace(found, chosen=chosen)).gone == 1
