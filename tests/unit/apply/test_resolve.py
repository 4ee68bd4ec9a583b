"""Your decisions about unconfirmed runs: only a matching run is imported, and none is given up unchecked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.finder import Finder, Inspected
from aihub_runner.apply.resolve import Undecided, adopt_run, find_unconfirmed, resubmit_runs
from aihub_runner.apply.steps import Failed, Lost, Unsure
from aihub_runner.apply.tasks.run import FindRun, StartRun
from aihub_runner.errors import InputError, RunnerError, ServiceError
from aihub_runner.model import Run, Source
from aihub_runner.plan.identity import fingerprint_members, run_tag
from aihub_runner.state.lockfile import Entry, member_hashes
from support.scripted import FIRST_BATCH, Trial, member

A, B = member("a"), member("b")
BATCH = FIRST_BATCH + 1
ERROR = ServiceError("no answer")


def leave_unknown(hub: AIHub, folder: Path, shards: int = 1, *, looked: bool = True) -> Trial:
    """Return an apply after which the start of each shard's run is unconfirmed."""
    looks = [Unsure("hidden") if looked else Failed(ERROR)] * shards
    trial = Trial(hub, folder, {StartRun: [Lost(0.0, ERROR)] * shards, FindRun: looks}, "[limits]\nsettle_s = 0.001\n")
    for number in range(shards):
        trial.add(*([A, B] if not number else [member(f"c{number}")]))
    trial.apply()
    trial.asked.steps.clear()
    return trial


@pytest.fixture
def trial(hub: AIHub, outside: None, tmp_path: Path) -> Trial:
    return leave_unknown(hub, tmp_path)


def the_run(trial: Trial) -> Run:
    return trial.shard.runs[0]


def open_runs(trial: Trial) -> Undecided:
    return Undecided(find_unconfirmed(trial.state), [], None)


TAG, STRANGE = "ours", "mine"
ANOTHER = run_tag("b" * 64, "0123456789abcdef", 1)
OURS = ["a", "b"]


@pytest.mark.parametrize(
    ("facts", "results", "files", "refused"),
    [
        pytest.param({}, OURS, None, "", id="its tag, its batch, its files"),
        pytest.param({"batch_id": None}, OURS, None, "", id="its tag and files, no batch"),
        pytest.param({"tags": []}, OURS, None, "", id="its batch and files, no tag"),
        pytest.param({"tags": [STRANGE]}, OURS, None, "", id="its batch and files, a strange tag"),
        pytest.param({"tags": [], "batch_id": None}, OURS, None, "", id="its files, nothing else"),
        pytest.param({}, ["a"], None, "", id="its tag, its batch, one answer is missing"),
        pytest.param({"tags": [ANOTHER]}, OURS, None, "with another tag", id="another of our tags"),
        pytest.param({"batch_id": 9}, OURS, None, "on another batch", id="its tag on another batch"),
        pytest.param({}, ["a", "z"], None, "files differ", id="its tag, other files"),
        pytest.param({"status": "FAILED"}, [], OURS, "", id="it failed on its batch"),
        pytest.param({"status": "FAILED", "tags": []}, [], OURS, "", id="it failed on its batch, without a tag"),
        pytest.param({}, ["a", "bu\u0308"], None, "files differ", id="its tag, a name of other letters"),
        pytest.param({"status": "RUNNING"}, [], ["a", "z"], "files differ", id="it runs, and its batch holds others"),
        pytest.param({"status": "RUNNING", "batch_id": None}, [], None, "", id="it runs with its tag, no batch"),
        pytest.param(
            {"status": "RUNNING", "batch_id": None, "tags": []}, [], None, "files are unknown", id="it tells nothing"
        ),
        pytest.param({"status": "FAILED"}, [], None, "", id="it failed with its tag, and its batch is gone"),
        pytest.param(
            {"status": "FAILED", "tags": []}, [], None, "files are unknown", id="it failed untagged, its batch is gone"
        ),
        pytest.param(None, [], None, "404", id="there is no such run"),
    ],
)
def test_run_is_imported_for_an_unconfirmed_one_only_if_it_may_be_it(
    hub: AIHub,
    router: respx.MockRouter,
    trial: Trial,
    facts: dict[str, Any] | None,
    results: list[str],
    files: list[str] | None,
    refused: str,
) -> None:
    """`files` are those in its batch, None where the batch is gone."""
    told = {"id": "r", "status": "COMPLETE", "batch_id": BATCH, "tags": [the_run(trial).tag]} | (facts or {})
    page = {"files": [{"original_file_name": name} for name in results], "has_more": False}
    listed = {"nodes": [{"name": name} for name in files or ()]}
    router.get("/v2/apps/runs/r").respond(**({"status_code": 404} if facts is None else {"json": told}))
    router.get("/v2/apps/runs/r/results").respond(json=page)
    router.get(f"/v2/batches/{BATCH}/files").respond(**({"status_code": 404} if files is None else {"json": listed}))
    if refused:
        with pytest.raises(RunnerError, match=refused):
            adopt_run(trial.state, hub, open_runs(trial), "r")
        assert the_run(trial).is_open
    else:
        adopt_run(trial.state, hub, open_runs(trial), "r")
        assert (the_run(trial).remote_id, the_run(trial).unknown) == ("r", "")


