"""A job with nothing to do is recognised without planning: it reports the same, and every change is seen."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from .conftest import Project

COMMANDS = ("plan", "status", "apply")
STATE, RAW = "job.state.db", "results/job/raw"


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock be ahead of all files: none of them is young."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10**10)


def settle(project: Project) -> None:
    """Apply until a further apply writes nothing: it has not planned."""
    for _ in range(3):
        before = (project.folder / STATE).read_bytes() if (project.folder / STATE).exists() else b""
        project.apply()
        if (project.folder / STATE).read_bytes() == before:
            return
    raise AssertionError("not settled")


def change_state(project: Project, sql: str) -> None:
    with closing(sqlite3.connect(project.folder / STATE)) as db, db:
        db.execute(sql)


def seen(project: Project, command: str) -> dict[str, Any]:
    """Return what a command reports, but for its duration."""
    outcome = project.run(command, "--json")
    return {"code": outcome.code} | {key: value for key, value in outcome.json.items() if key != "seconds"}


def made_plain(project: Project) -> None:
    project.write_files(3)


def made_skipped(project: Project) -> None:
    made_plain(project)
    project.write("in/empty.txt", "")
    project.write("in/photo.webp", "unsupported")


def made_failed(project: Project) -> None:
    made_plain(project)
    project.fake.next_run(status="FAILED", message="as told")


def made_idle(project: Project) -> None:
    made_plain(project)
    project.change_spec('files = "in/**/*"', 'files = ["in/**/*", "none/*"]')


@pytest.mark.parametrize("make", [made_plain, made_skipped, made_failed, made_idle])
def test_settled_job_reports_as_if_it_were_planned(project: Project, make: Callable[[Project], None]) -> None:
    make(project)
    settle(project)
    project.forget_requests()
    before = (project.folder / STATE).read_bytes()
    short = [seen(project, command) for command in COMMANDS]
    assert (project.folder / STATE).read_bytes() == before
    assert project.fake.journal == []
    change_state(project, "DELETE FROM settled")
    assert short == [seen(project, command) for command in COMMANDS]


def edit(project: Project, path: str) -> None:
    """Change one byte of a file in place, and put its time back."""
    place = next(iter(sorted(project.folder.glob(path))))
    found = place.stat()
    content = place.read_bytes()
    with place.open("r+b") as file:
        file.seek(len(content) // 2)
        file.write(bytes([content[len(content) // 2] ^ 1]))
    os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns))


def remove(project: Project, path: str) -> None:
    next(iter(sorted(project.folder.glob(path)))).unlink()


def extend(project: Project, results: str) -> None:
    project.write("job.toml", f"{project.spec_path.read_text()}[results]\n{results}\n")


CHANGES: dict[str, Callable[[Project], object]] = {
    "source edited": lambda project: edit(project, "in/*.txt"),
    "source removed": lambda project: remove(project, "in/*.txt"),
    "source renamed": lambda project: (project.folder / "in/00000.txt").rename(project.folder / "in/9.txt"),
    "source touched": lambda project: (project.folder / "in/00000.txt").touch(),
    "source added": lambda project: project.write("in/new.txt", "new"),
    "folder added": lambda project: project.write("in/sub/new.txt", "new"),
    "page edited": lambda project: edit(project, f"{RAW}/*/*/*.json"),
    "page removed": lambda project: remove(project, f"{RAW}/*/*/*.json"),
    "documents edited": lambda project: edit(project, "results/job/documents.jsonl"),
    "documents removed": lambda project: remove(project, "results/job/documents.jsonl"),
    "table edited": lambda project: edit(project, "results/job/fields.csv"),
    "table removed": lambda project: remove(project, "results/job/fields.csv"),
    "lock file edited": lambda project: edit(project, "job.lock.toml"),
    "lock file removed": lambda project: remove(project, "job.lock.toml"),
    "other formats": lambda project: extend(project, 'formats = ["csv"]'),
    "other app": lambda project: project.change_spec("Invoice Extraction", "Other"),
    "other context": lambda project: project.change_spec('"acme"', '"other"'),
    "other name": lambda project: project.change_spec('name = "job"', 'name = "other"'),
    "other patterns": lambda project: project.change_spec('"in/**/*"', '"in/**/*.txt"'),
    "other results": lambda project: project.write(
        "job.toml", f'{project.spec_path.read_text()}[results]\ndir = "r"\n'
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_is_seen_by_a_settled_job(project: Project, change: Callable[[Project], object]) -> None:
    project.write_files(3)
    settle(project)
    [mark] = rows(project, "SELECT * FROM settled")
    change(project)
    first = [seen(project, command) for command in ("plan", "status")]
    change_state(project, "DELETE FROM settled")
    assert first == [seen(project, command) for command in ("plan", "status")]
    revision = int.from_bytes((project.folder / STATE).read_bytes()[24:28], "big") + 1
    with closing(sqlite3.connect(project.folder / STATE)) as db, db:  # put it back, as if nothing had been written
        db.execute("INSERT INTO settled VALUES (1, ?, ?, ?, ?, ?)", (revision, *mark[2:]))
    before = (project.folder / STATE).read_bytes()
    project.apply()
    assert (project.folder / STATE).read_bytes() != before  # it has planned, under a lease of its own


@pytest.mark.parametrize("sql", ["UPDATE job SET holder_pid = 1", "UPDATE runs SET status = 'RUNNING'"])
def test_any_write_to_the_state_is_seen_by_a_settled_job(project: Project, sql: str) -> None:
    project.write_files(3)
    settle(project)
    change_state(project, sql)
    before = (project.folder / STATE).read_bytes()
    assert project.apply().code == 0
    assert (project.folder / STATE).read_bytes() != before


def test_order_of_passwords_is_seen_by_a_settled_job(project: Project) -> None:
    """The first pattern that matches counts."""
    lines = ['"in/*.pdf" = { env = "AIHUB_SECRET_A" }', '"in/0.pdf" = { env = "AIHUB_SECRET_B" }']
    for name in ("in/0.pdf", "in/1.pdf"):
        project.write(name, f"%PDF-1.4 {name}")
    spec = project.spec_path.read_text()
    project.env |= {"AIHUB_SECRET_A": "a", "AIHUB_SECRET_B": "b"}
    project.write("job.toml", "\n".join([spec, "[run.pdf_passwords]", *lines, ""]))
    settle(project)
    project.write("job.toml", "\n".join([spec, "[run.pdf_passwords]", *reversed(lines), ""]))
    first = [seen(project, command) for command in ("plan", "status")]
    change_state(project, "DELETE FROM settled")
    assert first == [seen(project, command) for command in ("plan", "status")]
    assert "to pay" in project.run("plan").text


def rows(project: Project, sql: str) -> list[Any]:
    with closing(sqlite3.connect(project.folder / STATE)) as db:
        return db.execute(sql).fetchall()


@pytest.mark.parametrize("option", ["--again", "--refetch", "--retry-failed"])
def test_option_that_repeats_work_is_not_held_up_by_a_settled_job(project: Project, option: str) -> None:
    made_failed(project) if option == "--retry-failed" else made_plain(project)
    settle(project)
    project.forget_requests()
    assert project.apply(option).code == 0
    assert project.fake.journal != []


def test_young_file_leaves_no_mark(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(project.folder)
    for name in [name for name in os.environ if name.startswith("AIHUB_")]:
        monkeypatch.delenv(name)
    project.write_files(3)
    assert project.apply().code == 0
    assert rows(project, "SELECT * FROM settled") == []
