"""The comparison in the README: the vendor's guide with the vendor's SDK, beside `runner apply`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aihub import AIHub
from aihub.exceptions import BadRequestException

from support.proof import open_sdk

from .conftest import Project


def nothing() -> None: ...


def run_guide(client: AIHub, files: list[Path], *, started: Callable[[], None] = nothing) -> list[str]:
    """Follow the vendor's guide, and return the names of the files that have results."""
    batch = client.batches.create(name="guide")
    for path in files:
        with path.open("rb") as file:
            client.batches.add_file(batch.id, file_name=path.name, file=file)
    run = client.apps.runs.create(batch_id=batch.id, app_name="Invoice Extraction", owner="instabase")
    started()
    while client.apps.runs.status(run.id).status == "RUNNING":
        pass
    return [file.original_file_name for file in client.apps.runs.results(run.id).files]


def files_of(project: Project) -> list[Path]:
    return sorted(path for path in (project.folder / "in").rglob("*") if path.is_file())


def test_script_keeps_one_of_two_files_of_one_name_and_apply_both(project: Project) -> None:
    project.write("in/a/invoice.txt", "Invoice number: 1")
    project.write("in/b/invoice.txt", "Invoice number: 2")
    with open_sdk(project.fake.root) as client:
        assert run_guide(client, files_of(project)) == ["invoice.txt"]
    assert project.apply().code == 0
    assert {line["path"] for line in project.documents} == {"in/a/invoice.txt", "in/b/invoice.txt"}


def test_script_that_is_interrupted_pays_again(project: Project) -> None:
    project.write_files(2)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with open_sdk(project.fake.root) as client:
        with pytest.raises(KeyboardInterrupt):
            run_guide(client, files_of(project), started=interrupt)
        run_guide(client, files_of(project))
    assert len(project.fake.runs()) == 2  # apply: test_kill_at_any_moment_is_made_good_by_the_next_apply


def test_script_whose_response_is_lost_pays_again_and_apply_once(project: Project) -> None:
    project.write_files(2)
    with open_sdk(project.fake.root) as client:
        project.fake.faults.add(operation="runApp", do="reset", when="after")
        with pytest.raises(Exception, match="aborted"):
            run_guide(client, files_of(project))
        run_guide(client, files_of(project))
    assert len(project.fake.runs()) == 2
    project.fake.faults.add(operation="runApp", do="reset", when="after")
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 3


def test_script_takes_a_failed_run_for_finished_and_apply_reports_it(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(status="FAILED", message="the app broke")
    with open_sdk(project.fake.root) as client, pytest.raises(BadRequestException):
        run_guide(client, files_of(project))
    project.fake.next_run(status="FAILED", message="the app broke")
    outcome = project.apply()
    assert outcome.code == 3
    assert "the app broke" in outcome.text


@pytest.mark.slow
def test_script_reads_one_page_of_results_and_apply_all(project: Project) -> None:
    project.write_files(120)
    with open_sdk(project.fake.root) as client:
        assert len(run_guide(client, files_of(project))) == 100
    assert project.apply().code == 0
    assert len({line["path"] for line in project.documents}) == 120
