"""What was paid before: how the attempts of `--again` are numbered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply.survey import raise_attempts
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
