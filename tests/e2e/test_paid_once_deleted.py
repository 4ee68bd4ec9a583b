"""Paid runs whose batches were deleted, where neither the state nor the lock file has them any more."""

from __future__ import annotations

import shutil

import pytest

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
def test_run_that_paid_is_named_among_those_of_a_batch(project: Project, at: int) -> None:
    ids = run_twice_and_delete(project)
    project.write_files(2, start=STARTS[at])
    project.write_files(1, start=8)
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert f"run {ids[at]} paid for 2 files" in outcome.err
    assert len(project.fake.runs()) == 2
