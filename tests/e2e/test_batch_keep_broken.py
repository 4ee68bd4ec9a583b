"""A batch that follows files, under every fault and stopped dead at every boundary: paid once, nothing else lost."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.crash import CRASHED, WAITS
from support.forks import Forks

from .conftest import Project
from .test_batch_id import TURN, deleted_files, made, make_batch
from .test_crashes import documents_of
from .test_faults import FAULTS

PARTS = 12  # the boundaries are dealt out to this many tests
OPERATIONS = [
    *("createBatch", "listBatches", "listFiles", "addFileToBatch", "deleteFileFromBatch"),
    *("listRuns", "runApp", "getRunResults"),
]
# What differs from each other; test_faults.py has all faults and statuses.
FEW = ["reset before", "reset after", "truncate", "garbage after", "429", "gateway's 200", "date that jumps"]
STATUSES = [301, 400, 404, 413, 429, 503]
AFTER = ["b.txt", "c.txt", "d.txt"]


@pytest.fixture(params=["keep", "sync"])
def following(request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project whose batch holds three files that were run; with `sync`, beside a file of somebody else."""
    for owner, name, waits in WAITS:
        monkeypatch.setattr(owner, name, waits)
    project.change_spec("[limits]\nsettle_s = 0.2", "[limits]\nsettle_s = 2\nread_timeout_s = 1\nparallel_uploads = 1")
    mode = "keep = true"
    if request.param == "sync":
        mode = f"id = {make_batch(project, theirs='not ours')}\nsync = true"
    project.change_spec("[limits]", f"[batch]\n{mode}\n[limits]")
    for name in "abc":
        project.write(f"in/{name}.txt", f"document {name}")
    return project


def change(project: Project) -> None:
    """Remove a file, change one without another size, and add one."""
    (project.folder / "in/a.txt").unlink(missing_ok=True)
    project.write("in/b.txt", "document B")
    project.write("in/d.txt", "document d")


def check_made_good(project: Project, runs: int, where: str = "") -> None:
    """Apply until all is done: each content was paid once, the batch holds the files, and others' files are there."""
    for _ in range(4):
        outcome = project.apply()
        if outcome.code == 0:
            break
    assert outcome.code == 0, f"{where}: {outcome.text}"
    assert len(project.fake.runs()) == runs, where
    tags = [run.request["settings"]["tags"][0] for run in project.fake.world.runs.values()]
    assert len({*tags}) == runs, where
    [held] = [files for one in project.fake.batches() if (files := project.fake.files(one["id"]))]
    theirs = ["theirs.txt"] * ("sync" in project.spec_path.read_text())
    mine = sorted(path.name for path in (project.folder / "in").iterdir())
    assert sorted(held) == sorted([*mine, *theirs]), where
    last = [*project.fake.world.runs.values()][-1]
    assert {file.name: file.digest for file in last.files} == held, where
    present = [line["path"] for line in documents_of(project) if line["present"]]
    assert present == sorted([*(f"in/{name}" for name in mine), *theirs]), where
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, []), where


def deleted(project: Project) -> set[str]:
    """The files that were deleted from batches. No batch was, but for those by which clients take turns."""
    turns = {batch for batch, name in made(project).items() if name.startswith(TURN)}
    gone = {int(key.removeprefix("batch ")) for key in project.fake.ledger["deletions"] if "/" not in key}
    assert not gone & (made(project).keys() - turns)
    return {key.partition("/")[2] for key in deleted_files(project)}


@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FEW)
def test_fault_in_a_change_is_made_good(following: Project, operation: str, fault: str) -> None:
    assert following.apply().code == 0
    change(following)
    shown = re.findall(r"1 file: to delete from batch \d+\n      (.*)\n", following.run("plan").out)
    following.fake.faults.add(operation=operation, **FAULTS[fault])
    check_made_good(following, 2)
    assert deleted(following) == {*shown} == {"a.txt"}


