"""What is missing, by facts, spec and files."""

from typing import Any

import pytest
from msgspec.structs import replace

from aihub_runner.model import Batch, Member, Run, Scan, Shard, Source
from aihub_runner.plan.cover import is_paid_elsewhere
from aihub_runner.plan.identity import fingerprint_members
from aihub_runner.plan.planner import (
    Action,
    Goal,
    Plan,
    find_lost,
    find_moves,
    make_plan,
    next_action,
)

WANT = Goal("key", "target", "plain", 1000, {"version": "1"})


def source(path: str, content: str = "") -> Source:
    return Source(path, 1, f"sha256:{content or path}")


def member(path: str, content: str = "") -> Member:
    return Member(path.rsplit("/", 1)[-1], path, 1, f"sha256:{content or path}")


def scan(*sources: Source) -> Scan:
    return Scan(tuple(sorted(sources, key=lambda s: s.path)), (), {})


def run_of(status: str, key: str = "key", attempt: int = 1, number: int = 1, fetched: str = "plain") -> Run:
    fetches = {fetched: 3.0} if status == "COMPLETE" and fetched else {}
    return Run(number, 1, key, attempt, "tag", 1, 0.0, f"run-{number}", "", status, "", 1, 2, fetches)


def shard_of(*members: Member, runs: tuple[Run, ...] = (), number: int = 1, closed: bool = True) -> Shard:
    uploads = {member.name: member.digest for member in members}
    batch = Batch(number, "target", "name", 0.0, 100 + number, uploads, is_verified=True)
    fingerprint = fingerprint_members(members) if closed else ""
    return Shard(number, fingerprint, members, (batch,), runs)


def needs(plan: Plan) -> list[tuple[int, int, Action]]:
    return [(work.shard.id, len(work.shard.members), work.action) for work in plan.work]


def test_plan_of_new_files_makes_a_batch_and_a_run() -> None:
    plan = make_plan(WANT, scan(source("a"), source("b")), [])
    assert needs(plan) == [(0, 2, Action.CREATE_BATCH)]
    assert plan.runs_to_pay == 1
    assert plan.work[0].reason == "2 new"


def test_plan_of_finished_work_is_empty() -> None:
    plan = make_plan(WANT, scan(source("a")), [shard_of(member("a"), runs=(run_of("COMPLETE"),))])
    assert plan.work == ()
    assert plan.done == 1


def test_plan_sends_one_more_file_alone() -> None:
    plan = make_plan(WANT, scan(source("a"), source("b")), [shard_of(member("a"), runs=(run_of("COMPLETE"),))])
    assert [work.shard.members[0].path for work in plan.work] == ["b"]


def test_plan_sends_a_changed_file_alone_and_nothing_when_it_is_changed_back() -> None:
    first = shard_of(member("a", "1"), member("b"), runs=(run_of("COMPLETE"),))
    plan = make_plan(WANT, scan(source("a", "2"), source("b")), [first])
    assert [(m.path, m.digest) for m in plan.work[0].shard.members] == [("a", "sha256:2")]
    assert plan.work[0].reason == "1 changed"
    second = shard_of(member("a", "2"), runs=(run_of("COMPLETE", number=2),), number=2)
    assert make_plan(WANT, scan(source("a", "1"), source("b")), [first, second]).work == ()


def test_plan_of_another_run_key_runs_whole_shards_again_and_regroups_stale_ones() -> None:
    whole = shard_of(member("a"), runs=(run_of("COMPLETE", "old"),))
    stale = shard_of(member("b", "1"), member("c"), runs=(run_of("COMPLETE", "old", number=2),), number=2)
    settings = {"old": {"version": "0"}}
    plan = make_plan(WANT, scan(source("a"), source("b", "2"), source("c")), [whole, stale], settings)
    assert needs(plan) == [(1, 1, Action.CHECK), (0, 2, Action.CREATE_BATCH)]
    assert plan.work[0].reason == "changed: version"
    assert plan.work[1].reason == "1 changed, 1 to run again because other files in their batch changed or are gone"


def test_plan_never_covers_a_file_twice_under_one_key() -> None:
    stale_then = shard_of(member("a"), member("b", "1"), runs=(run_of("COMPLETE", "old"),))
    since = shard_of(member("a"), runs=(run_of("COMPLETE", number=2),), number=2)
    plan = make_plan(WANT, scan(source("a"), source("b", "1")), [stale_then, since])
    assert needs(plan) == [(0, 1, Action.CREATE_BATCH)]


