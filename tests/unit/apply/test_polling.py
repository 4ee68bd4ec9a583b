"""When to poll a run: how late its end is seen, and with how many requests."""

from __future__ import annotations

import pytest
import respx
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.polling import MARGIN_S, poll_delay_s
from aihub_runner.apply.steps import RunSeen
from aihub_runner.apply.tasks.run import PollRun, Unchanged, poll_run

RUN = {"id": "r", "status": "RUNNING"}
POLL = PollRun(1, 1, "r", 1.0, 0.0, status="RUNNING")


def watch(takes_s: float, open_runs: int = 1, seen_s: tuple[float, ...] = ()) -> tuple[int, float]:
    """Return how many polls a run of this duration needs, and how late its end is seen."""
    age_s, polls = 0.0, 0
    while age_s < takes_s:
        age_s, polls = age_s + poll_delay_s(age_s, open_runs, (0.5, 30), seen_s), polls + 1
    return polls, age_s - takes_s


@pytest.mark.parametrize("takes_s", [0.1, 1, 3, 4.99, 10, 61, 250])
def test_end_of_a_run_is_seen_in_a_tenth_of_its_time(takes_s: float) -> None:
    polls, late_s = watch(takes_s)
    assert late_s <= max(0.5, 0.1 * takes_s)
    assert polls <= 60


def test_many_open_runs_share_the_requests() -> None:
    assert watch(100, open_runs=200)[0] <= 11
    assert watch(100, open_runs=200)[1] <= 10


def test_long_run_is_asked_for_when_others_ended() -> None:
    assert watch(100, seen_s=(40, 100))[1] == pytest.approx(MARGIN_S)
    assert watch(100)[1] > 1


def test_pause_stays_within_what_the_spec_says() -> None:
    assert poll_delay_s(0, 1, (2, 5)) == 2
    assert poll_delay_s(1000, 1, (2, 5)) == 5
    assert poll_delay_s(9.5, 1, (2, 5), (10,)) == 2


@pytest.mark.parametrize(
    ("listed", "expected", "asked"),
    [
        ({"runs": [RUN]}, Unchanged, 0),
        ({"runs": [RUN | {"status": "COMPLETE"}]}, RunSeen, 1),
        ({"runs": []}, RunSeen, 1),
        ({}, RunSeen, 1),
    ],
)
def test_run_is_asked_for_unless_the_list_shows_what_is_known(
    hub: AIHub, router: respx.MockRouter, listed: dict[str, object], expected: type, asked: int
) -> None:
    router.get("/v2/apps/runs").respond(json=listed)
    run = router.get("/v2/apps/runs/r").respond(json=RUN)
    assert isinstance(poll_run(hub, POLL), expected)
    assert run.call_count == asked


def test_many_runs_share_a_list_of_runs(hub: AIHub, router: respx.MockRouter) -> None:
    listing = router.get("/v2/apps/runs").respond(json={"runs": [RUN, RUN | {"id": "s"}]})
    for name in ("r", "s", "r"):
        assert isinstance(poll_run(hub, replace(POLL, remote_id=name)), Unchanged)
    assert listing.call_count == 1


def test_run_is_asked_for_where_the_list_cannot_be_had(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs").respond(500)
    router.get("/v2/apps/runs/r").respond(json=RUN)
    assert isinstance(poll_run(hub, POLL), RunSeen)
