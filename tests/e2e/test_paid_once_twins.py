"""Files of equal bytes: each stands for one paid file of a version, and none for one that a clone lacks."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import tomli_w

from .conftest import Project
from .test_reclaim import apply_and_delete

pytestmark = pytest.mark.matrix

CLEANUP = '[cleanup]\ndelete_input = "after-results"\n[limits]'


def runs(project: Project) -> int:
    return project.sent().count("POST runApp")


def change_lock(project: Project, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the entries of the lock file, as a bad merge does."""
    path = project.folder / "job.lock.toml"
    content = tomllib.loads(path.read_text())
    change(content["run"])
    path.write_text(tomli_w.dumps(content))


def bring(project: Project, clone: Project, *names: str) -> None:
    for name in names:
        shutil.copy(project.folder / "in" / name, clone.folder / "in" / name)
        clone.apply()


@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("back", [["y.txt"], ["copy.txt", "y.txt"], ["y.txt", "copy.txt"]], ids=" then ".join)
def test_copy_does_not_stand_for_a_file_that_a_clone_lacks(project: Project, back: list[str], is_deleted: bool) -> None:
    for names in (["x.txt", "y.txt"], ["copy.txt"]):
        for name in names:
            project.write(f"in/{name}", "x" if name == "x.txt" else "same bytes")
        assert project.apply().code == 0
    if is_deleted:
        assert project.run("destroy", "--yes").code == 0
    clone = project.clone("one")
    for name in back:
        (clone.folder / "in" / name).unlink()
    clone.apply()
    bring(project, clone, *back)
    assert runs(project) == 2


@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("gone", [["terms.txt"], ["1.txt"], ["1.txt", "terms.txt"]], ids=" and ".join)
def test_folder_is_not_completed_with_files_of_another_one(project: Project, gone: list[str], is_deleted: bool) -> None:
    project.change_spec("app_name", 'group_by = "folder"\napp_name')
    for folder in "ab":
        project.write(f"in/{folder}/1.txt", f"{folder} 1")
        project.write(f"in/{folder}/terms.txt", "terms")
    assert project.apply().code == 0
    if is_deleted:
        assert project.run("destroy", "--yes").code == 0
    clone = project.clone("one")
    for name in gone:
        (clone.folder / "in/a" / name).unlink()
    clone.apply("--max-runs", "0")
    for name in gone:
        shutil.copy(project.folder / "in/a" / name, clone.folder / "in/a" / name)
    clone.apply()
    assert runs(project) == 2


def test_folder_that_is_again_as_it_was_is_not_paid_again(project: Project) -> None:
    project.change_spec("app_name", 'group_by = "folder"\napp_name')
    for name in ("1.txt", "2.txt", "3.txt"):
        project.write(f"in/a/{name}", name)
    apply_and_delete(project, "destroy")
    clone = project.clone("one")
    clone.write("in/a/1.txt", "changed")
    clone.apply()
    other = clone.clone("two")
    other.apply()
    shutil.copy(project.folder / "in/a/1.txt", other.folder / "in/a/1.txt")
    other.apply()
    assert runs(project) == 2


@pytest.mark.parametrize("how", ["destroy", "cleanup"])
@pytest.mark.slow
def test_twins_that_were_paid_under_two_versions_are_not_paid_again(project: Project, how: str) -> None:
    if how == "cleanup":
        project.change_spec("[limits]", CLEANUP)
    for version in ("1.0", "2.0"):
        project.change_spec("[limits]", f'[run]\nversion = "{version}"\n[limits]')
        for name in ("p", "q"):
            project.write(f"in/{name}/same.txt", "same bytes")
            assert project.apply().code == 0
            project.fake.clock.advance(5)
        assert how == "cleanup" or project.run("destroy", "--yes").code == 0
        if version == "1.0":
            project.change_spec('[run]\nversion = "1.0"\n', "")
    paid = runs(project)
    project.clone("one").apply()
    assert runs(project) == paid


