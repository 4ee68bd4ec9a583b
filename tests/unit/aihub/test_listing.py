"""Read lists to their end, from servers that truncate, shift or reorder them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from aihub_runner.aihub.listing import PAGE, read_batches, read_runs
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.errors import ListingCut, ServiceError

BEGUN_S = 1_700_000_000


def make_runs(count: int, every_s: float = 1.0) -> list[RunInfo]:
    return [
        RunInfo(id=f"r{i}", status="COMPLETE", start_timestamp=int((BEGUN_S + i * every_s) * 1e9)) for i in range(count)
    ]


class Server:
    """Lists runs. From offset `cut` on, it refuses with `status`, or returns an empty page if that is 0."""

    def __init__(self, runs: list[RunInfo], cut: int = 10**9, status: int = 0, page: int = PAGE) -> None:
        self.runs, self.cut, self.status, self.page = runs, cut, status, page
        self.has_order = True
        self.asked: list[tuple[int, str, int]] = []

    def __call__(self, since: int, order: str, offset: int) -> Sequence[RunInfo]:
        self.asked.append((since, order, offset))
        if offset >= self.cut and self.status:
            raise ServiceError("no", status=self.status)
        found = [run for run in self.runs if (run.start_timestamp or 10**19) >= since * 10**9]
        if order == "DESCENDING" or not self.has_order:
            found.reverse()
        return found[: self.cut][offset : offset + self.page]


def ids(runs: Sequence[RunInfo]) -> list[str]:
    return [run.id for run in runs]


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 2), (3, 2), (100, 2), (101, 3), (250, 4)])
def test_list_of_runs_takes_no_more_requests_than_pages_and_a_look_at_its_end(count: int, requests: int) -> None:
    server = Server(make_runs(count))
    assert ids(read_runs(server, 0.0)) == ids(server.runs)
    assert len(server.asked) == requests
    assert all(since >= 1 for since, _, _ in server.asked)


@pytest.mark.parametrize("from_s", [-5.0, 0.0, 0.5, 1.9])
def test_list_of_runs_never_goes_without_a_bound(from_s: float) -> None:
    server = Server(make_runs(2))
    read_runs(server, from_s)
    assert {since for since, _, _ in server.asked} == {1}


@pytest.mark.parametrize("status", [0, 400, 404, 413, 416, 422, 500])
@pytest.mark.parametrize(("cut", "page"), [(100, 100), (150, 100), (200, 100), (7, 100), (7, 3), (99, 100)])
def test_list_that_is_cut_at_an_offset_is_read_on_by_time(status: int, cut: int, page: int) -> None:
    server = Server(make_runs(330), cut, status, page)
    assert ids(read_runs(server, 0.0)) == ids(server.runs)


@pytest.mark.parametrize("status", [0, 400])
def test_list_that_cannot_be_read_on_is_no_proof_of_absence(status: int) -> None:
    server = Server(make_runs(330, every_s=0.001), 100, status)
    with pytest.raises(ListingCut):
        read_runs(server, 0.0)


@pytest.mark.parametrize("status", [0, 400])
def test_list_of_runs_without_times_that_is_cut_is_no_proof_of_absence(status: int) -> None:
    runs = [RunInfo(id=f"r{i}", status="RUNNING") for i in range(150)]
    with pytest.raises(ListingCut):
        read_runs(Server(runs, 100, status), 0.0)


@pytest.mark.parametrize("status", [401, 403, 429])
def test_refusal_that_is_not_about_pages_is_told_as_it_is(status: int) -> None:
    with pytest.raises(ServiceError) as caught:
        read_runs(Server(make_runs(150), 100, status), 0.0)
    assert not isinstance(caught.value, ListingCut)


def test_list_in_an_order_of_its_own_is_read_until_a_page_is_empty() -> None:
    server = Server(make_runs(150))
    server.has_order = False
    assert set(ids(read_runs(server, 0.0))) == set(ids(server.runs))


def test_list_that_grows_while_it_is_read_holds_what_was_there_before() -> None:
    server = Server(make_runs(120))
    late = make_runs(122)[120:]

    def growing(since: int, order: str, offset: int) -> Sequence[RunInfo]:
        page = server(since, order, offset)
        server.runs.extend(late[:1])
        del late[:1]
        return page

    assert set(ids(make_runs(120))) <= set(ids(read_runs(growing, 0.0)))


def test_run_that_is_deleted_while_the_list_is_read_does_not_make_it_untrusted() -> None:
    server = Server(make_runs(20))

    def shrinking(since: int, order: str, offset: int) -> Sequence[RunInfo]:
        page = server(since, order, offset)
        server.runs = server.runs[:19]
        return page

    assert ids(read_runs(shrinking, 0.0)) == ids(make_runs(19))


@pytest.mark.parametrize("read", [lambda ask: read_runs(lambda since, order, at: ask(order, at), 0.0)])
def test_runs_that_come_again_and_again_are_an_error(
    read: Callable[[Callable[[str, int], list[RunInfo]]], list[RunInfo]],
) -> None:
    runs = make_runs(150)
    with pytest.raises(ServiceError, match="keeps returning the same page"):
        read(lambda order, at: runs[:100] if order == "ASCENDING" else runs[50:])


def make_batches(count: int) -> list[BatchInfo]:
    return [BatchInfo(id=i + 1, name="b") for i in range(count)]


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 2), (99, 2), (100, 3), (101, 3)])
def test_list_of_batches_is_read_until_a_page_is_empty(count: int, requests: int) -> None:
    batches, asked = make_batches(count), list[int]()

    def ask(offset: int) -> list[BatchInfo]:
        asked.append(offset)
        return batches[offset : offset + PAGE]

    assert read_batches(ask) == batches
    assert len(asked) == requests


@pytest.mark.parametrize("deleted", [1, 2, 150])
@pytest.mark.parametrize("times", [1, 2])
def test_batches_deleted_while_the_list_is_read_hide_no_other(deleted: int, times: int) -> None:
    """Retention deletes the oldest ones, so that later pages begin elsewhere."""
    batches, left = make_batches(350), [times]

    def ask(offset: int) -> list[BatchInfo]:
        page = batches[offset : offset + PAGE]
        if offset and left[0]:
            left[0] -= 1
            del batches[:deleted]
        return page

    assert {batch.id for batch in read_batches(ask)} >= {batch.id for batch in batches}


def test_batches_deleted_all_the_time_are_no_proof_of_absence() -> None:
    batches = make_batches(10_000)

    def ask(offset: int) -> list[BatchInfo]:
        del batches[:5]
        return batches[offset : offset + PAGE]

    with pytest.raises(ListingCut):
        read_batches(ask)


@pytest.mark.parametrize("deleted", [1, 2, 90])
@pytest.mark.parametrize("page", [100, 7])
def test_runs_deleted_while_the_list_is_read_hide_no_other(deleted: int, page: int) -> None:
    server, asked = Server(make_runs(250), page=page), list[int]()

    def shrinking(since: int, order: str, offset: int) -> Sequence[RunInfo]:
        asked.append(offset)
        found = server(since, order, offset)
        if len(asked) == 3:
            del server.runs[:deleted]
        return found

    assert set(ids(read_runs(shrinking, 0.0))) >= set(ids(server.runs))


def test_list_whose_pages_hold_one_entry_is_read_to_its_end() -> None:
    batches = make_batches(5)
    assert read_batches(lambda offset: batches[offset : offset + 1]) == batches
    server = Server(make_runs(5), page=1)
    assert ids(read_runs(server, 0.0)) == ids(server.runs)


@pytest.mark.parametrize("status", [400, 404, 416, 422, 500])
def test_list_of_batches_that_is_cut_is_no_proof_of_absence(status: int) -> None:
    def ask(offset: int) -> list[BatchInfo]:
        if offset:
            raise ServiceError("no", status=status)
        return make_batches(PAGE)

    with pytest.raises(ListingCut):
        read_batches(ask)


def test_list_of_batches_that_is_refused_at_once_is_told_as_it_is() -> None:
    def ask(offset: int) -> list[BatchInfo]:
        raise ServiceError("no", status=404)

    with pytest.raises(ServiceError) as caught:
        read_batches(ask)
    assert not isinstance(caught.value, ListingCut)


def test_batches_that_come_again_and_again_are_an_error() -> None:
    with pytest.raises(ServiceError, match="keeps returning the same page"):
        read_batches(lambda offset: make_batches(PAGE))