def test_plan_holds_failed_files_until_told_to_retry() -> None:
    failed = shard_of(member("a"), member("b"), runs=(run_of("FAILED"),))
    files = scan(source("a"), source("b"))
    held = make_plan(WANT, files, [failed])
    assert (held.work, held.failed) == ((), ("a", "b"))
    again = make_plan(replace(WANT, retry_failed=True), files, [failed])
    assert [(work.shard.id, work.attempt, work.action) for work in again.work] == [(1, 2, Action.CHECK)]


def test_plan_dissolves_a_failed_shard_with_a_changed_member_on_retry() -> None:
    failed = shard_of(member("a", "1"), member("b"), runs=(run_of("FAILED"),))
    plan = make_plan(replace(WANT, retry_failed=True), scan(source("a", "2"), source("b")), [failed])
    assert needs(plan) == [(0, 2, Action.CREATE_BATCH)]


def test_plan_waits_for_going_runs_and_fetches_complete_ones() -> None:
    going = shard_of(member("a"), runs=(run_of("RUNNING"),))
    complete = shard_of(member("b"), runs=(run_of("COMPLETE", number=2, fetched=""),), number=2)
    plan = make_plan(WANT, scan(source("a"), source("b")), [going, complete])
    assert needs(plan) == [(1, 1, Action.POLL), (2, 1, Action.FETCH)]
    assert plan.runs_to_pay == 0


def test_plan_of_other_includes_only_fetches() -> None:
    done = shard_of(member("a"), runs=(run_of("COMPLETE"),))
    plan = make_plan(replace(WANT, include="confidence"), scan(source("a")), [done])
    assert needs(plan) == [(1, 1, Action.FETCH)]


def test_plan_looks_for_a_run_whose_answer_is_not_known() -> None:
    unknown = replace(run_of(""), remote_id=None)
    plan = make_plan(WANT, scan(source("a")), [shard_of(member("a"), runs=(unknown,))])
    assert needs(plan) == [(1, 1, Action.FIND_RUN)]
    assert (plan.runs_to_pay, plan.open_intents) == (0, 1)


def test_plan_keeps_an_open_shard_sends_changes_in_place_and_lets_go_of_the_vanished() -> None:
    begun = shard_of(member("a", "1"), member("b"), member("c"), closed=False)
    plan = make_plan(WANT, scan(source("a", "2"), source("b")), [begun])
    assert needs(plan) == [(1, 2, Action.UPLOAD)]
    assert [m.digest for m in plan.members[1]] == ["sha256:2", "sha256:b"]
    assert [m.path for m in plan.uploads("target")] == ["a"]


def test_plan_regroups_what_was_never_begun() -> None:
    planned = replace(shard_of(member("a"), closed=False), batches=())
    plan = make_plan(WANT, scan(source("a"), source("b")), [planned])
    assert plan.dissolved == (1,)
    assert needs(plan) == [(0, 2, Action.CREATE_BATCH)]


def test_plan_of_a_smaller_batch_limit_trims_open_shards_only() -> None:
    done = shard_of(member("a"), member("b"), runs=(run_of("COMPLETE"),))
    begun = shard_of(member("c"), member("d"), closed=False, number=2)
    files = scan(*(source(name) for name in "abcd"))
    plan = make_plan(replace(WANT, files_per_batch=1), files, [done, begun])
    assert needs(plan) == [(2, 1, Action.CHECK), (0, 1, Action.CREATE_BATCH)]


def test_plan_with_again_pays_for_complete_work_once_more() -> None:
    done = shard_of(member("a"), runs=(run_of("COMPLETE"),))
    plan = make_plan(replace(WANT, again=True), scan(source("a")), [done])
    assert [(work.shard.id, work.attempt, work.action) for work in plan.work] == [(1, 2, Action.CHECK)]


def test_plan_says_of_a_copy_that_its_content_is_known() -> None:
    done = shard_of(member("a", "1"), runs=(run_of("COMPLETE"),))
    plan = make_plan(WANT, scan(source("a", "1"), source("b", "1")), [done])
    assert plan.notes == ("b: same content as a; sent anyway",)
    assert [work.shard.members[0].path for work in plan.work] == ["b"]


