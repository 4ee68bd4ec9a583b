"""A proxy forwards a paid request and answers it itself: whatever it answers, nothing is paid twice."""

from __future__ import annotations

import itertools

import pytest

from support.proxy import (
    BATCHES,
    RUN_LIST,
    RUNS,
    Proxy,
    answer_instead,
    drop,
    forward_and_drop,
    forward_then,
    lag,
)
from support.world import check_paid_once, lose, payments

from .conftest import Project

pytestmark = pytest.mark.matrix(gate=32)

STATUSES = [
    *(300, 301, 302, 303, 304, 305, 307, 308),
    *(400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423),
    *(424, 425, 426, 428, 429, 431, 444, 449, 451, 460, 499),
    *(500, 501, 502, 503, 504, 505, 507, 508, 510, 511, 520, 521, 522, 523, 524, 525, 526, 530, 599),
    *(204, 206, 226),
]
REFUSING = [303, 404, 409, 429]
DEPLOYMENT = 'app_name = "Invoice Extraction"\nowner = "instabase"', 'deployment_id = "d-1"'


@pytest.mark.parametrize("kind", ["app", "deployment"])
@pytest.mark.parametrize("status", STATUSES)
def test_start_that_was_delivered_and_answered_otherwise_is_paid_once(
    project: Project, proxy: Proxy, status: int, kind: str
) -> None:
    if kind == "deployment":
        project.change_spec(*DEPLOYMENT)
    project.write_files(2)
    rule = proxy.on("POST", RUNS, forward_then(status))
    project.apply()
    assert rule.used == 1
    check_paid_once(project.fake, 2)
    project.check_done(2)


@pytest.mark.parametrize("status", REFUSING)
def test_start_that_a_proxy_answers_each_time_is_delivered_once(project: Project, proxy: Proxy, status: int) -> None:
    """However often it is applied while the proxy does so."""
    project.write_files(1)
    proxy.always("POST", RUNS, forward_then(status))
    for _ in range(3):
        project.apply()
        check_paid_once(project.fake, 1)
    proxy.clear()
    project.check_done(1)


@pytest.mark.parametrize("status", REFUSING)
def test_start_that_was_refused_and_not_delivered_is_paid_in_the_end(
    project: Project, proxy: Proxy, status: int
) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, answer_instead(status))
    project.apply()
    project.check_done(1)


@pytest.mark.parametrize("status", REFUSING)
def test_start_that_shows_late_after_a_refusal_is_paid_once(project: Project, proxy: Proxy, status: int) -> None:
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 0.5")
    proxy.on("POST", RUNS, forward_then(status))
    proxy.always("GET", RUN_LIST, lag("runs", 1))
    project.apply()
    check_paid_once(project.fake, 1)
    project.check_done(1)


@pytest.mark.parametrize("then", [forward_then(429), forward_and_drop, drop, answer_instead(404)])
@pytest.mark.parametrize("status", [429, 425, 404])
def test_start_refused_and_then_something_else_is_paid_once(
    project: Project, proxy: Proxy, status: int, then: object
) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, answer_instead(status))
    proxy.on("POST", RUNS, then, nth=1)  # type: ignore[arg-type]
    for _ in range(2):
        project.apply()
        check_paid_once(project.fake)
    project.check_done(1)


@pytest.mark.parametrize("status", REFUSING)
@pytest.mark.parametrize("lost", [("job.state.db",), ("job.state.db", "job.lock.toml")])
def test_refused_start_whose_state_is_lost_is_paid_once(
    project: Project, proxy: Proxy, status: int, lost: tuple[str, ...]
) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_then(status))
    project.apply()
    lose(project.folder, *lost)
    project.check_done(1)


@pytest.mark.parametrize("status", REFUSING)
def test_refused_start_is_found_after_settings_went_back_and_forth(project: Project, proxy: Proxy, status: int) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_then(status))
    project.apply()
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    project.apply()
    project.change_spec('version = "2"', "")
    for _ in range(3):
        project.apply()
        check_paid_once(project.fake)
    assert project.apply().code == 0
    assert len(payments(project.fake)) == 2


@pytest.mark.parametrize("status", REFUSING)
@pytest.mark.parametrize("change", ["added", "changed", "removed", "moved", "limit"])
def test_refused_start_whose_files_are_others_by_now_is_paid_once(
    project: Project, proxy: Proxy, status: int, change: str
) -> None:
    project.write_files(2)
    proxy.on("POST", RUNS, forward_then(status))
    project.apply()
    files = project.folder / "in"
    match change:
        case "added":
            project.write_files(1, start=2)
        case "changed":
            project.write("in/00001.txt", "changed meanwhile")
        case "removed":
            (files / "00001.txt").unlink()
        case "moved":
            (files / "00001.txt").rename(files / "other.txt")
        case "limit":
            project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    for _ in range(3):
        outcome = project.apply()
        check_paid_once(project.fake)
    assert outcome.code == 0, outcome.text
    assert len(payments(project.fake)) == (3 if change in ("added", "changed") else 2)


@pytest.mark.parametrize("status", REFUSING)
@pytest.mark.parametrize("option", ["--retry-failed", "--adopt"])
def test_refused_start_is_looked_for_whatever_the_next_apply_is_told(
    project: Project, proxy: Proxy, status: int, option: str
) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_then(status))
    project.apply()
    project.apply(option)
    project.check_done(1)


@pytest.mark.parametrize("status", REFUSING)
def test_retry_of_a_failed_run_that_was_refused_and_delivered_is_paid_once(
    project: Project, proxy: Proxy, status: int
) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED", message="as told")
    assert project.apply().code == 3
    proxy.on("POST", RUNS, forward_then(status))
    for option in ("--retry-failed", "--retry-failed"):
        project.apply(option)
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 2


@pytest.mark.parametrize("status", REFUSING)
def test_one_of_several_starts_that_was_refused_and_delivered_is_paid_once(
    project: Project, proxy: Proxy, status: int
) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 1")
    project.write_files(4)
    proxy.on("POST", RUNS, forward_then(status), nth=2)
    project.apply()
    check_paid_once(project.fake)
    project.check_done(4)


@pytest.mark.parametrize("how", [forward_and_drop, *(forward_then(s) for s in (303, 404, 408, 409, 429, 500, 504))])
def test_batch_that_was_made_and_answered_otherwise_does_no_harm(project: Project, proxy: Proxy, how: object) -> None:
    """An empty batch of our own with the lowest id is no other clone's, so we need not wait."""
    project.write_files(1)
    proxy.on("POST", BATCHES, how, times=2)  # type: ignore[arg-type]
    project.apply()
    project.check_done(1)


def test_refused_start_is_never_sent_again_without_a_listing_between(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, answer_instead(429), times=3)
    assert project.apply().code == 0
    asked = [call for call in proxy.calls if call in (("POST", RUN_LIST), ("GET", RUN_LIST))]
    pairs = list(itertools.pairwise(asked))
    assert (("POST", RUN_LIST), ("POST", RUN_LIST)) not in pairs, proxy.calls
