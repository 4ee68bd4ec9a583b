"""Pages of results that are requested before the page before them is read."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.tasks.fetch import AHEAD, Fetched, FetchResults, fetch_results
from aihub_runner.errors import ServiceError

NAMES = [f"{number:02}.txt" for number in range(40)]


class Service:
    """Serves pages of these sizes, and counts the requests for each offset. Any other offset starts a page, too."""

    def __init__(self, router: respx.MockRouter, sizes: list[int], *, together: int = 0) -> None:
        self.sizes = {sum(sizes[:number]): size for number, size in enumerate(sizes)}
        self.asked: Counter[int] = Counter()
        self.broken: set[int] = set()
        self._barrier = threading.Barrier(together) if together else None
        router.get("/v2/apps/runs/r/results").mock(side_effect=self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["file_offset"])
        self.asked[offset] += 1
        if offset and self._barrier:
            self._barrier.wait(timeout=10)  # breaks where the others are never requested
        if offset in self.broken:
            self.broken.discard(offset)
            return httpx.Response(400, json={"message": "no such offset"})
        end = offset + self.sizes.get(offset, 7)
        files = [{"original_file_name": name, "documents": []} for name in NAMES[offset:end]]
        return httpx.Response(200, json={"files": files, "has_more": end < len(NAMES)})


def fetch(hub: AIHub, folder: Path) -> Fetched:
    step = FetchResults(1, 1, "r", 0.0, 0.0, "plain", folder, frozenset(NAMES), was_fetched=True)
    fetched = fetch_results(hub, step)
    assert isinstance(fetched, Fetched)
    assert [answer.name for answer in fetched.answers] == NAMES
    assert sorted(path.name for path in folder.rglob("*.json")) == sorted(
        f"{page.file_offset}.json" for page in fetched.pages
    )
    return fetched


def test_pages_that_should_follow_are_requested_together_and_each_once(
    hub: AIHub, router: respx.MockRouter, tmp_path: Path
) -> None:
    service = Service(router, [10, 10, 10, 10], together=3)
    assert [page.file_offset for page in fetch(hub, tmp_path).pages] == [0, 10, 20, 30]
    assert service.asked == {0: 1, 10: 1, 20: 1, 30: 1}


def test_page_that_starts_where_none_ends_is_not_kept(hub: AIHub, router: respx.MockRouter, tmp_path: Path) -> None:
    service = Service(router, [10, 4, 10, 10, 6])
    assert [page.file_offset for page in fetch(hub, tmp_path).pages] == [0, 10, 14, 24, 34]
    assert service.asked.keys() <= {0, 10, 20, 30, 14, 24, 34}


def test_refused_guess_is_requested_again_in_its_turn(hub: AIHub, router: respx.MockRouter, tmp_path: Path) -> None:
    service = Service(router, [10, 10, 10, 10])
    service.broken = {20}
    fetch(hub, tmp_path)
    assert service.asked[20] == 2


def test_refused_first_page_is_an_error(hub: AIHub, router: respx.MockRouter, tmp_path: Path) -> None:
    service = Service(router, [10])
    service.broken = {0}
    with pytest.raises(ServiceError, match="no such offset"):
        fetch(hub, tmp_path)


def test_guesses_are_limited(hub: AIHub, router: respx.MockRouter, tmp_path: Path) -> None:
    service = Service(router, [1, 39])
    fetch(hub, tmp_path)
    assert len(service.asked) <= AHEAD + 3