@pytest.mark.parametrize("is_deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("how", ["refused", "failed"])
def test_run_that_has_no_results_takes_no_file_from_one_that_has(project: Project, how: str, is_deleted: bool) -> None:
    """Both were paid for together. One changed, and both were to be run again, in vain. Then it changed once more."""
    project.write_files(2)
    if is_deleted:
        project.change_spec("[limits]", '[cleanup]\ndelete_output = "after-results"\n[limits]')
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    if how == "refused":
        project.fake.faults.add(operation="runApp", do="status", status=422, when="before", times=1)
    else:
        project.fake.next_run(status="FAILED")
    project.write("in/00001.txt", "changed")
    project.apply("--again")
    project.write("in/00001.txt", "changed once more")
    clone, made = project.clone("one"), len(project.fake.batches())
    for _ in range(2):
        clone.apply("--retry-failed")
    names = [{*project.fake.files(batch["id"])} for batch in project.fake.batches()[made:]]
    assert names == [{"00001.txt"}]


def test_failed_run_takes_no_file_that_comes_back_from_a_run_of_another_clone(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED")
    assert project.apply().code == 3
    clone = project.clone("one")
    (clone.folder / "job.lock.toml").unlink()
    clone.write_files(2)
    assert clone.apply("--again").code == 0
    shutil.copy(clone.folder / "job.lock.toml", project.folder / "job.lock.toml")
    away = (project.folder / "in/00000.txt").rename(project.folder / "away")
    project.write_files(1, start=1)
    assert project.apply().code == 0
    away.rename(project.folder / "in/00000.txt")
    outcome = project.apply("--retry-failed")
    assert (outcome.code, runs(project), len(project.documents)) == (0, 2, 2), outcome.text


@pytest.mark.parametrize("is_failed", [True, False], ids=["failed", "paid twice"])
@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_run_of_an_earlier_version_takes_no_file_that_comes_back_from_a_later_one(
    project: Project, is_folder: bool, is_failed: bool
) -> None:
    """Two clones ran it with one version, and one of them also with the next, in a batch of its own."""
    if is_folder:
        project.change_spec("app_name", 'group_by = "folder"\napp_name')
    project.write_files(2)
    if is_failed:
        project.fake.next_run(status="FAILED")
    project.apply()
    clone = project.clone("one")
    (clone.folder / "job.lock.toml").unlink()
    if not is_folder:
        (clone.folder / "in/00001.txt").unlink()
    project.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    assert clone.apply("--again").code == 0
    shutil.copy(clone.folder / "job.lock.toml", project.folder / "job.lock.toml")
    assert project.apply().code == 0
    other = project.clone("two")
    away = (other.folder / "in/00000.txt").rename(other.folder / "away")
    other.apply("--max-runs", "0")
    away.rename(other.folder / "in/00000.txt")
    outcome = other.apply()
    assert (outcome.code, runs(project)) == (0, 3), outcome.text


def start(project: Project) -> str:
    """Start a run that goes on, and return its id."""
    project.write_files(1)
    project.fake.next_run(hold=True)
    assert project.apply("--no-wait").code == 6
    return str(project.fake.runs()[0]["id"])


LIES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "it is deleted": lambda entries: entries[0].update(status="DELETED"),
    "it failed in another target": lambda entries: entries.append(
        entries[0] | {"target": "0" * 16, "status": "DELETED FAILED"}
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lock_file_does_not_end_a_run_that_goes_on(project: Project, lie: str) -> None:
    run = start(project)
    change_lock(project, LIES[lie])
    project.apply("--no-wait")
    project.fake.release(run)
    for options in ([], ["--retry-failed"]):
        outcome = project.apply(*options)
        assert (outcome.code, len(project.documents), runs(project)) == (0, 1, 1), outcome.text


@pytest.mark.parametrize(
    "damage",
    [
        {"members": "0123456789abcde"},
        {"members": "\u202e" * 16},
        {"members": "0" * 32},
        {"status": "DELETED RUNNING"},
        {"status": "DELETED", "run_id": ""},
    ],
    ids=["cut off", "no hex", "of two files", "deleted while it goes on", "deleted without an id"],
)
def test_entry_that_cannot_be_is_damage(project: Project, damage: dict[str, Any]) -> None:
    project.write_files(1)
    apply_and_delete(project, "destroy")
    clone = project.clone("one")
    change_lock(clone, lambda entries: entries[0].update(damage))
    outcome = clone.apply()
    assert (outcome.code, "is damaged" in outcome.err, runs(project)) == (2, True, 1), outcome.text


def test_again_as_the_first_command_of_a_clone_pays_again(project: Project) -> None:
    project.write_files(2)
    apply_and_delete(project, "destroy")
    assert project.clone("one").apply("--again").code == 0
    assert runs(project) == 2
