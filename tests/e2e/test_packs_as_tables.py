"""Results of every scenario pack as tables: the same bytes as before, except the ids of runs.

After a change that is meant, `GOLDEN_TABLES=write` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from .conftest import Project

GOLDEN = Path(__file__).parent.parent / "golden" / "packs"
APPS = {"bank-statements": "Bank Statement", "id-cards": "Passport", "invoices": "anything", "packet": "Loan packet"}
RUN_ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RESULTS = """\
[results]
include = ["confidence", "review", "source", "validation"]
formats = ["csv"]
[limits]"""


def read_tables(folder: Path) -> dict[str, bytes]:
    tables = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}
    return {name: RUN_ID.sub(b"a-run", content) for name, content in tables.items()}


@pytest.mark.parametrize("pack", APPS)
def test_tables_of_a_pack_are_as_they_were(project: Project, pack: str) -> None:
    project.write_files(8)
    project.change_spec('app_name = "Invoice Extraction"', f'app_name = "{APPS[pack]}"')
    project.change_spec("[limits]", RESULTS)
    assert project.apply().code == 0
    tables = read_tables(project.folder / "results" / "job")
    if os.environ.get("GOLDEN_TABLES") == "write":
        shutil.rmtree(GOLDEN / pack, ignore_errors=True)
        for name, content in tables.items():
            (GOLDEN / pack / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / pack / name).write_bytes(content)
    assert len(tables) > 1
    assert tables == read_tables(GOLDEN / pack)
