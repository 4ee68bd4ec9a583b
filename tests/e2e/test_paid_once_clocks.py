"""No payment depends on a clock, whether the service's, a gateway's or our own."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import pytest

from support.proxy import (
    BATCH,
    BATCHES,
    FILE,
    FILES,
    RUN,
    RUN_LIST,
    RUNS,
    Proxy,
    after,
    answer_instead,
    before,
    drop,
    forward_and_drop,
    hide,
    jumping,
    lag,
    rewrite,
    rewrite_each,
    shifted,
    show_after,
)
from support.world import bring_back, check_paid_once, keep

from .conftest import Project

pytestmark = pytest.mark.matrix

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400
DATES: dict[str, Callable[[str], str | None]] = {
    "two hours ahead": shifted(2 * HOUR),
    "two hours behind": shifted(-2 * HOUR),
    "a day ahead": shifted(DAY),
    "a day behind": shifted(-DAY),
    "ten years ahead": shifted(10 * YEAR),
    "ten years behind": shifted(-10 * YEAR),
    "absent": lambda real: None,
    "of a zone": lambda real: real.replace("GMT", "+1400"),
    "of a zone behind": lambda real: real.replace("GMT", "-1200"),
    "of no zone": lambda real: real.replace(" GMT", ""),
    "of the epoch": lambda real: "Thu, 01 Jan 1970 00:00:00 GMT",
    "of the end of time": lambda real: "Fri, 31 Dec 9999 23:59:59 GMT",
    "no date": lambda real: "soon",
    "a number": lambda real: "1767225600",
    "jumping by hours": jumping(0, 2 * HOUR, -2 * HOUR),
    "jumping by years": jumping(YEAR, 0, -YEAR, 0),
}


class OwnClock:
    """The wall clock of the process under test; the fake's own time does not follow it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
        self.shift_s = 0
        self._clock = project.fake.clock
        real, real_ns = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: real() + self.shift_s)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() + self.shift_s * 1_000_000_000)

    def jump(self, seconds: int) -> None:
        before_it = self._clock.now_s()
        self.shift_s += seconds
        if abs(self._clock.now_s() - before_it) > 1:  # the fake reads the same clock
            self._clock.offset_s -= seconds


@pytest.fixture
def own_clock(project: Project, monkeypatch: pytest.MonkeyPatch) -> OwnClock:
    return OwnClock(monkeypatch, project)


# The Date header


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("knows_a_run", [False, True])
def test_lost_run_under_a_wrong_date_is_paid_once(project: Project, proxy: Proxy, date: str, knows_a_run: bool) -> None:
    proxy.date = DATES[date]
    if knows_a_run:
        project.write_files(1, start=1)
        assert project.apply().code == 0
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    project.check_done(1 + knows_a_run)


@pytest.mark.parametrize("date", DATES)
def test_run_that_never_was_is_started_under_a_wrong_date(project: Project, proxy: Proxy, date: str) -> None:
    proxy.date = DATES[date]
    project.write_files(1)
    proxy.on("POST", RUNS, drop)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)


@pytest.mark.parametrize("date", ["two hours ahead", "ten years ahead", "ten years behind", "absent"])
@pytest.mark.parametrize("later", ["as before", "right"])
@pytest.mark.slow
def test_our_own_death_under_a_wrong_date_pays_once(project: Project, proxy: Proxy, date: str, later: str) -> None:
    """The state of a process that died as its run was started; the run is listed just after our check."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 2")  # it counts from the start: the first apply takes some of it
    place = project.folder / "backup"
    proxy.date = DATES[date]
    proxy.on("POST", RUNS, after(lambda: keep(project.folder, place, "job.state.db")))
    assert project.apply().code == 0
    bring_back(project.folder, place, "job.state.db", "job.lock.toml")
    if later == "right":
        proxy.date = lambda real: real
    proxy.always("GET", RUN_LIST, show_after("runs", 0.3))
    project.check_done(1)


@pytest.mark.parametrize("jump", [2 * HOUR, -2 * HOUR, 10 * YEAR])
@pytest.mark.parametrize("when", [before, after])
def test_date_that_jumps_while_the_answer_is_lost_pays_once(
    project: Project, proxy: Proxy, jump: int, when: Callable[..., Any]
) -> None:
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 0.8")

    def leap() -> None:
        proxy.date = shifted(jump)

    proxy.on("POST", RUNS, when(leap, forward_and_drop))
    proxy.always("GET", RUN_LIST, show_after("runs", 0.3))
    project.check_done(1)


@pytest.mark.parametrize("jump", [HOUR, 10 * YEAR])
def test_date_that_jumps_between_two_readings_pays_once(project: Project, proxy: Proxy, jump: int) -> None:
    """What the first reading did not show is not believed to be absent because a gateway says that time has passed."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 0.8")
    steps = itertools.count(1)
    proxy.date = lambda real: shifted(next(steps) * jump)(real)
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, show_after("runs", 0.3))
    project.check_done(1)


