"""Folders as batches, PDFs, and folders of drives: crash at every boundary of an apply."""

from __future__ import annotations

import pytest

from support.crash import CRASHED, WAITS
from support.forks import Forks

from .conftest import Project
from .test_crashes import documents_of, reset
from .test_input_dir import FOLDER, put

PARTS = 12  # the boundaries are dealt out to this many tests


@pytest.fixture
def steady(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project with one request at a time, so that boundaries are numbered the same each time."""
    for owner, name, waits in WAITS:
        monkeypatch.setattr(owner, name, waits)
    project.change_spec("[limits]\nsettle_s = 0.2", "[limits]\nparallel_uploads = 1\nparallel_runs = 1")
    return project


@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1, gate=3)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_folders_with_pdfs_are_paid_once_and_fetched_whole(steady: Project, forks: Forks, part: int) -> None:
    pdf = "[run]\ngenerate_post_process_pdf = true\n[results]\npdf = true\n[limits]"
    steady.change_spec("[limits]", pdf)
    steady.change_spec('context = "acme"', 'context = "acme"\ngroup_by = "folder"')
    for path in ("1/a", "1/b", "2/a"):
        steady.write(f"in/{path}.txt", path)
    assert steady.apply().code == 0
    undisturbed, boundary = documents_of(steady), part + 1
    reset(steady)
    while forks.run(boundary, steady.folder, steady.env, "apply", "job.toml") == CRASHED:
        outcome = steady.apply()
        assert outcome.code == 0, f"boundary {boundary}: {outcome.text}"
        assert sorted(steady.fake.ledger["runs"].values()) == [1, 1], boundary
        assert documents_of(steady) == undisturbed, boundary
        pdfs = [path for path in (steady.folder / "results/job/pdf").rglob("*") if path.is_file()]
        assert len(pdfs) == 3, boundary
        assert all(path.read_bytes().endswith(b"%%EOF\n") for path in pdfs), boundary
        steady.forget_requests()
        assert steady.apply().code == 0, boundary
        assert steady.sent() == [], boundary
        reset(steady)
        boundary += PARTS
    assert boundary > 80, "so few boundaries cannot be all"


@pytest.mark.timeout(600)
@pytest.mark.matrix(most=1, gate=3)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_folder_of_a_drive_is_paid_once_or_left_to_a_person(steady: Project, forks: Forks, part: int) -> None:
    steady.change_spec('files = "in/**/*"', f'input_dir = "{FOLDER}/"')
    put(steady, "a.txt", "Invoice number: 1")
    boundary = part + 1
    while forks.run(boundary, steady.folder, steady.env, "apply", "job.toml") == CRASHED:
        outcome, runs = steady.apply(), len(steady.fake.runs())
        assert (outcome.code, runs) in ((0, 1), (7, 0)), f"boundary {boundary}: {outcome.text}"
        assert steady.apply().code == outcome.code, boundary
        assert len(steady.fake.runs()) == runs, boundary
        if runs:
            assert [line["path"] for line in steady.documents] == [f"{FOLDER}/a.txt"]
        reset(steady)
        boundary += PARTS
    assert boundary > 40, "so few boundaries cannot be all"
