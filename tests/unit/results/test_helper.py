"""Two processes render what one does, whatever becomes of the second."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.errors import ResultsError
from aihub_runner.results.documents import _Lines as Lines
from aihub_runner.results.helper import MANY, render_many
from aihub_runner.results.reader import Found, Located
from support.made import made_results

FILES = 300
pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Found]:
    files = []
    for number in range(FILES):
        document = {"class_name": "A", "fields": [{"field_name": "n", "value": number}]}
        files.append({"original_file_name": f"{number:03}.pdf", "documents": [document]})
    pages = [{"files": files[start : start + 20], "has_more": True} for start in range(0, FILES, 20)]
    with made_results(tmp_path, pages) as results:
        yield results


def render(found: Found, number: int) -> Iterator[Any]:
    located: list[Located] = [found.locate(choice) for choice in found.chosen]
    return render_many(partial(Lines, found.folder), located, number)


def list_children() -> list[int]:
    """List the processes that this one has started, except those that have ended."""
    listed = (Path("/proc/self/task") / task / "children" for task in os.listdir("/proc/self/task"))
    return [int(child) for path in listed for child in path.read_text().split()]


def test_second_process_renders_the_same(found: Found) -> None:
    expected = [*render(found, 0)]
    before = {*list_children()}
    rendered = render(found, MANY)
    first = next(rendered)
    assert {*list_children()} - before  # it was started
    assert [first, *rendered] == expected
    assert len(expected) == FILES
    assert {*list_children()} == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_end_of_the_second_process_changes_nothing(found: Found, how: signal.Signals) -> None:
    expected, before = [*render(found, 0)], {*list_children()}
    rendered = render(found, MANY)
    first = next(rendered)
    for child in {*list_children()} - before:
        os.kill(child, how)
    assert [first, *rendered] == expected


def test_page_that_was_changed_is_an_error_of_this_process(found: Found) -> None:
    (page, *_) = sorted(found.folder.rglob("raw/**/*.json"))[7:]
    page.write_bytes(page.read_bytes() + b" ")
    rendered = []
    with pytest.raises(ResultsError, match="was changed after it was fetched"):
        rendered += render(found, MANY)


def test_second_process_knows_no_secrets(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", "fake-secret")
    before = {*list_children()}
    rendered = render(found, MANY)
    next(rendered)
    for child in {*list_children()} - before:
        assert b"fake-secret" not in Path(f"/proc/{child}/environ").read_bytes()
    rendered.close()
    assert {*list_children()} == before
