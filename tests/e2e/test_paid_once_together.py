"""Several clones apply at once, or one after another has crashed: each file is paid once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from support.proxy import (
    ALWAYS,
    BATCHES,
    FILES,
    RUN_LIST,
    RUNS,
    Answer,
    Call,
    Proxy,
    answer_instead,
    forward_and_drop,
    forward_twice,
    hide,
    meet,
)
from support.world import check_paid_once

from .conftest import Project, apply_at_once, check_all_done, end

pytestmark = pytest.mark.matrix

STATE = "job.state.db"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", RUN_LIST), ("POST", BATCHES), ("PUT", ".*"), ("GET", FILES), ("POST", RUNS)],
    ids=["survey", "batch", "upload", "check", "run"],
)
def test_two_fresh_clones_at_once_pay_once(project: Project, proxy: Proxy, method: str, path: str) -> None:
    """Wherever they meet: neither is ahead of the other there."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other")
    proxy.on(method, path, meet(2, timeout_s=1.5), times=2)
    ended = apply_at_once(project, other)
    check_paid_once(project.fake, 1)
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended
    proxy.clear()
    check_all_done(project, other)
    check_paid_once(project.fake, 1)


@pytest.mark.slow
def test_three_fresh_clones_at_once_pay_once(project: Project, proxy: Proxy) -> None:
    project.write_files(2)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    others = [project.clone(name) for name in ("b", "c")]
    proxy.on("POST", BATCHES, meet(3, timeout_s=3), times=3)
    ended = apply_at_once(project, *others)
    check_paid_once(project.fake, 2)
    assert {code for code, _ in ended} <= {0, 7}, ended


def test_two_clones_that_know_each_others_past_pay_what_is_new_once(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other", STATE)
    for each in (project, other):
        each.write_files(1, start=1)
    proxy.on("POST", BATCHES, meet(2, timeout_s=3), times=2)
    ended = apply_at_once(project, other)
    check_paid_once(project.fake, 2)
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("in_folders", [False, True])
@pytest.mark.slow
def test_two_state_files_in_one_folder_pay_once(project: Project, proxy: Proxy, in_folders: bool) -> None:
    project.write_files(1)
    names = ["one.db", "two.db"]
    if in_folders:
        (project.folder / "a").mkdir()
        names = [str(project.folder / "a" / "one.db"), "job.state.db"]
    proxy.on("POST", BATCHES, meet(2, timeout_s=1.5), times=2)
    ended = apply_at_once(project, project, options=tuple(("--state", name) for name in names))
    check_paid_once(project.fake, 1)
    assert {code for code, _ in ended} <= {0, 5, 7}, ended


def test_clone_whose_twin_died_before_it_paid_says_so_and_pays_when_told(project: Project, proxy: Proxy) -> None:
    """The other made the batch, sent the file, and never came to start the run."""
    project.write_files(1)
    other = project.clone("other")
    proxy.on("GET", FILES, answer_instead(400))
    assert other.apply().code == 4
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert project.fake.runs() == []
    assert "--adopt" in outcome.text
    outcome = project.apply("--adopt")
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)
    assert other.apply().code == 0
    check_paid_once(project.fake, 1)


def test_batch_that_its_owner_ran_with_other_content_keeps_nobody_waiting(project: Project, proxy: Proxy) -> None:
    """Its name tells what was planned. The other was interrupted, then changed its file, sent it again, and ran it."""
    project.write_files(1)
    other = project.clone("other")
    proxy.on("GET", FILES, answer_instead(400))
    assert other.apply().code == 4
    other.write("in/00000.txt", "another version")
    assert other.apply().code == 0
    check_paid_once(project.fake, 1)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 2)
    for clone in (other, project):
        clone.forget_requests()
        assert clone.apply().code == 0
        assert clone.sent() == []


@pytest.mark.slow
def test_file_that_is_also_in_the_other_content_of_an_older_batch_is_paid_once(project: Project, proxy: Proxy) -> None:
    """The other is done while this one sends its files: one of two files changed."""
    project.write_files(1, start=9)
    assert project.apply().code == 0
    other = project.clone("other", STATE)
    for each in (project, other):
        each.write_files(2)
    proxy.on("GET", FILES, answer_instead(400))
    assert other.apply().code == 4
    other.write("in/00001.txt", "another version")
    ended: list[int] = []

    def act(call: Call) -> Answer:
        ended.append(other.run_alone("apply", "job.toml").code)
        return call.forward()

    proxy.on("PUT", ".*", act)
    outcome = project.run_alone("apply", "job.toml")
    assert (ended, outcome.code) == ([0], 7), outcome.text
    check_paid_once(project.fake, 3)


@pytest.mark.parametrize("listings", [1, 2, 3, 4, ALWAYS])
def test_batch_of_our_own_that_was_left_behind_keeps_nobody_waiting(
    project: Project, proxy: Proxy, listings: int
) -> None:
    """We created two of one name: the first response was lost, and listings hid the batch for a while."""
    project.write_files(1)
    proxy.on("POST", BATCHES, forward_and_drop)
    proxy.on("GET", BATCHES, hide("batches"), times=listings)
    project.apply()
    proxy.clear()
    check_all_done(project)
    check_paid_once(project.fake, 1)


def wait_for(happened: Callable[[], object], at_most_s: float) -> None:
    until_s = time.monotonic() + at_most_s
    while not happened() and time.monotonic() < until_s:
        time.sleep(0.05)


@pytest.mark.slow
def test_batch_that_a_twin_makes_while_our_own_is_lost_is_not_shared(project: Project, proxy: Proxy) -> None:
    """Our own creation never arrived, and the other's batch of the same name is still empty: we wait for its run."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other")
    started: list[Any] = []

    def let_the_other_begin(call: Call) -> None:
        started.append(other.start("apply", "job.toml"))
        wait_for(project.fake.batches, 10)

    def hold(call: Call) -> Any:
        wait_for(project.fake.runs, 1)
        return call.forward()

    proxy.on("POST", BATCHES, let_the_other_begin)
    proxy.on("PUT", ".*", hold)
    started.append(project.start("apply", "job.toml"))
    wait_for(lambda: len(started) > 1, 10)
    ended = end(started)
    check_paid_once(project.fake, 1)
    assert {0, 7} >= {code for code, _ in ended}, ended
    proxy.clear()
    check_all_done(project, other)
    check_paid_once(project.fake, 1)


def test_batch_that_a_gateway_makes_twice_pays_nothing_until_told(project: Project, proxy: Proxy) -> None:
    """The creation makes two of one name, and the answer names the second: the first may be another clone's."""
    project.write_files(1)
    proxy.on("POST", BATCHES, forward_twice)
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert "--adopt" in outcome.text
    check_paid_once(project.fake, 0)
    assert project.apply("--adopt").code == 0
    check_paid_once(project.fake, 1)
