"""Results that are nowhere any more count as long as a file needs them. What is printed ends that."""

from __future__ import annotations

import shutil

import pytest

from support.world import bring_back, check_paid_once, keep

from .conftest import Project
from .test_forget import forget

NAMES = ("job.state.db", "job.lock.toml")
CLEANUP = '[cleanup]\ndelete_input = "after-results"\ndelete_output = "after-results"\n[limits]'
KEPT = '[cleanup]\ndelete_output = "after-results"\n[batch]\nkeep = true\n[limits]'


@pytest.fixture
def cleaned(project: Project) -> Project:
    """A job whose results were deleted from the service, without a state, as a clone or an older state sees it."""
    project.change_spec("[limits]", CLEANUP)
    project.write_files(2)
    assert project.apply().code == 0
    return project.clone("fresh")


@pytest.fixture
def kept(project: Project) -> Project:
    """The same with a batch that is kept."""
    project.change_spec("[limits]", KEPT)
    project.write_files(2)
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    return project.clone("fresh")


def end_by(project: Project, command: str, *args: str) -> None:
    """Check that the job ends with 3, that it says which command ends that, and that it does."""
    outcome = project.apply()
    assert (outcome.code, command in outcome.err) == (3, True), outcome.text
    assert (project.apply(*args) if args else forget(project, "--yes")).code == 0
    assert project.apply().code == 0


def test_refetch_of_a_deleted_run_says_that_this_is_impossible_and_keeps_the_results(project: Project) -> None:
    project.change_spec("[limits]", CLEANUP)
    project.write_files(2)
    assert project.apply().code == 0
    before = project.documents
    outcome = project.apply("--refetch")
    assert "cannot be fetched again; earlier results stay" in outcome.err
    assert "include" not in outcome.err
    assert project.documents == before
    assert project.apply().code == 0
    assert project.sent().count("POST runApp") == 1


def test_files_that_are_there_need_their_results(cleaned: Project) -> None:
    end_by(cleaned, "apply with --again", "--again")
    assert cleaned.sent().count("POST runApp") == 2


def test_file_that_has_changed_needs_only_its_new_results(cleaned: Project) -> None:
    cleaned.write("in/00000.txt", "changed")
    cleaned.write("in/00001.txt", "changed, too")
    assert cleaned.apply().code == 0
    assert cleaned.sent().count("POST runApp") == 2


@pytest.mark.slow
def test_group_with_one_file_that_has_changed_is_paid_for_again_once(cleaned: Project) -> None:
    cleaned.write("in/00000.txt", "changed")
    end_by(cleaned, "apply with --again", "--again", "--only", "in/00001.txt")
    assert {line["path"] for line in cleaned.documents} == {"in/00000.txt", "in/00001.txt"}
    assert cleaned.sent().count("POST runApp") == 3


def test_restored_state_forgets_what_only_removed_files_would_need(project: Project) -> None:
    project.write_files(1)
    project.write("in/gone.txt", "gone")
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    assert project.apply().code == 0
    [gone] = [line["run_id"] for line in project.documents if line["path"] == "in/gone.txt"]
    (project.folder / "in/gone.txt").unlink()
    project.write("in/newer.txt", "newer")
    assert project.apply().code == 0
    for page in (project.folder / "results/job/raw" / gone).rglob("*.json"):
        page.unlink()
    project.fake.world.runs.pop(gone)
    end_by(project, f"runner state forget {project.spec_path}")
    assert project.sent().count("POST runApp") == 3


@pytest.mark.slow
def test_kept_batch_is_run_on_where_a_deleted_run_was_imported(kept: Project) -> None:
    end_by(kept, "apply with --again", "--again")
    kept.write("in/00002.txt", "new")
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text
    assert kept.sent().count("POST createBatch") == 4, "one is kept, the others are turns"


def test_earlier_content_of_a_kept_batch_needs_no_results(kept: Project) -> None:
    kept.write("in/00000.txt", "changed")
    outcome = kept.apply()
    assert outcome.code == 0, outcome.text


@pytest.mark.slow
def test_older_state_of_a_kept_batch_goes_on(project: Project) -> None:
    project.change_spec("[limits]", KEPT)
    project.write_files(2)
    assert project.apply().code == 0
    keep(project.folder, project.folder / "kept", "job.state.db")
    for text in ("second version", "third version"):
        project.fake.clock.advance(5)
        project.write("in/00000.txt", text)
        assert project.apply().code == 0
    documents = project.documents
    bring_back(project.folder, project.folder / "kept", "job.state.db")
    outcome = project.apply()
    assert (outcome.code, project.documents) == (0, documents), outcome.text
    shutil.rmtree(project.folder / "results/job/raw")
    end_by(project, "apply with --again", "--again")
    check_paid_once(project.fake)
