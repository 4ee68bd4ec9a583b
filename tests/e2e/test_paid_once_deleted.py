"""Paid runs whose batches were deleted, where neither the state nor the lock file has them any more."""

from __future__ import annotations

import shutil

import pytest

from support.proxy import RUN_LIST, Proxy, answer_instead, rewrite_each
from support.world import check_paid_once

from .conftest import Project

KEPT = "[batch]\nkeep = true\n"
STARTS = (0, 5)  # the first of the two files of each run


def lose_records(project: Project) -> None:
    (project.folder / "job.state.db").unlink()
    (project.folder / "job.lock.toml").unlink()
    shutil.rmtree(project.folder / "results")


def remove_files(project: Project) -> None:
    for path in (project.folder / "in").iterdir():
        path.unlink()


def run_twice_and_delete(project: Project) -> list[str]:
    """Run two contents in one batch; then the batch and all records are lost. Return the ids of the runs."""
    project.change_spec("[limits]", f"{KEPT}[limits]")
    for start in STARTS:
        project.write_files(2, start=start)
        assert project.apply().code == 0
        remove_files(project)
    project.fake.world.batches.clear()
    lose_records(project)
    project.change_spec(KEPT, "")
    return [str(run["id"]) for run in project.fake.runs()]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.slow
def test_run_that_paid_is_named_among_those_of_a_batch(project: Project, at: int) -> None:
    ids = run_twice_and_delete(project)
    project.write_files(2, start=STARTS[at])
    project.write_files(1, start=8)
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert f"run {ids[at]} paid for 2 files" in outcome.err
    assert len(project.fake.runs()) == 2


@pytest.mark.slow
def test_results_that_are_not_there_yet_are_asked_for_again(project: Project, proxy: Proxy) -> None:
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    for start in STARTS:
        project.write_files(2, start=start)
        assert project.apply().code == 0
    lose_records(project)
    for run in project.fake.runs():
        proxy.always("GET", f"/v2/apps/runs/{run['id']}/results", answer_instead(404))
    project.write_files(1, start=8)
    assert project.apply("--only", "in/00008.txt").code == 0
    proxy.clear()
    assert project.apply().code == 7
    assert len(project.fake.runs()) == 3


def test_results_of_a_run_that_ends_later_are_read_too(project: Project) -> None:
    _, second = run_twice_and_delete(project)
    project.fake.set_run(second, status="RUNNING")
    project.write_files(1, start=8)
    assert project.apply().code == 0
    project.fake.set_run(second, status="COMPLETE")
    project.write_files(2, start=STARTS[1])
    project.write_files(1, start=9)
    assert project.apply().code == 7
    assert len(project.fake.runs()) == 3


@pytest.mark.parametrize("is_deleted", [True, False])
def test_runs_that_a_list_shows_without_their_batches_are_imported_in_another_grouping(
    project: Project, proxy: Proxy, is_deleted: bool
) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(2)
    assert project.apply().code == 0
    lose_records(project)
    project.change_spec("files_per_batch = 1", "files_per_batch = 2")
    if is_deleted:
        project.fake.world.batches.clear()
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | {"batch_id": None}))
    for option, code in (((), 7), (("--adopt",), 0), ((), 0)):
        outcome = project.apply(*option)
        assert outcome.code == code, outcome.text
        check_paid_once(project.fake, 2)
    assert [line["present"] for line in project.documents] == [True, True]


@pytest.mark.parametrize("status", [400, 403, 410])
@pytest.mark.slow
def test_run_whose_results_are_withheld_is_left_to_decide(project: Project, proxy: Proxy, status: int) -> None:
    """It may be another job's with the same settings, and may be ours."""
    (project.folder / "in").mkdir()
    other = project.clone("other")
    for job in (other, project):
        job.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    other.write_files(2, start=5)
    assert other.apply().code == 0
    [run] = project.fake.runs()
    proxy.always("GET", f"/v2/apps/runs/{run['id']}/results", answer_instead(status))
    project.write_files(1)
    outcome = project.apply()
    assert outcome.code == 7
    assert f"run {run['id']} may have paid" in outcome.err
    assert len(project.fake.runs()) == 1
    for options in (["--adopt"], []):
        outcome = project.apply(*options)
        assert outcome.code == 7
        assert f"nothing is paid for, as nothing tells which files run {run['id']} had" in outcome.err
    outcome = project.run("resolve")
    assert (outcome.code, "--adopt" in outcome.text) == (7, False), outcome.text
    assert project.run("resolve", "--adopt", str(run["id"])).code == 2
    assert project.run("resolve", "--resubmit").code == 0
    for _ in range(2):
        assert project.apply().code == 0
    project.write_files(1, start=1)
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 3


