"""What is made of an answer to each kind of step: what pays is tried once, and lost where it may have been paid."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.pool import TRIES_SHORT, Engine, do_step
from aihub_runner.apply.steps import Declined, Failed, Lost, Outcome, RunSeen, Step, Stopped
from aihub_runner.apply.tasks.batch import BatchCreated, CreateBatch
from aihub_runner.apply.tasks.run import PollRun, StartRun
from aihub_runner.apply.tasks.upload import SendFile
from aihub_runner.errors import Shortage
from aihub_runner.model import Member
from support.scripted import AtOnce, Clock

CREATE = CreateBatch(1, 1, "job-1", "")
START = StartRun(1, 1, "", {"batch_id": 7})
POLL = PollRun(1, 1, "r", 1.0, 0.0)
SEND = SendFile(1, 1, 7, "", Member("a.txt", "in/a.txt", 1, "sha256:a"), "in/a.txt", 10**6, 0.0)
ROUTES: dict[type, tuple[str, str]] = {
    CreateBatch: ("POST", "/v2/batches"),
    StartRun: ("POST", "/v2/apps/runs"),
    PollRun: ("GET", "/v2/apps/runs/r"),
}
RUN = {"id": "r", "status": "RUNNING"}


def route(router: respx.MockRouter, step: Step) -> respx.Route:
    method, path = ROUTES[type(step)]
    return router.request(method, path)


@pytest.mark.parametrize(
    ("step", "answer", "expected"),
    [
        (CREATE, {"id": 7}, BatchCreated),
        (CREATE, {}, Lost),
        (START, RUN, RunSeen),
        (START, {}, Lost),
        (START, RUN | {"batch_id": 8}, Lost),
        (POLL, RUN, RunSeen),
        (POLL, {}, Failed),
    ],
)
def test_answer_that_says_too_little_loses_what_it_was_to_create(
    hub: AIHub, router: respx.MockRouter, step: Step, answer: dict[str, Any], expected: type
) -> None:
    route(router, step).respond(json=answer)
    assert type(do_step(hub, step)) is expected


@pytest.mark.parametrize("step", [CREATE, START])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *[(status, Declined) for status in (400, 401, 403, 404, 409, 413, 415, 422, 425, 429, 301, 302, 307, 308)],
        *[(status, Lost) for status in (500, 502, 503, 504)],
        (httpx.ReadTimeout("none came"), Lost),
    ],
)
def test_request_that_creates_is_sent_once_whatever_is_answered(
    hub: AIHub, router: respx.MockRouter, step: Step, answer: int | Exception, expected: type
) -> None:
    route(router, step).mock(
        return_value=httpx.Response(answer) if isinstance(answer, int) else None,
        side_effect=answer if isinstance(answer, Exception) else None,
    )
    assert type(do_step(hub, step)) is expected
    assert len(router.calls) == 1


@pytest.mark.parametrize("step", [CREATE, START, POLL])
def test_step_is_not_begun_once_apply_stops(hub: AIHub, router: respx.MockRouter, step: Step) -> None:
    hub.stop.set()
    assert type(do_step(hub, step)) is Stopped
    assert not router.calls


def engine_of(hub: AIHub, answer: Callable[[Step], Outcome], clock: Clock, uploads: int = 4) -> tuple[Engine, AtOnce]:
    executor = AtOnce(answer)
    return Engine(hub, uploads, 1, executor, clock), executor


def test_step_that_is_due_later_starts_when_it_is_due(hub: AIHub) -> None:
    clock = Clock()
    engine, executor = engine_of(hub, lambda _: Stopped(), clock)
    engine.submit_later(POLL, 5.0)
    assert (engine.wait(0.0), engine.is_idle, executor.steps) == ([], False, [])
    clock.now_s = 5.0
    assert engine.wait(0.0) == [(POLL, Stopped())]
    assert engine.is_idle


def test_dropped_steps_never_start(hub: AIHub) -> None:
    clock = Clock()
    engine, executor = engine_of(hub, lambda _: Stopped(), clock)
    engine.submit(SEND)
    engine.submit_later(POLL, 1.0)
    engine.drop_all()
    clock.now_s = 1.0
    assert engine.wait(0.0) == []
    assert (engine.is_idle, executor.steps) == (True, [])


@pytest.mark.parametrize("step", [POLL, SEND])
def test_step_that_this_machine_has_no_room_for_is_tried_again_for_a_while(hub: AIHub, step: Step) -> None:
    clock = Clock()
    short = Failed(Shortage("too many open files", transient=True))
    engine, executor = engine_of(hub, lambda _: short, clock)
    engine.submit(step)
    outcomes = []
    while not engine.is_idle:
        outcomes += engine.wait(0.0)
        clock.now_s += 1.0
    assert outcomes == [(step, short)]
    assert executor.steps == [step] * (TRIES_SHORT + 1)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (POLL, Shortage("the disk is full")),  # which does not pass by itself
        (CREATE, Shortage("too many open files", transient=True)),
        (START, Shortage("too many open files", transient=True)),
    ],
)
def test_step_that_pays_or_whose_shortage_stays_is_not_tried_again(hub: AIHub, step: Step, error: Shortage) -> None:
    engine, executor = engine_of(hub, lambda _: Failed(error), Clock())
    engine._looking = engine._paying = executor  # type: ignore[assignment]
    engine.submit(step)
    assert engine.wait(0.0) == [(step, Failed(error))]
    assert (engine.is_idle, executor.steps) == (True, [step])


class Exhausted(AtOnce):
    """Answers one step, and can start no thread for more."""

    def submit(self, _do: Any, _client: Any, step: Step, /) -> Future[Outcome]:  # type: ignore[override]
        """Answer a step, or fail as Python does."""
        if self.steps:
            raise RuntimeError("can't start new thread")
        return super().submit(_do, _client, step)


def test_outcome_that_came_before_a_lack_of_threads_is_not_lost(hub: AIHub) -> None:
    engine = Engine(hub, 1, 1, Exhausted(lambda _: Stopped()), Clock())
    engine.submit(SEND)
    engine.submit(SEND)
    assert engine.wait(0.0) == [(SEND, Stopped())]
    with pytest.raises(Shortage):
        engine.wait(0.0)
