"""Deletions under every fault and with a crash at every boundary: all is deleted, nothing else, nothing paid."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import requests

from support.crash import CRASHED, WAITS
from support.forks import OUTPUT, Forks

from .conftest import Outcome, Project
from .test_faults import FAULTS

OPERATIONS = ["deleteBatch", "deleteRun", "jobStatus", "getBatch", "getRunStatus", "listRuns", "listBatches"]
STATUSES = [400, 401, 403, 404, 409, 422]
PARTS = 12  # the boundaries are dealt out to this many tests
SEEDS = 6
CLEANUP = '[cleanup]\ndelete_input = "after-results"\ndelete_output = "after-results"\ndelete_logs = "after-results"\n'
NO_JOBS = '{"delete_input_dir_job_id": null, "delete_output_dir_job_id": null, "delete_log_dir_job_id": null}'

Documents = list[dict[str, Any]]


@pytest.fixture
def applied(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A job of two shards with their results on disk, beside a batch and a run of another person."""
    for owner, name, waits in WAITS:
        monkeypatch.setattr(owner, name, waits)
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nread_timeout_s = 1\nfiles_per_batch = 2\nparallel_uploads = 1")
    world = project.fake.world
    other = world.create_batch("acme", f"job-{'0' * 64}", "", "somebody").id
    world.put_file(other, "other.txt", "sha256:0", 1)
    body, headers = (
        {"app_name": "Other", "batch_id": other},
        {"Authorization": "Bearer fake-test", "IB-Context": "acme"},
    )
    requests.post(f"{project.fake.root}/v2/apps/runs", json=body, headers=headers, timeout=10).raise_for_status()
    assert project.apply().code == 0
    project.forget_requests()
    return project


def is_deleted(project: Project) -> bool:
    """Whether everything of ours is deleted from the service. Everything else must still exist."""
    batches, runs = [*project.fake.world.batches.values()], [*project.fake.world.runs.values()]
    assert any(batch.owner == "somebody" for batch in batches)
    assert any(run.request["app_name"] == "Other" for run in runs)
    return (len(batches), len(runs)) == (1, 1)


def check_made_good(project: Project, documents: Documents, where: str = "") -> None:
    """Apply, destroy until all is gone, and apply again: nothing is paid for, and no result is lost."""
    assert project.apply().code == 0, where
    assert project.documents == documents, where
    for _ in range(3):
        outcome = destroy(project)
        if outcome.code == 0:
            break
    assert outcome.code == 0, f"{where}: {outcome.text}"
    check_deleted(project, documents, where)


def destroy(project: Project) -> Outcome:
    """Destroy, and check that nothing was deleted but what was shown before."""
    before = {*project.fake.ledger["deletions"].items()}
    outcome = project.run("destroy", "--yes")
    check_shown(project, before, outcome.err)
    return outcome


def check_shown(project: Project, before: set[tuple[str, int]], shown: str) -> None:
    """Check that all that the service has deleted since then was shown, one line each."""
    lines = {" ".join(line.replace(",", " ").split()[:2]) for line in shown.splitlines()}
    deleted = {name for name, _ in {*project.fake.ledger["deletions"].items()} - before}
    assert deleted <= lines, (deleted, shown)


def check_deleted(project: Project, documents: Documents, where: str = "") -> None:
    """Check that all is deleted, that a job and its clone pay nothing, and that every result is there."""
    assert is_deleted(project), where
    assert {entry["status"] for entry in project.lock} == {"DELETED"}, where
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), f"{where}: {outcome.text}"
    clone = project.clone("one")
    assert clone.apply().code == 3, where
    shutil.rmtree(clone.folder)
    assert {sent for sent in project.sent() if not sent.startswith("DELETE")} == set(), where
    project.forget_requests()
    assert (project.apply().code, project.fake.journal) == (0, []), where


# Faults


@pytest.mark.matrix(gate=6)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_fault_in_a_deletion_is_made_good(applied: Project, operation: str, fault: str) -> None:
    documents = applied.documents
    if operation == "listBatches":  # needed only where there is no job
        applied.fake.faults.add(operation="jobStatus", do="status", status=404, times=4)
    applied.fake.faults.add(operation=operation, **FAULTS[fault])
    destroy(applied)
    check_made_good(applied, documents)
    assert applied.fake.faults.unused() == []


@pytest.mark.matrix(gate=6)
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if not name.startswith("list")])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.slow
def test_refused_deletion_is_made_good(applied: Project, operation: str, when: str, status: int) -> None:
    documents = applied.documents
    applied.fake.faults.add(operation=operation, do="status", status=status, when=when)
    outcome = destroy(applied)
    assert outcome.code in (0, 3, 4)
    check_made_good(applied, documents)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
@pytest.mark.slow
def test_deletion_whose_job_fails_is_not_confirmed_and_asked_for_again(applied: Project, state: str) -> None:
    documents, batches = applied.documents, applied.fake.world.batches
    batch = min(one.id for one in batches.values() if one.owner != "somebody")
    body = f'{{"state": "{state}", "message": "busy"}}'
    applied.fake.faults.add(operation="deleteBatch", do="status", status=202, body='{"job_id": "j"}', when="before")
    applied.fake.faults.add(operation="jobStatus", do="status", status=200, body=body, when="before")
    outcome = applied.run("destroy", "--yes")
    assert outcome.code == 3
    assert f"batch {batch}: not confirmed, its job j is {state}, busy" in outcome.out
    assert batch in batches
    check_made_good(applied, documents)


