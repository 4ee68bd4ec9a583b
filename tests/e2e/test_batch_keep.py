"""`[batch] keep = true`: one batch for a job, which follows its files, and is run as a whole when they change."""

from __future__ import annotations

import re

import pytest
import requests

from aihub_runner.plan.identity import turn_name
from support.world import lose

from .conftest import Project
from .test_batch_id import HEADERS, changes, paid, paths, put, remove

NAMES = ["00000.txt", "00001.txt", "00002.txt"]


@pytest.fixture
def kept(project: Project) -> Project:
    """Return a project that keeps a batch of three files."""
    project.change_spec("[limits]", "[batch]\nkeep = true\n[limits]")
    project.write_files(3)
    return project


def home(project: Project) -> int:
    """Return the id of the one batch with files."""
    [batch] = [one["id"] for one in project.fake.batches() if project.fake.files(one["id"])]
    return int(batch)


def content(project: Project) -> list[str]:
    return sorted(project.fake.files(home(project)))


@pytest.mark.slow
def test_one_batch_follows_the_files_and_is_run_as_a_whole(kept: Project) -> None:
    plan = kept.run("plan")
    assert "+ 3 files (00000.txt …): to upload to a new batch" in plan.out
    assert "3 files to upload (51 bytes), 1 batch, 1 run to pay" in plan.out
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    batch = home(kept)
    assert (paid(kept), content(kept)) == (1, NAMES)
    assert paths(kept) == [f"in/{name}" for name in NAMES]
    kept.forget_requests()
    again = kept.apply()
    assert (again.code, kept.sent()) == (0, [])
    assert "nothing to do" in again.out

    kept.write("in/00001.txt", "another document, longer")
    kept.write("in/new.txt", "a new one")
    (kept.folder / "in/00000.txt").unlink()
    plan = kept.run("plan")
    assert f"  - 1 file: to delete from batch {batch}\n      00000.txt" in plan.out
    assert f"~ 1 file (00001.txt): to replace in batch {batch}" in plan.out
    assert f"+ 1 file (new.txt): to upload to batch {batch}" in plan.out
    assert "1 file (in/00002.txt): unchanged, to pay for again because other files of the batch" in plan.out
    kept.forget_requests()
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    assert (home(kept), paid(kept), content(kept)) == (batch, 2, ["00001.txt", "00002.txt", "new.txt"])
    assert sorted(changes(kept)) == ["DELETE deleteFileFromBatch", *["PUT addFileToBatch"] * 2]
    assert paths(kept) == ["in/00001.txt", "in/00002.txt", "in/new.txt"]
    assert kept.run("status").code == 0
    kept.forget_requests()
    assert (kept.apply().code, kept.sent()) == (0, [])


@pytest.mark.slow
def test_changed_file_of_the_same_size_is_sent_again(kept: Project) -> None:
    kept.apply()
    kept.write("in/00001.txt", "document number X")
    kept.forget_requests()
    assert kept.apply().code == 0
    assert (paid(kept), changes(kept)) == (2, ["PUT addFileToBatch"])


@pytest.mark.slow
def test_content_that_was_run_before_follows_and_costs_nothing(kept: Project) -> None:
    kept.apply()
    kept.write("in/new.txt", "a new one")
    kept.apply()
    (kept.folder / "in/new.txt").unlink()
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    assert (paid(kept), content(kept), paths(kept)) == (2, NAMES, [f"in/{name}" for name in NAMES])
    kept.forget_requests()
    assert (kept.apply().code, kept.sent()) == (0, [])


def test_moved_files_cost_nothing(kept: Project) -> None:
    kept.apply()
    (kept.folder / "in").rename(kept.folder / "later")
    kept.change_spec("in/**/*", "later/**/*")
    kept.forget_requests()
    outcome = kept.apply()
    assert (outcome.code, kept.sent()) == (0, []), outcome.text
    assert paths(kept) == [f"later/{name}" for name in NAMES]


@pytest.mark.slow
def test_fresh_clone_with_the_lock_file_pays_and_sends_nothing(kept: Project) -> None:
    kept.apply()
    kept.fake.clock.advance(5)
    kept.write("in/new.txt", "a new one")
    kept.apply()
    batch = home(kept)
    kept.forget_requests()
    clone = kept.clone("one")
    assert "nothing to do" in clone.run("plan").out
    outcome = clone.apply()
    assert (outcome.code, kept.sent()) == (0, []), outcome.text
    assert paths(clone) == ["in/00000.txt", "in/00001.txt", "in/00002.txt", "in/new.txt"]
    assert clone.lock == kept.lock
    clone.write("in/00000.txt", "document number Y")
    (clone.folder / "in/new.txt").unlink()
    outcome = clone.apply()
    assert outcome.code == 0, outcome.text
    assert (home(kept), content(kept), paid(kept)) == (batch, NAMES, 3)
    assert sorted(changes(kept)) == ["DELETE deleteFileFromBatch", "PUT addFileToBatch"]


