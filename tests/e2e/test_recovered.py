"""Leftovers of an earlier apply are used, even if missing, stale or truncated; nothing stays wrong."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import fake_aihub.api.batches
from aihub_runner.files import Draft
from fake_aihub.extraction import Extraction
from support.waiting import wait_for

from .conftest import Project


def lose_state(project: Project, *, lock_too: bool = False) -> None:
    (project.folder / "job.state.db").unlink()
    shutil.rmtree(project.folder / "results", ignore_errors=True)
    if lock_too:
        (project.folder / "job.lock.toml").unlink()


def spoil_lock(project: Project) -> None:
    """Let the first entry of the lock file say what cannot be verified."""
    lock = project.folder / "job.lock.toml"
    entry = min(project.lock, key=lambda entry: entry["when"])
    lock.write_text(lock.read_text().replace(entry["fingerprint"], "ab" * 32))


def paths(project: Project) -> set[str]:
    return {line["path"] for line in project.documents}


# Fresh clones


def test_run_that_the_lock_file_does_not_have_yet_stops_a_fresh_clone(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.write_files(1, start=1)
    project.fake.next_run(hold=True)
    process = project.start("apply", "job.toml")
    wait_for(lambda: len(project.fake.runs()) == 2)
    process.kill()
    process.communicate()
    project.fake.set_run(project.fake.runs()[1]["id"], status="COMPLETE")
    lose_state(project)
    project.write_files(1, start=2)
    project.forget_requests()
    assert project.apply().code == 7
    assert project.sent() == []
    assert project.apply("--adopt").code == 0
    assert len(project.fake.runs()) == 3
    assert len(paths(project)) == 3


def test_listing_without_sizes_is_verified_by_digests(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fake_aihub.api.batches._render_file

    def without_size(*args: Any) -> dict[str, Any]:
        rendered = real(*args)
        rendered["metadata"].pop("size")
        return rendered

    project.write_files(2)
    monkeypatch.setattr(fake_aihub.api.batches, "_render_file", without_size)
    assert project.apply().code == 0
    lose_state(project)
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []


@pytest.mark.slow
def test_runs_whose_batches_were_deleted_are_recognised_without_state_and_lock(project: Project) -> None:
    """All files would be one batch now, so no tag tells: the names in the results and the bytes here do."""
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    for start in (0, 2):
        project.write_files(2, start=start)
        assert project.apply().code == 0
    assert project.fake.batches() == []
    lose_state(project, lock_too=True)
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert "--adopt" in outcome.err
    assert len(project.fake.runs()) == 2
    assert project.apply("--adopt").code == 0
    assert len(paths(project)) == 4
    assert len(project.fake.runs()) == 2


@pytest.mark.slow
def test_run_of_another_job_whose_batch_was_deleted_stops_nobody(project: Project) -> None:
    """It has the same settings and names, and other bytes."""
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    (project.folder / "in").mkdir()
    other = project.clone("other")
    for job, content in ((other, "theirs"), (project, "ours")):
        for number in range(2):
            job.write(f"in/{number}.txt", f"{content} {number}")
        assert job.apply().code == 0
    assert len(project.fake.runs()) == 2
    project.write("in/1.txt", "another version of ours")
    assert project.apply().code == 0


def test_files_of_one_name_and_size_are_told_apart_without_state_and_lock(project: Project) -> None:
    """Each is in its own shard under its plain name: only the fingerprint distinguishes them."""
    for folder in ("y", "x", "z"):
        project.write(f"in/{folder}/invoice.txt", f"of folder {folder}")
        assert project.apply().code == 0
    before = [(line["path"], line["run_id"]) for line in project.documents]
    (project.folder / "job.state.db").unlink()
    (project.folder / "job.lock.toml").unlink()
    project.forget_requests()
    assert project.apply().code == 7
    assert project.apply("--adopt").code == 0
    assert project.sent() == []
    assert [(line["path"], line["run_id"]) for line in project.documents] == before


def test_twins_are_both_recognised_without_state_and_lock(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write("in/x/a.txt", "same")
    project.write("in/y/a.txt", "same")
    assert project.apply().code == 0
    lose_state(project, lock_too=True)
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 2


def test_every_attempt_is_recognised_without_state_and_lock(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED", message="as told")
    assert project.apply().code == 3
    assert project.apply("--retry-failed").code == 0
    lose_state(project, lock_too=True)
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 2


def test_file_changed_back_in_a_fresh_clone_is_recognised(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = (project.folder / "in/00000.txt").read_text()
    lose_state(project)
    project.write("in/00000.txt", "the version of a branch")
    assert project.apply().code == 0
    project.write("in/00000.txt", before)
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []


def test_what_a_person_gave_up_does_not_stop_fresh_clones(project: Project) -> None:
    project.write_files(2)
    project.apply()
    lose_state(project)
    spoil_lock(project)
    assert project.apply().code == 7
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    lose_state(project)
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []


def test_new_context_is_looked_at_before_it_pays(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.change_spec('context = "acme"', 'context = "other"')
    project.apply()
    lose_state(project, lock_too=True)
    project.apply("--adopt")
    project.change_spec('context = "other"', 'context = "acme"')
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []


def paid_files(project: Project) -> list[str]:
    return sorted(file.name for run in project.fake.world.runs.values() for file in run.files)


def test_run_that_the_lock_file_does_not_have_is_looked_for_after_a_decision_on_another(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.apply()
    committed = (project.folder / "job.lock.toml").read_text()
    project.write("in/b.txt", "b")
    project.apply()
    lose_state(project)
    (project.folder / "job.lock.toml").write_text(committed)
    spoil_lock(project)
    assert project.apply().code == 7
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    assert paid_files(project) == ["a.txt", "a.txt", "b.txt"]


def test_what_a_person_gave_up_does_not_stop_an_apply_without_state_and_lock(project: Project) -> None:
    project.write_files(2)
    project.apply()
    lose_state(project, lock_too=True)
    project.write("in/00001.txt", "changed meanwhile")
    assert project.apply().code == 7
    assert project.apply("--adopt").code == 7
    assert project.run("resolve", "--resubmit").code == 0
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(paths(project)) == 2


def test_decision_in_a_fresh_clone_concerns_only_what_cannot_be_imported(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.apply()
    project.write("in/b.txt", "b")
    project.apply()
    lose_state(project)
    spoil_lock(project)
    shown = project.run("resolve")
    assert (shown.code, shown.out.count("paid for before")) == (7, 1)
    assert project.run("resolve", "--resubmit").code == 0
    project.write("in/c.txt", "c")
    assert project.apply().code == 0
    assert paid_files(project) == ["a.txt", "a.txt", "b.txt", "c.txt"]


def test_run_that_was_never_started_does_not_stop_a_fresh_clone(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    assert project.apply().code == 7
    assert project.run("resolve", "--resubmit").code == 0
    project.write("in/a.txt", "changed before it was paid")
    assert project.apply().code == 0
    project.fake.world.delete_batch(min(project.fake.world.batches.values(), key=lambda batch: batch.id))
    lose_state(project)
    project.forget_requests()
    outcome = project.apply()
    assert (outcome.code, project.sent()) == (0, []), outcome.text


@pytest.mark.slow
def test_run_that_does_not_show_yet_is_waited_for_by_a_fresh_clone(project: Project) -> None:
    """A job is killed when it has just started a run, and begun anew at once, with the lock file that is committed."""
    project.write("in/a.txt", "a")
    project.apply()
    committed = (project.folder / "job.lock.toml").read_text()
    project.write("in/b.txt", "b")
    project.change_spec("settle_s = 0.2", "settle_s = 4")
    project.fake.faults.add(operation="runApp", do="stall", when="after", seconds=60)
    process = project.start("apply", "job.toml")
    wait_for(lambda: len(project.fake.runs()) == 2)
    process.kill()
    process.communicate()
    lose_state(project)
    (project.folder / "job.lock.toml").write_text(committed)
    project.fake.faults.add(operation="listRuns", times=99, do="lag", seconds=3)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert paid_files(project) == ["a.txt", "b.txt"]


# The state


@pytest.mark.slow
def test_mistyped_root_is_forgotten_with_the_first_right_one(project: Project) -> None:
    project.write_files(1)
    right = project.env["AIHUB_API_ROOT"]
    project.env["AIHUB_API_ROOT"] = "http://127.0.0.1:9/api"
    assert project.apply().code == 4
    project.env["AIHUB_API_ROOT"] = right
    assert project.apply().code == 0


def test_state_of_any_name_is_no_source(project: Project) -> None:
    project.change_spec('files = "in/**/*"', 'files = "**/*"')
    project.change_spec("[limits]", '[limits]\non_unsupported = "send"')
    project.write("a.txt", "a")
    for _ in range(3):
        assert project.apply("--state", "OTHER.db").code == 0
    assert len(project.fake.runs()) == 1


def test_status_after_a_commit_was_cut_off(project: Project) -> None:
    project.write_files(1)
    project.apply()
    path, journal = project.folder / "job.state.db", project.folder / "job.state.db-journal"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size=1")
    db.execute("BEGIN IMMEDIATE")
    db.execute("CREATE TABLE junk (x)")
    db.executemany("INSERT INTO junk VALUES (?)", [("x" * 3000,)] * 200)
    half = path.read_bytes(), journal.read_bytes()
    db.execute("ROLLBACK")
    db.close()
    path.write_bytes(half[0])
    journal.write_bytes(half[1])
    assert project.run("status").code == 0


@pytest.mark.parametrize("command", ["plan", "status"])
def test_state_whose_making_was_cut_off_is_none_yet(project: Project, command: str) -> None:
    project.write_files(1)
    (project.folder / "job.state.db").touch()
    outcome = project.run(command)
    assert outcome.code in (0, 6), outcome.text
    assert project.apply().code == 0


def test_fake_keeps_its_data_to_itself_wherever_the_state_is(project: Project) -> None:
    project.write_files(1)
    project.apply("--fake", "--state", str(project.folder / "mine.db"))
    assert not (project.folder / "data").exists()
    assert (project.folder / "job.fake" / "data").is_dir()


# Results


def test_results_are_written_after_a_crash_between_their_rename_and_its_record(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(BaseException):
        pass

    def die(draft: Draft) -> None:
        real(draft)
        raise Dead

    project.write_files(1)
    project.apply()
    project.write_files(1, start=1)
    real = Draft.publish
    monkeypatch.setattr(Draft, "publish", die)
    with pytest.raises(Dead):
        project.apply()
    monkeypatch.setattr(Draft, "publish", real)
    project.write_files(1, start=2)
    assert project.apply().code == 0
    assert len(paths(project)) == 3


def test_results_folder_that_was_left_is_written_anew_when_it_is_used_again(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.change_spec("[limits]", '[results]\ndir = "other"\n[limits]')
    project.write_files(1, start=1)
    project.apply()
    project.change_spec('[results]\ndir = "other"\n', "")
    assert project.apply().code == 0
    assert len(paths(project)) == 2


def test_other_results_after_two_attempts_are_fetched_of_the_newest(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.apply("--again")
    project.change_spec("[limits]", '[results]\ninclude = ["confidence"]\n[limits]')
    assert project.apply().code == 0


def test_results_that_are_not_there_yet_are_asked_for_again(project: Project) -> None:
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 60")
    project.fake.faults.add(operation="getRunResults", do="status", status=404)
    project.fake.faults.add(operation="listRuns", nth=2, times=999, do="lag", seconds=30)
    assert project.apply().code == 0
    project.fake.faults.scripts.clear()


def test_pages_whose_bytes_vary_agree_by_what_they_answer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real, numbers = Extraction.render_file, itertools.count()

    def vary(*args: Any) -> dict[str, Any]:
        rendered = real(*args)
        rendered["input_file_path"] += f"?signature={next(numbers)}"
        return rendered

    monkeypatch.setattr(Extraction, "render_file", vary)
    project.write_files(3)
    project.fake.faults.add(operation="getRunResults", do="drop_answer", name="00001.txt", times=999)
    assert project.apply().code == 3
    assert len(project.documents) == 2


# Secrets


def test_secret_that_the_service_repeats_is_not_shown(project: Project) -> None:
    project.write("in/a.pdf", "pdf")
    project.env["AIHUB_SECRET_A"] = "hunter2hunter2"
    project.change_spec("[limits]", '[run.pdf_passwords]\n"in/a.pdf" = {env = "AIHUB_SECRET_A"}\n[limits]')
    echo = json.dumps({"message": f"bad passwords {{'a.pdf': 'hunter2hunter2'}}, {project.env['AIHUB_API_KEY']}"})
    project.fake.faults.add(operation="runApp", do="status", status=400, body=echo)
    outcome = project.apply()
    kept = [path for path in project.folder.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert "bad passwords" in outcome.text
    assert "hunter2" not in outcome.text
    assert str(project.env["AIHUB_API_KEY"]) not in outcome.text
    assert kept == list[Path]()


@pytest.mark.parametrize("forget", ["nothing", "the state", "the state and the lock file"])
def test_secret_in_the_message_of_a_run_is_not_shown(project: Project, forget: str) -> None:
    project.write("in/a.pdf", "pdf")
    project.env |= {"AIHUB_SECRET_A": "hunter2hunter2", "AIHUB_SECRET_B": "hunter2"}
    passwords = '"in/a.pdf" = {env = "AIHUB_SECRET_A"}\n"in/b.pdf" = {env = "AIHUB_SECRET_B"}'
    project.change_spec("[limits]", f"[run.pdf_passwords]\n{passwords}\n[limits]")
    project.fake.next_run(status="FAILED", message="bad password hunter2hunter2")
    assert project.apply().code == 3
    if forget != "nothing":
        lose_state(project, lock_too="lock" in forget)
    outcome = project.apply()
    assert outcome.code == 3
    assert "bad password …\n" in outcome.text
    assert not [path for path in project.folder.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
