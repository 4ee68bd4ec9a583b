"""A job with nothing to do is recognised without planning: it reports the same, and every change is seen."""

from __future__ import annotations

import os
import shutil
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


@pytest.mark.matrix(most=1)
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


def replace_by_copy(project: Project, path: str) -> None:
    """Replace a file by a copy with the same bytes and times: only another inode tells."""
    place = next(iter(sorted(project.folder.glob(path))))
    copy = shutil.copy2(place, project.folder / "copy")
    os.replace(copy, place)


def link(project: Project) -> None:
    project.write("elsewhere.txt", "linked")
    (project.folder / "in/link.txt").symlink_to("../elsewhere.txt")


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
    "source replaced": lambda project: replace_by_copy(project, "in/*.txt"),
    "source dated back": lambda project: os.utime(project.folder / "in/00000.txt", ns=(0, 10**18)),
    "source linked": link,
    "results removed": lambda project: shutil.rmtree(project.folder / "results"),
    "raw pages removed": lambda project: shutil.rmtree(project.folder / RAW),
    "tables removed": lambda project: shutil.rmtree(project.folder / "results/job/documents"),
    "page replaced": lambda project: replace_by_copy(project, f"{RAW}/*/*/*.json"),
    "table replaced": lambda project: replace_by_copy(project, "results/job/fields.csv"),
    "documents are a folder": lambda project: (
        remove(project, "results/job/documents.jsonl"),
        (project.folder / "results/job/documents.jsonl").mkdir(),
    ),
    "other formats": lambda project: extend(project, 'formats = ["csv"]'),
    "other app": lambda project: project.change_spec("Invoice Extraction", "Other"),
    "other context": lambda project: project.change_spec('"acme"', '"other"'),
    "other name": lambda project: project.change_spec('name = "job"', 'name = "other"'),
    "other patterns": lambda project: project.change_spec('"in/**/*"', '"in/**/*.txt"'),
    "other results": lambda project: project.write(
        "job.toml", f'{project.spec_path.read_text()}[results]\ndir = "r"\n'
    ),
}


@pytest.mark.matrix
@pytest.mark.matrix(most=6)
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


@pytest.mark.matrix(most=2)
@pytest.mark.parametrize("kept", [("in",), ("in", "results"), ("in", "job.lock.toml"), ()], ids="-".join)
def test_older_state_is_seen_by_a_settled_job(project: Project, kept: tuple[str, ...]) -> None:
    """A state restored from a backup, with all else of that time but what is kept."""
    project.write_files(3)
    settle(project)
    backup = shutil.copytree(project.folder, project.folder.with_name(f"{project.folder.name}-backup"), symlinks=True)
    project.write("in/new.txt", "new")
    settle(project)
    for name in ("job.state.db", "job.lock.toml", "results", "in"):
        if name not in kept:
            place = project.folder / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            shutil.copytree(backup / name, place) if place.suffix == "" else shutil.copy2(backup / name, place)
    short = [seen(project, command) for command in ("plan", "status")]
    change_state(project, "DELETE FROM settled")
    assert short == [seen(project, command) for command in ("plan", "status")]


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("command", ["plan", "apply"])
@pytest.mark.slow
def test_settled_job_answers_to_options_as_if_it_were_planned(project: Project, command: str) -> None:
    project.write_files(3)
    settle(project)
    for options in (("--only", "in/none*"), ("--only", "in/*"), ("--limit", "1"), ("--allow-outside",)):
        short = project.run(command, *options)
        change_state(project, "DELETE FROM settled")
        long = project.run(command, *options)
        assert (short.code, short.err) == (long.code, long.err), options
        settle(project)


def test_other_version_sees_no_mark(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_files(3)
    settle(project)
    before = (project.folder / STATE).read_bytes()
    monkeypatch.setattr("aihub_runner.apply.settled.VERSION", "0.0.0+other")
    assert project.apply().code == 0
    assert (project.folder / STATE).read_bytes() != before


@pytest.mark.slow
def test_clock_that_was_set_back_leaves_no_mark(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are from the future: another change could have the same time."""
    project.write_files(3)
    assert project.apply().code == 0
    change_state(project, "DELETE FROM settled")
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() - 10**12)
    project.write("in/00000.txt", "changed")
    assert project.apply().code == 0
    assert rows(project, "SELECT * FROM settled") == []
