"""`[batch] id` under every fault, and stopped dead at every boundary: paid once, fetched whole, nothing changed."""

from __future__ import annotations

import pytest

from support.crash import CRASHED, WAITS
from support.forks import Forks

from .conftest import Project
from .test_batch_id import changes, make_batch
from .test_crashes import documents_of, reset
from .test_faults import FAULTS

PARTS = 12  # the boundaries are dealt out to this many tests
OPERATIONS = ["listFiles", "createBatch", "listBatches", "listRuns", "runApp", "getRunStatus", "getRunResults"]


@pytest.fixture
def steady(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project on a batch of two files, with waits on the clock of the fake."""
    for owner, name, waits in WAITS:
        monkeypatch.setattr(owner, name, waits)
    project.change_spec('files = "in/**/*"\n', "")
    project.change_spec("[limits]\nsettle_s = 0.2", "[limits]\nsettle_s = 2\nread_timeout_s = 1\nparallel_runs = 1")
    (project.folder / "in").mkdir()
    project.change_spec("[limits]", f"[batch]\nid = {begin(project)}\n[limits]")
    return project


def begin(project: Project) -> int:
    made = make_batch(project, a="Invoice number: 1", b="Invoice number: 2")
    project.forget_requests()
    return made


def check_made_good(project: Project, where: str = "") -> None:
    """Apply until all is done: one run on this batch, all results, no file sent or deleted; then nothing is to do."""
    for _ in range(3):
        outcome = project.apply()
        if outcome.code == 0:
            break
    assert outcome.code == 0, f"{where}: {outcome.text}"
    assert len(project.fake.runs()) == 1, where
    assert [line["path"] for line in documents_of(project)] == ["a.txt", "b.txt"], where
    assert changes(project) == [], where
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, []), where
    clone = project.clone(f"one{where}")
    assert (clone.apply().code, project.sent()) == (0, []), where


@pytest.mark.matrix(most=1, gate=6)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_made_good(steady: Project, operation: str, fault: str) -> None:
    steady.fake.faults.add(operation=operation, **FAULTS[fault])
    check_made_good(steady)


@pytest.mark.matrix(most=1, gate=6)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("status", [301, 400, 404, 413, 429, 500, 503])
def test_refused_or_lost_start_is_paid_once(steady: Project, status: int, when: str) -> None:
    steady.fake.faults.add(operation="runApp", do="status", status=status, when=when)
    check_made_good(steady)


@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_interrupted_apply_is_paid_once(steady: Project, forks: Forks, part: int) -> None:
    boundary, last = part + 1, steady.spec_path.read_text()
    while forks.run(boundary, steady.folder, steady.env, "apply", "job.toml") == CRASHED:
        check_made_good(steady, f" boundary {boundary}")
        reset(steady)
        boundary += PARTS
        old, last = last, last.replace(f"id = {last.split('id = ')[1].split()[0]}", f"id = {begin(steady)}")
        steady.change_spec(old, last)
    assert boundary > 40, "so few boundaries cannot be all"


@pytest.mark.slow
def test_clones_that_start_at_once_pay_once(steady: Project) -> None:
    processes = [steady.clone(f"c{number}").start("apply", "job.toml") for number in range(3)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert len(steady.fake.runs()) == 1, outputs
    assert {process.returncode for process in processes} <= {0, 7}, outputs
    assert changes(steady) == []
