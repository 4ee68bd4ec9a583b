"""`runner status`: the table of runs, and jobs that were never applied."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing

from .conftest import Project

TABLE = """\
  batch  run                                   status    files  age
  1001   {}  FAILED        2  2 h
  1001   {}  COMPLETE      2  1 d
  {}   {}  COMPLETE      1  - s"""


def test_status_lists_runs_oldest_first_with_ids_to_copy(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(status="FAILED")
    project.apply()
    project.apply("--retry-failed")
    project.write_files(1, start=5)
    project.apply()
    with closing(sqlite3.connect(project.folder / "job.state.db")) as state, state:
        for row, age_s in ((1, 2 * 3600 + 5), (2, 86_400 + 5)):
            state.execute("UPDATE runs SET started_ns = ? WHERE id = ?", ((time.time_ns() - age_s * 10**9), row))
    outcome = project.run_alone("status")
    ids = [run["id"] for run in project.fake.runs()]
    shown = "\n".join(outcome.out.splitlines()[-4:])
    assert re.sub(r"\d+ s$", "- s", shown) == TABLE.format(*ids[:2], project.fake.runs()[2]["batch_id"], ids[2])
    table = project.run("status", "--json").json["table"]
    assert [(row["run"], row["status"], row["files"]) for row in table] == [
        (ids[0], "FAILED", 2),
        (ids[1], "COMPLETE", 2),
        (ids[2], "COMPLETE", 1),
    ]


def test_status_shows_the_newest_runs_and_all_with_v(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(12)
    project.apply()
    assert "  and 2 older runs; to list all, pass -v" in project.run("status").out
    assert project.run("status").out.count("COMPLETE  ") == 10
    assert project.run("status", "-v").out.count("COMPLETE  ") == 12


def test_status_names_what_the_service_did_not_confirm(project: Project) -> None:
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    project.write_files(1)
    project.fake.faults.add(operation="runApp", do="reset")
    project.apply()
    assert re.search(r"^  1001 +- +UNCONFIRMED +1 ", project.run("status").out, re.MULTILINE)


def test_job_that_was_never_applied_has_not_failed(project: Project) -> None:
    project.write_files(1)
    project.write("in/song.wav", "la")
    outcome = project.run("status")
    assert (outcome.code, "nothing has been applied yet" in outcome.out) == (6, True)
    project.apply()
    assert project.run("status").code == 3  # an applied one ended with a skipped file