def test_moves_re_address_records_and_send_nothing() -> None:
    done = shard_of(member("old/a.pdf", "1"), runs=(run_of("COMPLETE"),))
    plan = make_plan(WANT, scan(source("new/b.pdf", "1")), [done])
    assert [(move.old, move.new) for move in plan.moves] == [("old/a.pdf", "new/b.pdf")]
    assert plan.work == ()


def test_moves_need_the_same_extension_and_a_vanished_path() -> None:
    done = shard_of(member("a.pdf", "1"), runs=(run_of("COMPLETE"),))
    assert find_moves([done], scan(source("a.txt", "1"))) == []
    assert find_moves([done], scan(source("a.pdf", "1"), source("b.pdf", "1"))) == []


def test_moves_of_twins_are_paired_in_sorted_order() -> None:
    done = shard_of(member("x/1.pdf", "1"), member("x/2.pdf", "1"), runs=(run_of("COMPLETE"),))
    moves = find_moves([done], scan(source("y/2.pdf", "1"), source("y/1.pdf", "1")))
    assert [(move.old, move.new) for move in moves] == [("x/1.pdf", "y/1.pdf"), ("x/2.pdf", "y/2.pdf")]


# The next action of a shard, by its facts


@pytest.mark.parametrize(
    ("batch", "checked", "action"),
    [
        pytest.param(None, False, Action.CREATE_BATCH, id="no batch"),
        pytest.param({"target": "another"}, True, Action.CREATE_BATCH, id="a batch elsewhere"),
        pytest.param({"remote_id": None}, True, Action.FIND_BATCH, id="response lost"),
        pytest.param({"is_verified": False}, True, Action.VERIFY, id="not confirmed as ours"),
        pytest.param({"uploads": {}}, True, Action.UPLOAD, id="nothing sent"),
        pytest.param({"uploads": {"a": "sha256:before"}}, True, Action.UPLOAD, id="other bytes sent"),
        pytest.param({"uploads": {"a": ""}}, True, Action.UPLOAD, id="upload unconfirmed"),
        pytest.param({}, False, Action.CHECK, id="all sent"),
        pytest.param({}, True, Action.START_RUN, id="all sent and listed"),
        pytest.param({"is_gone": True}, True, Action.CREATE_BATCH, id="gone"),
    ],
)
def test_no_run_starts_before_its_batch_is_ours_and_holds_every_file(
    batch: dict[str, Any] | None, checked: bool, action: Action
) -> None:
    shard = shard_of(member("a"), closed=False)
    shard = replace(shard, batches=() if batch is None else (replace(shard.batches[0], **batch),))
    assert next_action(shard, WANT, 1, checked=checked) is action


@pytest.mark.parametrize(
    ("status", "facts", "goal", "action"),
    [
        pytest.param("", {"remote_id": None}, {}, Action.FIND_RUN, id="start unconfirmed"),
        pytest.param("", {"remote_id": None, "refused": "status 403"}, {}, Action.FIND_RUN, id="refused"),
        pytest.param("", {"remote_id": None, "is_given_up": True}, {}, Action.NOTHING, id="given up"),
        pytest.param("", {}, {}, Action.POLL, id="no status yet"),
        pytest.param("RUNNING", {}, {}, Action.POLL, id="running"),
        pytest.param("A_NEW_STATUS", {}, {}, Action.POLL, id="unknown status"),
        pytest.param("RUNNING", {"is_gone": True}, {}, Action.NOTHING, id="gone"),
        pytest.param("FAILED", {}, {}, Action.NOTHING, id="failed"),
        pytest.param("FAILED", {}, {"refetch": True}, Action.NOTHING, id="failed, fetch again"),
        pytest.param("COMPLETE", {"fetched": {}}, {}, Action.FETCH, id="not fetched"),
        pytest.param("COMPLETE", {"fetched": {}, "is_gone": True}, {}, Action.NOTHING, id="gone before it was fetched"),
        pytest.param("COMPLETE", {}, {}, Action.NOTHING, id="fetched"),
        pytest.param("COMPLETE", {}, {"refetch": True}, Action.FETCH, id="fetch again"),
        pytest.param("COMPLETE", {}, {"damaged": {1}}, Action.FETCH, id="damaged on disk"),
        pytest.param("COMPLETE", {"is_gone": True}, {"damaged": {1}}, Action.NOTHING, id="damaged, and gone"),
        pytest.param("COMPLETE", {}, {"include": "source"}, Action.FETCH, id="other includes"),
        pytest.param("COMPLETE", {}, {"run_key": "other"}, Action.CHECK, id="other settings"),
    ],
)
def test_run_that_exists_or_may_exist_is_never_started_again(
    status: str, facts: dict[str, Any], goal: dict[str, Any], action: Action
) -> None:
    shard = shard_of(member("a"), runs=(replace(run_of(status), **facts),))
    assert next_action(shard, replace(WANT, **goal), 1) is action


