"""`[batch] sync`: a batch of somebody else follows the files; what is not ours is left, or deleted by its number."""

from __future__ import annotations

import pytest

from support.world import lose

from .conftest import Project
from .test_batch_id import changes, deleted_files, make_batch, paid, paths, put

NAMES = ["00000.txt", "00001.txt"]


def synced(project: Project) -> int:
    """Return a batch with a file of somebody else, which the two files of the project are to be in."""
    made = make_batch(project, theirs="Invoice number: 7")
    project.change_spec("[limits]", f"[batch]\nid = {made}\nsync = true\n[limits]")
    project.write_files(2)
    project.forget_requests()
    return made


@pytest.fixture
def batch(project: Project) -> int:
    """Return such a batch."""
    return synced(project)


def content(project: Project, batch: int) -> list[str]:
    return sorted(project.fake.files(batch))


@pytest.mark.slow
def test_files_are_added_replaced_and_deleted_and_those_of_others_stay(project: Project, batch: int) -> None:
    plan = project.run("plan")
    assert f"+ 2 files (00000.txt …): to upload to batch {batch}" in plan.out
    assert f"= 1 file (theirs.txt): of others in batch {batch}, left as they are" in plan.out
    assert "2 files to upload (34 bytes), 0 batches, 1 run to pay" in plan.out
    assert project.apply().code == 0
    assert content(project, batch) == [*NAMES, "theirs.txt"]
    assert paths(project) == [*(f"in/{name}" for name in NAMES), "theirs.txt"]
    assert project.run("status").code == 0
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, [])
    (project.folder / "in/00000.txt").unlink()
    project.write("in/00001.txt", "document number X")
    plan = project.run("plan")
    assert f"  - 1 file: to delete from batch {batch}\n      00000.txt" in plan.out
    assert f"~ 1 file (00001.txt): to replace in batch {batch}" in plan.out
    assert project.apply().code == 0
    assert (content(project, batch), paid(project)) == (["00001.txt", "theirs.txt"], 2)


def test_files_of_others_that_change_are_another_content(project: Project, batch: int) -> None:
    project.apply()
    put(project, batch, "more.txt", "Invoice number: 8")
    assert project.apply().code == 0
    assert paid(project) == 2
    assert paths(project) == [*(f"in/{name}" for name in NAMES), "more.txt", "theirs.txt"]
    assert deleted_files(project) == []


def test_file_of_others_under_our_name_is_not_replaced(project: Project, batch: int) -> None:
    put(project, batch, "00001.txt", "this is somebody else's")
    before = project.fake.files(batch)
    project.forget_requests()
    assert "is not known to have put there, 00001.txt" in project.run("plan").out
    outcome = project.apply()
    assert (outcome.code, project.sent(), project.fake.files(batch)) == (7, [], before)
    assert "apply with --adopt" in outcome.err
    assert project.apply("--adopt").code == 0
    assert project.fake.files(batch) != before
    assert (project.apply().code, paid(project)) == (0, 1)


@pytest.mark.slow
def test_file_that_others_replaced_is_replaced_again_or_left(project: Project, batch: int) -> None:
    project.apply()
    project.fake.clock.advance(5)
    put(project, batch, "00001.txt", "somebody replaced")
    assert f"~ 1 file (00001.txt): to replace in batch {batch}" in project.run("plan").out
    (project.folder / "in/00001.txt").unlink()
    plan = project.run("plan")
    assert f"= 2 files (00001.txt …): of others in batch {batch}" in plan.out
    assert project.apply().code == 0
    assert content(project, batch) == [*NAMES, "theirs.txt"]
    assert paths(project) == ["00001.txt", "in/00000.txt", "theirs.txt"]


@pytest.mark.slow
def test_fresh_clone_with_the_lock_file(project: Project, batch: int) -> None:
    project.apply()
    project.forget_requests()
    clone = project.clone("one")
    assert "nothing to do" in clone.run("plan").out
    assert (clone.apply().code, project.sent()) == (0, [])
    assert paths(clone) == paths(project)
    assert clone.lock == project.lock
    clone.write("in/00000.txt", "document number Y")
    (clone.folder / "in/00001.txt").unlink()
    outcome = clone.apply()
    assert outcome.code == 0, outcome.text
    assert content(project, batch) == [*NAMES, "theirs.txt"], "a clone deletes only what it put there itself"
    assert changes(project) == ["PUT addFileToBatch"]
    assert paid(project) == 2


