"""`runner state`: everything that is recorded, and whether it is sound."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from .conftest import Outcome, Project

SHOWN = """\
job.toml:
  state      job.state.db, not in use
  root       ROOT
  results    results/job
  files      3 in 1 group, 1 of them closed
  batches    1
  runs       1 COMPLETE
"""


def state(project: Project, *args: str) -> Outcome:
    return project.run_alone("state", args[0], "job.toml", *args[1:])


def test_state_shows_what_is_recorded(project: Project) -> None:
    project.write_files(3)
    project.apply()
    outcome = state(project, "show")
    assert (outcome.code, outcome.out.replace(str(project.env["AIHUB_API_ROOT"]), "ROOT")) == (0, SHOWN)
    assert state(project, "show", "--json").json["runs"] == {"COMPLETE": 1}


def test_state_export_prints_every_table_and_no_secret(project: Project) -> None:
    project.env["AIHUB_SECRET_PDF"] = "hidden-password"
    project.change_spec("[limits]", '[run.pdf_passwords]\n"in/*" = { env = "AIHUB_SECRET_PDF" }\n[limits]')
    project.write("in/a.pdf", "%PDF-1.4")
    project.apply()
    outcome = state(project, "export")
    tables = outcome.json["tables"]
    with closing(sqlite3.connect(project.folder / "job.state.db")) as db:
        for name, rows in tables.items():
            assert len(rows) == db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0], name
    assert [row["path"] for row in tables["members"]] == ["in/a.pdf"]
    assert "hidden-password" not in outcome.out
    assert "fake-test" not in outcome.out


def test_state_export_prints_digests_of_files_in_batches_of_others(project: Project) -> None:
    project.write_files(1)
    other = project.clone("other")
    assert project.apply().code == 0
    (other.folder / "in/00000.txt").unlink()
    other.write_files(1, start=7)
    assert other.apply().code == 0
    project.write_files(1, start=3)
    assert project.apply().code == 0
    outcome = state(project, "export")
    assert outcome.code == 0, outcome.text
    (foreign,) = outcome.json["tables"]["foreign_batches"]
    assert bytes.fromhex(foreign["marks"])


def test_state_verify_finds_damage_and_what_apply_repairs(project: Project) -> None:
    project.write_files(2)
    project.apply()
    assert state(project, "verify").out == "job.toml: sound\n"
    [page] = (project.folder / "results/job/raw").rglob("*.json")
    page.write_text("{}")
    outcome = state(project, "verify")
    assert outcome.code == 6
    assert re.search(r"the results of run \S+ are missing or changed; apply fetches them again", outcome.out)
    project.apply()
    assert state(project, "verify").code == 0
    with closing(sqlite3.connect(project.folder / "job.state.db")) as db, db:
        db.execute("DELETE FROM shards")
    outcome = state(project, "verify")
    assert outcome.code == 5
    assert "is damaged, batches refers to missing shards, 1 times" in outcome.err


def test_state_verify_names_runs_that_only_the_lock_file_has(project: Project) -> None:
    project.write_files(1)
    project.apply()
    clone = project.clone("other")
    project.write_files(1, start=5)
    project.apply()
    clone.apply()
    (clone.folder / "job.lock.toml").write_bytes((project.folder / "job.lock.toml").read_bytes())
    outcome = state(clone, "verify")
    assert (outcome.code, outcome.out.count("of the lock file is not here; apply imports it")) == (6, 1)


def test_state_that_is_not_there_is_told(project: Project) -> None:
    for command in ("show", "export", "verify"):
        assert state(project, command).code == 2
    assert not (project.folder / "job.state.db").exists()
