"""Results are fetched until confirmed, page by page, byte for byte; only lists prove that a run is gone."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.steps import Gone
from aihub_runner.apply.tasks.fetch import AHEAD, MAX_FETCHES, Fetched, FetchResults, fetch_results
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
    assert [answer.file_offset + answer.position for answer in fetched.answers] == list(range(len(NAMES)))
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


FEW = FetchResults(1, 1, "r", 0.0, 0.0, "plain", Path(), frozenset({"a", "b\u00fc"}))
RIGHT = {"a": 1, "b\u00fc": 2}
TWICE = [("a", 1), ("a", 1), ("b\u00fc", 1)]
Reading = dict[str, int] | list[tuple[str, int]]  # names, and how many documents each has


def serve(router: respx.MockRouter, readings: list[Reading]) -> respx.Route:
    """Answer each fetch with one page, the last one again and again."""
    left = [list(reading.items()) if isinstance(reading, dict) else reading for reading in readings]

    def page(_: httpx.Request) -> httpx.Response:
        files = left.pop(0) if len(left) > 1 else left[0]
        listed = [{"original_file_name": name, "documents": [{}] * documents} for name, documents in files]
        return httpx.Response(200, json={"files": listed, "has_more": False})

    return router.get("/v2/apps/runs/r/results").mock(side_effect=page)


@pytest.mark.parametrize(
    ("readings", "fetches"),
    [
        pytest.param([RIGHT], 1, id="each file has one answer"),
        pytest.param([{"a": 1, "bu\u0308": 1}], 1, id="a name is decomposed"),
        pytest.param([{"a": 1}, RIGHT], 2, id="an answer came late"),
        pytest.param([{"a": 1}], 2, id="an answer is missing again"),
        pytest.param([{}], 2, id="there are no answers again"),
        pytest.param([RIGHT | {"c": 1}], 2, id="a strange file is answered again"),
        pytest.param([TWICE, RIGHT], 2, id="a file was answered twice at first"),
        pytest.param([TWICE], 0, id="a file is answered twice every time"),
        pytest.param([{"a": 1}, {"a": 2}, {"a": 2}], 3, id="another number of documents came"),
        pytest.param([{"a": 1, "c": 1}, {"c": 1, "a": 1}] * 3, 0, id="the order changes every time"),
        pytest.param([{"a": number} for number in range(MAX_FETCHES)], 0, id="they change every time"),
    ],
)
def test_results_are_fetched_until_each_file_has_an_answer_or_two_fetches_agree(
    hub: AIHub, router: respx.MockRouter, tmp_path: Path, readings: list[Reading], fetches: int
) -> None:
    route = serve(router, readings)
    if fetches:
        outcome = fetch_results(hub, replace(FEW, folder=tmp_path))
        assert isinstance(outcome, Fetched)
        [page] = outcome.pages
        assert (tmp_path / page.path).read_bytes() == route.calls.last.response.content
    else:
        with pytest.raises(ServiceError, match="change with every fetch"):
            fetch_results(hub, replace(FEW, folder=tmp_path))
    assert route.call_count == (fetches or MAX_FETCHES)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        pytest.param({"files": [], "has_more": True}, "an empty page", id="an empty page says that more follow"),
        pytest.param(
            {"files": [{"original_file_name": "a"}] * 500, "has_more": True}, "never end", id="pages never end"
        ),
        pytest.param({"files": [], "has_more": False, "id": "s"}, "instead of", id="another run's page"),
        pytest.param({"files": [], "has_more": False, "batch_id": 8}, "instead of", id="another batch's page"),
    ],
)
def test_page_that_cannot_be_right_is_an_error(
    hub: AIHub, router: respx.MockRouter, tmp_path: Path, page: dict[str, Any], says: str
) -> None:
    router.get("/v2/apps/runs/r/results").respond(json=page)
    with pytest.raises(ServiceError, match=says):
        fetch_results(hub, replace(FEW, folder=tmp_path, remote_batch=7))


@pytest.mark.parametrize(
    ("status", "listings", "changes", "is_gone"),
    [
        pytest.param(404, [["known"]], {}, True, id="another known run is listed"),
        pytest.param(404, [["known", "r"]], {}, False, id="it is listed all the same"),
        pytest.param(404, [["known"], ["known", "r"]], {}, False, id="a second listing shows it"),
        pytest.param(404, [[]], {}, False, id="no run is listed"),
        pytest.param(404, [["strange"]], {}, False, id="no known run is listed"),
        pytest.param(404, [["known"], []], {}, False, id="a second listing is empty"),
        pytest.param(404, [[]], {"was_fetched": True}, True, id="nothing is lost, since it was fetched before"),
        pytest.param(404, [["known"]], {"young_until_s": float("inf")}, False, id="it is new"),
        pytest.param(403, [["known"]], {}, False, id="it may not be read"),
    ],
)
def test_run_is_gone_only_if_two_lists_show_another_known_run_without_it(
    hub: AIHub,
    router: respx.MockRouter,
    status: int,
    listings: list[list[str]],
    changes: dict[str, Any],
    is_gone: bool,
) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        runs = [{"id": run_id, "status": "COMPLETE"} for run_id in listings[0]][int(request.url.params["offset"]) :]
        is_end = not runs or request.url.params["order"] == "ASCENDING"
        if is_end and len(listings) > 1:
            listings.pop(0)
        return httpx.Response(200, json={"runs": runs})

    router.get("/v2/apps/runs/r/results").respond(status)
    router.get("/v2/apps/runs").mock(side_effect=page)
    step = replace(FEW, others=frozenset({"known"}), **changes)
    if is_gone:
        assert fetch_results(hub, step) == Gone()
    else:
        with pytest.raises(ServiceError) as caught:
            fetch_results(hub, step)
        assert caught.value.status == status
