"""Delivery after payment: each step on its own, documents first; and the checks of places before payment."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys

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
        db.execute("CREATE TRIGGER broken BEFORE INSERT ON scanned BEGIN SELECT raise(ABORT, 'no cache'); END")
    project.write_files(1, start=2)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert "the next apply reads all files again" in outcome.out
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


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'


def can_mount() -> bool:
    """Return whether a folder can be made read-only for one process, which binds root, too."""
    command = ["unshare", "-rm", "sh", "-c", READ_ONLY, "/tmp", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False, capture_output=True).returncode == 0


def apply_read_only(project: Project, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with the folder of the spec mounted read-only."""
    command = [
        "unshare",
        "-rm",
        "sh",
        "-c",
        READ_ONLY,
        str(project.folder),
        sys.executable,
        "-m",
        "aihub_runner",
        *args,
    ]
    environment = {k: v for k, v in (os.environ | project.env).items() if v is not None}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(not can_mount(), reason="no folder can be mounted here")
@pytest.mark.slow
def test_spec_in_a_folder_that_is_always_read_only(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    project.write_files(2)
    project.change_spec("[limits]", f'[results]\ndir = "{other}/results"\n[limits]')
    given = ["job.toml", "--state", f"{other}/job.db", "--allow-outside"]
    for _ in range(2):
        refused = apply_read_only(project, "apply", *given)
        assert refused.returncode == 2, refused.stderr
        assert "Read-only file system" in refused.stderr
        assert "--lock-file PATH" in refused.stderr
    assert project.sent() == []
    given += ["--lock-file", f"{other}/mine.toml"]
    done = apply_read_only(project, "apply", *given)
    assert done.returncode == 0, done.stderr
    assert (other / "mine.toml").read_text().count("[[run]]") == 1
    assert len((other / "results/documents.jsonl").read_text().splitlines()) >= 2
    assert apply_read_only(project, "status", *given).returncode == 0
    project.forget_requests()
    assert apply_read_only(project, "apply", *given).returncode == 0
    assert project.fake.journal == []


@pytest.mark.skipif(not can_mount(), reason="no folder can be mounted here")
def test_state_in_a_folder_that_is_read_only_ends_with_2_and_names_the_way(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    project.write_files(2)
    project.change_spec("[limits]", f'[results]\ndir = "{other}/results"\n[limits]')
    refused = apply_read_only(project, "apply", "job.toml", "--allow-outside")
    assert refused.returncode == 2, refused.stderr
    assert "--state PATH" in refused.stderr
    assert project.fake.journal == []


def test_lock_file_elsewhere_is_written_and_imported_from_there(project: Project) -> None:
    project.write_files(2)
    assert project.apply("--lock-file", "keep/paid.toml").code == 0
    lock = project.folder / "keep/paid.toml"
    assert lock.read_text().count("[[run]]") == 1
    assert not (project.folder / "job.lock.toml").exists()
    (project.folder / "job.state.db").unlink()
    project.forget_requests()
    assert "imported first" in project.run("plan", "--lock-file", "keep/paid.toml").out
    assert project.apply("--lock-file", "keep/paid.toml").code == 0
    assert project.sent() == []


def test_lock_file_elsewhere_is_never_a_source(project: Project) -> None:
    project.write_files(1)
    for _ in range(2):
        assert project.apply("--lock-file", "in/paid.json").code == 0
    assert [line["path"] for line in project.documents] == ["in/00000.txt"]
    assert len(project.fake.ledger["runs"]) == 1


def test_lock_file_goes_with_one_spec(project: Project) -> None:
    project.write("other.toml", project.spec_path.read_text().replace('"job"', '"other"'))
    outcome = project.apply("other.toml", "--lock-file", "paid.toml")
    assert outcome.code == 2
    assert "--lock-file needs exactly one spec" in outcome.err


@pytest.mark.parametrize(
    ("blocked", "why"),
    [("results/job/documents.jsonl", "cannot be written"), ("results/job/raw", "is not a folder")],
)
def test_place_of_results_that_cannot_be_written_ends_with_2_before_paying(
    project: Project, blocked: str, why: str
) -> None:
    project.write_files(2)
    if blocked.endswith("raw"):
        project.write(blocked, "not a folder")
    else:
        (project.folder / blocked).mkdir(parents=True)
    outcome = project.apply()
    assert outcome.code == 2, outcome.text
    assert why in outcome.err
    assert project.sent() == []


@pytest.mark.parametrize("place", ["/proc/nowhere/paid.toml", "/dev/null/paid.toml"])
def test_lock_file_where_nothing_can_be_written_ends_with_2_before_paying(project: Project, place: str) -> None:
    project.write_files(2)
    outcome = project.apply("--lock-file", place)
    assert outcome.code == 2, outcome.text
    assert "cannot be" in outcome.err
    assert project.sent() == []


def test_lock_file_that_may_only_be_read_is_replaced(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    (project.folder / "job.lock.toml").chmod(0o400)
    project.write_files(1, start=1)
    assert project.apply().code == 0
    assert len(project.lock) == 2
