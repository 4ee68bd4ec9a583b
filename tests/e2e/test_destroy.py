"""`runner destroy` and `[cleanup]`: only our own listed items are deleted, and nothing is paid for again."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import requests

from support.proxy import Answer, Call, Proxy
from support.waiting import wait_for
from support.world import check_paid_once

from .conftest import Project

BUSY = '{"state": "RUNNING", "message": "busy"}'
APPLIED = {"batches": 2, "runs": 2}


@pytest.fixture
def applied(project: Project) -> Project:
    """A job of two shards with their results on disk."""
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    assert project.apply().code == 0
    project.forget_requests()
    return project


def on_service(project: Project) -> dict[str, int]:
    world = project.fake.world
    return {"batches": len(world.batches), "runs": len(world.runs)}


def deletions(project: Project) -> list[dict[str, Any]]:
    return [entry for entry in project.fake.journal if entry["method"] == "DELETE"]


def check_nothing_paid(project: Project, code: int = 0) -> None:
    """Apply, and check that nothing was sent that writes."""
    project.forget_requests()
    outcome = project.apply()
    assert (outcome.code, project.sent()) == (code, []), outcome.text


def test_destroy_deletes_all_and_a_later_apply_pays_nothing(applied: Project) -> None:
    before = applied.documents
    outcome = applied.run("destroy", "--yes")
    assert outcome.code == 0, outcome.text
    assert "2 batches and 2 runs deleted" in outcome.out
    assert on_service(applied) == {"batches": 0, "runs": 0}
    assert [entry["status"] for entry in applied.lock] == ["DELETED", "DELETED"]
    check_nothing_paid(applied)
    assert applied.documents == before
    assert applied.run("status").out.count(" DELETED ") == 2
    assert "  runs       2 COMPLETE, 2 deleted from the service\n" in applied.run("status").out
    again = applied.run("destroy", "--yes")
    assert (again.code, "nothing deleted" in again.out, deletions(applied)) == (0, True, [])


@pytest.mark.slow
def test_destroy_shows_every_item_before_it_deletes_any(project: Project) -> None:
    project.write_files(12)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    assert project.apply().code == 0
    ids = [str(batch) for batch in project.fake.world.batches] + list(project.fake.world.runs)
    shown = project.run("destroy").err
    assert [name for name in ids if f" {name}, " not in shown] == []
    project.forget_requests()
    outcome = project.run("destroy", "--yes")
    assert outcome.code == 0, outcome.text
    deleted = [entry["path"].rpartition("/")[2].partition("?")[0] for entry in deletions(project)]
    assert (sorted(deleted), [name for name in deleted if f" {name}, " not in outcome.err]) == (sorted(ids), [])


def test_destroy_keeps_a_run_of_an_earlier_version_whose_results_are_not_on_disk(applied: Project) -> None:
    earlier = list(applied.fake.world.runs)
    applied.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert applied.apply().code == 0
    shutil.rmtree(next(applied.folder.glob(f"results/*/raw/{earlier[0]}")))
    outcome = applied.run("destroy", "--yes")
    assert (outcome.code, [*applied.fake.world.runs]) == (3, earlier[:1]), outcome.text
    assert on_service(applied)["batches"] == 1
    assert applied.run("destroy", "--yes", "--discard-unfetched").code == 0
    assert on_service(applied) == {"batches": 0, "runs": 0}


@pytest.mark.slow
def test_destroy_keeps_a_run_whose_pruned_results_count_again(applied: Project) -> None:
    first, second = (applied.folder / f"in/0000{number}.txt" for number in (0, 1))
    before = first.read_text(), second.read_text()
    first.unlink()
    second.unlink()
    assert applied.run("results", "--prune", "1", "--yes").code == 0
    first.write_text(before[0])
    second.write_text(before[1])
    assert applied.run("destroy", "--yes").code == 3
    assert on_service(applied) == {"batches": 1, "runs": 1}
    assert applied.apply().code == 0
    assert len(applied.documents) == 4


@pytest.mark.slow
def test_destroy_asks_and_a_no_deletes_nothing(applied: Project) -> None:
    code, shown = applied.on_terminal("destroy", "job.toml", answer="n\r")
    assert (code, on_service(applied)) == (2, APPLIED)
    assert "2 batches and 2 runs to delete" in shown
    assert all(run in shown for run in applied.fake.world.runs)
    assert all(str(batch) in shown for batch in applied.fake.world.batches)
    code, _ = applied.on_terminal("destroy", "job.toml", answer="y\r")
    assert (code, on_service(applied)) == (0, {"batches": 0, "runs": 0})


@pytest.mark.parametrize("name", ["AIHUB_RUNNER_YES", "RUNNER_YES", "RUNNER_DESTROY_YES"])
def test_destroy_without_a_terminal_needs_the_flag(applied: Project, name: str) -> None:
    applied.env[name] = "1"
    outcome = applied.run("destroy")
    assert (outcome.code, on_service(applied), deletions(applied)) == (2, APPLIED, [])
    assert "pass --yes" in outcome.err


def test_destroy_needs_a_spec_by_name(applied: Project) -> None:
    assert applied.run_alone("destroy", ".", "--yes").code == 2
    assert applied.run_alone("destroy", "--yes").code == 2
    assert on_service(applied) == APPLIED


def test_destroy_of_a_job_never_applied_sends_nothing(project: Project) -> None:
    project.write_files(1)
    outcome = project.run("destroy", "--yes")
    assert (outcome.code, project.fake.journal) == (0, [])
    assert not (project.folder / "job.state.db").exists()


def test_destroy_sends_every_flag_and_never_asks_for_the_input_of_a_run(applied: Project) -> None:
    assert applied.run("destroy", "--yes").code == 0
    sent = deletions(applied)
    assert [entry["operation"] for entry in sent] == ["deleteBatch"] * 2 + ["deleteRun"] * 2
    wanted = {"delete_db_data": "true", "delete_input": "false", "delete_output": "true", "delete_logs": "true"}
    assert [dict(pair.split("=") for pair in entry["query"].split("&")) for entry in sent[2:]] == [wanted] * 2


def test_intent_is_recorded_before_each_deletion(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    seen = []

    def look(call: Call) -> Answer:
        with closing(sqlite3.connect(f"file:{project.folder}/job.state.db?mode=ro", uri=True)) as db:
            seen.append((call.path.rpartition("/")[2], db.execute("SELECT remote_id, done FROM deletions").fetchall()))
        return call.forward()

    proxy.on("DELETE", ".*", look, times=2)
    assert project.run("destroy", "--yes").code == 0
    assert [(remote_id, 0) in rows for remote_id, rows in seen] == [True, True]


def test_deleted_runs_are_no_part_of_the_checks_before_a_later_payment(applied: Project) -> None:
    assert applied.run("destroy", "--yes").code == 0
    applied.write_files(1, 4)
    outcome = applied.apply()
    assert outcome.code == 0, outcome.text
    assert len(applied.fake.ledger["runs"]) == 3
    assert len({line["path"] for line in applied.documents}) == 5
    check_nothing_paid(applied)


def test_interrupted_destroy_goes_on_the_next_time(applied: Project) -> None:
    applied.fake.faults.add(operation="jobStatus", do="status", status=200, body=BUSY, when="before", times=0)
    process = applied.start("destroy", "job.toml", "--yes")
    wait_for(lambda: any(entry["operation"] == "jobStatus" for entry in applied.fake.journal))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, on_service(applied)) == (130, {"batches": 0, "runs": 0}), err
    assert [entry["status"] for entry in applied.lock] == ["COMPLETE", "COMPLETE"]  # nothing is confirmed yet
    check_nothing_paid(applied)
    applied.fake.faults.scripts.clear()
    assert applied.run("destroy", "--yes").code == 0
    assert deletions(applied) == []
    assert [entry["status"] for entry in applied.lock] == ["DELETED", "DELETED"]


@pytest.mark.slow
def test_destroy_keeps_results_on_request_and_deletes_them_later(applied: Project) -> None:
    assert applied.run("destroy", "--yes", "--keep-results").code == 0
    assert on_service(applied) == {"batches": 0, "runs": 2}
    shutil.rmtree(applied.folder / "results")
    check_nothing_paid(applied)  # the results are fetched again
    assert applied.run("destroy", "--yes").code == 0
    assert on_service(applied) == {"batches": 0, "runs": 0}


def test_fresh_clone_pays_only_new_and_changed_files_after_destroy(applied: Project) -> None:
    assert applied.run("destroy", "--yes").code == 0
    clone = applied.clone("one")
    clone.write("in/00001.txt", "changed")
    clone.write("in/new.txt", "new")
    applied.forget_requests()
    outcome = clone.apply()
    assert outcome.code == 3, outcome.text
    assert "cannot be fetched again" in outcome.text
    assert sorted(applied.fake.ledger["runs"].values()) == [1, 1, 1]
    assert set(clone.arrived()) == {"00001.txt", "new.txt"}
    assert {line["path"] for line in clone.documents} == {"in/00001.txt", "in/new.txt"}
    check_nothing_paid(clone, 3)


def test_failed_runs_stay_failed_and_unpaid_after_destroy(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED")
    assert project.apply().code == 3
    assert project.run("destroy", "--yes").code == 0
    assert [entry["status"] for entry in project.lock] == ["DELETED FAILED"]
    check_nothing_paid(project, 3)
    clone = project.clone("one")
    check_nothing_paid(clone, 3)
    assert clone.apply("--retry-failed").code == 0
    assert len(project.fake.ledger["runs"]) == 2


def test_clone_that_knows_the_runs_learns_from_the_lock_file(applied: Project) -> None:
    clone = applied.clone("one", "job.state.db")
    shutil.copytree(applied.folder / "results", clone.folder / "results")
    assert applied.run("destroy", "--yes").code == 0
    shutil.copy2(applied.folder / "job.lock.toml", clone.folder / "job.lock.toml")
    check_nothing_paid(clone)
    assert clone.lock == applied.lock


@pytest.mark.slow
def test_twins_in_two_batches_are_both_known_in_a_fresh_clone(applied: Project) -> None:
    for number in range(4):
        applied.write(f"in/{number:05}.txt", "the same")
    applied.apply()
    assert applied.run("destroy", "--yes").code == 0
    check_nothing_paid(applied.clone("one"), 3)


def test_again_pays_for_destroyed_files_once_more(applied: Project) -> None:
    assert applied.run("destroy", "--yes").code == 0
    outcome = applied.apply("--again")
    assert outcome.code == 0, outcome.text
    assert on_service(applied) == APPLIED
    assert len(applied.fake.ledger["runs"]) == 4
    check_nothing_paid(applied)


def test_new_app_version_pays_for_destroyed_files(applied: Project) -> None:
    assert applied.run("destroy", "--yes").code == 0
    applied.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert applied.apply().code == 0
    assert on_service(applied) == APPLIED


def test_lost_results_of_destroyed_runs_are_said_and_not_paid_for(applied: Project) -> None:
    assert applied.run("destroy", "--yes").code == 0
    shutil.rmtree(applied.folder / "results")
    applied.forget_requests()
    outcome = applied.apply("--retry-failed")
    assert (outcome.code, applied.sent()) == (3, [])
    assert "no longer exists on the server" in outcome.err
    assert "failed " not in outcome.out


def test_results_that_are_not_on_disk_are_not_deleted_without_the_flag(applied: Project) -> None:
    shutil.rmtree(applied.folder / "results")
    outcome = applied.run("destroy", "--yes")
    assert (outcome.code, on_service(applied), deletions(applied)) == (3, APPLIED, [])
    assert "has results that are not fetched" in outcome.out
    outcome = applied.run("destroy", "--yes", "--discard-unfetched")
    assert (outcome.code, on_service(applied)) == (0, {"batches": 0, "runs": 0})
    assert "whose results were never fetched and are lost" in outcome.err
    outcome = applied.apply("--retry-failed")
    assert (outcome.code, applied.sent()[2:]) == (3, ["DELETE deleteRun"] * 2), outcome.text


def test_deleted_results_that_were_never_fetched_are_lost_and_not_failed(project: Project) -> None:
    project.write_files(1)
    project.fake.faults.add(operation="getRunResults", do="status", status=400)
    assert project.apply().code == 4
    assert project.run("destroy", "--yes", "--discard-unfetched").code == 0
    project.forget_requests()
    outcome = project.apply("--retry-failed")
    assert (outcome.code, project.sent()) == (3, []), outcome.text
    assert "was deleted on request, and its results cannot be fetched again" in outcome.err


@pytest.mark.slow
def test_run_whose_pdfs_are_not_fetched_is_left(applied: Project) -> None:
    applied.change_spec("[limits]", "[results]\npdf = true\n[run]\ngenerate_post_process_pdf = true\n[limits]")
    applied.fake.faults.add(operation="readFile", do="status", status=400, times=2)
    assert applied.apply().code == 4
    outcome = applied.run("destroy", "--yes")
    assert (outcome.code, outcome.out.count("has results that are not fetched")) == (3, 4)
    assert applied.apply().code == 0
    assert applied.run("destroy", "--yes").code == 0
    assert on_service(applied) == {"batches": 0, "runs": 0}


def test_run_whose_pdfs_are_not_on_disk_any_more_is_left(project: Project) -> None:
    project.change_spec("[limits]", "[results]\npdf = true\n[run]\ngenerate_post_process_pdf = true\n[limits]")
    project.write_files(1)
    assert project.apply().code == 0
    next(project.folder.glob("results/*/pdf/*/*/*.pdf")).unlink()
    assert project.run("destroy", "--yes").code == 3
    assert on_service(project) == {"batches": 1, "runs": 1}
    assert project.apply().code == 0
    assert project.run("destroy", "--yes").code == 0
    assert on_service(project) == {"batches": 0, "runs": 0}


@pytest.mark.slow
def test_run_in_progress_is_left_and_named(project: Project) -> None:
    project.write_files(1)
    project.fake.service.run_seconds = 3600
    assert project.apply("--wait-timeout", "1s").code == 6
    [run] = project.fake.world.runs
    outcome = project.run("destroy", "--yes")
    assert (outcome.code, on_service(project)) == (3, {"batches": 1, "runs": 1})
    assert f"run {run}: is RUNNING" in outcome.out


def test_batch_and_run_that_are_not_ours_any_more_are_left(applied: Project) -> None:
    batch, run = next(iter(applied.fake.world.batches.values())), next(iter(applied.fake.world.runs.values()))
    batch.name = "another's"
    run.request["settings"]["tags"] = ["another's"]
    outcome = applied.run("destroy", "--yes")
    assert (outcome.code, on_service(applied)) == (3, {"batches": 1, "runs": 1})
    assert f"batch {batch.id}: is named another's, which is not a name of this job" in outcome.out
    assert f"run {run.id}: does not carry the tag of this job" in outcome.out


def test_batch_with_a_run_of_somebody_else_is_left(applied: Project) -> None:
    batch = min(applied.fake.world.batches)
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme"}
    body = {"app_name": "Other", "batch_id": batch}
    started = requests.post(f"{applied.fake.root}/v2/apps/runs", json=body, headers=headers, timeout=10).json()
    outcome = applied.run("destroy", "--yes")
    assert outcome.code == 3
    assert f"batch {batch}: run {started['id']} on it is not recorded here" in outcome.out
    assert list(applied.fake.world.batches) == [batch]


@pytest.mark.slow
def test_what_was_deleted_elsewhere_takes_one_listing_of_each_kind(applied: Project) -> None:
    applied.write_files(1, 4)
    applied.apply()
    for kind in (applied.fake.world.batches, applied.fake.world.runs):
        for key in sorted(kind, key=lambda key: kind[key].id)[:2]:
            del kind[key]
    applied.forget_requests()
    assert applied.run("destroy", "--yes").code == 0
    operations = [entry["operation"] for entry in applied.fake.journal]
    assert (operations.count("listBatches"), operations.count("listRuns")) == (1, 3)  # the last of each is empty
    assert operations.count("deleteBatch") + operations.count("deleteRun") == 2


def test_nothing_is_called_deleted_where_the_account_sees_nothing(applied: Project) -> None:
    applied.fake.world.batches.clear()
    applied.fake.world.runs.clear()
    outcome = applied.run("destroy", "--yes")
    assert outcome.code == 3
    assert "the account may not see it" in outcome.out
    assert deletions(applied) == []


# [cleanup]

ALL = 'delete_input = "after-results"\ndelete_output = "after-results"\ndelete_logs = "after-results"'
CLEANED = {
    "input": ('delete_input = "after-results"', {"batches": 0, "runs": 2}),
    "output": ('delete_output = "after-results"', {"batches": 2, "runs": 0}),
    "logs": ('delete_logs = "after-results"', APPLIED),
    "all": (ALL, {"batches": 0, "runs": 0}),
}


def with_cleanup(project: Project, keys: str) -> None:
    project.change_spec("[limits]", f"[cleanup]\n{keys}\n[limits]")


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("case", CLEANED)
def test_cleanup_deletes_what_the_spec_names_once_results_are_on_disk(project: Project, case: str) -> None:
    keys, left = CLEANED[case]
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    with_cleanup(project, keys)
    assert "[cleanup] deletes from the service, once results are on disk: " in project.run("plan").out
    outcome = project.apply()
    assert "deleting " in outcome.err
    assert (outcome.code, on_service(project)) == (0, left), outcome.text
    assert len(project.documents) == 4
    check_nothing_paid(project)
    project.forget_requests()
    assert project.clone("one").apply().code == (3 if "output" in keys else 0)
    assert {sent for sent in project.sent() if not sent.startswith("DELETE")} == set()
    assert project.run("destroy", "--yes").code == 0
    assert on_service(project) == {"batches": 0, "runs": 0}


def test_cleanup_that_is_added_later_deletes_what_was_done_before(applied: Project) -> None:
    with_cleanup(applied, ALL)
    check = applied.apply()
    assert (check.code, on_service(applied)) == (0, {"batches": 0, "runs": 0}), check.text


def test_cleanup_says_what_could_not_be_deleted_and_the_next_apply_goes_on(applied: Project) -> None:
    with_cleanup(applied, ALL)
    batch = min(applied.fake.world.batches)
    applied.fake.faults.add(operation="deleteBatch", do="status", status=403, when="before", times=1)
    outcome = applied.apply()
    assert (outcome.code, on_service(applied)) == (3, {"batches": 1, "runs": 0})
    assert f"cleanup: batch {batch}: " in outcome.err
    assert (applied.apply().code, on_service(applied)) == (0, {"batches": 0, "runs": 0})


def test_cleanup_keeps_what_has_files_without_an_answer(project: Project) -> None:
    project.write_files(2)
    with_cleanup(project, ALL)
    project.fake.faults.add(operation="getRunResults", do="drop_answer", name="00001.txt", times=0)
    outcome = project.apply()
    assert (outcome.code, on_service(project)) == (3, {"batches": 1, "runs": 1})
    assert "unanswered" in outcome.out


def test_cleanup_keeps_what_waits_for_review(project: Project) -> None:
    project.write_files(1)
    with_cleanup(project, ALL)
    project.fake.next_run(status="STOPPED_AT_CHECKPOINT")
    assert project.apply().code == 6
    assert on_service(project) == {"batches": 1, "runs": 1}


def test_cleanup_keeps_what_could_not_be_written(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    path = project.folder / "results/job/documents.jsonl"
    path.write_text("edited")
    project.write_files(1, 1)
    with_cleanup(project, ALL)
    assert project.apply().code == 3
    assert on_service(project) == APPLIED


@pytest.fixture
def refused(project: Project) -> Project:
    """A job of two files with a batch, whose only start was refused, perhaps by a gateway that delivered it."""
    project.write_files(2)
    return project


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("when", ["before", "after"])
def test_destroy_finds_out_whether_a_run_was_started(refused: Project, when: str) -> None:
    refused.fake.faults.add(operation="runApp", do="status", status=400, when=when)
    assert refused.apply().code == 4
    outcome = refused.run("destroy", "--yes")
    if when == "after":
        assert (outcome.code, on_service(refused)) == (3, {"batches": 1, "runs": 1}), outcome.text
        assert "has results that are not fetched" in outcome.out
        assert "hint       see `runner apply " in outcome.out
        assert refused.apply().code == 0
        outcome = refused.run("destroy", "--yes")
    assert (outcome.code, on_service(refused)) == (0, {"batches": 0, "runs": 0}), outcome.text
    assert refused.apply().code == 0
    check_paid_once(refused.fake)
    assert sum(refused.fake.ledger["runs"].values()) == 1


def test_destroy_leaves_the_batch_of_a_run_that_only_a_person_can_decide_about(refused: Project) -> None:
    refused.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    refused.fake.faults.add(operation="runApp", do="reset", when="before")
    assert refused.apply().code == 7
    outcome = refused.run("destroy", "--yes")
    assert (outcome.code, on_service(refused)) == (3, {"batches": 1, "runs": 0}), outcome.text
    assert "the start of a run on it is unconfirmed" in outcome.out
    assert "hint       see `runner resolve " in outcome.out
    assert refused.run("resolve", "--resubmit").code == 0
    assert refused.run("destroy", "--yes").code == 0
    assert on_service(refused) == {"batches": 0, "runs": 0}


def test_clone_that_never_fetched_a_deleted_run_is_told_what_to_type_and_what_is_lost(applied: Project) -> None:
    clone = applied.clone("old")
    assert applied.run("destroy", "--yes").code == 0
    outcome = clone.apply()
    assert outcome.code == 4
    assert "2 runs paid for before: status 404" in outcome.err
    assert f"`runner resolve {clone.spec_path} --adopt RUN_ID`" in outcome.err
    for entry in clone.lock:
        clone.run("resolve", "--adopt", entry["run_id"])
    outcome = clone.apply()
    assert outcome.code == 3
    assert "its results were never fetched here" in outcome.err
    assert "restore the results folder" in outcome.err
