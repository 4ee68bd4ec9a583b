"""What a batch that is kept must not be taken for: somebody else's, unchanged, or without our own run."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from support.proxy import (
    BATCHES,
    FILE,
    FILES,
    RUN_LIST,
    RUNS,
    Act,
    Answer,
    Call,
    Proxy,
    answer_instead,
    before,
    forward_and_drop,
    hide,
    only_if,
    rewrite,
    rewrite_each,
)

from .conftest import Project
from .test_batch_clones import check_truth, prepare
from .test_batch_id import changes, make_batch, paid, put
from .test_batch_sync import synced

pytestmark = [pytest.mark.matrix, pytest.mark.slow]


def kept(project: Project) -> Project:
    project.change_spec("[limits]", "[batch]\nkeep = true\n[limits]")
    project.write_files(3)
    return project


def home(project: Project) -> int:
    [batch] = [one["id"] for one in project.fake.batches() if project.fake.files(one["id"])]
    return int(batch)


def without(*names: str) -> Act:
    def change(node: dict[str, Any]) -> dict[str, Any]:
        return node | {"metadata": {key: None if key in names else value for key, value in node["metadata"].items()}}

    return rewrite_each("nodes", change)


def test_batch_that_a_restored_service_gave_to_somebody_else_is_not_changed(project: Project) -> None:
    kept(project)
    assert project.apply().code == 0
    batch = home(project)
    world = project.fake.world
    world.batches[batch].name = "somebody else's archive"
    world.batches[batch].files.clear()
    project.fake.clock.advance(5)
    put(project, batch, "00001.txt", "a paper of somebody else")
    held = project.fake.files(batch)
    project.write("in/new.txt", "secret of ours")
    project.apply()
    assert project.fake.files(batch) == held


def test_nothing_is_deleted_from_a_batch_that_is_somebody_elses_by_now(project: Project) -> None:
    kept(project)
    assert project.apply().code == 0
    batch = home(project)
    project.fake.world.batches[batch].name = "somebody else's archive"
    (project.folder / "in/00000.txt").unlink()
    held = project.fake.files(batch)
    project.apply()
    assert project.fake.files(batch) == held


def test_file_that_others_replaced_after_a_refused_deletion_is_left(project: Project) -> None:
    batch = synced(project)
    assert project.apply().code == 0
    (project.folder / "in/00001.txt").unlink()
    project.fake.faults.add(operation="deleteFileFromBatch", do="status", status=403)
    project.apply()
    project.fake.clock.advance(5)
    put(project, batch, "00001.txt", "of somebody else since")
    project.apply()
    assert "00001.txt" in project.fake.files(batch)


def test_file_that_others_replace_while_we_send_is_left(project: Project, proxy: Proxy) -> None:
    batch = synced(project)
    assert project.apply().code == 0
    (project.folder / "in/00001.txt").unlink()
    project.write("in/large.txt", "takes an hour to send")
    project.fake.clock.advance(5)
    proxy.on("PUT", FILE, before(lambda: put(project, batch, "00001.txt", "of somebody else, meanwhile")))
    project.apply()
    assert "00001.txt" in project.fake.files(batch)


@pytest.mark.parametrize("logs", [False, True])
def test_list_without_known_runs_proves_nothing_where_only_logs_were_deleted(
    project: Project, proxy: Proxy, logs: bool
) -> None:
    project.write_files(2)
    if logs:
        project.change_spec("[limits]", '[cleanup]\ndelete_logs = "after-results"\n[limits]')
    assert project.apply().code == 0
    project.write_files(1, 2)
    lost = proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, only_if(lambda: bool(lost.used), hide("runs")))
    project.apply()
    assert paid(project) == 2


@pytest.mark.parametrize("mode", ["keep", "sync"])
def test_file_whose_time_was_never_seen_is_sent_again(project: Project, mode: str) -> None:
    project.change_spec("[limits]", "[limits]\nparallel_uploads = 1")
    first, other = prepare(project, mode, "state and lock file")
    other.write("in/00001.txt", "document number 7")
    first.fake.clock.advance(5)
    first.write("in/00001.txt", "document number A")
    first.write("in/00002.txt", "document number C")
    first.fake.faults.add(operation="addFileToBatch", nth=2, do="status", status=403)
    first.apply()
    first.fake.clock.advance(5)
    other.write("in/00001.txt", "document number B")
    other.apply()
    first.fake.clock.advance(5)
    first.apply()
    check_truth(project, first, other)


def test_file_that_somebody_replaced_heldits_time_was_seen_is_sent_again(project: Project, proxy: Proxy) -> None:
    batch = synced(project)
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    project.write("in/00001.txt", "document number A")
    proxy.on("PUT", FILE, before(lambda: put(project, batch, "unrelated.txt", "of others")))
    project.apply()
    project.fake.clock.advance(5)
    put(project, batch, "00001.txt", "somebody else's B")
    project.apply()
    check_truth(project, project)


def test_list_without_known_runs_proves_nothing_after_a_refused_deletion(project: Project, proxy: Proxy) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    project.fake.faults.add(operation="deleteBatch", do="status", status=403, when="before")
    project.fake.faults.add(operation="deleteRun", do="status", status=403, when="before")
    assert project.run("destroy", "--yes").code == 3
    project.write_files(1, 2)
    lost = proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, only_if(lambda: bool(lost.used), hide("runs")))
    project.apply()
    assert paid(project) == 2


def test_names_that_differ_only_in_their_unicode_form_are_not_paid_for(project: Project) -> None:
    made = make_batch(project)
    put(project, made, "caf%C3%A9.txt", "Invoice number: 1")
    put(project, made, "cafe%CC%81.txt", "Invoice number: 2")
    project.change_spec('files = "in/**/*"\n', "")
    project.change_spec("[limits]", f"[batch]\nid = {made}\n[limits]")
    for _ in range(3):
        outcome = project.apply()
    assert not paid(project) or (outcome.code == 0 and len(project.documents) == 2)


def test_file_is_not_deleted_where_the_list_has_no_times(project: Project, proxy: Proxy) -> None:
    batch = synced(project)
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    put(project, batch, "00001.txt", "of somebody else")
    (project.folder / "in/00001.txt").unlink()
    proxy.always("GET", FILES, rewrite(lambda v: json.loads(json.dumps(v).replace('"modified_timestamp"', '"other"'))))
    project.apply()
    assert "00001.txt" in project.fake.files(batch)


def test_list_of_files_that_never_ends_is_an_error(project: Project, proxy: Proxy) -> None:
    kept(project)
    assert project.apply().code == 0
    project.write("in/new.txt", "a new one")
    number, first = itertools.count(), list[Answer]()

    def act(call: Call) -> Answer:
        if not first:
            first.append(call.forward())
        answer = first[0]
        return answer.with_json(answer.json | {"has_more": True, "next_page_token": f"t{next(number)}"})

    proxy.always("GET", FILES, act)
    process = project.start("apply", "job.toml")
    try:
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, "pages without a new file" in err) == (4, True), err


def test_file_of_others_that_the_lock_file_marks_is_not_replaced(project: Project) -> None:
    batch = synced(project)
    assert project.apply().code == 0
    held = project.fake.files(batch)["theirs.txt"]
    project.write("in/theirs.txt", "a file of ours by chance of the same name")
    project.apply()
    assert project.fake.files(batch)["theirs.txt"] == held


@pytest.mark.parametrize("names", [("modified_timestamp",), ("size",), ("size", "modified_timestamp")])
@pytest.mark.parametrize("mode", ["id", "sync"])
def test_list_that_leaves_out_sizes_or_times_pays_nothing_again(
    project: Project, proxy: Proxy, names: tuple[str, ...], mode: str
) -> None:
    if mode == "sync":
        synced(project)
    else:
        made = make_batch(project, a="Invoice number: 1", b="Invoice number: 2")
        project.change_spec('files = "in/**/*"\n', "")
        project.change_spec("[limits]", f"[batch]\nid = {made}\n[limits]")
    assert project.apply().code == 0
    proxy.always("GET", FILES, without(*names))
    project.apply()
    assert paid(project) == 1


def test_one_list_without_the_kept_batch_does_not_give_it_up(project: Project, proxy: Proxy) -> None:
    kept(project)
    assert project.apply().code == 0
    batch = home(project)
    proxy.on("GET", FILES, answer_instead(404, {"message": "no"}))
    proxy.on("GET", BATCHES, hide("batches", lambda b: b["id"] == batch), times=4)
    make_batch(project, theirs="x")
    project.write("in/new.txt", "a new one")
    project.apply()
    project.apply()
    assert "new.txt" in project.fake.files(batch)


@pytest.mark.parametrize(("name", "earlier"), [("new.txt", ""), ("00001.txt", "document number 1")])
def test_batch_is_not_changed_while_our_own_run_goes_that_the_list_hides(
    project: Project, proxy: Proxy, name: str, earlier: str
) -> None:
    kept(project)
    assert project.apply().code == 0
    project.write(f"in/{name}", "document number X")
    project.fake.next_run(hold=True)
    assert project.apply("--no-wait").code == 6
    project.write(f"in/{name}", earlier) if earlier else (project.folder / "in" / name).unlink()
    project.fake.clock.advance(5)  # that content was run before: there is nothing to pay
    proxy.always("GET", RUN_LIST, hide("runs"))
    project.forget_requests()
    project.apply("--no-wait")
    assert changes(project) == []
