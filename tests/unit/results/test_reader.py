"""Which run's results count for a file."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from aihub_runner.model import Goal, Run, Scan, Shard, SkippedFile, Source
from aihub_runner.results.reader import choose_runs

GOAL = Goal("key", "target", "plain", 1000, {})
A, B = Source("in/a.txt", 1, "sha256:a"), Source("in/b.txt", 1, "sha256:b")
NEW = replace(A, digest="sha256:new")
LOCKED = replace(A, password="AIHUB_SECRET_PDF")


def shard(number: int, *sources: Source, status: str = "COMPLETE", fetched: str = "plain", key: str = "key") -> Shard:
    run = Run(number, number, key, 1, "tag", 1, 0.0, f"run-{number}", "", status, "", 1, 2, {fetched: 0.0})
    return Shard(number, "print", tuple(one.as_member(one.path) for one in sources), runs=(run,))


def choose(shards: list[Shard], *sources: Source, goal: Goal = GOAL, skipped: str = "") -> list[tuple[str, int, bool]]:
    items = (SkippedFile(skipped, "empty"),) if skipped else ()
    chosen = choose_runs(shards, Scan(sources, items, {}), goal)
    return [(one.path, one.run.id, one.present) for one in chosen]


FIRST, SECOND = shard(1, A, B), shard(2, NEW)


@pytest.mark.parametrize(
    ("shards", "sources", "chosen"),
    [
        pytest.param([FIRST], (A, B), [("in/a.txt", 1, True), ("in/b.txt", 1, True)], id="as they were"),
        pytest.param([FIRST, SECOND], (NEW, B), [("in/a.txt", 2, True), ("in/b.txt", 1, True)], id="one changed"),
        pytest.param([FIRST, SECOND], (A, B), [("in/a.txt", 1, True), ("in/b.txt", 1, True)], id="changed back"),
        pytest.param([FIRST, SECOND], (B,), [("in/a.txt", 2, False), ("in/b.txt", 1, True)], id="one removed"),
        pytest.param([FIRST], (NEW, B), [("in/b.txt", 1, True)], id="changed, and not run yet"),
        pytest.param([FIRST], (LOCKED, B), [("in/b.txt", 1, True)], id="another password"),
        pytest.param([FIRST, shard(2, A)], (A,), [("in/a.txt", 2, True), ("in/b.txt", 1, False)], id="run twice"),
        pytest.param([shard(1, A, status="FAILED")], (A,), [], id="failed"),
        pytest.param([shard(1, A, fetched="source")], (A,), [], id="fetched otherwise"),
        pytest.param([shard(1, A, key="other")], (A,), [], id="other settings"),
    ],
)
def test_newest_run_of_the_same_bytes_counts(
    shards: list[Shard], sources: tuple[Source, ...], chosen: list[tuple[str, int, bool]]
) -> None:
    assert choose(shards, *sources) == chosen


def test_skipped_file_has_no_results_and_a_run_may_be_chosen_before_it_is_fetched() -> None:
    assert choose([FIRST], A, skipped="in/b.txt") == [("in/a.txt", 1, True)]
    unfetched = shard(1, A, fetched="source")
    assert [one.run.id for one in choose_runs([unfetched], Scan((A,), (), {}), GOAL, also=[1])] == [1]


def test_files_elsewhere_are_never_removed() -> None:
    assert choose([FIRST], goal=replace(GOAL, input="/a/folder")) == [("in/a.txt", 1, True), ("in/b.txt", 1, True)]
