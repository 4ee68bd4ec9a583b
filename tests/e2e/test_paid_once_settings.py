"""Settings change back and forth, and the batch disappears, while the run may still be active."""

from __future__ import annotations

import pytest

from support.proxy import (
    BATCHES,
    RUN_LIST,
    RUNS,
    Proxy,
    answer_instead,
    forward_and_drop,
    hide,
    rewrite_each,
)
from support.world import check_paid_once, payments

from .conftest import Project
from .test_paid_once_decisions import leave_unknown

pytestmark = pytest.mark.matrix


def lose_a_start_on_a_batch_that_seems_gone(project: Project, proxy: Proxy) -> None:
    """The run was started, its response was lost, it is not listed, and later its batch is not listed either."""
    leave_unknown(project, proxy)
    project.change_spec('on_lost = "stop"', 'on_lost = "look"')


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.slow
def test_open_run_is_found_after_its_batch_was_made_anew_for_other_settings(
    project: Project, proxy: Proxy, is_deleted: bool
) -> None:
    lose_a_start_on_a_batch_that_seems_gone(project, proxy)
    first = project.fake.batches()[0]["id"]
    if is_deleted:
        assert proxy.send("DELETE", f"/v2/batches/{first}").status == 202
    else:
        proxy.always("*", f"/v2/batches/{first}(/.*)?", answer_instead(404))
        proxy.always("GET", BATCHES, hide("batches", lambda batch: batch["id"] == first))
    project.fake.clock.advance(60)
    project.change_spec("[run]", '[run]\nversion = "2"')
    outcome = project.apply()
    proxy.clear()
    project.change_spec('version = "2"', "")
    for _ in range(3):
        outcome = project.apply()
        assert set(payments(project.fake).values()) == {1}, payments(project.fake)
    assert outcome.code in (0, 7), outcome.text
    if not is_deleted:
        assert outcome.code == 0, outcome.text
    done = [entry for entry in project.lock if entry["status"] == "COMPLETE"]
    assert all(entry["batch_id"] for entry in done), done
    ran_on = {run["id"]: int(run["batch_id"]) for run in project.fake.runs()}
    assert all(entry["batch_id"] == ran_on[entry["run_id"]] for entry in done), (done, ran_on)


@pytest.mark.parametrize(
    "shown", [lambda real: real + 1000, lambda real: 0, lambda real: None], ids=["other", "0", "null"]
)
def test_exact_tag_on_whatever_batch_is_never_absent(project: Project, proxy: Proxy, shown: object) -> None:
    """The listing names another batch for it than the one it was started on."""
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    number = lambda run: shown(int(run["batch_id"]))  # type: ignore[operator] # noqa: E731
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | {"batch_id": number(run)}))
    outcome = project.apply()
    check_paid_once(project.fake, 1)
    assert outcome.code in (0, 7), outcome.text
    proxy.clear()
    project.check_done(1)


@pytest.mark.slow
def test_settings_go_back_and_forth_while_two_runs_are_open(project: Project, proxy: Proxy) -> None:
    lose_a_start_on_a_batch_that_seems_gone(project, proxy)
    project.change_spec("[run]", '[run]\nversion = "2"')
    proxy.on("POST", RUNS, forward_and_drop)
    project.apply()
    for old, new in (('version = "2"', 'version = "1"'), ('version = "1"', 'version = "2"'), ('version = "2"', "")):
        project.change_spec(old, new)
        outcome = project.apply()
        assert set(payments(project.fake).values()) == {1}
    assert outcome.code == 0, outcome.text
    assert len(payments(project.fake)) == 3


def test_lock_file_names_the_batch_of_a_run_whose_batch_is_gone(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    batch = project.fake.batches()[0]["id"]
    proxy.send("DELETE", f"/v2/batches/{batch}")
    project.fake.clock.advance(60)
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert project.apply().code == 0
    lock = {entry["run_id"]: entry["batch_id"] for entry in project.lock}
    assert lock == {run["id"]: int(run["batch_id"]) for run in project.fake.runs()}
    assert len(set(payments(project.fake).values())) == 1
