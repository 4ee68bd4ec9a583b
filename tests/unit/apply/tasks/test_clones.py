"""Which of several clones pays, judged by the listed batches, claims and runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.shard_progress import ShardProgress
from aihub_runner.apply.steps import NotThere, RunSeen, Unsure
from aihub_runner.apply.tasks import clones
from aihub_runner.apply.tasks.clones import AwaitTwin, Checked, Claimed, ClaimRun, await_twin, claim_run, note_checked
from aihub_runner.errors import Refused, ServiceError
from aihub_runner.plan.identity import claim_name, claim_stem

TAG = f"aihub-runner:{'a' * 64}:{'b' * 16}:1"
KNOWN = {"id": "known", "status": "COMPLETE", "batch_id": 1, "start_timestamp": 10**18}
OTHER = {"id": "other", "status": "RUNNING", "batch_id": 7, "start_timestamp": 2 * 10**18, "tags": ["mine"]}
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
        pytest.param("known", [[KNOWN, OTHER], [KNOWN], [KNOWN, TWIN]], RunSeen, id="a run disappears meanwhile"),
        pytest.param("known", [[KNOWN, OTHER]] * 2, NotThere, id="a run of another tag is on that batch"),
        pytest.param("known", [[KNOWN, TWIN | {"batch_id": 8}]] * 2, NotThere, id="its tag is on another batch"),
        pytest.param("known", [[KNOWN | {"tags": [TAG], "batch_id": 7}]] * 2, NotThere, id="the run is known here"),
    ],
)
def test_run_of_a_clone_is_absent_only_by_two_trusted_listings(
    hub: AIHub,
    router: respx.MockRouter,
    monkeypatch: pytest.MonkeyPatch,
    newest: str,
    listings: list[list[dict[str, Any]]],
    outcome: type,
) -> None:
    """Each listing ends with a page that shows nothing new."""
    monkeypatch.setattr(clones, "LOOK_EVERY_S", 0.0)
    left = [{"runs": listing} for listing in listings for _ in range(2 if listing else 1)]
    router.get("/v2/apps/runs").mock(side_effect=[httpx.Response(200, json=page) for page in left])
    known = frozenset({"known"})
    step = AwaitTwin(1, 1, TAG, 7, 1, 0.0, True, known, newest, same_tag=known, siblings=frozenset({7}))
    assert isinstance(await_twin(hub, step), outcome)


def test_run_of_a_clone_under_an_id_that_is_known_here_is_not_absent(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs").respond(json={"runs": [KNOWN | {"tags": [TAG], "batch_id": 7}]})
    step = AwaitTwin(1, 1, TAG, 7, 1, 0.0, may_take_over=True, known=frozenset({"known"}))
    assert isinstance(await_twin(hub, step), Unsure)


STEM = claim_stem(TAG, 7)
OWN, OLD, ELSE = (claim_name(STEM, nonce * 8) for nonce in "abc")
STRANGE = claim_name(claim_stem(TAG, 8), "0" * 8)
CLAIM = ClaimRun(1, OWN, "", frozenset({OWN, OLD}), 0.0)
DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS


def batch(number: int, name: str, created_ms: int | None = NOW_MS) -> dict[str, Any]:
    return {"id": number, "name": name, "created_at_ms": created_ms}


@pytest.mark.parametrize(
    ("before", "posts", "elder"),
    [
        pytest.param([], 1, 0, id="nobody claims it"),
        pytest.param([batch(9, OWN)], 0, 0, id="only we do, since an earlier apply"),
        pytest.param([batch(3, ELSE)], 1, 3, id="another did before"),
        pytest.param([batch(4, ELSE), batch(3, claim_name(STEM, "d" * 8))], 1, 3, id="two others did before"),
        pytest.param([batch(9, OWN), batch(12, ELSE)], 0, 0, id="another did later"),
        pytest.param([batch(9, OWN), batch(3, ELSE)], 0, 3, id="another did before our earlier apply"),
        pytest.param([batch(3, OLD)], 1, 0, id="an older claim is our own"),
        pytest.param([batch(3, STRANGE)], 1, 0, id="an older claim is on another batch"),
        pytest.param([batch(3, ELSE, NOW_MS - DAY_MS)], 1, 3, id="another did, a day ago"),
        pytest.param([batch(3, ELSE, NOW_MS - DAY_MS - 1)], 1, 0, id="another did, more than a day ago"),
        pytest.param([batch(3, ELSE, None)], 1, 3, id="another did, at an unknown time"),
    ],
)
@pytest.mark.parametrize("status", [200, 500], ids=["created", "answer lost"])
def test_oldest_claim_of_others_is_found_and_ours_is_created_once(
    hub: AIHub, router: respx.MockRouter, before: list[dict[str, Any]], posts: int, elder: int, status: int
) -> None:
    listed = list(before)

    def create(request: httpx.Request) -> httpx.Response:
        listed.append(batch(10, OWN))
        return httpx.Response(status, json={"id": 10})

    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"batches": listed[int(request.url.params["offset"]) :]})

    post = router.post("/v2/batches").mock(side_effect=create)
    router.get("/v2/batches").mock(side_effect=page)
    assert claim_run(hub, CLAIM) == Claimed(elder)
    assert post.call_count == posts


@pytest.mark.parametrize("status", [200, 403, 429, 500])
def test_claim_that_is_not_listed_pays_nothing(hub: AIHub, router: respx.MockRouter, status: int) -> None:
    """It ends as an error, and not as a refused or lost request: nothing is asked for again by its name."""
    router.post("/v2/batches").respond(status, json={"id": 10})
    router.get("/v2/batches").respond(json={"batches": []})
    with pytest.raises(ServiceError) as caught:
        claim_run(hub, CLAIM)
    assert not isinstance(caught.value, Refused)
