"""Folders by `file://`: what is never read from them, crashes, and what commands do with them."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from aihub_runner.apply.begin import apply as apply_job
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Options, open_job
from aihub_runner.apply.watch import look_at_files
from support.crash import CRASHED
from support.forks import Forks
from support.stores import Folder
from support.world import check_paid_once

from .conftest import Outcome, Project, apply_at_once, check_all_done
from .test_crashes import documents_of, reset
from .test_executor import Counting


@pytest.fixture
def place(project: Project, tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "elsewhere")
    project.change_spec('"in/**/*"', f'"{made.url}/**/*"')
    return made


def apply(project: Project, place: Folder, *args: str) -> Outcome:
    return project.apply("--allow-remote", place.url, *args)


def test_links_and_our_own_files_are_not_read(project: Project, place: Folder, tmp_path: Path) -> None:
    place.put("a.txt", b"the only one")
    secret = project.write("secret/b.txt", "secret")
    (place.folder / "link.txt").symlink_to(secret)
    (place.folder / "links").symlink_to(secret.parent)
    for name in (".env", "job.lock.toml", "x.state.db", ".git/c.txt", "~$a.txt", "other/.aihub-results", "other/d.txt"):
        place.put(name, b"not a document")
    outcome = apply(project, place, "--json")
    assert [line["path"] for line in project.documents] == [f"{place.url}/a.txt"]
    assert {Path(item["path"]).name for item in outcome.json["skipped"]} == {"link.txt", "links"}
    assert {item["detail"] for item in outcome.json["skipped"]} == {"a symbolic link"}


def test_results_of_the_job_itself_are_never_its_sources(project: Project, tmp_path: Path) -> None:
    project.write("in/a.txt", "one")
    url = f"file://{tmp_path}"
    project.change_spec('"in/**/*"', f'"{url}/**/*.{{txt,csv,jsonl}}"')
    for _ in range(3):
        assert project.apply("--allow-remote", url, "--state", "job.txt").code == 0
    check_paid_once(project.fake, 1)
    project.change_spec(f"{url}/**", f"{url}/results/job/tables")
    project.write("results/job/tables/a.txt", "not a document")
    assert project.apply("--allow-remote", url, "--state", "job.txt").code == 2


def test_folder_that_is_reached_by_a_link_is_refused(project: Project, tmp_path: Path) -> None:
    project.write("secret/a.txt", "secret")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/link").symlink_to(tmp_path / "secret")
    project.change_spec('"in/**/*"', f'"file://{tmp_path}/inside/link/*"')
    outcome = project.apply("--allow-remote", f"file://{tmp_path}/inside")
    assert (outcome.code, f"pass --allow-remote file://{tmp_path}/secret to allow it" in outcome.err) == (2, True)
    assert project.apply("--allow-remote", f"file://{tmp_path}").code == 0


def test_prefix_from_the_environment_allows_nothing(project: Project, place: Folder) -> None:
    place.put("a.txt", b"one")
    project.env |= {"AIHUB_RUNNER_ALLOW_REMOTE": place.url, "AIHUB_ALLOW_REMOTE": place.url}
    assert project.apply().code == 2
    wrong = project.apply("--allow-remote", "s3://me:hidden@bucket/")
    assert (wrong.code, "hidden" in wrong.text) == (2, False)


@pytest.mark.slow
def test_local_specs_import_nothing_of_it(project: Project) -> None:
    project.write_files(1)
    (project.folder / "local.py").write_text(
        "import sys\n"
        "from aihub_runner.cli.main import main\n"
        "try:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\n"
        "print(code, sorted({'fsspec', 's3fs', 'sshfs', 'asyncio'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    command = [sys.executable, "local.py", "apply", "job.toml"]
    err = subprocess.run(command, env=project.environment, capture_output=True, text=True, check=False).stderr
    assert err.splitlines()[-1] == "0 []", err


def test_watch_refuses_a_place_that_is_not_allowed_and_sees_new_files(
    project: Project, place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.txt", b"one")
    refused = project.apply("--watch", "--yes", "--max-runs", "5")
    assert (refused.code, "--allow-remote" in refused.err) == (2, True)
    for name, value in project.env.items():
        monkeypatch.setenv(name, value or "")
    job = open_job(project.spec_path, Options(allow_remote=(place.url,)))
    before = look_at_files(job)
    place.put("b.txt", b"two")
    assert look_at_files(job).keys() - before.keys() == {f"{place.url}/b.txt"}


def test_file_that_cannot_be_sent_leaves_its_batch_for_the_next_apply(project: Project, place: Folder) -> None:
    for number in range(3):
        place.put(f"{number}.txt", f"document {number}".encode())
    project.fake.faults.add(operation="addFileToBatch", do="status", status=403, nth=2)
    assert apply(project, place).code == 4
    assert project.fake.runs() == []
    assert apply(project, place).code == 0
    check_paid_once(project.fake, 3)
    assert len(project.fake.runs()) == 1


def test_file_that_was_paid_for_is_read_where_its_digest_is_lost(project: Project, place: Folder) -> None:
    place.put("a.txt", b"one")
    assert apply(project, place).code == 0
    with closing(sqlite3.connect(project.folder / "job.state.db")) as state, state:
        state.execute("DELETE FROM scanned")
        state.execute("DELETE FROM settled")
    project.forget_requests()
    assert (apply(project, place).code, project.sent()) == (0, [])


def test_time_of_the_uploads_is_told(project: Project, place: Folder) -> None:
    place.put("a.txt", b"one")
    project.fake.faults.add(operation="addFileToBatch", do="stall", seconds=0.2)
    assert apply(project, place, "--json").json["upload_seconds"] > 0


def test_limit_of_runs_is_checked_before_anything_is_sent(project: Project, place: Folder) -> None:
    place.put("a.txt", b"one")
    assert apply(project, place, "--max-runs", "0").code == 2
    assert project.sent() == []


def test_approved_plan_is_applied_and_one_that_does_not_fit_is_refused(project: Project, place: Folder) -> None:
    place.put("a.txt", b"one")
    allowed = ("--allow-remote", place.url)
    assert project.run("plan", *allowed, "--out", "plan.json").code == 0
    place.put("b.txt", b"two")
    assert apply(project, place, "--plan", "plan.json").code == 2
    place.delete("b.txt")
    assert apply(project, place, "--plan", "plan.json").code == 0
    check_paid_once(project.fake, 1)


@pytest.mark.slow
def test_files_elsewhere_are_sent_by_another_process(
    project: Project, place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        place.put(f"{number}.txt", f"document {number}".encode())
    for name, value in project.env.items():
        monkeypatch.setenv(name, value or "")
    executor, job = Counting(), open_job(project.spec_path, Options(allow_remote=(place.url,)))
    report = apply_job(job, Reporter(), lambda plan, scan: True, threading.Event(), executor)
    assert report.exit_code == 0
    assert {"SendFile", "CheckBatch", "FetchResults"} <= executor.kinds
    check_paid_once(project.fake, 3)


PARTS = 6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_crash_anywhere_is_made_good(project: Project, place: Folder, forks: Forks, part: int) -> None:
    chance = random.Random(part)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2\nparallel_uploads = 1\nparallel_runs = 1")
    for number in range(4):
        place.put(f"{number}.txt", f"document {number}".encode())
    allowed = ("--allow-remote", place.url)
    assert apply(project, place).code == 0
    undisturbed = documents_of(project)
    reset(project)
    for _ in range(4):
        boundary = chance.randrange(1, 110)
        crashed = forks.run(boundary, project.folder, project.env, "apply", "job.toml", *allowed)
        assert crashed in (0, CRASHED)
        outcome = apply(project, place)
        assert outcome.code == 0, f"boundary {boundary}: {outcome.text}"
        check_paid_once(project.fake, 4)
        assert documents_of(project) == undisturbed, boundary
        project.forget_requests()
        assert (apply(project, place).code, project.sent()) == (0, []), boundary
        reset(project)


@pytest.mark.slow
@pytest.mark.parametrize("time", range(3))
def test_two_clones_that_apply_at_once_pay_once(project: Project, place: Folder, time: int) -> None:
    for number in range(3):
        place.put(f"{number}.txt", f"document {number}".encode())
    (project.folder / "in").mkdir()
    clones = [project.clone("one"), project.clone("two")]
    allowed = ("--allow-remote", place.url)
    ended = apply_at_once(*clones, options=(allowed, allowed))
    assert {code for code, _ in ended} <= {0, 7}, ended
    check_paid_once(project.fake)
    check_all_done(*clones, options=allowed)
    check_paid_once(project.fake, 3)