# Our own clock


@pytest.mark.parametrize("shift", [2 * HOUR, -2 * HOUR, 25 * HOUR, YEAR, -YEAR])
@pytest.mark.parametrize("date", ["absent", "right"])
def test_lost_run_under_a_wrong_clock_of_our_own_is_paid_once(
    project: Project, proxy: Proxy, own_clock: OwnClock, shift: int, date: str
) -> None:
    if date == "absent":
        proxy.date = lambda real: None
    own_clock.jump(shift)
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    project.check_done(1)


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("shift", [2 * HOUR, -2 * HOUR, YEAR, -YEAR])
@pytest.mark.slow
def test_clock_of_our_own_that_jumps_while_the_answer_is_lost_pays_once(
    project: Project, proxy: Proxy, own_clock: OwnClock, shift: int
) -> None:
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 3")
    proxy.date = lambda real: None
    proxy.on("POST", RUNS, after(lambda: own_clock.jump(shift), forward_and_drop))
    proxy.always("GET", RUN_LIST, show_after("runs", 0.3))
    project.check_done(1)


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("shift", [2 * HOUR, -2 * HOUR, YEAR])
@pytest.mark.slow
def test_clock_of_our_own_that_was_set_between_two_applies_pays_once(
    project: Project, proxy: Proxy, own_clock: OwnClock, shift: int
) -> None:
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 3")
    proxy.date = lambda real: None
    place = project.folder / "backup"
    proxy.on("POST", RUNS, after(lambda: keep(project.folder, place, "job.state.db")))
    assert project.apply().code == 0
    bring_back(project.folder, place, "job.state.db", "job.lock.toml")
    own_clock.jump(shift)
    proxy.always("GET", RUN_LIST, show_after("runs", 0.3))
    project.check_done(1)


# The bound of a search


def searches(project: Project) -> list[dict[str, list[str]]]:
    return [parse_qs(entry["query"]) for entry in project.fake.journal if entry["operation"] == "listRuns"]