@pytest.mark.parametrize(
    ("other", "goal", "is_paid"),
    [
        pytest.param(run_of("COMPLETE"), {}, True, id="complete"),
        pytest.param(run_of("RUNNING"), {}, True, id="running"),
        pytest.param(run_of("FAILED"), {}, False, id="failed"),
        pytest.param(run_of("COMPLETE", key="before"), {}, False, id="other settings"),
        pytest.param(run_of("COMPLETE"), {"again": True, "again_after": 1}, False, id="complete before --again"),
        pytest.param(run_of("COMPLETE"), {"again": True, "again_after": 0}, True, id="complete since --again"),
        pytest.param(replace(run_of("RUNNING"), is_gone=True), {}, False, id="gone"),
    ],
)
@pytest.mark.parametrize("content", ["1", "2"])
def test_file_is_paid_elsewhere_where_another_run_covers_its_bytes(
    other: Run, goal: dict[str, Any], is_paid: bool, content: str
) -> None:
    mine = shard_of(member("a", "1"), member("b"), runs=(replace(run_of(""), remote_id=None),), number=1)
    theirs = shard_of(member("a", content), runs=(other,), number=2)
    assert is_paid_elsewhere(mine, [mine, theirs], replace(WANT, **goal)) == (is_paid and content == "1")


def test_of_two_open_runs_for_one_file_the_earlier_is_asked_about() -> None:
    lost = replace(run_of(""), remote_id=None)
    first, second = (shard_of(member("a"), runs=(lost,), number=number) for number in (1, 2))
    assert [is_paid_elsewhere(shard, [first, second], WANT) for shard in (first, second)] == [False, True]


@pytest.mark.parametrize(
    ("facts", "damaged", "lost"),
    [
        ({"is_gone": True}, (), False),
        ({"is_gone": True}, (1,), True),
        ({"is_gone": True, "fetched": {"source": 3.0}}, (), True),
        ({"fetched": {}}, (), False),
    ],
)
def test_results_are_lost_where_their_run_is_gone_before_all_was_fetched(
    facts: dict[str, Any], damaged: tuple[int, ...], lost: bool
) -> None:
    shard = shard_of(member("a"), runs=(replace(run_of("COMPLETE"), **facts),))
    assert bool(find_lost([shard], replace(WANT, damaged=damaged))) == lost


def test_plan_by_folder_makes_one_shard_of_each_and_keeps_an_open_one_only_whole() -> None:
    want = replace(WANT, by_folder=True)
    files = scan(source("1/a"), source("1/b"), source("2/a"))
    assert needs(make_plan(want, files, [])) == [(0, 2, Action.CREATE_BATCH), (0, 1, Action.CREATE_BATCH)]
    half, whole = shard_of(member("1/a"), closed=False), shard_of(member("2/a", "old"), number=2, closed=False)
    plan = make_plan(want, files, [half, whole])
    assert plan.dissolved == (1,)
    assert needs(plan) == [(2, 1, Action.UPLOAD), (0, 2, Action.CREATE_BATCH)]


def test_plan_by_folder_covers_only_what_was_run_together() -> None:
    want = replace(WANT, by_folder=True)
    parts = [shard_of(member(path), runs=(run_of("COMPLETE"),), number=n) for n, path in enumerate(("1/a", "1/b"), 1)]
    both = shard_of(member("1/a"), member("1/b"), runs=(run_of("COMPLETE", number=3),), number=3)
    files = scan(source("1/a"), source("1/b"))
    assert needs(make_plan(want, files, parts)) == [(0, 2, Action.CREATE_BATCH)]
    assert needs(make_plan(want, files, [*parts, both])) == []
    grown = make_plan(want, scan(*files.sources, source("1/c")), [both])
    assert [work.reason for work in grown.work] == ["folder 1: c new; 2 unchanged files to pay for again because of it"]
    assert needs(make_plan(want, files, [], held=["1/a"])) == []
