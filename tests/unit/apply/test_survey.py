"""What was paid before: where a run is, and how the attempts of `--again` are numbered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply.survey import find_batch_of, raise_attempts
from aihub_runner.errors import ServiceError
from aihub_runner.model import Member, Shard
from aihub_runner.plan.identity import fingerprint_members, run_tag
from aihub_runner.plan.planner import Action, Plan, Work

KEY, OTHER_KEY = "0123456789abcdef", "fedcba9876543210"
MEMBERS = (Member("a", "a", 1, "sha256:a"),)
OURS, OTHERS = fingerprint_members(MEMBERS), "b" * 64


def plan_of(action: Action, attempt: int, fingerprint: str) -> Plan:
    work = Work(Shard(1, fingerprint, MEMBERS), attempt, action, "")
    return Plan((), {}, (), (work,), 0, (), ())


@pytest.mark.parametrize("fingerprint", [OURS, ""], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("action", "planned", "tags", "attempt"),
    [
        pytest.param(Action.CREATE_BATCH, 1, [], 1, id="none on the service"),
        pytest.param(Action.CREATE_BATCH, 1, [(OURS, KEY, 1)], 2, id="one"),
        pytest.param(Action.START_RUN, 1, [(OURS, KEY, 3), (OURS, KEY, 2)], 4, id="several"),
        pytest.param(Action.CHECK, 5, [(OURS, KEY, 2)], 5, id="fewer than recorded"),
        pytest.param(Action.CHECK, 2, [(OURS, OTHER_KEY, 7)], 2, id="other settings"),
        pytest.param(Action.CHECK, 2, [(OTHERS, KEY, 7)], 2, id="other files"),
        pytest.param(Action.POLL, 1, [(OURS, KEY, 7)], 1, id="nothing to pay"),
        pytest.param(Action.FIND_RUN, 1, [(OURS, KEY, 7)], 1, id="start unconfirmed"),
    ],
)
def test_attempt_of_again_is_above_all_on_the_service(
    action: Action, planned: int, tags: list[tuple[str, str, int]], attempt: int, fingerprint: str
) -> None:
    runs = [
        RunInfo(id=f"r{index}", status="FAILED", tags=[run_tag(*tag)], batch_id=7) for index, tag in enumerate(tags)
    ]
    job = cast("Any", SimpleNamespace(goal=SimpleNamespace(run_key=KEY)))
    [work] = raise_attempts(plan_of(action, planned, fingerprint), job, runs).work
    assert work.attempt == attempt


RUN: dict[str, Any] = {"id": "r", "status": "COMPLETE"}
PAGE: dict[str, Any] = {"id": "r", "files": [], "has_more": False}


@pytest.mark.parametrize(
    ("told", "page", "batch"),
    [
        pytest.param(RUN | {"batch_id": 7}, None, 7, id="the run names it"),
        pytest.param(RUN, PAGE | {"batch_id": "7"}, 7, id="its results name it"),
        pytest.param(RUN, PAGE | {"batch_id": 7}, 7, id="its results name it as a number"),
        pytest.param(None, PAGE | {"batch_id": "7"}, 7, id="the run is gone"),
        pytest.param(RUN, PAGE, 0, id="nobody names it"),
        pytest.param(RUN, PAGE | {"batch_id": "\u0667"}, 0, id="another script's digit"),
        pytest.param(RUN, PAGE | {"batch_id": "seven"}, 0, id="a word"),
        pytest.param(RUN, None, 0, id="no results"),
        pytest.param(None, None, 0, id="all is gone"),
    ],
)
def test_batch_of_a_run_is_taken_from_the_run_or_its_results(
    hub: AIHub, router: respx.MockRouter, told: dict[str, Any] | None, page: dict[str, Any] | None, batch: int
) -> None:
    for path, answer in (("/v2/apps/runs/r/results", page), ("/v2/apps/runs/r", told)):
        router.get(path).mock(httpx.Response(404) if answer is None else httpx.Response(200, json=answer))
    assert find_batch_of(hub, "r") == batch


def test_run_that_cannot_be_asked_about_is_not_called_gone(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs/r").respond(403)
    with pytest.raises(ServiceError):
        find_batch_of(hub, "r")
