"""What is missing of a batch that is kept: its whole content is run, or nothing of it."""

import pytest
from msgspec.structs import replace

from aihub_runner.model import OWN, Batch, Goal, Member, Run, Scan, Shard, Source
from aihub_runner.plan.identity import fingerprint_members
from aihub_runner.plan.kept import plan_kept
from aihub_runner.plan.planner import Action, Plan

GOAL = Goal("key", "target", "plain", 1000, {}, kept=OWN)
FILES = (Source("a", 1, "sha256:a"), Source("b", 1, "sha256:b"))
MEMBERS = tuple(source.as_member(source.path) for source in FILES)


def run_of(status: str, number: int = 1, key: str = "key") -> Run:
    fetches = {"plain": 3.0} if status == "COMPLETE" else {}
    return Run(number, 1, key, number, "tag", 1, 0.0, f"run-{number}", "", status, "", 1, 2, fetches)


def shard_of(*runs: Run, number: int = 1, members: tuple[Member, ...] = MEMBERS) -> Shard:
    uploads = {member.name: member.digest for member in members}
    batch = Batch(number, "target", "name", 0.0, 101, uploads, is_verified=True, kept=OWN)
    return Shard(number, fingerprint_members(members), members, (batch,), runs)


def plan(*shards: Shard, goal: Goal = GOAL, files: tuple[Source, ...] = FILES) -> Plan:
    return plan_kept(goal, Scan(files, (), {}), shards)


def needs(found: Plan) -> list[tuple[int, int, Action]]:
    return [(work.shard.id, work.attempt, work.action) for work in found.work]


DONE, FAILED = run_of("COMPLETE"), run_of("FAILED", 2)


@pytest.mark.parametrize("again", [False, True], ids=["", "retry failed"])
@pytest.mark.parametrize(
    "shards",
    [
        (shard_of(DONE),),
        (shard_of(DONE, FAILED),),
        (shard_of(FAILED, DONE),),
        (shard_of(DONE), shard_of(FAILED, number=2)),
        (shard_of(FAILED), shard_of(DONE, number=2)),
    ],
    ids=["one run", "failed after it", "failed before it", "failed in a later shard", "failed in an earlier shard"],
)
def test_content_with_a_complete_run_is_done_whatever_failed_beside_it(shards: tuple[Shard, ...], again: bool) -> None:
    found = plan(*shards, goal=replace(GOAL, retry_failed=again))
    assert (found.work, found.done, found.failed) == ((), 2, ())


def test_failed_content_is_run_again_only_on_request() -> None:
    failed = shard_of(FAILED)
    assert (plan(failed).work, plan(failed).failed) == ((), ("a", "b"))
    assert needs(plan(failed, goal=replace(GOAL, retry_failed=True))) == [(1, 3, Action.CREATE_BATCH)]


def test_content_that_failed_twice_is_run_again_once_after_all_attempts() -> None:
    found = plan(shard_of(run_of("FAILED", 4)), shard_of(FAILED, number=2), goal=replace(GOAL, retry_failed=True))
    assert needs(found) == [(2, 5, Action.CREATE_BATCH)]


@pytest.mark.parametrize("status", ["RUNNING", "PAUSED", "STOPPED_AT_CHECKPOINT", "something new"])
def test_run_that_goes_on_is_waited_for_and_not_paid_again(status: str) -> None:
    found = plan(shard_of(run_of(status)), goal=replace(GOAL, retry_failed=True))
    assert needs(found) == [(1, 1, Action.POLL)]


def test_other_content_is_another_run_and_going_back_is_none() -> None:
    changed = (replace(FILES[0], digest="sha256:other"), FILES[1])
    found = plan(shard_of(DONE), files=changed)
    assert needs(found) == [(0, 1, Action.CREATE_BATCH)]
    words = "1 unchanged, to pay for again because other files of the batch changed or are gone"
    assert found.work[0].reason == f"1 changed, {words}"
    newer = shard_of(run_of("COMPLETE", 2), number=2, members=tuple(one.as_member(one.path) for one in changed))
    assert plan(shard_of(DONE), newer).work == ()


def test_nothing_is_started_while_a_file_is_held_back() -> None:
    assert plan_kept(GOAL, Scan(FILES, (), {}), [], held=["b"]).work == ()
    assert plan_kept(GOAL, Scan((), (), {}), []).work == ()


def open_shard(number: int, members: tuple[Member, ...] = MEMBERS) -> Shard:
    return replace(shard_of(number=number, members=members), fingerprint="")


def test_open_shard_of_todays_content_goes_on_and_all_others_dissolve() -> None:
    other = (replace(MEMBERS[0], digest="sha256:other"), MEMBERS[1])
    found = plan(open_shard(1, other), open_shard(2), open_shard(3))
    assert [one.shard.id for one in found.work] == [2]
    assert found.dissolved == (1, 3)


def test_failed_content_that_is_run_again_is_not_called_failed_too() -> None:
    assert plan(shard_of(FAILED), goal=replace(GOAL, retry_failed=True)).failed == ()
