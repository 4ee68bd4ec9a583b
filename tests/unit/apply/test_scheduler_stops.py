"""When requests or payments stop: after Ctrl-C, on errors, past the deadline, or if another clone may pay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.context import Ground
from aihub_runner.apply.steps import Failed, NotThere, Outcome, Step, Stopped, Unsure
from aihub_runner.apply.tasks.batch import (
    BatchCreated,
    CheckBatch,
    CreateBatch,
    Verified,
    VerifyBatch,
)
from aihub_runner.apply.tasks.clones import AwaitTwin, Checked
from aihub_runner.apply.tasks.fetch import FetchResults
from aihub_runner.apply.tasks.run import FindRun, StartRun
from aihub_runner.apply.tasks.upload import SendFile
from aihub_runner.errors import ServiceError, Shortage, StateError
from support.scripted import (
    DONE,
    FAILED,
    LOST,
    READY,
    SENT,
    Script,
    Trial,
    member,
    refused,
    seen,
    stopping,
)

A, B = member("a"), member("b")


@pytest.mark.parametrize(
    ("kind", "outcome", "steps", "after"),
    [
        pytest.param(CreateBatch, Stopped(), ["create"], [*READY, *DONE], id="a batch that was not requested"),
        pytest.param(CreateBatch, BatchCreated(7), ["create"], [*SENT, *DONE], id="a batch that was created"),
        pytest.param(CreateBatch, LOST, ["create"], ["find batch", *READY, *DONE], id="a batch that was lost"),
        pytest.param(StartRun, Stopped(), [*READY, "START"], ["check", *DONE], id="a run that was not requested"),
        pytest.param(StartRun, seen("r"), [*READY, "START"], ["fetch"], id="a run that was started"),
        pytest.param(StartRun, LOST, [*READY, "START"], ["find run", "check", *DONE], id="a run that was lost"),
        pytest.param(FindRun, Stopped(), [*READY, "START", "find run"], ["find run", "check", *DONE], id="a look"),
        pytest.param(FetchResults, Stopped(), [*READY, *DONE], ["fetch"], id="results"),
    ],
)
def test_nothing_is_requested_after_ctrl_c_and_what_came_is_recorded(
    hub: AIHub,
    begin: Callable[..., Trial],
    kind: type[Step],
    outcome: Outcome,
    steps: list[str],
    after: list[str],
) -> None:
    trial = begin({kind: [stopping(hub, outcome)]} | ({StartRun: [LOST]} if kind is FindRun else {}))
    trial.add(A, B)
    errors = trial.apply().errors
    assert trial.steps == steps
    assert errors == []
    hub.stop.clear()
    trial.asked.steps.clear()
    trial.apply()
    assert trial.steps == after


@pytest.mark.parametrize("is_refused", [True, False], ids=["the token is refused", "Ctrl-C"])
def test_run_in_flight_is_not_asked_for_any_more_once_all_is_halted(
    hub: AIHub, begin: Callable[..., Trial], is_refused: bool
) -> None:
    halts = refused(401) if is_refused else stopping(hub, LOST)
    trial = begin({StartRun: [seen("r", "RUNNING"), halts]}, "[limits]\npoll_min_s = 999\npoll_max_s = 999\n")
    trial.add(A)
    trial.add(B)
    trial.apply()
    assert trial.steps[-1] == "START"


@pytest.mark.parametrize(
    ("script", "runs", "ends"),
    [
        pytest.param({StartRun: [refused(403)]}, 1, [], id="the units are used up"),
        pytest.param({StartRun: [seen("r", "RUNNING"), refused(403)]}, 2, ["r"], id="used up while one is going"),
        pytest.param({StartRun: [seen("r", "RUNNING"), refused(401)]}, 2, [], id="the token is refused"),
        pytest.param({StartRun: [refused(400)]}, 4, ["r1", "r2", "r3"], id="one run is refused"),
        pytest.param({StartRun: [refused(400)] * 3}, 4, ["r1"], id="three runs are refused"),
        pytest.param({StartRun: [refused(402)]}, 1, [], id="payment is required"),
        pytest.param({SendFile: [Failed(ServiceError("no", status=409))] * 3}, 1, ["r1"], id="three files are refused"),
        pytest.param({SendFile: [FAILED] * 3}, 0, [], id="three files cannot be sent"),
        pytest.param({CheckBatch: [FAILED] * 2}, 2, ["r1", "r2"], id="two shards have trouble"),
        pytest.param({CheckBatch: [FAILED] * 3}, 0, [], id="three shards have trouble"),
        pytest.param({CheckBatch: [Failed(Shortage("the disk is full"))]}, 0, [], id="the disk is full"),
        pytest.param({CheckBatch: [Failed(StateError("cannot be written"))]}, 0, [], id="the state cannot be written"),
    ],
)
def test_trouble_that_concerns_all_stops_what_pays_and_finishes_what_was_paid(
    begin: Callable[..., Trial], script: Script, runs: int, ends: list[str]
) -> None:
    trial = begin(script, "[limits]\nparallel_runs = 2\n")
    for name in "abcd":
        trial.add(member(name))
    trial.apply()
    assert trial.steps.count("START") == runs
    found = [run for shard in trial.state.load_shards() for run in shard.runs]
    assert sorted(run.remote_id or "" for run in found if run.fetched) == ends


def test_run_that_waits_for_room_is_started_after_another_check(begin: Callable[..., Trial]) -> None:
    """The batch may change while its run waits."""
    trial = begin({StartRun: [seen("r", "RUNNING")]}, "[limits]\nparallel_runs = 1\n")
    for name in "ab":
        trial.add(member(name))
    trial.apply()
    first = trial.steps.index("START")
    second = trial.steps.index("START", first + 1)
    assert "poll" in trial.steps[first:second]
    assert trial.steps[second - 1] == "check"


@pytest.mark.parametrize(
    ("script", "steps"),
    [
        ({StartRun: [seen("r", "RUNNING")]}, [*READY, "START"]),
        ({StartRun: [seen("r")]}, [*READY, *DONE]),
    ],
    ids=["a run is going", "a run has ended"],
)
def test_deadline_ends_the_wait_but_not_the_delivery(
    begin: Callable[..., Trial], script: Script, steps: list[str]
) -> None:
    trial = begin(script, wait_timeout_s=0.0)
    trial.add(A, B)
    trial.apply()
    assert trial.steps == steps


def test_run_that_finds_no_room_before_the_deadline_is_left_to_the_next_apply(begin: Callable[..., Trial]) -> None:
    trial = begin({StartRun: [seen("r", "RUNNING")]}, "[limits]\nparallel_runs = 1\n", wait_timeout_s=0.0)
    for name in "ab":
        trial.add(member(name))
    trial.apply()
    assert trial.steps.count("START") == 1


@pytest.mark.parametrize(
    ("blind_since_ns", "created_ms", "is_started"),
    [
        pytest.param(0, 1_000, True, id="known runs are listed"),
        pytest.param(10**18, 10**12 + 1_000, False, id="none is listed, the newest ran just before"),
        pytest.param(10**18, 10**12 + 2 * 86_400_000, True, id="none is listed, the newest is old"),
    ],
)
def test_no_run_is_started_where_the_service_hides_runs(
    begin: Callable[..., Trial], blind_since_ns: int, created_ms: int, is_started: bool
) -> None:
    trial = begin({VerifyBatch: [Verified(created_ms)]})
    trial.ground = Ground(blind_since_ns=blind_since_ns)
    trial.add(A, B)
    trial.apply()
    assert trial.steps == (READY + DONE if is_started else READY)


@pytest.mark.parametrize(
    ("checked", "twin", "steps"),
    [
        pytest.param(Checked((), {}, (5,)), NotThere(), [*READY, "await"], id="an older batch has no run"),
        pytest.param(Checked((), {}, (5,)), Unsure("cut"), [*READY, "await"], id="the runs cannot be listed"),
        pytest.param(
            Checked((), {}, (5,)), seen("twin", batch_id=5), [*READY, "await", "fetch"], id="an older batch has a run"
        ),
        pytest.param(
            Checked((), {}, (), is_claimed=True),
            NotThere(),
            [*READY, "claim", "await", "check", *DONE],
            id="our batch is claimed, and ours is the oldest claim",
        ),
        pytest.param(
            Checked((), {}, (), is_claimed=True),
            seen("twin", batch_id=101),
            [*READY, "claim", "await", "fetch"],
            id="our batch is claimed, and has a run by now",
        ),
    ],
)
def test_run_is_started_only_where_no_other_clone_may_pay(
    begin: Callable[..., Trial], checked: Checked, twin: Outcome, steps: list[str]
) -> None:
    trial = begin({CheckBatch: [checked], AwaitTwin: [twin]})
    trial.add(A, B)
    trial.apply()
    assert trial.steps == steps


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        pytest.param({"adopt": True}, [*READY, "await", "check", *DONE], id="--adopt takes the batch over"),
        pytest.param({"again": True}, [*READY, *DONE], id="--again pays on purpose"),
    ],
)
def test_user_decides_about_another_clones_batch_without_a_run(
    begin: Callable[..., Trial], options: dict[str, bool], steps: list[str]
) -> None:
    trial = begin({CheckBatch: [Checked((), {}, (5,))] * 2}, **options)
    trial.add(A, B)
    trial.apply()
    assert trial.steps == steps
