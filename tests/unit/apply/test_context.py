"""What a failed step stops: its shard, all that pays, or the whole apply."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aihub_runner.apply.context import MAX_STARTS, MAX_TROUBLED_SHARDS, Context, Ground
from aihub_runner.apply.steps import Step
from aihub_runner.apply.tasks.batch import CreateBatch
from aihub_runner.apply.tasks.run import PollRun, StartRun
from aihub_runner.errors import ServiceError

CREATE, START = CreateBatch(1, 1, "job-1", ""), StartRun(1, 1, "", {"batch_id": 7})
POLL = PollRun(1, 1, "r", 1.0, 0.0)
NOTHING, PAYING, ALL = (False, False), (True, False), (True, True)


def context_of() -> Context:
    """Return a context whose threads have nothing to do."""
    engine = SimpleNamespace(clock=lambda: 0.0, drop_uploads=lambda *shard: 0)
    job = SimpleNamespace(goal=None, options=SimpleNamespace(wait_timeout_s=None))
    reporter = SimpleNamespace(emit=lambda event: None)
    return Context(cast("Any", job), cast("Any", None), cast("Any", engine), cast("Any", reporter), Ground())


@pytest.mark.parametrize(
    ("step", "status", "stopped"),
    [
        (START, 403, PAYING),  # the units are used up: what is paid for is finished
        (CREATE, 403, PAYING),
        (START, 401, ALL),
        (POLL, 401, ALL),
        (POLL, 403, ALL),
        (START, 402, PAYING),
        (START, 404, PAYING),
        (START, 503, PAYING),
        (START, 400, NOTHING),
        (START, 409, NOTHING),
        (CREATE, 422, NOTHING),
        (POLL, 503, NOTHING),
        (POLL, 404, NOTHING),
    ],
)
def test_refusal_stops_its_shard_or_all_that_pays_or_everything(
    step: Step, status: int, stopped: tuple[bool, bool]
) -> None:
    context = context_of()
    context.leave(step, ServiceError("refused", status=status))
    assert context.shards[1].is_parked
    assert (context.stopped_paying or context.halted, context.halted) == stopped


@pytest.mark.parametrize("status", [400, 503])
def test_trouble_with_several_shards_stops_what_pays_unless_each_has_its_own(status: int) -> None:
    context = context_of()
    for shard in range(MAX_TROUBLED_SHARDS):
        assert not context.stopped_paying
        context.leave(PollRun(shard, shard, "r", 1.0, 0.0), ServiceError("trouble", status=status))
    assert context.stopped_paying == (status == 503)


def test_run_whose_responses_are_lost_again_and_again_is_left() -> None:
    context = context_of()
    for _ in range(MAX_STARTS):
        context.count_lost(START, ServiceError("lost"))
        assert not context.shards[1].is_parked
    context.count_lost(START, ServiceError("lost"))
    assert context.shards[1].is_parked
