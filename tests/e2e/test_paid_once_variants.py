"""Variants that somebody thinks of who wants this tool to pay twice: what is half hidden, and what is nonsense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.proxy import BATCH, RUN, RUN_LIST, RUNS, Proxy, forward_and_drop, rewrite, rewrite_each
from support.world import bring_back, check_paid_once, keep

from .conftest import Project

STATE, LOCK = "job.state.db", "job.lock.toml"
DAY_MS = 86_400_000


# Times that mean something else


NONSENSE: dict[str, Callable[[int], Any]] = {
    "negative": lambda made: -made,
    "zero": lambda made: 0,
    "one": lambda made: 1,
    "huge": lambda made: 2**62,
    "larger than any number": lambda made: 2**63,
    "a word": lambda made: "now",
    "a fraction": lambda made: 1.5,
    "a flag": lambda made: True,
    "nothing": lambda made: None,
    "in seconds": lambda made: made // 1000,
    "in microseconds": lambda made: made * 1000,
    "in nanoseconds": lambda made: made * 1_000_000,
    "in two days": lambda made: made + 2 * DAY_MS,
    "in a year": lambda made: made + 400 * DAY_MS,
    "hours ahead": lambda made: made + DAY_MS // 2,
}


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("shown", ["as they are", "without tags and batch"])
def test_batch_that_says_nonsense_of_when_it_was_made_pays_once(
    project: Project, proxy: Proxy, kind: str, shown: str
) -> None:
    project.write_files(1)
    proxy.always("GET", BATCH, rewrite(lambda batch: batch | {"created_at_ms": NONSENSE[kind](batch["created_at_ms"])}))
    if shown != "as they are":
        proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | {"tags": None, "batch_id": None}))
    proxy.on("POST", RUNS, forward_and_drop)
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 1)
    assert outcome.code in (0, 7), outcome.text


# Tags that look like another one of ours


REDACTED: dict[str, Callable[[list[str]], list[str]]] = {
    "fingerprint": lambda parts: [parts[0], "***", *parts[2:]],
    "all": lambda parts: [parts[0], "***", "***", parts[3]],
    "key": lambda parts: [*parts[:2], "…", parts[3]],
    "attempt": lambda parts: [*parts[:3], "0"],
    "attempt padded": lambda parts: [*parts[:3], "01"],
    "hex in upper case": lambda parts: [parts[0], parts[1].upper(), parts[2].upper(), parts[3]],
    "fingerprint cut": lambda parts: [parts[0], parts[1][:32], *parts[2:]],
}


@pytest.mark.parametrize("kind", REDACTED)
@pytest.mark.parametrize("restored", [False, True])
def test_run_whose_tag_is_partly_hidden_is_paid_once(project: Project, proxy: Proxy, kind: str, restored: bool) -> None:
    def change(run: dict[str, Any]) -> dict[str, Any]:
        return run | {"tags": [":".join(REDACTED[kind](tag.split(":"))) for tag in run["tags"]]}

    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, project.folder / "backup", STATE, LOCK)
    project.write_files(1, start=1)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", change))
    proxy.always("GET", RUN, rewrite(change))
    if restored:
        proxy.clear()
        assert project.apply().code == 0
        bring_back(project.folder, project.folder / "backup", STATE, LOCK)
        proxy.always("GET", RUN_LIST, rewrite_each("runs", change))
    else:
        proxy.on("POST", RUNS, forward_and_drop)
    for _ in range(2):
        outcome = project.apply("--refetch")
        check_paid_once(project.fake, 2)
        assert outcome.code in (0, 7), outcome.text


ALTERED: dict[str, dict[str, Any]] = {
    "null, without a batch": {"tags": None, "batch_id": None},
    "theirs, without a batch": {"tags": ["mine"], "batch_id": None},
    "null": {"tags": None},
    "empty, batch of 0": {"tags": [], "batch_id": 0},
}


@pytest.mark.parametrize("kind", ALTERED)
def test_restored_state_beside_runs_that_say_nothing_pays_once(project: Project, proxy: Proxy, kind: str) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, project.folder / "backup", STATE, LOCK)
    project.write_files(1, start=1)
    assert project.apply().code == 0
    bring_back(project.folder, project.folder / "backup", STATE, LOCK)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | ALTERED[kind]))
    proxy.always("GET", RUN, rewrite(lambda run: run | ALTERED[kind]))
    for options in ((), ("--adopt",)):
        outcome = project.apply("--refetch", *options)
        check_paid_once(project.fake, 2)
        assert outcome.code == 7, outcome.text
    proxy.clear()
    project.apply("--adopt")
    project.check_done(2, refetch=True)
