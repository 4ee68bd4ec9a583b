"""Outcomes of each kind of step: paid steps are tried once, and count as lost if they may have been paid."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.pool import TRIES_SHORT, WORKERS, Engine, do_step
from aihub_runner.apply.steps import Declined, Failed, Lost, Outcome, RunSeen, Step, Stopped
from aihub_runner.apply.tasks.batch import BatchCreated, CheckBatch, CreateBatch, FindBatch, VerifyBatch
from aihub_runner.apply.tasks.clones import AwaitTwin, ClaimRun
from aihub_runner.apply.tasks.fetch import FetchResults
from aihub_runner.apply.tasks.run import FindRun, PollRun, StartRun
from aihub_runner.apply.tasks.upload import IN_MEMORY_BYTES, SendFile
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


FIND_BATCH, FIND_RUN = FindBatch(1, 1, "job-1", "", frozenset(), 0.0), FindRun(1, 1, "t", 7, frozenset(), "", 1.0, 0.0)
VERIFY, CHECK = VerifyBatch(1, 1, 7, "job-1", "", 0.0), CheckBatch(1, 1, 7, "", {}, 0.0, 0.0)
CLAIM, AWAIT = ClaimRun(1, "c", "", frozenset(), 0.0), AwaitTwin(1, 1, "t", 7, 1, 0.0)
FETCH = FetchResults(1, 1, "r", 1.0, 0.0, "plain", Path(), frozenset())
ANYWHERE = (SEND, VERIFY, CHECK, POLL, FETCH)
HERE = (CREATE, START, FIND_BATCH, FIND_RUN, CLAIM, AWAIT)


@pytest.mark.parametrize("step", [*ANYWHERE, *HERE], ids=lambda step: type(step).__name__)
def test_only_steps_that_may_be_repeated_are_given_to_the_executor(hub: AIHub, step: Step) -> None:
    """It may do a step again on another machine after a worker died."""
    engine, executor = engine_of(hub, lambda _: Stopped(), Clock())
    here = AtOnce(lambda _: Stopped())
    engine._looking = engine._paying = here  # type: ignore[assignment]
    engine.submit(step)
    assert engine.wait(0.0) == [(step, Stopped())]
    assert (executor.steps, here.steps) == (([step], []) if step in ANYWHERE else ([], [step]))
    assert {type(step) for step in ANYWHERE + HERE} == set(WORKERS)


def test_runs_are_started_in_threads_of_their_own(hub: AIHub) -> None:
    """None may wait behind a slow look after its intent was recorded."""
    engine, _ = engine_of(hub, lambda _: Stopped(), Clock())
    paying = engine._paying = AtOnce(lambda _: Stopped())  # type: ignore[assignment]
    engine.submit(START)
    assert paying.steps == [START]


@pytest.mark.parametrize(("shard", "dropped", "left"), [(1, 2, [2]), (2, 1, [1, 1]), (3, 0, [1, 1, 2]), (None, 3, [])])
def test_uploads_of_one_shard_are_dropped_and_counted(
    hub: AIHub, shard: int | None, dropped: int, left: list[int]
) -> None:
    engine, executor = engine_of(hub, lambda _: Stopped(), Clock())
    for number in (1, 1, 2):
        engine.submit(replace(SEND, shard=number))
    assert engine.drop_uploads(shard) == dropped
    engine.wait(0.0)
    assert [step.shard for step in executor.steps] == left


def test_nothing_that_is_due_starts_after_ctrl_c(hub: AIHub) -> None:
    engine, executor = engine_of(hub, lambda _: Stopped(), Clock())
    engine.submit(SEND)
    engine.submit_later(POLL, 0.0)
    hub.stop.set()
    assert engine.wait(0.0) == []
    assert executor.steps == []


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


class Slow(AtOnce):
    """Takes a while for each task, and counts them."""

    def __init__(self, answer: Callable[[Step], Outcome], clock: Clock, seconds: float) -> None:
        super().__init__(answer)
        self._clock, self._seconds, self.sizes = clock, seconds, list[int]()

    def submit(self, do: Any, client: Any, step: Step, /) -> Future[Outcome]:  # type: ignore[override]
        """Answer a task, and let time go by for each of its files."""
        done = super().submit(do, client, step)
        self.sizes.append(len(self.steps) - sum(self.sizes))
        self._clock.now_s += self._seconds * self.sizes[-1]
        return done


@pytest.mark.parametrize(
    ("seconds", "size", "largest"),
    [
        pytest.param(0.0001, 1000, 16, id="small and fast"),
        pytest.param(0.001, 1000, 2, id="fewer if they take longer"),
        pytest.param(0.05, 1000, 1, id="slow"),
        pytest.param(0.0001, IN_MEMORY_BYTES + 1, 1, id="large"),
    ],
)
def test_small_files_that_take_a_moment_are_sent_several_in_one_task(
    hub: AIHub, seconds: float, size: int, largest: int
) -> None:
    clock = Clock()
    executor = Slow(lambda _: Stopped(), clock, seconds)
    engine = Engine(hub, 2, 1, executor, clock)
    steps = [replace(SEND, member=Member(str(number), "in/a.txt", size, "")) for number in range(200)]
    for step in steps:
        engine.submit(step)
    done = engine.wait(0.0)
    while not engine.is_idle:
        done += engine.wait(0.0)
    assert done == [(step, Stopped()) for step in steps]
    assert max(executor.sizes) == largest


def test_file_that_lacked_memory_is_sent_again_without_the_others_of_its_task(hub: AIHub) -> None:
    clock = Clock()
    steps = [replace(SEND, shard=number) for number in range(1, 61)]
    short = {30}

    def answer(step: Step) -> Outcome:
        if step.shard in short:
            short.clear()
            return Failed(Shortage("too little memory", transient=True))
        return Stopped()

    executor = Slow(answer, clock, 0.0001)
    engine = Engine(hub, 2, 1, executor, clock)
    for step in steps:
        engine.submit(step)
    done = []
    while not engine.is_idle:
        done += engine.wait(0.0)
        clock.now_s += 1.0
    assert max(executor.sizes) > 1
    assert sorted(step.shard for step, _ in done) == list(range(1, 61))
    assert sorted(step.shard for step in executor.steps) == sorted([*range(1, 61), 30])


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


@pytest.mark.parametrize(("step", "expected"), [(CREATE, Lost), (START, Lost), (POLL, Failed)])
@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")], ids=["memory", "descriptors"])
def test_shortage_while_the_answer_is_read_loses_what_it_was_to_create(
    hub: AIHub, router: respx.MockRouter, step: Step, expected: type, error: Exception
) -> None:
    asked = route(router, step).mock(side_effect=error)
    assert type(do_step(hub, step)) is expected
    assert asked.call_count == 1 or expected is Failed


def test_files_for_a_while_wait_however_fast_they_are_sent(hub: AIHub) -> None:
    """A batch more is created meanwhile, so that the uploads do not pause before its first file."""
    clock = Clock()
    engine = Engine(hub, 8, 1, Slow(lambda _: Stopped(), clock, 0.001), clock)

    def put(files: int) -> None:
        for number in range(files):
            engine.submit(replace(SEND, member=Member(str(number), "in/a.txt", 1000, "")))

    put(900)
    while not engine.is_idle:
        engine.wait(0.0)
    put(600)
    assert engine.wants_uploads
    put(4000)
    assert not engine.wants_uploads