@pytest.mark.parametrize("status", [400, 403, 410])
@pytest.mark.slow
def test_withheld_results_of_a_run_in_the_lock_file_do_not_hold_up_the_rest(
    project: Project, proxy: Proxy, status: int
) -> None:
    """The lock file tells which files it had, so it needs no results to be imported in a fresh clone."""
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    project.write_files(2)
    assert project.apply().code == 0
    (project.folder / "job.state.db").unlink()
    shutil.rmtree(project.folder / "results")
    [run] = project.fake.runs()
    proxy.always("GET", f"/v2/apps/runs/{run['id']}/results", answer_instead(status))
    project.write_files(1, start=8)
    assert [project.apply().code for _ in range(2)] == [4, 4]
    assert len(project.fake.runs()) == (1 if status == 403 else 2)  # a refusal of the account pays nothing more
    proxy.clear()
    assert project.apply().code == 0
    assert (len(project.documents), len(project.fake.runs())) == (3, 2)


@pytest.mark.slow
def test_withheld_results_of_others_do_not_hide_a_run_that_paid(project: Project, proxy: Proxy) -> None:
    ids = run_twice_and_delete(project)
    proxy.always("GET", f"/v2/apps/runs/{ids[0]}/results", answer_instead(403))
    project.write_files(2, start=STARTS[1])
    project.write_files(1, start=8)
    outcome = project.apply()
    assert (outcome.code, f"run {ids[1]} paid for 2 files" in outcome.err) == (7, True), outcome.text
    assert len(project.fake.runs()) == 2


@pytest.mark.slow
def test_files_of_equal_names_in_several_folders_are_told_apart(project: Project) -> None:
    """Each folder came by itself, and the state is from after the first of them.

    There are too many ways to take one file of each name to try all of them.
    """
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    state, backup = project.folder / "job.state.db", project.folder / "backup"
    for folder in "abc":
        for number in range(8):
            project.write(f"in/{folder}/{number}.txt", f"{folder} {number}")
        assert project.apply().code == 0
        if folder == "a":
            shutil.copy(state, backup)
    lose_records(project)
    backup.rename(state)
    assert project.apply().code == 7
    outcome = project.apply("--adopt")
    assert (outcome.code, len({line["path"] for line in project.documents})) == (0, 24), outcome.text
    assert len(project.fake.runs()) == 3


def test_only_the_files_of_a_run_count_as_paid_for(project: Project) -> None:
    """Many others may have the same names, with or without a mark of their path."""
    for folder in "xy":
        project.write(f"in/{folder}/bill.txt", f"bill {folder}")
    assert project.apply().code == 0
    [run] = project.fake.runs()
    project.fake.world.batches.clear()
    lose_records(project)
    for folder in "abc":
        project.write(f"in/{folder}/bill.txt", f"bill {folder}")
    outcome = project.apply()
    assert (outcome.code, len(project.fake.runs())) == (7, 1), outcome.text
    assert f"run {run['id']} paid for 2 files that are also in this spec, in/x/bill.txt" in outcome.err


@pytest.mark.parametrize("moved", ["y", "xy"])
@pytest.mark.parametrize("is_deleted", [True, False])
def test_file_of_an_equal_name_is_recognised_in_another_folder(project: Project, is_deleted: bool, moved: str) -> None:
    """Its name in the batch has a mark of the path that it had."""
    for folder in "xy":
        project.write(f"in/{folder}/bill.txt", f"bill {folder}")
    assert project.apply().code == 0
    if is_deleted:
        project.fake.world.batches.clear()
    lose_records(project)
    for folder in moved:
        (project.folder / "in" / folder).rename(project.folder / "in" / f"{folder}{folder}")
    assert project.apply().code == 7
    assert project.apply("--adopt").code == 0
    texts = {path.parent.name: path.read_text() for path in project.folder.glob("in/*/bill.txt")}
    assert {line["path"] for line in project.documents} == {f"in/{folder}/bill.txt" for folder in texts}
    assert len(project.fake.runs()) == 1


def test_clean_up_does_not_fail_for_ever_over_a_batch_that_is_gone(project: Project) -> None:
    """A run of another version on it is not recorded any more."""
    project.write_files(1)
    assert project.apply().code == 0
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[run]\nversion = "2"\n[limits]')
    assert project.apply().code == 0
    assert project.fake.world.batches == {}
    lose_records(project)
    assert [project.apply().code for _ in range(2)] == [0, 0]
    assert len(project.fake.runs()) == 2