@pytest.mark.slow
def test_lost_state_and_lock_file(kept: Project) -> None:
    kept.apply()
    batch = home(kept)
    lose(kept.folder, "job.state.db", "job.lock.toml")
    kept.forget_requests()
    outcome = kept.apply()
    assert (outcome.code, kept.sent()) == (0, []), outcome.text
    lose(kept.folder, "job.state.db", "job.lock.toml")
    kept.write("in/00001.txt", "document number Z")
    outcome = kept.apply()
    assert (outcome.code, changes(kept), paid(kept)) == (7, [], 1)
    assert f"batch {batch} holds 3 files that this job is not known to have put there, 00000.txt" in outcome.err
    outcome = kept.apply("--adopt")
    assert outcome.code == 0, outcome.text
    assert (home(kept), paid(kept), content(kept)) == (batch, 2, NAMES)


@pytest.mark.slow
def test_files_of_others_in_our_batch_stop_a_change(kept: Project) -> None:
    kept.apply()
    put(kept, home(kept), "theirs.txt", "not ours")
    kept.write("in/new.txt", "a new one")
    kept.forget_requests()
    for options in ([], ["--adopt"]):
        outcome = kept.apply(*options)
        assert (outcome.code, changes(kept), paid(kept)) == (7, [], 1)
        assert "holds 1 file that this job is not known to have put there, theirs.txt" in outcome.err
    remove(kept, home(kept), "theirs.txt")
    assert kept.apply().code == 0
    assert paid(kept) == 2


@pytest.mark.slow
def test_nothing_changes_while_a_run_needs_the_batch(kept: Project) -> None:
    kept.fake.next_run(hold=True)
    assert kept.apply("--no-wait").code == 6
    kept.write("in/new.txt", "a new one")
    kept.forget_requests()
    outcome = kept.apply("--no-wait")
    assert (outcome.code, changes(kept), paid(kept)) == (6, [], 1)
    assert "is not changed while it is in use: run" in outcome.text
    kept.fake.release(kept.fake.runs()[0]["id"])
    for _ in range(2):
        outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    assert paid(kept) == 2


def test_folder_that_is_gone_empties_nothing(kept: Project) -> None:
    kept.change_spec('"in/**/*"', '["in/**/*", "more/*"]')
    kept.write("more/m.txt", "more")
    kept.apply()
    (kept.folder / "more").rename(kept.folder / "away")
    kept.forget_requests()
    outcome = kept.apply()
    assert (outcome.code, kept.sent()) == (3, [])
    assert "is left as it is, more/* matched files before" in outcome.text
    (kept.folder / "away").rename(kept.folder / "more")
    assert (kept.apply().code, kept.sent()) == (0, [])


@pytest.mark.slow
def test_destroyed_batch_is_not_made_again_for_what_was_paid(kept: Project) -> None:
    kept.apply()
    first = home(kept)
    outcome = kept.run("destroy", "--yes")
    assert outcome.code == 0, outcome.text
    assert first not in {one["id"] for one in kept.fake.batches()}
    kept.forget_requests()
    outcome = kept.apply()
    assert (outcome.code, kept.sent()) == (0, []), outcome.text
    kept.write("in/new.txt", "a new one")
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    assert home(kept) != first
    assert len(content(kept)) == 4


@pytest.mark.slow
def test_batch_that_somebody_deleted_is_made_again(kept: Project) -> None:
    kept.apply()
    kept.fake.world._remove_batch(home(kept))
    kept.write("in/new.txt", "a new one")
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    assert (paid(kept), len(content(kept))) == (2, 4)


@pytest.mark.parametrize("cloned", [False, True])
@pytest.mark.slow
def test_only_batch_that_somebody_deleted_before_its_first_run_is_made_again(kept: Project, cloned: bool) -> None:
    """The account shows nothing at all then, and no list has to show anything either: that ends by itself."""
    kept.fake.faults.add(operation="runApp", do="status", status=401)
    assert kept.apply().code == 4
    for batch in kept.fake.batches():
        kept.fake.world._remove_batch(batch["id"])
    here = kept.clone("one") if cloned else kept
    assert here.run("plan").code == 0
    codes = [here.apply().code for _ in range(2)]
    assert codes[1] == 0
    assert (paid(kept), content(kept), paths(here)) == (1, NAMES, [f"in/{name}" for name in NAMES])


