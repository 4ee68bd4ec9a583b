"""Which of several clones pays, as far as a check of a batch decides it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.shard_progress import ShardProgress
from aihub_runner.apply.steps import NotThere, RunSeen, Unsure
from aihub_runner.apply.tasks.clones import AwaitTwin, Checked, await_twin, note_checked

TAG = f"aihub-runner:{'a' * 64}:{'b' * 16}:1"
KNOWN = {"id": "known", "status": "COMPLETE", "batch_id": 1, "start_timestamp": 10**18}
TWIN = {"id": "twin", "status": "RUNNING", "batch_id": 7, "start_timestamp": 2 * 10**18, "tags": [TAG]}


@pytest.mark.parametrize(
    ("known", "found", "is_settled"),
    [
        (7, (7,), True),  # this one was waited for
        (7, (), True),
        (0, (), True),
        (0, (5,), False),  # it was not listed before
        (7, (5, 7), False),
    ],
)
def test_older_batch_that_was_not_waited_for_is(known: int, found: tuple[int, ...], is_settled: bool) -> None:
    progress = ShardProgress(elder=known, is_settled=True)
    context = cast("Any", SimpleNamespace(shards={1: progress}))
    note_checked(context, 1, Checked((), {}, found))
    assert progress.is_settled is is_settled


def test_shards_of_the_same_files_wait_for_one_older_batch_each() -> None:
    shards = {1: ShardProgress(), 2: ShardProgress()}
    for shard in shards:
        note_checked(cast("Any", SimpleNamespace(shards=shards)), shard, Checked((), {}, (5, 6)))
    assert [progress.elder for progress in shards.values()] == [5, 6]


@pytest.mark.parametrize(
    ("newest", "listings", "outcome"),
    [
        pytest.param("", [[], []], NotThere, id="nothing is known, and nothing listed"),
        pytest.param("known", [[KNOWN], [KNOWN]], NotThere, id="two listings without the twin"),
        pytest.param("known", [[], []], Unsure, id="the account sees no runs"),
        pytest.param("known", [[KNOWN], [KNOWN, TWIN]], RunSeen, id="only the second listing shows the twin"),
        pytest.param("known", [[KNOWN, TWIN]], RunSeen, id="the first listing shows the twin"),
    ],
)
def test_run_of_a_clone_is_absent_only_by_two_trusted_listings(
    hub: AIHub, router: respx.MockRouter, newest: str, listings: list[list[dict[str, Any]]], outcome: type
) -> None:
    """Each listing ends with a page that shows nothing new."""
    left = [{"runs": listing} for listing in listings for _ in range(2 if listing else 1)]
    router.get("/v2/apps/runs").mock(side_effect=[httpx.Response(200, json=page) for page in left])
    step = AwaitTwin(1, 1, TAG, 7, 1, 0.0, may_take_over=True, known=frozenset({"known"}), newest=newest)
    assert isinstance(await_twin(hub, step), outcome)
