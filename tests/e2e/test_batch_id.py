"""`[batch] id`: the files of a batch that is there are run as they are, once for each content; nothing is changed."""

from __future__ import annotations

import pytest
import requests

from support.world import lose

from .conftest import WRITES, Project

TURN = "aihub-runner-turn-"
HEADERS = {"Authorization": "Bearer fake-test", "IB-Context": "acme"}


def make_batch(project: Project, **files: str) -> int:
    """Make a batch as somebody else does, with these files."""
    url, body = f"{project.fake.root}/v2/batches", {"name": "theirs"}
    batch = requests.post(url, json=body, headers=HEADERS, timeout=10).json()["id"]
    for name, text in files.items():
        put(project, batch, f"{name}.txt", text)
    return int(batch)


def put(project: Project, batch: int, name: str, text: str) -> None:
    url = f"{project.fake.root}/v2/batches/{batch}/files/{name}"
    headers = HEADERS | {"Content-Type": "application/octet-stream"}
    requests.put(url, data=text.encode(), headers=headers, timeout=10).raise_for_status()


def remove(project: Project, batch: int, name: str) -> None:
    url = f"{project.fake.root}/v2/batches/{batch}/files/{name}"
    requests.delete(url, headers=HEADERS, timeout=10).raise_for_status()


@pytest.fixture
def batch(project: Project) -> int:
    """Return a batch of two files, which the spec of the project runs."""
    made = make_batch(project, a="Invoice number: 1", b="Invoice number: 2")
    project.change_spec('files = "in/**/*"\n', "")
    project.change_spec("[limits]", f"[batch]\nid = {made}\n[limits]")
    (project.folder / "in").mkdir()
    project.forget_requests()
    return made


def paid(project: Project) -> int:
    return len(project.fake.runs())


def changes(project: Project) -> list[str]:
    """What changed a batch: sent or deleted files, and deleted batches, but for those by which clients take turns."""
    turns = {f"/v2/batches/{batch}" for batch, name in made(project).items() if name.startswith(TURN)}
    others = [entry for entry in project.fake.journal if entry["path"].removeprefix("/api") not in turns]
    names = [f"{entry['method']} {entry['operation']}" for entry in others if entry["method"] in WRITES]
    return [one for one in names if "File" in one or "deleteBatch" in one]


def made(project: Project) -> dict[int, str]:
    """The batches that were made since the journal was cleared last: their names, by id.

    A response that was spoilt tells no id: then a list does.
    """
    created = [one for one in project.fake.journal if one["operation"] == "createBatch" and one["status"] < 300]
    lists = [one["response_json"] or {} for one in project.fake.journal if one["operation"] == "listBatches"]
    names = {one["request_json"]["name"] for one in created}
    found = {(one["response_json"] or {}).get("id", 0): one["request_json"]["name"] for one in created}
    listed = [batch for one in lists for batch in one.get("batches", [])]
    return found | {batch["id"]: batch["name"] for batch in listed if batch["name"] in names}


def deleted_files(project: Project) -> list[str]:
    return [key for key in project.fake.ledger["deletions"] if "/" in key]


def paths(project: Project) -> list[str]:
    return [line["path"] for line in project.documents if line["present"]]


def test_batch_is_run_as_it_is_and_once(project: Project, batch: int) -> None:
    plan = project.run("plan")
    assert "2 files (a.txt …): new" in plan.out
    assert "0 batches, 1 run to pay" in plan.out
    assert project.sent() == []
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    [run] = project.fake.world.runs.values()
    assert run.request["batch_id"] == batch
    assert paths(project) == ["a.txt", "b.txt"]
    assert {line["sha256"] for line in project.documents} == {""}
    assert changes(project) == []
    project.forget_requests()
    again = project.apply()
    assert (again.code, project.sent()) == (0, [])
    assert "nothing to do" in again.out
    assert project.run("plan", "--exit-code").code == 0
    assert project.run("status").code == 0


@pytest.mark.slow
def test_changed_content_is_paid_for_as_a_whole_and_earlier_content_is_not(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    put(project, batch, "c.txt", "Invoice number: 3")
    plan = project.run("plan", "-v")
    assert "+ 1 file: new" in plan.out
    assert "2 files: unchanged, to pay for again because other files of the batch changed or are gone" in plan.out
    assert project.apply().code == 0
    assert (paid(project), paths(project)) == (2, ["a.txt", "b.txt", "c.txt"])
    remove(project, batch, "c.txt")
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, []), "this content was run before"
    assert paths(project) == ["a.txt", "b.txt"]
    assert len(project.documents) == 3, "results of a removed file stay"