def test_batch_that_somebody_deleted_with_a_run_that_nobody_fetched_has_a_way_out(kept: Project) -> None:
    kept.fake.next_run(hold=True)
    assert kept.apply("--no-wait").code == 6
    forget_all(kept)
    for command in ("plan", "apply"):
        outcome = kept.run(command)
        assert outcome.code == 4
        assert f"if it was deleted with its runs, decide with `runner resolve {kept.spec_path}`" in outcome.err
    assert kept.run("resolve", "--resubmit").code == 0
    assert kept.apply().code == 3
    outcome = kept.apply("--retry-failed")
    assert outcome.code == 0, outcome.text
    assert (paid(kept), content(kept)) == (1, NAMES)


@pytest.mark.parametrize("is_batch_left", [False, True])
@pytest.mark.slow
def test_batch_whose_runs_were_all_deleted_says_how_to_go_on(kept: Project, is_batch_left: bool) -> None:
    """Without a known run in the list, nobody can tell whether a clone ran the new content: you decide."""
    assert kept.apply().code == 0
    forget_all(kept, but_batch=home(kept) if is_batch_left else 0)
    kept.write("in/new.txt", "a new one")
    for _ in range(2):
        outcome = kept.apply()
        assert (outcome.code, paid(kept)) == (7, 0), outcome.text
        assert f"whether another client has run batch {home(kept)} is not confirmed" in outcome.err
    assert f"to pay again all the same, run `runner apply {kept.spec_path} --again`" in outcome.err
    outcome = kept.apply("--again")
    assert outcome.code == 0, outcome.text
    kept.forget_requests()
    assert (kept.apply().code, kept.sent(), paid(kept), len(content(kept))) == (0, [], 1, 4)


def forget_all(kept: Project, but_batch: int = 0) -> None:
    """Delete all that the account has, as somebody else does who tidies up."""
    for batch in kept.fake.batches():
        if batch["id"] != but_batch:
            kept.fake.world._remove_batch(batch["id"])
    kept.fake.world.runs.clear()


def test_spec_without_keep_groups_anew_and_leaves_the_batch(kept: Project) -> None:
    kept.apply()
    before = kept.fake.files(home(kept))
    batch = home(kept)
    kept.change_spec("[batch]\nkeep = true\n", "")
    kept.forget_requests()
    assert (kept.apply().code, kept.sent()) == (0, [])
    kept.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert kept.apply().code == 0
    assert kept.fake.files(batch) == before
    assert [run.request["batch_id"] == batch for run in kept.fake.world.runs.values()] == [True, False]


def test_question_names_what_is_deleted(kept: Project) -> None:
    kept.apply()
    (kept.folder / "in/00000.txt").unlink()
    code, shown = kept.on_terminal("apply", "job.toml", answer="n\n")
    assert code == 2
    assert "00000.txt" in shown
    assert f"Delete 1 file from batch {home(kept)} and start 1 run" in " ".join(shown.split())
    assert content(kept) == NAMES


@pytest.mark.slow
def test_plan_in_a_file_binds_the_changes(kept: Project) -> None:
    kept.apply()
    (kept.folder / "in/00000.txt").unlink()
    assert kept.run("plan", "--out", "plan.json").code == 0
    put(kept, home(kept), "00001.txt", "changed meanwhile, and longer")
    outcome = kept.apply("--plan", "plan.json")
    assert outcome.code == 2
    assert "the batch in another way" in outcome.err
    assert kept.run("plan", "--out", "plan.json").code == 0
    assert kept.apply("--plan", "plan.json").code == 0
    assert content(kept) == NAMES[1:]


@pytest.mark.parametrize("hours", [23, 25])
@pytest.mark.slow
def test_turn_of_a_clone_that_died_is_explained_and_counts_for_a_day(kept: Project, hours: int) -> None:
    assert kept.apply().code == 0
    batch, name = home(kept), turn_name(home(kept), "00000000")
    requests.post(f"{kept.fake.root}/v2/batches", json={"name": name}, headers=HEADERS, timeout=10).raise_for_status()
    turn = next(one["id"] for one in kept.fake.batches() if one["name"] == name)
    kept.fake.clock.advance(hours * 3600)
    kept.write("in/00001.txt", "changed")
    outcome = kept.apply()
    assert outcome.code == (6 if hours < 24 else 0), outcome.text
    if hours < 24:
        assert re.search(rf"its turn is batch {turn} \({name}\) since 20\d\d-.*Z, which counts for a day", outcome.err)
        assert f"if no other client uses batch {batch}, run `runner apply {kept.spec_path} --adopt`" in outcome.err
        assert kept.apply("--adopt").code == 0
    assert paid(kept) == 2
