"""The page count of a file: what is no PDF file, or takes too long, has none."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest

from aihub_runner.sources import pages
from aihub_runner.sources.pages import SILENT, count_pages


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    writer = pypdf.PdfWriter()
    for _ in range(3):
        writer.add_blank_page(100, 100)
    writer.write(tmp_path / "three.pdf")
    return tmp_path / "three.pdf"


def test_pages_of_a_pdf_file_are_counted_also_with_something_before_and_behind_it(pdf: Path) -> None:
    assert count_pages(pdf) == 3
    pdf.write_bytes(pdf.read_bytes() + b"\r\n" + bytes(50_000))
    assert count_pages(pdf) == 3


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7\n", b"%%EOF", b"no\npdf\n" * 100_000])
def test_what_is_no_pdf_file_is_not_given_to_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(pypdf, "PdfReader", pytest.fail)
    (tmp_path / "a.pdf").write_bytes(content)
    assert count_pages(tmp_path / "a.pdf") == SILENT


def test_file_that_keeps_a_reader_busy_has_no_count(pdf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_forever(file: object) -> Iterator[object]:
        while True:
            try:
                time.sleep(30)
            except Exception:  # as a reader that goes on whatever it finds
                continue

    monkeypatch.setattr(pypdf, "PdfReader", read_forever)
    monkeypatch.setattr(pages, "COUNT_S", 0.05)
    before, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    assert count_pages(pdf) == SILENT
    assert signal.getsignal(signal.SIGALRM) == before
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)