def test_changed_file_of_the_same_size_is_noticed_by_its_time(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    put(project, batch, "a.txt", "Invoice number: 7")
    assert "1 file (a.txt): changed" in project.run("plan").out
    assert project.apply().code == 0
    assert paid(project) == 2
    values = [field["value"] for line in project.documents for field in line["fields"]]
    assert "7" in values
    assert "1" not in values


def test_question_says_what_is_paid_for_again(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    put(project, batch, "c.txt", "Invoice number: 3")
    code, shown = project.on_terminal("apply", "job.toml", answer="n\n")
    assert code == 2
    assert "Start 1 run" in shown
    assert "2 files are paid for again although they did not change" in " ".join(shown.split())
    assert paid(project) == 1


@pytest.mark.slow
def test_fresh_clone_with_the_lock_file_pays_nothing(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    put(project, batch, "c.txt", "Invoice number: 3")
    assert project.apply().code == 0
    project.forget_requests()
    clone = project.clone("one")
    assert "nothing to do" in clone.run("plan").out
    outcome = clone.apply()
    assert (outcome.code, project.sent()) == (0, []), outcome.text
    assert paths(clone) == ["a.txt", "b.txt", "c.txt"]
    assert (clone.apply().code, project.sent()) == (0, [])
    assert clone.lock == project.lock
    put(project, batch, "d.txt", "Invoice number: 4")
    assert clone.apply().code == 0
    assert paid(project) == 3
    other = project.clone("two")
    assert other.apply().code == 0, "the run of the first clone is found by its tag"
    assert paid(project) == 3


def test_lost_state_and_lock_file_pay_nothing(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    lose(project.folder, "job.state.db", "job.lock.toml")
    project.forget_requests()
    outcome = project.apply()
    assert (outcome.code, project.sent()) == (0, []), outcome.text
    assert (paid(project), paths(project)) == (1, ["a.txt", "b.txt"])
    assert (project.apply().code, project.sent()) == (0, [])


def test_restored_state_pays_nothing_again(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    kept = (project.folder / "job.state.db").read_bytes()
    put(project, batch, "c.txt", "Invoice number: 3")
    assert project.apply().code == 0
    (project.folder / "job.state.db").write_bytes(kept)
    (project.folder / "job.lock.toml").unlink()
    project.forget_requests()
    assert (project.apply().code, project.sent(), paid(project)) == (0, [], 2)
    assert paths(project) == ["a.txt", "b.txt", "c.txt"]


def test_batch_that_changes_before_its_run_is_not_paid_for(project: Project, batch: int) -> None:
    fault = {"do": "replace", "old": '"nodes": *\\[', "new": '"nodes": [{"name": "late.txt"},'}
    project.fake.faults.add(operation="listFiles", nth=2, times=0, **fault)
    outcome = project.apply()
    assert (outcome.code, paid(project)) == (4, 0)
    assert f"batch {batch}: changed since it was listed, 'late.txt'; its run was not started" in outcome.err


@pytest.mark.slow
def test_failed_run_is_repeated_on_request_only(project: Project, batch: int) -> None:
    project.fake.next_run(status="FAILED", message="no")
    assert project.apply().code == 3
    assert project.apply().code == 3
    assert project.run("status").code == 3
    assert paid(project) == 1
    assert project.apply("--retry-failed").code == 0
    assert paid(project) == 2
    assert project.apply("--again").code == 0
    assert paid(project) == 3
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, [])


@pytest.mark.slow
def test_other_batch_and_other_settings_are_other_work(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    other = make_batch(project, x="Invoice number: 5")
    project.change_spec(f"id = {batch}", f"id = {other}")
    assert project.apply().code == 0
    assert [run.request["batch_id"] for run in project.fake.world.runs.values()] == [batch, other]
    assert paths(project) == ["x.txt"]
    project.change_spec(f"id = {other}", f"id = {batch}")
    assert project.apply().code == 0
    assert paid(project) == 2
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert "changed: version" in project.run("plan").out
    assert project.apply().code == 0
    assert (paid(project), paths(project)) == (3, ["a.txt", "b.txt"])


def test_destroy_deletes_runs_and_leaves_the_batch(project: Project, batch: int) -> None:
    assert project.apply().code == 0
    files = project.fake.files(batch)
    outcome = project.run("destroy", "--yes")
    assert outcome.code == 0, outcome.text
    assert (paid(project), project.fake.files(batch)) == (0, files)
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, [])
    clone = project.clone("one")
    assert clone.apply().code == 3, "the results are deleted"
    assert project.sent() == []


def test_cleanup_of_output_leaves_the_batch(project: Project, batch: int) -> None:
    cleanup = '[cleanup]\ndelete_output = "after-results"\ndelete_logs = "after-results"\n'
    project.change_spec("[limits]", f"{cleanup}[limits]")
    assert project.apply().code == 0
    assert set(project.fake.files(batch)) == {"a.txt", "b.txt"}
    assert changes(project) == []
    assert (project.apply().code, paths(project)) == (0, ["a.txt", "b.txt"])


def test_spec_without_the_batch_leaves_it_alone(project: Project, batch: int) -> None:
    """Back to `files`, with an intent that was left open on somebody else's batch."""
    project.fake.faults.add(operation="createBatch", do="status", status=500, when="before")
    assert project.apply().code == 4
    project.change_spec(f"[batch]\nid = {batch}\n", "")
    project.change_spec('name = "job"', 'name = "job"\nfiles = "in/**/*"')
    project.write("in/a.txt", "Invoice number: 1")
    files = project.fake.files(batch)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.files(batch) == files
    assert {run.request["batch_id"] for run in project.fake.world.runs.values()} != {batch}


@pytest.mark.parametrize(
    ("files", "hint"),
    [(0, "holds no files"), (1001, "holds 1001 files, at most 1000 can be one run")],
)
def test_batch_of_no_or_too_many_files_is_an_error(project: Project, batch: int, files: int, hint: str) -> None:
    world = project.fake.world
    for name in [*world.batches[batch].files]:
        remove(project, batch, name)
    for number in range(files):
        world.put_file(batch, f"{number}.txt", "sha256:0", 1)
    project.forget_requests()
    outcome = project.apply()
    assert (outcome.code, project.sent()) == (2, [])
    assert f"batch {batch} {hint}" in outcome.err


def test_batch_that_is_not_there_is_an_error(project: Project, batch: int) -> None:
    project.change_spec(f"id = {batch}", "id = 999")
    for command in ("plan", "apply"):
        outcome = project.run(command)
        assert outcome.code == 4
        assert "batch 999 does not exist, or this account cannot see it" in outcome.err
    assert project.sent() == []


def test_results_are_fetched_although_the_batch_is_gone(project: Project, batch: int) -> None:
    project.fake.next_run(after_s=3600)
    assert project.apply("--no-wait").code == 6
    project.fake.world.batches[batch].files.clear()
    project.fake.world._remove_batch(batch)
    project.fake.clock.advance(7200)
    outcome = project.apply()
    assert outcome.code == 4, outcome.text
    assert paths(project) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ('files = "a"\n[batch]\nid = 5', "job.toml:4:1: files and id of [batch] cannot be combined"),
        ('group_by = "folder"\n[batch]\nid = 5', "group_by needs files"),
        ("[batch]\nid = 5\n[limits]\nfiles_per_batch = 5", "files_per_batch cannot be combined with [batch]"),
        ("[batch]\nid = 5\n[limits]\nmax_pages = 5", "max_pages needs files"),
        ('[batch]\nid = 5\n[cleanup]\ndelete_input = "after-results"', "delete_input needs files"),
        ("[batch]\nid = 0", "id"),
        ("[batch]\nid = true", "id"),
    ],
)
def test_keys_that_make_no_sense_are_errors(project: Project, spec: str, message: str) -> None:
    project.write("job.toml", f'app_name = "A"\n{spec}\n')
    outcome = project.run("validate")
    assert outcome.code == 2
    assert message in outcome.err


def test_selection_is_refused(project: Project, batch: int) -> None:
    for options in (["--only", "a.txt"], ["--limit", "1"]):
        outcome = project.apply(*options)
        assert (outcome.code, project.sent()) == (2, [])
        assert "[batch] runs all of them" in outcome.err
