"""`[limits] max_runs_per_day` counts what was paid for the job, whichever state paid for it, by the service's clock."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.world import check_paid_once, lose

from .conftest import Project
from .test_batch_id import make_batch, put

DAY_S = 86_400
REFUSED = "would start 1 run after 2 in the last 24 hours, 2 are allowed"


@pytest.fixture
def spent(project: Project) -> Project:
    """A job that has paid for as many runs today as it may. One more file is to be run."""
    return spend(project)


def spend(project: Project) -> Project:
    project.change_spec("[limits]", "[limits]\nmax_runs_per_day = 2\nfiles_per_batch = 1")
    for number in range(2):  # one after the other: a test forgets the run of the first, which must not be the newest
        project.write_files(1, start=number)
        assert project.apply().code == 0
    project.write_files(1, start=5)
    return project


def check_refused(project: Project, *args: str, code: int = 0) -> None:
    """Check that today nothing more is paid for, and that it is tomorrow, with that exit code."""
    outcome = project.apply(*args)
    assert (outcome.code, REFUSED in outcome.err) == (2, True), outcome.text
    check_paid_once(project.fake)
    assert project.sent().count("POST runApp") == 2
    project.fake.clock.advance(DAY_S + 1)
    outcome = project.apply(*args)
    assert outcome.code == code, outcome.text
    check_paid_once(project.fake)
    assert project.sent().count("POST runApp") == 3


def test_fresh_clone_counts_the_runs_of_the_lock_file(spent: Project) -> None:
    check_refused(spent.clone("fresh"))


def test_fresh_clone_counts_runs_on_files_that_have_changed_since(spent: Project) -> None:
    spent.write("in/00000.txt", "changed")
    (spent.folder / "in/00001.txt").unlink()
    (spent.folder / "in/00005.txt").unlink()
    check_refused(spent.clone("fresh"))


def test_fresh_clone_counts_runs_that_the_service_has_deleted(project: Project) -> None:
    cleanup = '[cleanup]\ndelete_input = "after-results"\ndelete_output = "after-results"'
    project.change_spec("[limits]", f"{cleanup}\n[limits]\nmax_runs_per_day = 2\nfiles_per_batch = 1")
    project.write_files(2)
    assert project.apply().code == 0
    project.write_files(1, start=5)
    check_refused(project.clone("fresh"), code=3)  # the results of those are nowhere any more


def test_job_without_state_and_lock_file_counts_the_runs_that_are_listed(spent: Project) -> None:
    lose(spent.folder, "job.state.db", "job.lock.toml")
    check_refused(spent, "--adopt")


def test_job_that_has_lost_all_counts_runs_on_files_that_are_gone(spent: Project) -> None:
    lose(spent.folder, "job.state.db", "job.lock.toml")
    for path in ("in/00000.txt", "in/00001.txt"):
        (spent.folder / path).unlink()
    check_refused(spent)


def test_restored_state_counts_what_was_paid_since(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nmax_runs_per_day = 2\nfiles_per_batch = 1")
    project.write_files(1)
    assert project.apply().code == 0
    for name in ("job.state.db", "job.lock.toml"):
        shutil.copy(project.folder / name, project.folder / f"{name}.old")
    project.write("in/00000.txt", "second version")
    assert project.apply().code == 0
    for name in ("job.state.db", "job.lock.toml"):
        shutil.copy(project.folder / f"{name}.old", project.folder / name)
    project.write("in/00000.txt", "third version")
    check_refused(project)


def test_paying_again_counts_what_another_clone_paid(spent: Project) -> None:
    (spent.folder / "in/00005.txt").unlink()
    (spent.folder / "job.lock.toml").unlink()
    clone = spent.clone("fresh")
    outcome = clone.apply("--again")
    assert (outcome.code, "would start 2 runs after 2 in the last 24 hours" in outcome.err) == (2, True), outcome.text
    check_paid_once(spent.fake, 2)


def test_runs_of_other_jobs_do_not_count(spent: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "elsewhere", spent.fake, spent.env)
    other.write("job.toml", spent.spec_path.read_text().replace('name = "job"', 'name = "other"'))
    other.write("in/own.txt", "a document of another job with the same settings")
    assert other.apply().code == 0


def test_runs_on_the_batch_that_a_spec_names_count(project: Project) -> None:
    batch = make_batch(project, a="first version")
    project.change_spec('files = "in/**/*"\n', "")
    project.change_spec("[limits]", f"[batch]\nid = {batch}\n[limits]\nmax_runs_per_day = 1")
    assert project.apply().code == 0
    lose(project.folder, "job.state.db", "job.lock.toml")
    put(project, batch, "a.txt", "second version")
    outcome = project.apply()
    assert "would start 1 run after 1 in the last 24 hours" in outcome.err, outcome.text
    assert project.sent().count("POST runApp") == 1


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("days", [-3, 3])
@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.slow
def test_clock_of_this_machine_does_not_decide(project: Project, days: int, forgets: bool) -> None:
    project.fake.clock.advance(days * DAY_S)
    job = spend(project)
    if forgets:
        (job.folder / "in/00000.txt").unlink()
        outcome = job.run_alone("state", "forget", "job.toml", "--yes")
        assert (outcome.code, "1 file in 1 group forgotten" in outcome.out) == (0, True), outcome.text
    check_refused(job)
