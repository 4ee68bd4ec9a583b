"""`[results] pdf = true`: generated PDFs are fetched whole, resumed, and never overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fake_aihub import FakeAIHub
from support.contract import check_journal

from .conftest import Project

PDF = """
[run]
generate_post_process_pdf = true
[results]
pdf = true
[limits]
"""
LARGE = "/acme/Accounting/fs/Instabase Drive/out/it's 1.pdf"


@pytest.fixture
def filled(project: Project) -> Project:
    """Return a project with two files and their PDFs to fetch."""
    project.change_spec("[limits]\n", PDF)
    project.write_files(2)
    return project


def pdfs(project: Project) -> dict[str, bytes]:
    folder = project.folder / "results/job/pdf"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pdf_of_each_document_is_fetched_once(filled: Project) -> None:
    assert filled.apply().code == 0
    found = pdfs(filled)
    wanted = {f"{line['run_id']}/{line['file_name']}/{line['document_index']}.pdf": line for line in filled.documents}
    assert found.keys() == wanted.keys()
    for name, line in wanted.items():
        assert found[name].startswith(b"%PDF")
        assert line["post_processed_pdf_path"].encode() in found[name]
    filled.forget_requests()
    assert filled.apply().code == 0
    assert filled.fake.journal == []
    assert filled.run("status").code == 0


def test_pdfs_are_fetched_for_runs_that_are_there(filled: Project) -> None:
    filled.change_spec("pdf = true\n[limits]", "[limits]")
    assert filled.apply().code == 0
    filled.change_spec("[results]\n", "[results]\npdf = true\n")
    assert filled.apply().code == 0
    assert len(filled.fake.runs()) == 1
    assert len(pdfs(filled)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("do", ["status", "reset", "truncate", "garbage"])
@pytest.mark.parametrize("operation", ["readFile", "getFileMetadata"])
def test_pdf_that_fails_is_tried_again(filled: Project, operation: str, do: str) -> None:
    filled.fake.faults.add(operation=operation, times=2, do=do)
    assert filled.apply().code == 0
    assert len(pdfs(filled)) == 2


def test_pdf_that_cannot_be_fetched_is_reported_and_fetched_later(filled: Project) -> None:
    filled.fake.faults.add(operation="readFile", times=2, do="status", status=403)
    outcome = filled.apply()
    assert outcome.code == 4
    assert "1 more PDF cannot be fetched either" in outcome.text
    assert len(filled.documents) == 2
    assert filled.run("status").code == 6
    filled.fake.faults.add(operation="getFileMetadata", do="status", status=404)
    outcome = filled.apply()
    assert outcome.code == 3
    assert "the service has no such PDF any more" in outcome.text
    assert sum(name.endswith(".pdf") for name in pdfs(filled)) == 1
    assert filled.apply().code == 0
    assert len(pdfs(filled)) == 2
    assert filled.run("status").code == 0


def test_pdf_that_was_edited_is_kept_and_one_that_is_missing_fetched_again(filled: Project) -> None:
    filled.apply()
    first, second = sorted((filled.folder / "results/job/pdf").rglob("*.pdf"))
    first.write_bytes(b"my notes")
    second.unlink()
    outcome = filled.apply()
    assert outcome.code == 0
    assert "was edited by hand and is not overwritten" in outcome.text
    assert first.read_bytes() == b"my notes"
    assert second.exists()
    assert filled.apply("--refetch").code == 0
    assert first.read_bytes().startswith(b"%PDF")


def test_pdf_without_a_run_that_generates_one_is_a_mistake(project: Project) -> None:
    project.change_spec("[limits]", "[results]\npdf = true\n[limits]")
    outcome = project.run("validate")
    assert outcome.code == 2
    assert "job.toml:7:1: pdf needs PDFs that the run generates" in outcome.err


@pytest.fixture
def large(filled: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Return a project whose one PDF is read in three parts, from a drive."""
    fixtures = tmp_path_factory.mktemp("fixtures")
    document = {"class_name": "a", "fields": [], "post_processed_pdf_path": LARGE}
    (fixtures / "00000.txt.json").write_text(json.dumps({"documents": [document]}))
    with FakeAIHub(fixtures=fixtures) as fake:
        filled.fake, filled.env["AIHUB_API_ROOT"] = fake, fake.root
        (filled.folder / "in/00001.txt").unlink()
        put(fake, b"old " * 2_600_000)
        yield filled
        check_journal(fake.journal)
        assert fake.faults.unused() == []


def put(fake: FakeAIHub, body: bytes) -> None:
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    requests.put(f"{fake.root}/v2/files{LARGE}", data=body, headers=headers, timeout=10).raise_for_status()


def parts(project: Project) -> list[str | None]:
    """Return the parts of PDFs that were asked for."""
    return [e["request_headers"].get("range") for e in project.fake.journal if e["operation"] == "readFile"]


def only_pdf(project: Project) -> Path:
    [path] = [path for path in (project.folder / "results/job/pdf").rglob("*") if path.is_file()]
    return path


def test_large_pdf_goes_on_where_it_stopped(large: Project) -> None:
    large.fake.faults.add(operation="readFile", nth=2, do="status", status=403)
    assert large.apply().code == 4
    assert only_pdf(large).suffix == ".part"
    large.forget_requests()
    assert large.apply().code == 0
    assert only_pdf(large).read_bytes() == b"old " * 2_600_000
    assert parts(large) == ["bytes=4194304-8388607", "bytes=8388608-10399999"]


@pytest.mark.slow
def test_large_pdf_that_changed_meanwhile_is_fetched_anew(large: Project) -> None:
    large.fake.faults.add(operation="readFile", nth=2, do="status", status=403)
    assert large.apply().code == 4
    put(large.fake, b"newer" * 2_000_000)
    assert large.apply().code == 0
    assert only_pdf(large).read_bytes() == b"newer" * 2_000_000