def test_deletion_without_a_job_is_confirmed_by_what_is_listed(applied: Project) -> None:
    documents = applied.documents
    applied.fake.faults.add(operation="deleteRun", do="status", status=202, body=NO_JOBS, when="after", times=2)
    assert applied.run("destroy", "--yes").code == 0
    check_deleted(applied, documents)


@pytest.mark.slow
def test_deletion_without_a_job_that_is_not_seen_is_not_confirmed(applied: Project) -> None:
    documents = applied.documents
    applied.fake.faults.add(operation="deleteRun", do="status", status=202, body=NO_JOBS, when="before", times=2)
    outcome = applied.run("destroy", "--yes")
    assert (outcome.code, outcome.out.count("not confirmed, the service returned no deletion job")) == (3, 2)
    check_made_good(applied, documents)


@pytest.mark.matrix(gate=6)
@pytest.mark.parametrize("operation", OPERATIONS[:-1])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_fault_in_a_cleanup_is_made_good(applied: Project, operation: str, fault: str) -> None:
    documents = applied.documents
    applied.change_spec("[limits]", f"{CLEANUP}[limits]")
    applied.fake.faults.add(operation=operation, **FAULTS[fault])
    for _ in range(3):
        outcome = applied.apply()
        if outcome.code == 0:
            break
    assert outcome.code == 0, outcome.text
    check_deleted(applied, documents)


@pytest.mark.matrix(gate=6)
@pytest.mark.parametrize(
    ("part", "operation"),
    [
        *(("input", "deleteBatch"), ("input", "jobStatus"), ("output", "deleteRun"), ("output", "jobStatus")),
        *(("logs", "deleteRun"), ("logs", "jobStatus")),
    ],
)
@pytest.mark.parametrize("fault", ["reset before", "reset after", "garbage after", "429", "gateway's 200"])
@pytest.mark.slow
def test_cleanup_under_a_fault_deletes_what_the_plan_says(
    applied: Project, part: str, operation: str, fault: str
) -> None:
    applied.change_spec("[limits]", f'[cleanup]\ndelete_{part} = "after-results"\n[limits]')
    assert f"deletes from the service, once results are on disk: {part}\n" in applied.run("plan").out
    applied.fake.faults.add(operation=operation, **FAULTS[fault])
    for _ in range(3):
        outcome = applied.apply()
    assert outcome.code == 0, outcome.text
    asked = [entry for entry in applied.fake.journal if entry["method"] == "DELETE"]
    assert {entry["operation"] for entry in asked} == {"deleteBatch" if part == "input" else "deleteRun"}
    wanted = {"input": set(), "output": {"delete_db_data=true", "delete_output=true"}, "logs": {"delete_logs=true"}}
    for entry in asked:
        assert set(re.findall(r"delete_\w+=true", str(entry))) == wanted[part], entry
    assert not any(path.startswith("batch") for path in applied.fake.ledger["deletions"] if part != "input")


# Stopped dead


Crash = Callable[[int], int]


@pytest.fixture
def crash(applied: Project, forks: Forks) -> Crash:
    """Destroy in a process that crashes at a boundary, and return its exit code. It deletes only what it has shown."""

    def act(boundary: int) -> int:
        before = {*applied.fake.ledger["deletions"].items()}
        code = forks.run(boundary, applied.folder, applied.env, "destroy", "job.toml", "--yes")
        check_shown(applied, before, (applied.folder / OUTPUT).read_text())
        return code

    return act


@pytest.fixture
def again(applied: Project) -> Callable[[], None]:
    """Return what brings back the world before the deletion, on both sides."""
    kept = applied.folder.parent / f"{applied.folder.name}-kept"
    shutil.copytree(applied.folder, kept)
    applied.fake.checkpoint()

    def bring_back() -> None:
        applied.fake.rewind()
        shutil.rmtree(applied.folder)
        shutil.copytree(kept, applied.folder)
        applied.fake.clear_journal()

    return bring_back


@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_destroy_stopped_at_every_boundary_is_made_good(
    applied: Project, crash: Crash, again: Callable[[], None], part: int
) -> None:
    documents, boundary = applied.documents, part + 1
    while crash(boundary) == CRASHED:
        check_made_good(applied, documents, f"boundary {boundary}")
        again()
        boundary += PARTS
    assert boundary > 50, "so few boundaries cannot be all"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_destroy_stopped_twice_is_made_good(
    applied: Project, crash: Crash, again: Callable[[], None], seed: int
) -> None:
    documents, chance = applied.documents, random.Random(seed)
    for _ in range(4):
        first, second = chance.randrange(1, 60), chance.randrange(1, 60)
        assert crash(first) == CRASHED
        crash(second)
        check_made_good(applied, documents, f"boundaries {first} and {second}")
        again()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.matrix(gate=5)
def test_cleanup_stopped_at_every_boundary_is_made_good(
    applied: Project, forks: Forks, again: Callable[[], None], part: int
) -> None:
    documents, boundary = applied.documents, part + 1
    while True:
        applied.change_spec("[limits]", f"{CLEANUP}[limits]")
        if forks.run(boundary, applied.folder, applied.env, "apply", "job.toml") != CRASHED:
            break
        assert applied.apply().code == 0
        check_deleted(applied, documents, f"boundary {boundary}")
        again()
        boundary += PARTS
    assert boundary > 50, "so few boundaries cannot be all"
