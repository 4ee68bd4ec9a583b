"""Scripted runs: they end at once, after polls or seconds, or are held; with each status; for an app or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from fake_aihub import FakeAIHub
from fake_aihub.api.lifecycle import STATUSES


def make_batch(http: requests.Session, fake: FakeAIHub, *names: str) -> int:
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "batch"}).json()["id"]
    for name in names or ("a.txt",):
        url = f"{fake.root}/v2/batches/{batch_id}/files/{name}"
        http.put(url, data=b"content", headers={"Content-Type": "application/octet-stream"})
    return int(batch_id)


def start(http: requests.Session, fake: FakeAIHub, batch_id: int | None = None, app: str = "App") -> dict[str, Any]:
    body = {"app_name": app, "batch_id": batch_id or make_batch(http, fake)}
    run: dict[str, Any] = http.post(f"{fake.root}/v2/apps/runs", json=body).json()
    return run


def read(http: requests.Session, fake: FakeAIHub, run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"{fake.root}/v2/apps/runs/{run['id']}").json()
    return found


def tell(http: requests.Session, fake: FakeAIHub, path: str, **given: Any) -> int:
    return http.post(f"{fake.root.removesuffix('/api')}/_fake/{path}", json=given).status_code


@pytest.mark.parametrize("status", STATUSES)
def test_run_ends_in_each_status(http: requests.Session, fake: FakeAIHub, status: str) -> None:
    assert tell(http, fake, "next-run", status=status, message="as told") == 204
    run = start(http, fake)
    assert (run["status"], run["msg"]) == (status, "as told")
    assert (run["finish_timestamp"] is not None) == (status in ("COMPLETE", "FAILED", "CANCELLED"))
    results = http.get(f"{fake.root}/v2/apps/runs/{run['id']}/results").status_code
    assert results == (200 if status == "COMPLETE" else 400)
    assert start(http, fake)["status"] == "COMPLETE"


@pytest.mark.parametrize("polls", [0, 1, 3])
def test_run_ends_after_polls(http: requests.Session, fake: FakeAIHub, polls: int) -> None:
    tell(http, fake, "next-run", after_polls=polls, status="FAILED")
    run = start(http, fake)
    fake.clock.advance(3600)
    seen = [run["status"], *(read(http, fake, run)["status"] for _ in range(polls + 2))]
    assert seen == ["RUNNING"] * (polls + 1) + ["FAILED"] * 2
    ended = read(http, fake, run)["finish_timestamp"]
    fake.clock.advance(3600)
    assert read(http, fake, run)["finish_timestamp"] == ended >= run["start_timestamp"] + 3600 * 10**9


def test_run_that_is_listed_is_not_polled(http: requests.Session, fake: FakeAIHub) -> None:
    fake.next_run(after_polls=0)
    run = start(http, fake)
    for _ in range(3):
        [listed] = http.get(f"{fake.root}/v2/apps/runs").json()["runs"]
        assert listed["status"] == "RUNNING"
    assert read(http, fake, run)["status"] == "COMPLETE"


def test_run_ends_after_seconds_of_the_clock(http: requests.Session, fake: FakeAIHub) -> None:
    fake.next_run(after_s=100, status="CANCELLED")
    run = start(http, fake)
    fake.clock.advance(98)
    assert read(http, fake, run)["status"] == "RUNNING"
    fake.clock.advance(3)
    ended = read(http, fake, run)
    assert (ended["status"], ended["finish_timestamp"] - ended["start_timestamp"]) == ("CANCELLED", 100 * 10**9)


def test_run_is_held_until_it_is_released(http: requests.Session, fake: FakeAIHub) -> None:
    fake.next_run(hold=True, status="FAILED", message="as told")
    run = start(http, fake)
    fake.clock.advance(86_400)
    assert read(http, fake, run)["status"] == "RUNNING"
    assert tell(http, fake, f"runs/{run['id']}", action="refuse") == 409
    assert tell(http, fake, f"runs/{run['id']}", action="release") == 204
    ended = read(http, fake, run)
    assert (ended["status"], ended["msg"]) == ("FAILED", "as told")
    assert tell(http, fake, f"runs/{run['id']}", action="release") == 409


@pytest.mark.parametrize(("action", "status"), [("release", "COMPLETE"), ("refuse", "CANCELLED")])
def test_run_waits_for_review_and_goes_on_or_does_not(
    http: requests.Session, fake: FakeAIHub, action: str, status: str
) -> None:
    fake.next_run(status="STOPPED_AT_CHECKPOINT")
    run = start(http, fake)
    fake.clock.advance(86_400)
    assert read(http, fake, run)["status"] == "STOPPED_AT_CHECKPOINT"
    assert tell(http, fake, f"runs/{run['id']}", action=action, message="by a person") == 204
    ended = read(http, fake, run)
    assert (ended["status"], ended["msg"]) == (status, "by a person")
    assert ended["finish_timestamp"] > run["start_timestamp"] + 86_400 * 10**9
    results = http.get(f"{fake.root}/v2/apps/runs/{run['id']}/results", params={"include_review_results": "true"})
    assert results.json().get("review_completed", False) == (status == "COMPLETE")


def test_scripts_of_an_app_or_a_file_wait_for_theirs(http: requests.Session, fake: FakeAIHub) -> None:
    assert tell(http, fake, "next-run", app="Bad App", times=0, status="FAILED") == 204
    assert tell(http, fake, "next-run", file="bad*.txt", times=2, status="CANCELLED") == 204
    good, bad = make_batch(http, fake, "good.txt"), make_batch(http, fake, "a.txt", "bad-1.txt")
    assert [start(http, fake, good, "Bad App")["status"] for _ in range(3)] == ["FAILED"] * 3
    assert start(http, fake, good)["status"] == "COMPLETE"
    assert [start(http, fake, bad)["status"] for _ in range(3)] == ["CANCELLED", "CANCELLED", "COMPLETE"]
    url = f"{fake.root}/v2/apps/deployments/Bad App/runs"
    assert http.post(url, json={"batch_id": good}).json()["status"] == "FAILED"
    left = http.get(f"{fake.root.removesuffix('/api')}/_fake/next-run").json()["scripts"]
    assert left == [{"app": "Bad App", "times": 0, "status": "FAILED"}]
    http.delete(f"{fake.root.removesuffix('/api')}/_fake/next-run")
    assert start(http, fake, good, "Bad App")["status"] == "COMPLETE"


@pytest.mark.parametrize(
    "script",
    [
        {"status": "DONE"},
        {"status": 5},
        {"times": -1},
        {"after_s": -1},
        {"after_s": 1e300},
        {"after_s": 10**400},
        {"after_polls": True},
        {"after_s": 1, "hold": True},
        {"after_s": 1, "after_polls": 1},
        {"untill": 5},
    ],
)
def test_script_that_cannot_be_is_refused(http: requests.Session, fake: FakeAIHub, script: dict[str, Any]) -> None:
    assert tell(http, fake, "next-run", **script) == 400
    assert start(http, fake)["status"] == "COMPLETE"


@pytest.mark.parametrize("given", [{}, {"status": "DONE"}, {"action": "go"}, {"status": "FAILED", "action": "release"}])
def test_change_of_a_run_that_cannot_be_is_refused(
    http: requests.Session, fake: FakeAIHub, given: dict[str, Any]
) -> None:
    run = start(http, fake)
    assert tell(http, fake, f"runs/{run['id']}", **given) == 400
    assert tell(http, fake, "runs/none", status="FAILED") == 404
    assert read(http, fake, run)["status"] == "COMPLETE"


def test_scripts_and_polls_are_there_after_a_restart(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        fake.next_run(after_polls=2, status="FAILED")
        fake.next_run(times=2, status="CANCELLED")
        http.post(f"{fake.root.removesuffix('/api')}/_fake/units", json={"left": 3})
        run = start(http, fake)
        assert read(http, fake, run)["status"] == "RUNNING"
        assert start(http, fake)["status"] == "CANCELLED"
    with FakeAIHub(tmp_path) as fake:
        assert [read(http, fake, run)["status"] for _ in range(2)] == ["RUNNING", "FAILED"]
        assert start(http, fake)["status"] == "CANCELLED"
        assert start(http, fake) == {"message": "Not enough consumption units."}


@pytest.mark.parametrize(
    ("flags", "status", "results", "batches"),
    [
        ({}, 404, 404, 0),
        ({"delete_input": "false"}, 404, 404, 1),
        ({"delete_db_data": "False"}, 200, 404, 0),
        ({"delete_db_data": "false", "delete_output": "false", "delete_logs": "false"}, 200, 200, 0),
    ],
)
def test_deletion_of_a_run_takes_what_it_is_told(
    http: requests.Session, fake: FakeAIHub, flags: dict[str, str], status: int, results: int, batches: int
) -> None:
    run = start(http, fake)
    url = f"{fake.root}/v2/apps/runs/{run['id']}"
    jobs = http.delete(url, params=flags).json()
    assert (jobs["delete_input_dir_job_id"] is None) == ("delete_input" in flags)
    assert (jobs["delete_log_dir_job_id"] is None) == ("delete_logs" in flags)
    assert http.get(url).status_code == status
    assert http.get(f"{url}/results").status_code == results
    assert len(fake.batches()) == batches


def test_deployment_has_no_upstream_integration(http: requests.Session, fake: FakeAIHub) -> None:
    url = f"{fake.root}/v2/apps/deployments/d/runs"
    body = {"manual_upstream_integration": True, "from_timestamp": 1, "to_timestamp": 2.5}
    assert http.post(url, json=body).status_code == 400
    body = {"manual_upstream_integration": False, "batch_id": make_batch(http, fake)}
    assert http.post(url, json=body).status_code == 202
    assert http.post(url, json=body | {"input_dir": "/acme/w/fs/d/f"}).status_code == 400