@pytest.mark.parametrize(
    ("told", "chosen"),
    [
        pytest.param("batch", 1, id="by its batch"),
        pytest.param("tag", 1, id="by its tag"),
        pytest.param("nothing", None, id="by nothing"),
    ],
)
def test_one_of_several_unconfirmed_runs_must_be_told_apart(
    hub: AIHub, router: respx.MockRouter, outside: None, tmp_path: Path, told: str, chosen: int | None
) -> None:
    trial = leave_unknown(hub, tmp_path, shards=2)
    second = trial.state.load_shards()[1]
    facts: dict[str, Any] = {"id": "r", "status": "COMPLETE"}
    facts |= {"batch": {"batch_id": BATCH + 1}, "tag": {"tags": [second.runs[0].tag]}}.get(told, {})
    router.get("/v2/apps/runs/r").respond(json=facts)
    router.get("/v2/apps/runs/r/results").respond(json={"files": [{"original_file_name": "c1"}], "has_more": False})
    if chosen is None:
        with pytest.raises(InputError):
            adopt_run(trial.state, hub, open_runs(trial), "r")
    else:
        adopt_run(trial.state, hub, open_runs(trial), "r")
    expected = ["r" if number == chosen else None for number in range(2)]
    assert [shard.runs[0].remote_id for shard in trial.state.load_shards()] == expected


def test_run_of_other_work_is_not_imported_again(hub: AIHub, router: respx.MockRouter, trial: Trial) -> None:
    other = trial.state.record_shard([B], "f" * 64)
    trial.state.record_imported_batch(other, trial.job.goal.target, BATCH)
    [batch] = trial.state.load_shards(other)[0].batches
    run = trial.state.record_imported_run(other, batch, ("key", 1, "tag"), "r")
    trial.state.record_run(run, "r", "COMPLETE", "", (1, 2))
    router.get("/v2/apps/runs/r").respond(json={"id": "r", "status": "COMPLETE", "batch_id": BATCH})
    with pytest.raises(InputError, match="belongs to other work"):
        adopt_run(trial.state, hub, open_runs(trial), "r")


def serve_runs(router: respx.MockRouter, status: int, runs: list[dict[str, Any]]) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"runs": runs[int(request.url.params.get("offset", 0)) :]})

    router.get("/v2/apps/runs").mock(side_effect=page)


@pytest.mark.parametrize(
    ("status", "listed", "refused", "becomes", "after"),
    [
        pytest.param(200, None, "", "given up", ["check", "START", "fetch"], id="it is not listed"),
        pytest.param(200, {}, "started after all", "r", ["fetch"], id="it is listed by now"),
        pytest.param(
            200, {"tags": [], "batch_id": BATCH}, "", "given up", ["check", "START", "fetch"], id="one without a tag is"
        ),
        pytest.param(403, None, "403", "open", ["find run", "check", "START", "fetch"], id="runs may not be listed"),
    ],
)
def test_unconfirmed_run_is_given_up_only_after_another_look(
    hub: AIHub,
    router: respx.MockRouter,
    trial: Trial,
    status: int,
    listed: dict[str, Any] | None,
    refused: str,
    becomes: str,
    after: list[str],
) -> None:
    run = {"id": "r", "status": "COMPLETE", "batch_id": BATCH, "tags": [the_run(trial).tag]}
    serve_runs(router, status, [] if listed is None else [run | listed])
    if refused:
        with pytest.raises(RunnerError, match=refused):
            resubmit_runs(trial.job, trial.state, hub, open_runs(trial))
    else:
        resubmit_runs(trial.job, trial.state, hub, open_runs(trial))
    found = the_run(trial)
    assert becomes == ("given up" if found.is_given_up else found.remote_id or "open")
    trial.apply(attempt=2 if becomes == "given up" else 1)
    assert trial.steps == after


def test_intent_that_no_apply_looked_for_is_not_given_up(hub: AIHub, outside: None, tmp_path: Path) -> None:
    trial = leave_unknown(hub, tmp_path, looked=False)
    with pytest.raises(InputError, match="has not checked"):
        resubmit_runs(trial.job, trial.state, hub, open_runs(trial))
    assert the_run(trial).is_open


def left_of(trial: Trial, marks: str) -> Inspected:
    """Return an entry of the lock file that cannot be verified."""
    entry = Entry(
        fingerprint=fingerprint_members([A]),
        target=trial.job.goal.target,
        run_key=trial.job.goal.run_key,
        batch_id=7,
        run_id="left",
        attempt=1,
        status="COMPLETE",
        members=marks,
    )
    return Inspected(entry, None, None, "its files differ", is_gone=True)


@pytest.fixture
def fresh(hub: AIHub, outside: None, tmp_path: Path) -> Trial:
    return Trial(hub, tmp_path, {})


def test_entry_of_the_lock_file_is_dismissed_by_the_same_decision(hub: AIHub, fresh: Trial) -> None:
    resubmit_runs(fresh.job, fresh.state, hub, Undecided([], [left_of(fresh, "")], None))
    assert fresh.state.load_dismissed() == {"left"}


def test_entry_of_the_lock_file_is_trusted_for_the_files_that_it_lists(hub: AIHub, fresh: Trial) -> None:
    left = left_of(fresh, member_hashes([A]))
    finder = Finder([Source(one.path, one.size, one.digest) for one in (A, B)])
    adopt_run(fresh.state, hub, Undecided([], [left], finder), "left")
    assert [(kept.path, kept.is_stale) for kept in fresh.shard.members] == [(A.path, False)]
    [run] = fresh.shard.runs
    assert (run.remote_id, run.status, run.has_failed) == ("left", "COMPLETE", False)


def test_entry_of_the_lock_file_that_lists_no_files_cannot_be_trusted(hub: AIHub, fresh: Trial) -> None:
    finder = Finder([Source(A.path, A.size, A.digest)])
    with pytest.raises(InputError, match="does not list its files"):
        adopt_run(fresh.state, hub, Undecided([], [left_of(fresh, "")], finder), "left")
    assert fresh.state.is_unused
