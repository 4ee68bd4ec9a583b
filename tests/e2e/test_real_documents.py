"""Real documents with difficult names: all are sent whole, and each has its results under its own path."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from .conftest import Project


@pytest.mark.slow
def test_real_documents_arrive_whole_and_have_results_of_their_own(project: Project, documents: Path) -> None:
    shutil.copytree(documents, project.folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    project.change_spec('files = "in/**/*"', 'files = ["**/*", "!SOURCES.md"]')
    first = project.apply("--json")
    assert first.code == 3, first.text
    aside = {item["path"]: item["reason"] for item in first.json["skipped"]}
    assert aside == {
        "inbox/README": "unsupported type",
        "office/CantinaBand3.wav": "unsupported type",
        "office/empty.txt": "empty",
        "office/fake.odt": "unsupported type",
        "office/simple.zip": "unsupported type",
    }
    every = {path.relative_to(documents).as_posix() for path in documents.rglob("*") if path.is_file()}
    sent = every - aside.keys() - {"SOURCES.md"}
    on_disk = {path: hashlib.sha256((documents / path).read_bytes()).hexdigest() for path in sent}
    assert sorted(project.arrived().values()) == sorted(on_disk.values())
    assert {line["path"]: line["sha256"] for line in project.documents} == on_disk
    assert {"inbox/2026 Q1/invoice.pdf", "inbox/2026 Q2/invoice.pdf"} <= on_disk.keys()
    project.forget_requests()
    second = project.apply("--json")
    assert (second.code, second.json["nothing_to_do"], project.fake.journal) == (3, True, [])
