"""What must not be deleted: batches with files or runs of others, and pages that nothing can replace."""

from __future__ import annotations

import pytest
import requests

from support.proxy import RUN_LIST, Proxy, answer_instead, rewrite_each

from .conftest import Project
from .test_batch_doubts import home, kept, synced
from .test_batch_id import HEADERS, make_batch, put

pytestmark = [pytest.mark.matrix, pytest.mark.slow]


def raw(project: Project) -> list[str]:
    return sorted(str(p.relative_to(project.folder)) for p in (project.folder / "results/job/raw").rglob("*.json"))


def test_batch_with_a_run_of_others_whose_batch_the_list_leaves_out_is_not_destroyed(
    project: Project, proxy: Proxy
) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    batch = min(project.fake.world.batches)
    project.fake.next_run(hold=True)
    body = {"app_name": "Other", "batch_id": batch}
    requests.post(f"{project.fake.root}/v2/apps/runs", json=body, headers=HEADERS, timeout=10).raise_for_status()
    leave_out = rewrite_each("runs", lambda run: {key: run[key] for key in run if key != "batch_id"})
    proxy.always("GET", RUN_LIST, leave_out)
    project.run("destroy", "--yes")
    assert batch in project.fake.world.batches


def test_batch_of_another_job_under_an_imported_id_is_not_destroyed(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    clone = project.clone("one")
    assert clone.apply().code == 0
    [batch] = project.fake.world.batches.values()
    batch.name = f"job-{'f' * 64}"
    batch.files.clear()
    put(project, batch.id, "their.txt", "of another job that is named job, too")
    clone.run("destroy", "--yes")
    assert batch.id in project.fake.world.batches


@pytest.mark.parametrize("mode", ["id", "sync", "keep", "plain"])
def test_prune_keeps_pages_after_a_setting_changed(project: Project, mode: str) -> None:
    if mode == "id":
        made = make_batch(project, a="Invoice number: 1", b="Invoice number: 2")
        project.change_spec('files = "in/**/*"\n', "")
        project.change_spec("[limits]", f"[batch]\nid = {made}\n[limits]")
    elif mode == "sync":
        synced(project)
    elif mode == "keep":
        kept(project)
    else:
        project.write_files(2)
    assert project.apply().code == 0
    held, _lines = raw(project), project.documents
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    project.run("results", "--prune", "1", "--yes")
    assert raw(project) == held


@pytest.mark.parametrize("how", ["keep, destroy", "plain, destroy", "plain, cleanup"])
def test_batch_with_a_file_of_others_is_not_destroyed(project: Project, how: str) -> None:
    if how.startswith("keep"):
        kept(project)
    else:
        project.write_files(2)
    assert project.apply().code == 0
    batch = home(project)
    put(project, batch, "theirs.txt", "of somebody else")
    if how.endswith("destroy"):
        project.run("destroy", "--yes")
    else:
        project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
        project.apply()
    assert batch in project.fake.world.batches


@pytest.mark.parametrize("lacks", ["earlier names", "all names"])
def test_kept_batch_with_a_file_of_others_is_not_destroyed_by_a_clone_that_lacks_names(
    project: Project, lacks: str
) -> None:
    kept(project)
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    project.write("in/00001.txt", "changed")
    assert project.apply().code == 0
    clone = project.clone("one")
    if lacks == "all names":
        clone.write("in/00002.txt", "changed here")
    else:
        assert clone.apply().code == 0
    batch = home(project)
    put(project, batch, "theirs.txt", "of somebody else")
    outcome = clone.run("destroy", "--yes", "--discard-unfetched")
    assert batch in project.fake.world.batches, outcome.text
    assert "holds 1 file of others, theirs.txt" in outcome.text
    del project.fake.world.batches[batch].files["theirs.txt"]
    assert clone.run("destroy", "--yes", "--discard-unfetched").code == 0
    assert not project.fake.world.batches


def test_pages_of_a_deleted_run_are_not_pruned(project: Project) -> None:
    made = make_batch(project, a="Invoice number: 1", b="Invoice number: 2")
    project.change_spec('files = "in/**/*"\n', "")
    project.change_spec("[limits]", f'[batch]\nid = {made}\n[cleanup]\ndelete_output = "after-results"\n[limits]')
    assert project.apply().code == 0
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    project.run("results", "--prune", "1", "--yes")
    project.change_spec('[run]\nversion = "2"\n', "")
    outcome = project.apply()
    assert outcome.code == 0
    assert len(project.documents) == 2


def test_kept_batch_that_the_service_refused_to_delete_stays_the_one_in_use(project: Project) -> None:
    kept(project)
    assert project.apply().code == 0
    batch = home(project)
    for operation in ("deleteBatch", "deleteRun"):
        project.fake.faults.add(operation=operation, do="status", status=403, when="before")
    assert project.run("destroy", "--yes").code == 3
    project.write("in/new.txt", "a new one")
    outcome = project.apply()
    assert (outcome.code, home(project)) == (0, batch), outcome.text
    assert "new.txt" in project.fake.files(batch)


def test_kept_batch_whose_deletion_may_still_go_on_is_not_used(project: Project, proxy: Proxy) -> None:
    """The answer was lost, and the request was repeated."""
    kept(project)
    assert project.apply().code == 0
    batch = home(project)
    proxy.always("DELETE", "/v2/batches/[0-9]+", answer_instead(409))
    assert project.run("destroy", "--yes", "--keep-results").code == 3
    proxy.clear()
    project.write("in/new.txt", "a new one")
    assert project.apply().code == 0
    assert "new.txt" not in project.fake.files(batch)
    assert "new.txt" in {name for one in project.fake.batches() for name in project.fake.files(one["id"])}
    assert project.run("destroy", "--yes").code == 0
    assert not project.fake.world.batches


def test_deletion_whose_job_is_forgotten_is_asked_for_again(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    project.fake.faults.add(operation="deleteBatch", do="status", status=202, body='{"job_id": "j"}', when="before")
    assert project.run("destroy", "--yes").code == 3
    assert project.run("destroy", "--yes").code == 0
    assert not project.fake.world.batches


def test_deletion_of_logs_whose_job_is_forgotten_is_asked_for_again(project: Project) -> None:
    project.write_files(1)
    project.change_spec("[limits]", '[cleanup]\ndelete_logs = "after-results"\n[limits]')
    project.fake.faults.add(operation="jobStatus", do="status", status=404, when="before", times=1)
    assert project.apply().code == 3
    assert project.apply().code == 0


def test_clone_that_does_not_know_the_names_in_a_batch_destroys_it(project: Project) -> None:
    project.write_files(2)
    project.change_spec("[limits]", '[cleanup]\ndelete_output = "after-results"\n[limits]')
    assert project.apply().code == 0
    project.clone("one").run("destroy", "--yes")
    assert not project.fake.world.batches


@pytest.mark.parametrize("end", ["COMPLETE", "FAILED", "gone"])
def test_run_of_earlier_settings_that_ended_meanwhile_is_destroyed(project: Project, end: str) -> None:
    """Apply does not ask for it any more, so its recorded status stays."""
    project.write_files(1)
    project.fake.next_run(hold=True, **{"status": "FAILED", "message": "no"} if end == "FAILED" else {})
    assert project.apply("--no-wait").code == 6
    [first] = project.fake.world.runs
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert project.apply().code == 0
    assert f"run {first}: is RUNNING" in project.run("destroy", "--yes").out
    assert [*project.fake.world.runs] == [first]
    if end == "gone":
        project.write_files(1, start=1)
        assert project.apply().code == 0
        del project.fake.world.runs[first]
    else:
        project.fake.release(first)
    outcome = project.run("destroy", "--yes")
    if end == "COMPLETE":
        assert f"run {first}: has results that are not fetched" in outcome.out
        assert "to give results up, pass --discard-unfetched" in outcome.out
        outcome = project.run("destroy", "--yes", "--discard-unfetched")
    assert (outcome.code, project.fake.world.runs, project.fake.world.batches) == (0, {}, {}), outcome.text


@pytest.mark.parametrize("end", ["COMPLETE", "FAILED"])
def test_cleanup_says_which_run_of_earlier_settings_it_leaves(project: Project, end: str) -> None:
    project.change_spec("[limits]", '[cleanup]\ndelete_input = "after-results"\n[limits]')
    project.write_files(1)
    project.fake.next_run(hold=True, **{"status": "FAILED", "message": "no"} if end == "FAILED" else {})
    assert project.apply("--no-wait").code == 6
    [first] = project.fake.world.runs
    project.change_spec("[cleanup]", '[run]\nversion = "2"\n[cleanup]')
    outcome = project.apply()
    assert f"[cleanup] leaves run {first}, of earlier settings: it is RUNNING" in outcome.out
    assert (outcome.code, len(project.fake.world.batches)) == (0, 1)
    project.fake.release(first)
    outcome = project.apply()
    assert outcome.code == 0
    if end == "COMPLETE":
        assert f"run {first}, of earlier settings: it has results that are not fetched" in outcome.out
        assert "`runner destroy --discard-unfetched " in outcome.out
        assert project.run("destroy", "--discard-unfetched", "--yes").code == 0
    assert project.fake.world.batches == {}
