"""Whether a run exists after a lost response: found by its tag, confirmed absent, or unconfirmed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.steps import NotThere, RunSeen, Unsure
from aihub_runner.apply.tasks.run import DAY_MS, FindRun, find_run
from aihub_runner.plan.identity import run_tag

TAG, ANOTHER_OF_OURS = run_tag("a" * 64, "0123456789abcdef", 1), run_tag("b" * 64, "0123456789abcdef", 1)
CREATED_MS = 10 * DAY_MS
KNOWN = {"id": "known", "status": "COMPLETE", "tags": [ANOTHER_OF_OURS], "batch_id": 1}
STEP = FindRun(1, 1, TAG, 7, frozenset({"known"}), "known", 1.0, 0.0, frozenset({9}), CREATED_MS)


def listed(run_id: str = "r", **facts: Any) -> dict[str, Any]:
    return {"id": run_id, "status": "RUNNING", "tags": [TAG], "batch_id": 7} | facts


def serve(router: respx.MockRouter, runs: list[dict[str, Any]]) -> None:
    """List these runs; a page after them is empty, which proves the end."""

    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"runs": runs[int(request.url.params.get("offset", 0)) :]})

    router.get("/v2/apps/runs").mock(side_effect=page)


def started(days: float) -> int:
    """Return a start some days after the batch was created, in nanoseconds."""
    return int(CREATED_MS + days * DAY_MS) * 1_000_000


@pytest.mark.parametrize(
    ("runs", "found", "twins"),
    [
        pytest.param([listed()], "r", (), id="its tag and batch"),
        pytest.param([listed(batch_id=None)], "r", (), id="its tag, no batch"),
        pytest.param([listed(tags=["mine", TAG])], "r", (), id="one of several tags"),
        pytest.param([listed("a", start_timestamp=2), listed("b", start_timestamp=1)], "b", ("a",), id="the older"),
        pytest.param([listed("a"), listed("b", status="COMPLETE")], "b", ("a",), id="the complete one"),
    ],
)
def test_run_is_found_by_its_exact_tag(
    hub: AIHub, router: respx.MockRouter, runs: list[dict[str, Any]], found: str, twins: tuple[str, ...]
) -> None:
    serve(router, [KNOWN, *runs])
    outcome = find_run(hub, STEP)
    assert isinstance(outcome, RunSeen)
    assert (outcome.info.id, outcome.twins) == (found, twins)


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param([], id="nothing new"),
        pytest.param([listed(tags=[ANOTHER_OF_OURS])], id="another tag of ours on its batch"),
        pytest.param([listed(batch_id=9)], id="the batch of another open intent"),
        pytest.param([listed(tags=None, batch_id=8)], id="a stranger's on another batch"),
        pytest.param([listed(tags=None, batch_id=None, start_timestamp=started(-2))], id="from before the batch"),
    ],
)
def test_run_is_absent_where_every_listed_run_is_another(
    hub: AIHub, router: respx.MockRouter, runs: list[dict[str, Any]]
) -> None:
    serve(router, [KNOWN, *runs])
    assert find_run(hub, STEP) == NotThere()


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        pytest.param([], "known run known is missing", id="no run is listed"),
        pytest.param([KNOWN, listed(batch_id=8)], "is on batch 8", id="its tag on a strange batch"),
        pytest.param([KNOWN, listed(tags=None)], "no tag of ours", id="no tags on its batch"),
        pytest.param([KNOWN, listed(tags=["mine"])], "no tag of ours", id="a strange tag on its batch"),
        pytest.param([KNOWN, listed(tags=[TAG[:-1]])], "no tag of ours", id="a shortened tag on its batch"),
        pytest.param([KNOWN, listed(tags=None, batch_id=None)], "neither a batch nor a tag", id="says nothing"),
        pytest.param(
            [KNOWN, listed(tags=[], batch_id=None, start_timestamp=started(-0.9))],
            "neither a batch nor a tag",
            id="within a day before the batch, by another clock",
        ),
    ],
)
def test_run_is_unconfirmed_where_a_listed_run_may_be_it(
    hub: AIHub, router: respx.MockRouter, runs: list[dict[str, Any]], why: str
) -> None:
    serve(router, runs)
    outcome = find_run(hub, STEP)
    assert isinstance(outcome, Unsure)
    assert why in outcome.why
