"""Crash at every boundary, and at pairs of them: the next apply recovers, and nothing is paid twice."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from support.crash import CRASHED, WAITS
from support.forks import Forks

from .conftest import Project

PARTS = 24  # the boundaries are dealt out to this many tests
SEEDS = 8
PAIRS = 24

Documents = list[dict[str, Any]]
Crash = Callable[[int], int]


@pytest.fixture
def two_shards(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two shards of three files, one request at a time, so that boundaries are numbered the same each time."""
    for owner, name, waits in WAITS:
        monkeypatch.setattr(owner, name, waits)
    project.write_files(6)
    one_at_a_time = "[limits]\nfiles_per_batch = 3\nparallel_uploads = 1\nparallel_runs = 1"
    project.change_spec("[limits]\nsettle_s = 0.2", one_at_a_time)  # and the time to settle that people have
    return project


@pytest.fixture
def undisturbed(two_shards: Project) -> Documents:
    """The results in a world in which nothing ever broke."""
    assert two_shards.apply().code == 0
    documents = documents_of(two_shards)
    assert {line["path"] for line in documents} == {f"in/{n:05}.txt" for n in range(6)}
    reset(two_shards)
    return documents


def documents_of(project: Project) -> Documents:
    """The results, without what differs each time."""
    return [{key: value for key, value in line.items() if key != "run_id"} for line in project.documents]


@pytest.fixture
def crash(two_shards: Project, forks: Forks) -> Crash:
    """Apply in a process that crashes at a boundary, and return its exit code."""
    return lambda boundary: forks.run(boundary, two_shards.folder, two_shards.env, "apply", "job.toml")


def reset(project: Project) -> None:
    """Begin again, with nothing on either side."""
    for path in [*project.folder.glob("job.*.db*"), *project.folder.glob("job.lock.toml")]:
        path.unlink()
    shutil.rmtree(project.folder / "results", ignore_errors=True)
    world = project.fake.world
    for kept in (world.batches, world.runs, world.upload_digests, *world.ledger.values()):
        kept.clear()
    project.fake.clear_journal()


def check_made_good(project: Project, undisturbed: Documents, where: str) -> None:
    """Apply again, and compare with a world in which nothing ever broke."""
    outcome = project.apply()
    assert outcome.code == 0, f"{where}: {outcome.text}"
    ledger = project.fake.ledger
    assert sorted(ledger["runs"].values()) == [1, 1], where
    assert set(ledger["tags"].values()) == {1}, where
    assert sorted(ledger["batches"].values()) == [1, 1], where
    assert len(ledger["digests"]) == 6, where
    assert all(len(set(digests)) == 1 for digests in ledger["digests"].values()), where
    assert documents_of(project) == undisturbed, where
    project.forget_requests()
    assert project.apply().code == 0, where
    assert project.sent() == [], where


@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1, gate=8)
@pytest.mark.parametrize("part", range(PARTS))
def test_crash_at_every_boundary_is_made_good(
    two_shards: Project, undisturbed: Documents, crash: Crash, part: int
) -> None:
    boundary = part + 1
    while crash(boundary) == CRASHED:
        check_made_good(two_shards, undisturbed, f"boundary {boundary}")
        reset(two_shards)
        boundary += PARTS
    assert boundary > 100, "so few boundaries cannot be all"


@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_crash_in_the_recovery_from_a_crash_is_made_good(
    two_shards: Project, undisturbed: Documents, crash: Crash, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(PAIRS // SEEDS):
        first, second = chance.randrange(1, 100), chance.randrange(1, 80)
        assert crash(first) == CRASHED
        crash(second)
        check_made_good(two_shards, undisturbed, f"boundaries {first} and {second}")
        reset(two_shards)
