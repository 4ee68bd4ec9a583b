"""What is missing, by facts, spec and files."""

from dataclasses import replace

from aihub_runner.model import Batch, Member, Run, Scan, Shard, Source
from aihub_runner.plan.identity import fingerprint_members
from aihub_runner.plan.planner import Action, Goal, Plan, find_moves, make_plan

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
