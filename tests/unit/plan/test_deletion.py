"""What may be deleted on the service, by the recorded facts."""

import pytest
from msgspec.structs import replace

from aihub_runner.model import Batch, Goal, Member, Run, Shard
from aihub_runner.plan.deletion import BATCH, INPUT, LOGS, OUTPUT, RUN, Item, Wish, plan_cleanup, plan_destroy

WANT = Goal("key", "target", "plain", 1000, {})
OURS = Batch(1, "target", "job-aa", 0.0, 101, {}, is_verified=True)


def run(status: str = "COMPLETE", number: int = 1, **facts: object) -> Run:
    fetched = {"plain": 3.0} if status == "COMPLETE" else {}
    one = Run(number, 1, "key", number, f"tag-{number}", 1, 0.0, f"run-{number}", "", status, "", 1, 2, fetched)
    return replace(one, **facts)  # type: ignore[arg-type]


def shard(*runs: Run, batch: Batch = OURS) -> Shard:
    return Shard(1, "aa", (Member("a", "in/a", 1, "sha256:a"),), (batch,), runs)


def shown(items: list[Item]) -> list[tuple[str, str, str]]:
    return [(item.kind, item.remote_id, item.left) for item in items]


NOT_FETCHED = run(fetched={})
UNCONFIRMED = "the start of a run on it is unconfirmed"
HAS = "has results that are not fetched"
DESTROYED = {
    "never run": (shard(), [(BATCH, "101", "")]),
    "complete": (shard(run()), [(BATCH, "101", ""), (RUN, "run-1", "")]),
    "failed": (shard(run("FAILED")), [(BATCH, "101", ""), (RUN, "run-1", "")]),
    "going": (shard(run("RUNNING")), [(BATCH, "101", "run run-1 is RUNNING"), (RUN, "run-1", "is RUNNING")]),
    "one of two going": (
        shard(run("FAILED"), run("", 2)),
        [(BATCH, "101", "run run-2 is started"), (RUN, "run-1", ""), (RUN, "run-2", "is started")],
    ),
    "waits for review": (
        shard(run("STOPPED_AT_CHECKPOINT")),
        [(BATCH, "101", "run run-1 is STOPPED_AT_CHECKPOINT"), (RUN, "run-1", "is STOPPED_AT_CHECKPOINT")],
    ),
    "start unconfirmed": (shard(run("", remote_id=None)), [(BATCH, "101", UNCONFIRMED)]),
    "given up": (shard(run("", remote_id=None, is_given_up=True)), [(BATCH, "101", "")]),
    "not fetched": (shard(NOT_FETCHED), [(BATCH, "101", f"run run-1 {HAS}"), (RUN, "run-1", HAS)]),
    "not fetched under another key": (
        shard(replace(NOT_FETCHED, run_key="old")),
        [(BATCH, "101", f"run run-1 {HAS}"), (RUN, "run-1", HAS)],
    ),
    "gone run": (shard(run(is_gone=True)), [(BATCH, "101", "")]),
    "batch gone": (shard(run(), batch=replace(OURS, is_gone=True)), [(BATCH, "101", ""), (RUN, "run-1", "")]),
    "another target": (shard(run(), batch=replace(OURS, target="other")), []),
    "batch unconfirmed": (
        shard(batch=replace(OURS, remote_id=None)),
        [(BATCH, "", "it is unconfirmed whether it was created")],
    ),
}


@pytest.mark.parametrize("case", DESTROYED)
def test_destroy_takes_what_has_ended_and_names_the_rest(case: str) -> None:
    given, expected = DESTROYED[case]
    assert shown(plan_destroy([given], Wish(WANT))) == expected


def test_destroy_takes_batches_before_runs_and_all_parts_of_a_run_but_its_input() -> None:
    other = replace(OURS, id=2, remote_id=102)
    items = plan_destroy([shard(run()), shard(run(number=2, batch=2), batch=other)], Wish(WANT))
    assert [item.kind for item in items] == [BATCH, BATCH, RUN, RUN]
    assert [item.parts for item in items[1:3]] == [INPUT, OUTPUT | LOGS]


