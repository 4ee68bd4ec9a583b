"""Which step follows which, in one apply and in the next. Only the responses of the service are made up.

In every case, `Trial` checks that the intent of a request that creates something is in the file when it is sent, and
that nothing is requested twice under one name or tag unless it was confirmed absent in between.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aihub_runner.apply.context import Ground
from aihub_runner.apply.steps import Failed, Gone, Outcome, Step, Unsure
from aihub_runner.apply.tasks.batch import (
    BatchCreated,
    CheckBatch,
    CreateBatch,
    FindBatch,
    Foreign,
    VerifyBatch,
)
from aihub_runner.apply.tasks.clones import AwaitTwin, Checked
from aihub_runner.apply.tasks.fetch import FetchResults
from aihub_runner.apply.tasks.run import FindRun, PollRun, StartRun
from aihub_runner.apply.tasks.upload import SendFile, Sent, Unsendable
from aihub_runner.errors import Shortage
from aihub_runner.system.moment import Moment
from support.scripted import (
    DONE,
    FAILED,
    LOST,
    READY,
    SENT,
    Clock,
    Script,
    Trial,
    member,
    refused,
    seen,
)

A, B = member("a"), member("b")


@pytest.mark.parametrize(
    ("script", "steps", "after"),
    [
        pytest.param({}, [*READY, *DONE], [], id="all goes well"),
        pytest.param({CreateBatch: [LOST]}, ["create", "find batch", *READY, *DONE], [], id="a lost batch is absent"),
        pytest.param(
            {CreateBatch: [LOST], FindBatch: [BatchCreated(7)]},
            ["create", "find batch", *SENT, "await", "check", *DONE],
            [],
            id="a lost batch is found, and may be a clone's",
        ),
        pytest.param(
            {CreateBatch: [LOST, LOST]},
            ["create", "find batch", "create", "find batch"],
            ["find batch", *READY, *DONE],
            id="two lost batches are absent",
        ),
        pytest.param(
            {CreateBatch: [LOST], FindBatch: [Unsure("cut")]},
            ["create", "find batch"],
            ["find batch", *READY, *DONE],
            id="a lost batch is in doubt",
        ),
        pytest.param({CreateBatch: [FAILED]}, ["create"], [*READY, *DONE], id="the batch was never requested"),
        pytest.param(
            {CreateBatch: [refused(400)]}, ["create"], ["find batch", *READY, *DONE], id="the batch is refused"
        ),
        pytest.param(
            {CreateBatch: [refused(429)]},
            ["create", "find batch", *READY, *DONE],
            [],
            id="the batch is refused for now",
        ),
        pytest.param(
            {VerifyBatch: [Foreign("named otherwise")]},
            ["create", "verify", "find batch", *READY, *DONE],
            [],
            id="the batch is another's",
        ),
        pytest.param({VerifyBatch: [Gone()]}, ["create", "verify", *READY, *DONE], [], id="the batch is gone at once"),
        pytest.param(
            {SendFile: [Gone()]},
            ["create", "verify", "send", "send", *READY, *DONE],
            [],
            id="the batch is gone while files are sent",
        ),
        pytest.param({CheckBatch: [Gone()]}, [*READY, *READY, *DONE], [], id="the batch is gone before the run"),
        pytest.param({CheckBatch: [Checked(("a",))]}, [*READY, "send", "check", *DONE], [], id="a file is not listed"),
        pytest.param(
            {CheckBatch: [Checked(("a",))] * 3},
            [*READY, "send", "check", "send", "check"],
            ["send", "check", *DONE],
            id="a file is never listed",
        ),
        pytest.param({CheckBatch: [FAILED]}, READY, ["check", *DONE], id="the batch holds what it must not"),
        pytest.param({SendFile: [Unsendable("empty", "")]}, [*READY, *DONE], [], id="one file is skipped"),
        pytest.param({SendFile: [Unsendable("empty", "")] * 2}, READY[:-1], [], id="all files are skipped"),
        pytest.param({SendFile: [Sent("sha256:new", 2)]}, [*READY, *DONE], [], id="a file changed while it was sent"),
        pytest.param({SendFile: [FAILED]}, READY[:-1], ["send", "check", *DONE], id="a file cannot be sent"),
        pytest.param({StartRun: [LOST]}, [*READY, "START", "find run", "check", *DONE], [], id="a lost run is absent"),
        pytest.param(
            {StartRun: [LOST], CheckBatch: [Checked(()), Checked(("a",))]},
            [*READY, "START", "find run", "check", "send", "check", *DONE],
            [],
            id="a lost run is absent, and its batch has changed",
        ),
        pytest.param(
            {StartRun: [LOST], CheckBatch: [Checked(()), Gone()]},
            [*READY, "START", "find run", "check", *READY, *DONE],
            [],
            id="a lost run is absent, and its batch is gone",
        ),
        pytest.param(
            {StartRun: [LOST], FindRun: [seen("r")]},
            [*READY, "START", "find run", "fetch"],
            [],
            id="a lost run is found",
        ),
        pytest.param(
            {StartRun: [LOST], FindRun: [Unsure("hidden")]},
            [*READY, "START", "find run"],
            ["find run", "check", *DONE],
            id="a lost run is in doubt",
        ),
        pytest.param(
            {StartRun: [LOST], FindRun: [FAILED]},
            [*READY, "START", "find run"],
            ["find run", "check", *DONE],
            id="a lost run cannot be looked for",
        ),
        pytest.param(
            {StartRun: [LOST] * 4},
            [*READY, *["START", "find run", "check"] * 3, "START"],
            ["find run", "check", *DONE],
            id="runs are lost again and again",
        ),
        pytest.param({StartRun: [FAILED]}, [*READY, "START"], ["check", *DONE], id="the run was never requested"),
        *[
            pytest.param(
                {StartRun: [refused(status)]},
                [*READY, "START"],
                ["find run", "check", *DONE],
                id=f"the run is refused by {status}",
            )
            for status in (400, 403, 409)
        ],
        pytest.param(
            {StartRun: [refused(429, 30)]},
            [*READY, "START", "find run", "check", *DONE],
            [],
            id="the run is refused for now",
        ),
        pytest.param(
            {StartRun: [refused(404), refused(404), refused(404)]},
            [*READY, *["START", "find run", "check"] * 2, "START"],
            ["find run", "check", *DONE],
            id="the new batch does not exist for the run, or the app",
        ),
        pytest.param(
            {StartRun: [refused(429)], FindRun: [seen("r")]},
            [*READY, "START", "find run", "fetch"],
            [],
            id="a refused run was delivered all the same",
        ),
        pytest.param({StartRun: [seen("r", "NEW")]}, [*READY, "START", "poll", "fetch"], [], id="an unknown status"),
        pytest.param(
            {StartRun: [seen("r", "STOPPED_AT_CHECKPOINT")], PollRun: [seen("r", "STOPPED_AT_CHECKPOINT")] * 2},
            [*READY, "START", "poll"],
            ["poll"],
            id="a person must review",
        ),
        pytest.param({StartRun: [seen("r", "FAILED")]}, [*READY, "START"], [], id="the run fails"),
        pytest.param(
            {StartRun: [seen("r", "RUNNING")], PollRun: [FAILED]},
            [*READY, "START", "poll"],
            ["poll", "fetch"],
            id="the run cannot be asked for",
        ),
        pytest.param(
            {StartRun: [seen("r", "RUNNING")], PollRun: [Gone()]}, [*READY, "START", "poll"], [], id="the run is gone"
        ),
        pytest.param({FetchResults: [Gone()]}, [*READY, *DONE], [], id="the run is gone before its results"),
        pytest.param({FetchResults: [FAILED]}, [*READY, *DONE], ["fetch"], id="results cannot be fetched"),
    ],
)
def test_next_step_follows_from_what_is_recorded(
    begin: Callable[..., Trial], script: Script, steps: list[str], after: list[str]
) -> None:
    """The next apply continues as after a crash."""
    trial = begin(script)
    trial.add(A, B)
    trial.apply()
    assert trial.steps == steps
    trial.asked.steps.clear()
    trial.apply()
    assert trial.steps == after


def test_shard_whose_upload_is_repeated_later_waits_for_it(begin: Callable[..., Trial]) -> None:
    short = Failed(Shortage("too many open files", transient=True))
    trial = begin({SendFile: [Sent(A.digest, 1), short]})
    trial.clock = Clock(tick_s=0.3)  # less than the pause before another attempt
    trial.add(A, B)
    trial.apply()
    assert trial.steps == ["create", "verify", "send", *SENT[1:], *DONE]


@pytest.mark.parametrize(
    ("taken", "steps"),
    [
        pytest.param({CreateBatch: BatchCreated(7)}, ["create", "find batch", *READY, *DONE], id="a new batch"),
        pytest.param(
            {CreateBatch: LOST, FindBatch: BatchCreated(7)},
            ["create", "find batch", "find batch", *READY, *DONE],
            id="a found batch",
        ),
        pytest.param({StartRun: seen("other")}, [*READY, "START", "find run", "check", *DONE], id="a new run"),
        pytest.param(
            {StartRun: LOST, FindRun: seen("other")},
            [*READY, "START", "find run", "find run", "check", *DONE],
            id="a found run",
        ),
        pytest.param(
            {CheckBatch: Checked((), {}, (5,)), AwaitTwin: seen("other")},
            [*READY, "await", "await"],
            id="a run of another clone",
        ),
    ],
)
def test_id_that_is_recorded_for_another_shard_is_not_taken(
    begin: Callable[..., Trial], taken: dict[type[Step], Outcome], steps: list[str]
) -> None:
    trial = begin({step: [outcome] for step, outcome in taken.items()})
    other = trial.state.record_shard([B], "f" * 64)
    row = trial.state.record_imported_batch(other, trial.job.goal.target, 7)
    batch = next(batch for batch in trial.state.load_shards(other)[0].batches if batch.id == row)
    run = trial.state.record_imported_run(other, batch, ("another key", 1, "tag"), "other")
    trial.state.record_run(run, "other", "COMPLETE", "", (1, 2))
    trial.apply(only=trial.add(A, member("c")))
    assert trial.steps == steps


def test_results_are_fetched_again_on_request_once_in_each_apply(begin: Callable[..., Trial]) -> None:
    trial = begin({}, refetch=True)
    trial.add(A, B)
    trial.apply()
    assert trial.steps == [*READY, *DONE]
    trial.asked.steps.clear()
    trial.apply()
    assert trial.steps == ["fetch"]


def test_results_of_a_run_are_fetched_while_another_run_goes_on(begin: Callable[..., Trial]) -> None:
    fetched_before_the_end = []

    def poll(step: PollRun) -> Outcome:
        steps = trial.asked.steps
        fetched = [one.remote_id for one in steps if isinstance(one, FetchResults)]
        polls = sum(isinstance(one, PollRun) for one in steps)
        if step.remote_id == "r1":
            return seen("r1")
        is_over = bool(fetched) or polls > 20
        fetched_before_the_end[:] = fetched
        return seen("r2", "COMPLETE" if is_over else "RUNNING")

    trial = begin({StartRun: [seen("r1", "RUNNING"), seen("r2", "RUNNING")], PollRun: [poll] * 30})
    trial.add(A)
    trial.add(B)
    trial.apply()
    assert fetched_before_the_end == ["r1"]
    assert [shard.runs[0].status for shard in trial.state.load_shards()] == ["COMPLETE", "COMPLETE"]


def test_failed_run_is_repeated_under_another_tag_on_the_same_batch(begin: Callable[..., Trial]) -> None:
    trial = begin({StartRun: [seen("r", "FAILED")]})
    trial.add(A, B)
    trial.apply()
    trial.asked.steps.clear()
    trial.apply(attempt=2)
    assert trial.steps == ["check", *DONE]
    assert [(run.attempt, run.status, run.tag[-2:]) for run in trial.shard.runs] == [
        (1, "FAILED", ":1"),
        (2, "COMPLETE", ":2"),
    ]


@pytest.mark.parametrize("kind", [CreateBatch, StartRun])
@pytest.mark.parametrize("outcome", [LOST, refused(400)], ids=["lost", "refused"])
def test_wait_for_what_a_request_may_have_created_begins_when_its_answer_was_due(
    begin: Callable[..., Trial], kind: type[Step], outcome: Outcome
) -> None:
    """The request may have been in flight for a long time."""
    begun: list[Moment] = []

    def since() -> Moment:
        return trial.shard.batches[0].since if kind is CreateBatch else trial.shard.runs[0].since

    def answer(_: object) -> Outcome:
        begun.append(since())
        return outcome

    trial = begin({kind: [answer], FindBatch: [Unsure("cut")], FindRun: [Unsure("cut")]})
    trial.add(A, B)
    trial.apply()
    assert since().mono_s > begun[0].mono_s


def test_absent_run_whose_batch_was_made_anew_becomes_another_attempt(begin: Callable[..., Trial]) -> None:
    trial = begin({StartRun: [LOST], FindRun: [FAILED]})
    trial.add(A, B)
    trial.apply()
    trial.state.record_batch_gone(trial.shard.batches[0].id)
    trial.state.record_batch_intent(trial.shard.id, trial.job.goal.target, "job-a", 0.0, ())
    trial.state.record_batch(trial.shard.batches[-1].id, 7)
    trial.asked.steps.clear()
    trial.apply()
    assert trial.steps == ["find run", *SENT, *DONE]
    assert [(run.tag[-2:], run.is_given_up) for run in trial.shard.runs] == [(":1", True), (":2", False)]


def pay_elsewhere(trial: Trial, status: str) -> None:
    """Record that another shard has a run of the same files."""
    goal = trial.job.goal
    other = trial.state.record_shard([A], "f" * 64)
    trial.state.record_imported_batch(other, goal.target, 7)
    [batch] = trial.state.load_shards(other)[0].batches
    run = trial.state.record_imported_run(other, batch, (goal.run_key, 1, "tag"), "other")
    trial.state.record_run(run, "other", status, "", (1, 2))


@pytest.mark.parametrize(
    ("circumstance", "is_started", "becomes"),
    [
        pytest.param("", True, "COMPLETE", id="nothing else is known"),
        pytest.param("stale", False, "given up", id="a file has changed since"),
        pytest.param("held", False, "open", id="a file may be paid for, which is unconfirmed"),
        pytest.param("COMPLETE", False, "given up", id="a file is paid for elsewhere"),
        pytest.param("RUNNING", False, "given up", id="a file is being run elsewhere"),
        pytest.param("FAILED", True, "COMPLETE", id="a file failed elsewhere"),
        pytest.param("stop", False, "unknown", id="the spec says on_lost = stop"),
        pytest.param("stop, refused", True, "COMPLETE", id="the spec says so, but the run was refused"),
    ],
)
def test_absent_run_is_started_again_unless_it_is_not_wanted_any_more(
    begin: Callable[..., Trial], circumstance: str, is_started: bool, becomes: str
) -> None:
    first = refused(409) if "refused" in circumstance else LOST
    trial = begin(
        {StartRun: [first], FindRun: [FAILED] if first is LOST else []},
        '[run]\non_lost = "stop"\n' * circumstance.startswith("stop"),
    )
    shard = trial.add(A)
    trial.apply()
    if circumstance in ("COMPLETE", "RUNNING", "FAILED"):
        pay_elsewhere(trial, circumstance)
    if circumstance == "held":
        trial.ground = Ground(held=frozenset({"in/a"}))
    trial.asked.steps.clear()
    trial.apply(only=shard, is_stale=circumstance == "stale")
    [run] = trial.state.load_shards(shard)[0].runs
    assert trial.steps == (["find run", "check", *DONE] if is_started else ["find run"])
    assert becomes == ("given up" if run.is_given_up else (run.unknown and "unknown") or run.status or "open")


def test_refused_run_is_not_looked_for_before_the_service_said(begin: Callable[..., Trial]) -> None:
    trial = begin({StartRun: [refused(429, 500)]})
    trial.add(A, B)
    trial.apply()
    [look] = [step for step in trial.asked.steps if isinstance(step, FindRun)]
    assert look.settled_at_s >= 500  # by a clock that began at 0; a list settles in 60
