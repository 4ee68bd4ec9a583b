"""Results of runs that the service does not have any more are found on disk, where the state does not know them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import requests

from .conftest import Project

DRIVE = "/acme/docs/fs/drive"
CLEANUP = '[cleanup]\ndelete_input = "after-results"\ndelete_output = "after-results"\n[limits]'


def apply_and_delete(project: Project, how: str) -> None:
    """Apply a job, and delete its batches and runs from the service."""
    if how == "cleanup":
        project.change_spec("[limits]", CLEANUP)
    assert project.apply().code == 0
    if how == "destroy":
        assert project.run("destroy", "--yes").code == 0
    assert not project.fake.world.runs


def lose_state(project: Project) -> list[dict[str, object]]:
    documents = project.documents
    (project.folder / "job.state.db").unlink()
    return documents


def put(project: Project, folder: str) -> None:
    """Put a file into a folder of a drive."""
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    url = f"{project.fake.root}/v2/files{DRIVE}/{folder}/a.txt"
    requests.put(url, data=f"Invoice number: {folder}", headers=headers, timeout=10).raise_for_status()


def pages_of(project: Project) -> list[Path]:
    return sorted((project.folder / "results/job/raw").rglob("*.json"))


def check_lost(project: Project) -> None:
    """Check that the results are reported as lost, and nothing is paid for."""
    outcome = project.apply()
    assert (outcome.code, "cannot be fetched again" in outcome.err) == (3, True), outcome.text
    assert project.sent().count("POST runApp") == 1


@pytest.mark.parametrize("how", ["destroy", "cleanup"])
def test_results_are_kept_where_only_the_state_is_lost(project: Project, how: str) -> None:
    project.write_files(3)
    apply_and_delete(project, how)
    documents = lose_state(project)
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), outcome.text
    sent = len(project.sent())
    assert project.apply().code == 0
    assert len(project.sent()) == sent
    assert project.sent().count("POST runApp") == 1


def test_files_of_one_name_keep_their_own_results(project: Project) -> None:
    for folder in ("a", "b", "c"):
        project.write(f"in/{folder}/same.txt", f"Invoice number: {folder}")
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    assert project.apply().code == 0
    assert project.documents == documents


@pytest.mark.parametrize("how", ["run deleted by others", "destroy"])
def test_results_that_lack_a_file_are_kept(project: Project, how: str) -> None:
    """The service had none of it, either."""
    project.write("in/first.txt", "Invoice number: first")
    assert project.apply().code == 0
    for path in ("in/a/same.txt", "in/b/same.txt", "in/c.txt", "in/d.txt"):
        project.write(path, f"Invoice number: {path}")
    project.fake.faults.add(operation="getRunResults", times=99, do="drop_answer", name="c.txt")
    assert project.apply().code == 3
    if how == "destroy":
        assert project.run("destroy", "--yes").code == 0
    else:
        project.fake.world.runs.pop(str(project.fake.runs()[1]["id"]))
    documents = lose_state(project)
    outcome = project.apply()
    assert (outcome.code, len(documents), project.documents) == (3, 4, documents), outcome.text
    assert "unanswered in/c.txt" in outcome.out
    assert project.sent().count("POST runApp") == 2


def test_names_that_do_not_give_the_fingerprint_are_not_those_of_the_run(project: Project) -> None:
    for folder in ("a", "b"):
        project.write(f"in/{folder}/same.txt", f"Invoice number: {folder}")
    apply_and_delete(project, "destroy")
    lose_state(project)
    [page] = pages_of(project)
    content = json.loads(page.read_text())
    content["files"][0]["original_file_name"] = "same.txt"
    page.write_text(json.dumps(content))
    check_lost(project)


def test_others_keep_their_results_where_a_file_was_removed(project: Project) -> None:
    project.write_files(3)
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    (project.folder / "in/00001.txt").unlink()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert [line for line in documents if line["path"] != "in/00001.txt"] == project.documents


def test_new_file_beside_them_is_paid_for_alone(project: Project) -> None:
    project.write_files(2)
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    project.write("in/new.txt", "new")
    assert project.apply().code == 0
    assert [line for line in project.documents if line["path"] != "in/new.txt"] == documents
    assert project.sent().count("POST runApp") == 2


def test_pages_of_several_kinds_of_results_are_found(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    project.change_spec("[limits]", '[results]\ninclude = ["source"]\n[limits]')
    apply_and_delete(project, "destroy")
    assert len({page.parent for page in pages_of(project)}) == 2
    documents = lose_state(project)
    assert project.apply().code == 0
    assert project.documents == documents


def test_folders_that_are_no_kinds_of_results_are_passed_over(project: Project) -> None:
    project.write_files(2)
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    [page] = pages_of(project)
    for name in (b"\xff", b"plain+", b"\n"):
        shutil.copytree(os.fsencode(page.parent), os.fsencode(page.parent.parent) + b"/" + name)
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), outcome.text


def test_results_of_a_folder_of_a_drive_are_found_as_long_as_the_spec_names_it(project: Project) -> None:
    for folder in ("first", "second"):
        put(project, folder)
    project.change_spec('files = "in/**/*"', f'input_dir = "{DRIVE}/first/"')
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    assert project.apply().code == 0
    assert project.documents == documents
    (project.folder / "job.state.db").unlink()
    project.change_spec("/first/", "/second/")
    assert project.apply().code == 0
    assert {line["path"] for line in project.documents} == {f"{DRIVE}/second/a.txt"}
    project.change_spec("/second/", "/first/")
    assert project.apply().code == 0
    assert [line for line in project.documents if line["present"]] == documents
    assert project.sent().count("POST runApp") == 2


@pytest.mark.matrix
@pytest.mark.parametrize("harm", ["removed", "emptied", "of another batch", "of other files", "of twice as many files"])
def test_pages_that_are_not_the_whole_result_of_the_run_do_not_count(project: Project, harm: str) -> None:
    project.write_files(3)
    apply_and_delete(project, "destroy")
    lose_state(project)
    [page] = pages_of(project)
    content = json.loads(page.read_text())
    match harm:
        case "removed":
            content["has_more"] = True
        case "emptied":
            content = {}
        case "of another batch":
            content["batch_id"] = "999"
        case "of other files":
            content["files"][0]["original_file_name"] = "other.txt"
        case "of twice as many files":
            content["files"] *= 2
    page.write_text(json.dumps(content))
    check_lost(project)
