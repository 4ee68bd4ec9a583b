"""What follows what was paid: each step by itself, the documents first; and the places that are tried before."""

from __future__ import annotations

import os
import sqlite3

import pytest

from .conftest import Project


@pytest.mark.parametrize("when", [-5_000_000_000, 15_026_000_000])  # 1811, and 2446
def test_file_of_another_century_is_paid_once_and_delivered(project: Project, when: int) -> None:
    project.write_files(2)
    os.utime(project.folder / "in/00000.txt", (when, when))
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert [line["path"] for line in project.documents] == ["in/00000.txt", "in/00001.txt"]
    assert len(project.lock) == 1
    project.forget_requests()
    assert project.apply().code == 0
    assert project.fake.journal == []


def test_cache_that_cannot_be_written_fails_nothing(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    with sqlite3.connect(project.folder / "job.state.db") as db:
        db.execute("CREATE TRIGGER broken BEFORE DELETE ON scanned BEGIN SELECT raise(ABORT, 'no cache'); END")
    project.write_files(1, start=2)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert "all files are read again at the next apply" in outcome.out
    assert len(project.documents) == 3
    assert len(project.lock) == 2


def test_lock_file_that_cannot_be_read_keeps_nothing_from_being_delivered_and_nothing_more_is_paid(
    project: Project,
) -> None:
    project.write_files(2)
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.1").code == 6
    (project.folder / "job.lock.toml").unlink()
    (project.folder / "job.lock.toml").mkdir()
    project.write_files(1, start=2)
    [run] = project.fake.runs()
    project.fake.set_run(run["id"], "COMPLETE")
    outcome = project.apply()
    assert outcome.code == 2, outcome.text
    assert outcome.err.count("job.lock.toml: cannot be read") == 1
    assert len(project.fake.runs()) == 1
    assert len(project.documents) == 2
    assert (project.folder / "results/job/fields.csv").exists()
    (project.folder / "job.lock.toml").rmdir()
    assert project.apply().code == 0
    assert len(project.lock) == 2


@pytest.mark.parametrize("blocked", ["documents.jsonl", "fields.csv", "documents"])
def test_result_that_cannot_be_written_after_paying_stops_no_other(project: Project, blocked: str) -> None:
    project.write_files(2)
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.1").code == 6
    folder = project.folder / "results/job"
    names = {"documents.jsonl", "fields.csv"} - {blocked}
    for name in names | {blocked}:
        (folder / name).unlink(missing_ok=True)
    if blocked == "documents":
        (folder / blocked).write_text("not a folder")
    else:
        (folder / blocked).mkdir()
    [run] = project.fake.runs()
    project.fake.set_run(run["id"], "COMPLETE")
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert f"{blocked}" in outcome.err
    assert all((folder / name).is_file() for name in names)
    assert len(project.lock) == 1
    assert project.lock[0]["documents"] > 0