def test_every_search_for_runs_names_its_beginning(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    assert project.apply().code == 0
    (project.folder / "job.state.db").unlink()
    proxy.on("GET", RUN, answer_instead(404))
    project.apply()
    (project.folder / "job.lock.toml").unlink()
    (project.folder / "job.state.db").unlink(missing_ok=True)
    project.apply("--adopt")
    project.apply("--again")
    assert len(searches(project)) > 4
    assert all(int(asked["from_timestamp"][0]) > 0 for asked in searches(project))


@pytest.mark.parametrize("ahead_s", [2 * HOUR, 2 * DAY, 10 * YEAR])
def test_lost_run_that_started_after_the_services_own_time_is_paid_once(project: Project, ahead_s: int) -> None:
    """Without an end, a search ends now, by the service's clock."""
    project.write_files(1)
    project.fake.next_run(after_polls=1)
    project.fake.faults(operation="runApp", do="skew", seconds=ahead_s)
    project.fake.faults(operation="runApp", do="reset", when="after")
    project.check_done(1)


@pytest.mark.parametrize("days", [2, 40, 400])
@pytest.mark.parametrize("kept", [("job.state.db",), ()])
def test_run_that_was_lost_long_ago_is_found(project: Project, proxy: Proxy, days: int, kept: tuple[str, ...]) -> None:
    """Left out, the beginning of a search means 24 hours ago."""
    project.write_files(1)
    place = project.folder / "backup"
    proxy.on("POST", RUNS, after(lambda: keep(project.folder, place, *kept)))
    assert project.apply().code == 0
    place.mkdir(exist_ok=True)
    bring_back(project.folder, place, "job.state.db", "job.lock.toml")
    project.fake.clock.advance(days * DAY)
    project.check_done(1)


@pytest.mark.parametrize("made", [None, "absent", 0, 1])
def test_batch_that_does_not_tell_when_it_was_made_pays_once(
    project: Project, proxy: Proxy, own_clock: OwnClock, made: object
) -> None:
    def tell(batch: dict[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in batch.items() if key != "created_at_ms"}
        return rest if made == "absent" else rest | {"created_at_ms": made}

    own_clock.jump(2 * HOUR)
    proxy.date = shifted(2 * HOUR)
    proxy.always("GET", BATCH, rewrite(tell))
    proxy.always("GET", BATCHES, rewrite_each("batches", tell))
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 1)
        assert outcome.code in (0, 7), outcome.text
    proxy.clear()
    project.check_done(1)


@pytest.mark.slow
def test_later_runs_do_not_raise_the_beginning_of_a_search(project: Project, proxy: Proxy) -> None:
    """A run is lost and not listed, others start and finish much later, then it is listed."""
    project.write_files(1)
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.on("GET", RUN_LIST, hide("runs"), times=4)
    assert project.apply().code == 7
    lost = project.fake.runs()[0]["id"]
    proxy.always("GET", RUN_LIST, hide("runs", lambda run: run["id"] == lost))
    for number in (1, 2):
        project.fake.clock.advance(3 * DAY)
        project.write_files(1, start=number)
        assert project.apply().code == 7
        check_paid_once(project.fake, number + 1)
    proxy.clear()
    project.change_spec('on_lost = "stop"', 'on_lost = "look"')
    project.check_done(3)


# Waits


def fall_back(proxy: Proxy, own_clock: OwnClock, seconds: int) -> Callable[[], None]:
    """Let both clocks show an earlier time with each call."""
    steps = itertools.count(1)

    def act() -> None:
        own_clock.jump(-seconds)
        proxy.date = shifted(-seconds * next(steps))

    return act


def test_wait_for_a_listing_ends_though_the_clock_falls_back(
    project: Project, proxy: Proxy, own_clock: OwnClock
) -> None:
    def more(listing: dict[str, Any]) -> dict[str, Any]:
        node = {"name": "other.txt", "metadata": {"node_type": "file", "size": 3}, "full_path": "/other.txt"}
        return listing | {"nodes": [*listing["nodes"], node] if proxy.count("PUT", FILE) else listing["nodes"]}

    project.write_files(1)
    proxy.on("GET", FILES, before(fall_back(proxy, own_clock, DAY), rewrite(more)), times=6)
    proxy.always("GET", FILES, answer_instead(401))  # so that it ends today
    outcome = project.apply()
    assert proxy.count("GET", FILES) < 6, outcome.text
    assert outcome.code == 4, outcome.text


def test_wait_for_what_is_young_ends_though_the_clock_falls_back(
    project: Project, proxy: Proxy, own_clock: OwnClock
) -> None:
    project.write_files(1)
    slow = before(fall_back(proxy, own_clock, DAY), answer_instead(404))
    proxy.on("POST", RUNS, slow, times=4)
    proxy.always("POST", RUNS, answer_instead(401))
    outcome = project.apply()
    assert proxy.count("POST", RUNS) < 4, outcome.text
    assert outcome.code == 4, outcome.text


def test_look_ends_though_the_clock_falls_back(project: Project, proxy: Proxy, own_clock: OwnClock) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, before(fall_back(proxy, own_clock, HOUR), lag("runs", 1)))
    outcome = project.apply()
    assert proxy.count("GET", RUN_LIST) < 20, outcome.text
    check_paid_once(project.fake)


LOCKLESS = """\
import fcntl, sys
fcntl.flock = fcntl.lockf = lambda *_: None
sys.argv = ["runner", "apply", "job.toml"]
from aihub_runner.cli.main import main
main()
"""


@pytest.mark.slow
def test_second_holder_where_locks_do_nothing_waits_for_what_the_first_may_still_send(
    project: Project, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems: a lock is given to everybody. The first is slow to send what it has recorded."""

    def let_another_try() -> None:
        proxy.rules.clear()
        environment = {k: v for k, v in (os.environ | project.env).items() if v is not None}
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [sys.executable, "-c", LOCKLESS], cwd=project.folder, env=environment, timeout=3, capture_output=True
            )

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    project.write_files(1)
    proxy.on("POST", RUNS, before(let_another_try))
    project.apply()
    check_paid_once(project.fake, 1)


@pytest.mark.parametrize("days", [2, 400])
def test_run_that_began_before_its_batch_by_the_services_clocks_is_found(
    project: Project, proxy: Proxy, days: int
) -> None:
    """The service's own clocks differ: a search from the time of the batch does not find the run."""
    project.write_files(1)
    proxy.on("POST", RUNS, before(lambda: project.fake.clock.advance(-days * DAY), forward_and_drop))
    project.check_done(1)