@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("operation", ["createBatch", "getBatch", "listBatches", "listFiles", "addFileToBatch"])
@pytest.mark.parametrize("fault", FEW)
def test_fault_in_the_first_apply_is_made_good(following: Project, operation: str, fault: str) -> None:
    is_asked = operation != "getBatch" or "keep" in following.spec_path.read_text()
    if is_asked:
        following.fake.faults.add(operation=operation, **FAULTS[fault])
    check_made_good(following, 1)
    assert deleted(following) == set()


@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("operation", ["addFileToBatch", "deleteFileFromBatch", "runApp"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.slow
def test_refused_or_lost_request_is_made_good(following: Project, operation: str, when: str, status: int) -> None:
    assert following.apply().code == 0
    change(following)
    following.fake.faults.add(operation=operation, do="status", status=status, when=when)
    outcome = following.apply()
    assert outcome.code in (0, 3, 4), outcome.text
    if status in (400, 413, 415, 422) and operation == "addFileToBatch":
        following.run("apply", "--retry-failed")  # it is the file that was refused
    check_made_good(following, 2)
    assert deleted(following) == {"a.txt"}


def test_batch_is_not_run_while_a_file_is_refused(following: Project) -> None:
    assert following.apply().code == 0
    change(following)
    following.fake.faults.add(operation="addFileToBatch", do="status", status=400)
    for what in (r"\.txt: cannot be sent", r"is left as it is while \S+\.txt is refused by the service"):
        outcome = following.apply()
        assert re.search(what, outcome.err), outcome.text
        assert "apply with --retry-failed to send it again" in outcome.err
        assert len(following.fake.runs()) == 1
    following.run("apply", "--retry-failed")
    check_made_good(following, 2)


@pytest.mark.timeout(900)
@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_interrupted_change_is_paid_once(following: Project, forks: Forks, tmp_path: Path, part: int) -> None:
    following.change_spec("[limits]", "[limits]\nparallel_runs = 1")
    assert following.apply().code == 0
    kept = tmp_path / "kept"
    keep(following, kept)
    change(following)
    boundary = part + 1
    while forks.run(boundary, following.folder, following.env, "apply", "job.toml") == CRASHED:
        check_made_good(following, 2, f"boundary {boundary}")
        assert deleted(following) == {"a.txt"}, boundary
        go_back(following, kept)
        boundary += PARTS
    assert boundary > 60, "so few boundaries cannot be all"


@pytest.mark.timeout(900)
@pytest.mark.matrix(most=1, gate=5)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_interrupted_first_apply_is_paid_once(following: Project, forks: Forks, tmp_path: Path, part: int) -> None:
    following.change_spec("[limits]", "[limits]\nparallel_runs = 1")
    kept = tmp_path / "kept"
    keep(following, kept)
    boundary = part + 1
    while forks.run(boundary, following.folder, following.env, "apply", "job.toml") == CRASHED:
        check_made_good(following, 1, f"boundary {boundary}")
        assert deleted(following) == set(), boundary
        go_back(following, kept)
        boundary += PARTS
    assert boundary > 60, "so few boundaries cannot be all"


def keep(project: Project, place: Path) -> None:
    """Keep all facts on both sides as they are now."""
    project.fake.checkpoint("kept")
    place.mkdir()
    for path in [*project.folder.glob("job.state.db*"), *project.folder.glob("job.lock.toml")]:
        shutil.copy2(path, place / path.name)
    if (project.folder / "results").exists():
        shutil.copytree(project.folder / "results", place / "results")


def go_back(project: Project, place: Path) -> None:
    """Make all facts on both sides as they were kept. The documents stay as they are."""
    project.fake.rewind("kept")
    for path in [*project.folder.glob("job.state.db*"), *project.folder.glob("job.lock.toml")]:
        path.unlink()
    shutil.rmtree(project.folder / "results", ignore_errors=True)
    shutil.copytree(place, project.folder, dirs_exist_ok=True)
    project.fake.clear_journal()