def test_batch_that_one_of_two_shards_still_needs_is_left() -> None:
    done = shard(run(number=2))
    other = replace(shard(run("RUNNING")), id=2)
    assert {shown(plan_destroy(shards, Wish(WANT)))[0] for shards in ([other, done], [done, other])} == {
        (BATCH, "101", "run run-1 is RUNNING")
    }
    assert shown(plan_cleanup([other, done], Wish(WANT, parts=INPUT))) == []
    assert shown(plan_cleanup([done], Wish(WANT, parts=INPUT))) == [(BATCH, "101", "")]


def test_destroy_shows_which_results_are_lost() -> None:
    items = plan_destroy([shard(NOT_FETCHED)], Wish(WANT, discard=True))
    assert [(item.kind, item.left, item.loses) for item in items] == [(BATCH, "", False), (RUN, "", True)]


def test_destroy_of_damaged_results_loses_them() -> None:
    items = plan_destroy([shard(run())], Wish(replace(WANT, damaged=frozenset({1}))))
    assert [item.left for item in items] == [f"run run-1 {HAS}", HAS]


def test_destroy_keeps_the_results_on_request() -> None:
    assert shown(plan_destroy([shard(run())], Wish(WANT, keep_results=True))) == [(BATCH, "101", "")]


@pytest.mark.parametrize(
    ("parts", "left"), [(OUTPUT, [(BATCH, "101", ""), (RUN, "run-1", "")]), (OUTPUT | LOGS, [(BATCH, "101", "")])]
)
def test_destroy_takes_only_parts_that_are_not_deleted(parts: frozenset[str], left: list[tuple[str, str, str]]) -> None:
    deleted = {(RUN, "run-1"): parts}
    assert shown(plan_destroy([shard(run(is_gone=True, is_deleted=True))], Wish(WANT, deleted=deleted))) == left


def test_destroy_goes_on_with_what_it_began() -> None:
    begun = shard(run(is_deleted=True), batch=replace(OURS, is_gone=True))
    items = plan_destroy([begun], Wish(WANT, begun={(BATCH, "101"), (RUN, "run-1")}))
    assert [(item.kind, item.was_gone) for item in items] == [(BATCH, False), (RUN, False)]


KEPT = {
    "never run": shard(),
    "going": shard(run("RUNNING")),
    "waits for review": shard(run("STOPPED_AT_CHECKPOINT")),
    "failed": shard(run("FAILED")),
    "failed after it was complete": shard(run(), run("FAILED", 2)),
    "start unconfirmed": shard(run(), run("", 2, remote_id=None)),
    "not fetched": shard(NOT_FETCHED),
    "not fetched in this form": shard(run(fetched={"source": 3.0})),
    "another one going": shard(run(), run("RUNNING", 2)),
    "another one not fetched": shard(run(), replace(run(number=2, fetched={}), run_key="old")),
    "of another run key": shard(run(run_key="old")),
    "of another target": shard(run(), batch=replace(OURS, target="other")),
    "gone": shard(run(is_gone=True), batch=replace(OURS, is_gone=True)),
}


@pytest.mark.parametrize("case", KEPT)
def test_cleanup_leaves_what_may_still_be_needed(case: str) -> None:
    assert plan_cleanup([KEPT[case]], Wish(WANT)) == []


def test_cleanup_leaves_what_has_files_without_an_answer() -> None:
    assert plan_cleanup([shard(run())], Wish(WANT, unanswered={1})) == []


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [(INPUT, [BATCH]), (OUTPUT, [RUN]), (LOGS, [RUN]), (INPUT | OUTPUT | LOGS, [BATCH, RUN]), (frozenset(), [])],
)
def test_cleanup_takes_the_parts_that_are_asked_for(parts: frozenset[str], kinds: list[str]) -> None:
    items = plan_cleanup([shard(run("FAILED"), run(number=2))], Wish(WANT, parts=parts))
    assert [item.kind for item in items] == kinds
    assert {part for item in items for part in item.parts} == parts
    assert {item.remote_id for item in items} <= {"101", "run-2"}


def test_cleanup_goes_on_with_what_it_began() -> None:
    begun = shard(run(), batch=replace(OURS, is_gone=True))
    assert shown(plan_cleanup([begun], Wish(WANT, parts=INPUT, begun={(BATCH, "101")}))) == [(BATCH, "101", "")]
