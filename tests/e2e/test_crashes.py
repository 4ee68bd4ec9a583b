"""Stopped dead at every boundary, and at pairs of them: the next apply makes it good, and nothing is paid twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from .conftest import ROOT, Project

CRASHED = 137
CRASH = ROOT / "tests" / "torture" / "crash.py"
WORKERS = 8  # the boundaries are dealt out to this many tests, which may run at once
PAIRS = 24


@pytest.fixture
def two_shards(project: Project) -> Project:
    """Two shards of three files, one request at a time, so that boundaries are numbered the same each time."""
    project.write_files(6)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 3\nparallel_uploads = 1\nparallel_runs = 1")
    return project


def crash(project: Project, boundary: int) -> int:
    environment = {k: v for k, v in (os.environ | project.env).items() if v is not None}
    command = [sys.executable, str(CRASH), str(boundary), "apply", "job.toml"]
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, check=False).returncode


def reset(project: Project) -> None:
    """Begin again: another context is another world for the fake, and nothing is left on disk."""
    for path in [*project.folder.glob("job.*.db*"), *project.folder.glob("job.lock.toml")]:
        path.unlink()
    subprocess.run(["rm", "-rf", str(project.folder / "results")], check=True)
    world = project.fake.world
    for kept in (world.batches, world.runs, world.upload_digests, *world.ledger.values()):
        kept.clear()
    project.fake.clear_journal()


def check_made_good(project: Project, where: str) -> None:
    """Apply again, and compare with a world in which nothing ever broke."""
    outcome = project.apply()
    assert outcome.code == 0, f"{where}: {outcome.text}"
    ledger = project.fake.ledger
    assert sorted(ledger["runs"].values()) == [1, 1], where
    assert set(ledger["tags"].values()) == {1}, where
    assert sorted(ledger["batches"].values()) == [1, 1], where
    assert all(len(set(digests)) == 1 for digests in ledger["digests"].values()), where
    assert {line["path"] for line in project.documents} == {f"in/{n:05}.txt" for n in range(6)}, where
    project.forget_requests()
    assert project.apply().code == 0, where
    assert project.sent() == [], where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("worker", range(WORKERS))
def test_crash_at_every_boundary_is_made_good(two_shards: Project, worker: int) -> None:
    boundary = worker + 1
    while crash(two_shards, boundary) == CRASHED:
        check_made_good(two_shards, f"boundary {boundary}")
        reset(two_shards)
        boundary += WORKERS
    assert boundary > 100, "so few boundaries cannot be all"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_crash_in_the_recovery_from_a_crash_is_made_good(two_shards: Project, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(PAIRS // 4):
        first, second = chance.randrange(1, 100), chance.randrange(1, 80)
        assert crash(two_shards, first) == CRASHED
        crash(two_shards, second)
        check_made_good(two_shards, f"boundaries {first} and {second}")
        reset(two_shards)
