"""`--refresh` and `status --watch`: what is gone is shown, and nothing is paid because of it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from support.proxy import BATCHES, RUN_LIST, Proxy, hide
from support.world import check_paid_once

from .conftest import Project, Terminal


def delete_run(project: Project, run_id: str) -> None:
    """Delete a run, as somebody else would."""
    world = project.fake.world
    world.delete_run(world.runs[run_id], with_record=True)


def delete_batch(project: Project, batch_id: int) -> None:
    world = project.fake.world
    world.delete_batch(world.batches[batch_id])


@pytest.fixture
def two(project: Project) -> Project:
    """Return a project with two batches and runs, made a while ago."""
    for name in ("a", "b"):
        project.write(f"in/{name}.txt", name)
        assert project.apply().code == 0
    age(project)
    return project


def age(project: Project) -> None:
    """Let some time pass, on the service and by what is recorded, so that nothing is too young to be listed."""
    project.fake.clock.advance(600)
    with closing(sqlite3.connect(project.folder / "job.state.db")) as db, db:
        for table in ("batches", "runs"):
            db.execute(f"UPDATE {table} SET since_boot = ''")


def ids(project: Project) -> tuple[list[int], list[str]]:
    runs = sorted(project.fake.runs(), key=lambda run: run["start_timestamp"])
    return [run["batch_id"] for run in runs], [run["id"] for run in runs]


def test_nothing_is_told_where_all_is_as_recorded(two: Project) -> None:
    assert "drift" not in two.run("status", "--refresh").out
    assert two.apply("--refresh", "--json").json["drift"] == []


def test_run_that_was_deleted_is_shown_and_not_paid_again(two: Project) -> None:
    _, runs = ids(two)
    delete_run(two, runs[0])
    drift = [{"kind": "run", "id": runs[0], "recorded": "COMPLETE", "found": "GONE"}]
    assert two.run("status", "--refresh", "--json").json["drift"] == drift
    assert f"drift      run {runs[0]}: recorded as COMPLETE, now GONE" in two.run("status", "--refresh").out
    two.forget_requests()
    outcome = two.apply("--refresh", "--json")
    assert (outcome.code, outcome.json["drift"]) == (0, drift)
    assert f"run {runs[0]}: recorded as COMPLETE, now GONE" in outcome.err
    assert two.sent() == []
    assert "GONE" in two.run("status").out
    assert two.apply("--refresh", "--json").json["drift"] == []


def test_status_with_refresh_records_nothing(two: Project) -> None:
    _, runs = ids(two)
    delete_run(two, runs[0])
    before = (two.folder / "job.state.db").read_bytes()
    assert two.run("status", "--refresh").code == 0
    assert (two.folder / "job.state.db").read_bytes() == before


def test_batch_that_was_deleted_is_not_used_for_the_next_run(two: Project) -> None:
    batches, _ = ids(two)
    delete_batch(two, batches[0])
    outcome = two.apply("--refresh")
    assert f"batch {batches[0]}: recorded as there, now GONE" in outcome.err
    two.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert two.apply().code == 0
    assert len(two.fake.batches()) == 2
    check_paid_once(two.fake, 4)


@pytest.mark.parametrize("times", [2, 9])
def test_one_list_that_lacks_a_run_proves_nothing(proxy: Proxy, two: Project, times: int) -> None:
    _, runs = ids(two)
    two.run("status", "--refresh")
    proxy.on("GET", RUN_LIST, hide("runs", lambda run: run["id"] == runs[0]), times=times)
    outcome = two.run("status", "--refresh", "--json")
    found = [one["found"] for one in outcome.json["drift"]]
    assert found == ([] if times == 2 else ["missing from the list, but there when asked for by its id"])


def test_absence_counts_for_nothing_while_no_recorded_run_is_listed(proxy: Proxy, two: Project) -> None:
    for run in ids(two)[1]:
        delete_run(two, run)
    proxy.always("GET", BATCHES, hide("batches"))
    outcome = two.apply("--refresh", "--json")
    assert {one["found"].partition(",")[0] for one in outcome.json["drift"] if one["kind"] == "run"} == {"not found"}
    assert "GONE" not in two.run("status").out
    check_paid_once(two.fake)


def test_run_that_ended_meanwhile_is_shown_with_its_status(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.fake.next_run(hold=True)
    assert project.apply("--no-wait").code == 6
    [run] = ids(project)[1]
    project.fake.release(run)
    drift = project.run("status", "--refresh", "--json").json["drift"]
    assert [(one["id"], one["found"]) for one in drift] == [(run, "COMPLETE")]


def test_gone_run_whose_results_were_not_fetched_is_paid_again_only_on_request(project: Project) -> None:
    project.write("in/a.txt", "a")
    assert project.apply().code == 0
    project.write("in/b.txt", "b")
    project.fake.next_run(hold=True)
    assert project.apply("--no-wait").code == 6
    age(project)
    delete_run(project, ids(project)[1][1])
    project.forget_requests()
    assert project.apply("--refresh").code == 3
    assert project.sent() == []
    assert project.apply("--retry-failed").code == 0


@pytest.mark.slow
def test_watch_ends_at_once_where_all_is_done(two: Project) -> None:
    outcome = two.run_alone("status", "job.toml", "--watch")
    assert outcome.code == 0
    ages = re.compile(r" +\d+ s$", re.MULTILINE)
    assert ages.sub("", outcome.out) == ages.sub("", two.run_alone("status", "job.toml").out)


@pytest.mark.slow
def test_watch_writes_a_line_for_each_change_until_all_is_done(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.fake.next_run(hold=True)
    assert project.apply("--no-wait").code == 6
    watch: Any = project.start("status", "job.toml", "--watch")
    line = watch.stdout.readline()
    assert re.fullmatch(r"\d{4}-\S+Z job.toml: 1 file, 1 done or in progress, 1 run in progress\n", line)
    project.fake.release(ids(project)[1][0])
    assert project.apply().code == 0
    out, _ = watch.communicate(timeout=60)
    assert (watch.returncode, "1 COMPLETE" in out) == (0, True)


def test_watch_on_a_terminal_draws_until_ctrl_c(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.fake.next_run(hold=True)
    assert project.apply("--no-wait").code == 6
    with Terminal(project, "status", "job.toml", "--watch") as terminal:
        terminal.read_until("RUNNING")
        terminal.type("\x03")
        code, _ = terminal.end()
    assert code == 130
    project.fake.release(ids(project)[1][0])
    assert project.apply().code == 0


def test_watch_refuses_json(project: Project) -> None:
    assert project.run("status", "--watch", "--json").code == 2