def test_lost_state_deletes_nothing(project: Project, batch: int) -> None:
    project.apply()
    lose(project.folder, "job.state.db", "job.lock.toml")
    (project.folder / "in/00001.txt").unlink()
    project.forget_requests()
    outcome = project.apply()
    assert (outcome.code, changes(project)) == (7, [])
    assert project.apply("--adopt").code == 0
    assert content(project, batch) == [*NAMES, "theirs.txt"]
    assert deleted_files(project) == []


@pytest.mark.slow
def test_exact_deletes_others_only_by_their_number(project: Project, batch: int) -> None:
    project.change_spec("sync = true", 'sync = "exact"')
    put(project, batch, "00001.txt", "this is somebody else's")
    before = project.fake.files(batch)
    project.forget_requests()
    plan = project.run("plan")
    assert f"  - 1 file: of others, to delete from batch {batch}\n      theirs.txt" in plan.out
    assert f"  - 1 file: of others, to replace in batch {batch}\n      00001.txt" in plan.out
    for options in ([], ["--confirm-delete", "1"], ["--confirm-delete", "3"], ["--yes"]):
        outcome = project.apply(*options)
        assert (outcome.code, project.sent(), project.fake.files(batch)) == (2, [], before), outcome.text
        assert "holds 2 files of others to delete or replace: 00001.txt, theirs.txt" in outcome.err
        assert "apply with --confirm-delete 2" in outcome.err
        assert "left       2 files to run\n" in outcome.out
    assert project.apply("--confirm-delete", "2").code == 0
    assert (content(project, batch), paid(project)) == (NAMES, 1)
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, [])
    put(project, batch, "later.txt", "later")
    assert project.apply().code == 2
    assert content(project, batch) == [*NAMES, "later.txt"]


def test_exact_without_files_of_others_needs_no_number(project: Project, batch: int) -> None:
    project.change_spec("sync = true", 'sync = "exact"')
    assert project.apply("--confirm-delete", "1").code == 0
    (project.folder / "in/00001.txt").unlink()
    assert project.apply().code == 0
    assert content(project, batch) == NAMES[:1]


def test_too_many_files_are_an_error_before_anything_is_sent(project: Project, batch: int) -> None:
    for number in range(999):
        project.fake.world.put_file(batch, f"{number}.x.txt", "sha256:0", 1)
    project.forget_requests()
    outcome = project.apply()
    assert (outcome.code, project.sent()) == (2, [])
    assert "1002 files are selected, at most 1000 can be one batch" in outcome.err


def test_destroy_leaves_the_batch(project: Project, batch: int) -> None:
    project.apply()
    before = project.fake.files(batch)
    assert project.run("destroy", "--yes").code == 0
    assert (project.fake.files(batch), paid(project)) == (before, 0)
    project.forget_requests()
    assert (project.apply().code, project.sent()) == (0, [])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ('files = "a"\n[batch]\nsync = true', "sync needs the id of a batch"),
        ('files = "a"\n[batch]\nid = 5\nkeep = true\nsync = true', "keep cannot be combined with id"),
        ("[batch]\nid = 5\nsync = true", "files is missing"),
        ('input_dir = "/o/w/fs/d/f/"\n[batch]\nkeep = true', "keep needs files"),
        ('files = "a"\ngroup_by = "folder"\n[batch]\nkeep = true', "group_by cannot be combined with keep of [batch]"),
        ('files = "a"\n[batch]\nid = 5\nsync = "all"', "is not true, false or 'exact'"),
        ('files = "a"\n[batch]\nkeep = true\n[cleanup]\ndelete_input = "after-results"', "delete_input cannot be"),
        ('files = "a"\n[batch]\nkeep = true\n[limits]\nfiles_per_batch = 5', "files_per_batch cannot be combined"),
    ],
)
def test_keys_that_make_no_sense_are_errors(project: Project, spec: str, message: str) -> None:
    project.write("job.toml", f'app_name = "A"\n{spec}\n')
    outcome = project.run("validate")
    assert outcome.code == 2
    assert message in outcome.err
