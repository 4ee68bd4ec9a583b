"""Results that are found on disk belong to their own files, whatever happened to files, pages and state since."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.proxy import RUN_LIST, Proxy, answer_instead, hide

from .conftest import Project
from .test_reclaim import apply_and_delete, check_lost, lose_state, pages_of

pytestmark = pytest.mark.matrix

STATE = "job.state.db"


def write(project: Project, *names: str) -> Path:
    for name in names:
        project.write(f"in/{name}", f"Invoice number: {name}")
    return project.folder / "in"


def check_right(project: Project, before: list[dict[str, Any]]) -> None:
    """Check that the bytes that have results have the same ones as before."""
    values = {(line["sha256"], line["document_index"]): line["fields"] for line in before}
    for line in project.documents:
        assert line["fields"] == values.get((line["sha256"], line["document_index"]), line["fields"]), line["path"]


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("away"))
    other.rename(one)
    one.with_name("away").rename(other)


CHANGES: dict[str, Callable[[Path], object]] = {
    "one replaces another": lambda folder: (folder / "a.txt").replace(folder / "b.txt"),
    "two swapped": lambda folder: swap(folder / "a.txt", folder / "b.txt"),
    "two swapped, one gone": lambda folder: (swap(folder / "a.txt", folder / "b.txt"), (folder / "c.txt").unlink()),
    "one renamed": lambda folder: (folder / "a.txt").rename(folder / "z.txt"),
    "folders swapped, one gone": lambda folder: (swap(folder / "1", folder / "2"), shutil.rmtree(folder / "3")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_file_has_its_own_results_after_others_changed(project: Project, change: str) -> None:
    folder = write(project, "a.txt", "b.txt", "c.txt", "1/same.txt", "2/same.txt", "3/same.txt")
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    CHANGES[change](folder)
    outcome = project.apply()
    check_right(project, documents)
    here = {line["sha256"] for line in project.documents if line["present"]}
    gone = {"one replaces another": 1, "two swapped, one gone": 1, "folders swapped, one gone": 1}
    assert (outcome.code, len(here)) == (0, 6 - gone.get(change, 0)), outcome.text
    assert project.sent().count("POST runApp") == 1


@pytest.mark.parametrize("are_swapped", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_files_that_come_back_have_their_own_results(project: Project, seed: int, are_swapped: bool) -> None:
    names = [f"{letter}{seed}.txt" for letter in "pqr"]
    folder = write(project, *names)
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    for name in names[:2]:
        (folder / name).rename(project.folder / name)
    assert project.apply().code == 0
    for name, back in zip(names[:2], names[1::-1] if are_swapped else names[:2], strict=True):
        (project.folder / name).rename(folder / back)
    assert project.apply().code == 0
    check_right(project, documents)
    assert are_swapped or project.sent().count("POST runApp") == 1


@pytest.mark.parametrize("seed", range(4))
def test_clone_pays_for_no_file_that_comes_back_and_keeps_the_lock_file(project: Project, seed: int) -> None:
    names = [f"{letter}{seed}.txt" for letter in "pqr"]
    write(project, *names)
    apply_and_delete(project, "destroy")
    clone = project.clone("one")
    members = [entry["members"] for entry in clone.lock]
    (clone.folder / "in" / names[2]).unlink()
    clone.apply()
    shutil.copy(project.folder / "in" / names[2], clone.folder / "in" / names[2])
    clone.apply()
    assert project.sent().count("POST runApp") == 1
    assert [entry["members"] for entry in clone.lock] == members


@pytest.mark.slow
def test_files_whose_names_in_the_batch_are_lost_are_sent_under_their_own_names_again(project: Project) -> None:
    write(project, "a.txt", "b.txt")
    apply_and_delete(project, "destroy")
    clone = project.clone("one")
    assert clone.apply("--again").code == 0
    [batch] = project.fake.batches()
    assert {*project.fake.files(batch["id"])} == {"a.txt", "b.txt"}


def include_source(project: Project) -> list[dict[str, Any]]:
    """Fetch results, and then with `source`, and lose all but the pages."""
    write(project, "a.txt", "b.txt")
    assert project.apply().code == 0
    project.change_spec("[limits]", '[results]\ninclude = ["source"]\n[limits]')
    shutil.copy(project.folder / STATE, project.folder / "old.db")
    apply_and_delete(project, "destroy")
    return lose_state(project)


@pytest.mark.slow
def test_pages_of_one_kind_that_are_restored_later_count(project: Project) -> None:
    documents = include_source(project)
    page = next(page for page in pages_of(project) if page.parent.name == "source")
    page.rename(project.folder / "kept")
    assert project.apply().code == 3
    (project.folder / "kept").rename(page)
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), outcome.text


def test_pages_of_a_kind_that_an_old_state_does_not_know_count(project: Project) -> None:
    documents = include_source(project)
    (project.folder / "old.db").rename(project.folder / STATE)
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), outcome.text


@pytest.mark.parametrize("kind", ["source+source", "validation+source", "plain+plain"])
def test_folders_with_names_that_no_kind_has_do_not_count(project: Project, kind: str) -> None:
    write(project, "a.txt", "b.txt")
    apply_and_delete(project, "destroy")
    documents = lose_state(project)
    [page] = pages_of(project)
    folder = page.parent.rename(page.parent.parent / kind)
    check_lost(project)
    folder.rename(page.parent)
    assert (project.apply().code, project.documents) == (0, documents)


@pytest.mark.parametrize("says", ["lock file", "service"])
def test_old_state_in_which_the_run_still_goes_finds_its_pages(project: Project, proxy: Proxy, says: str) -> None:
    for name in ("a.txt", "b.txt"):
        write(project, name)
        assert project.apply().code == 0
    documents, newest = project.documents, str(project.fake.runs()[1]["id"])
    shutil.copy(project.folder / STATE, project.folder / "old.db")
    if says == "lock file":
        assert project.run("destroy", "--yes").code == 0
    else:
        proxy.always("GET", f"/v2/apps/runs/{newest}(/results)?", answer_instead(404))
        proxy.always("GET", RUN_LIST, hide("runs", lambda run: str(run["id"]) == newest))
    (project.folder / "old.db").rename(project.folder / STATE)
    with sqlite3.connect(project.folder / STATE) as db:
        db.execute("UPDATE runs SET status = 'RUNNING', finished_ns = 0 WHERE remote_id = ?", (newest,))
        db.execute("DELETE FROM fetches WHERE run = (SELECT id FROM runs WHERE remote_id = ?)", (newest,))
        for table in ("answers", "pages"):
            db.execute(f"DELETE FROM {table} WHERE run = (SELECT id FROM runs WHERE remote_id = ?)", (newest,))
        db.execute("DELETE FROM settled")
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), outcome.text
    assert project.sent().count("POST runApp") == 2


def test_shortage_does_not_make_results_count_as_lost(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "a.txt", "b.txt")
    apply_and_delete(project, "destroy")
    documents, list_folder = lose_state(project), os.listdir

    def fail(path: Any = ".") -> list[str]:
        if "raw" in str(path):
            raise OSError(errno.EMFILE, "Too many open files")
        return list_folder(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", fail)
        outcome = project.apply()
    assert (outcome.code, "too many open files" in outcome.err) == (5, True), outcome.text
    assert (project.apply().code, project.documents) == (0, documents)


@pytest.mark.slow
def test_shortage_after_paying_stops_no_delivery(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "a.txt")
    apply_and_delete(project, "destroy")
    lose_state(project)
    shutil.rmtree(project.folder / "results/job/raw")
    assert project.apply().code == 3
    write(project, "b.txt")
    list_folder, asked = os.listdir, []

    def fail(path: Any = ".") -> list[str]:
        asked.extend([path] if "raw" in str(path) else [])
        if len(asked) > 1 and path == asked[-1]:
            raise OSError(errno.EMFILE, "Too many open files")
        return list_folder(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", fail)
        assert project.apply().code == 5
    assert len(project.lock) == 2
    assert {line["path"] for line in project.documents} == {"in/b.txt"}


@pytest.mark.slow
def test_page_that_no_service_can_have_sent_is_not_read(project: Project) -> None:
    write(project, "a.txt")
    apply_and_delete(project, "destroy")
    lose_state(project)
    [page] = pages_of(project)
    os.truncate(page, 1 << 44)
    check_lost(project)
