"""The audit log: who changed what and when, filtered and paged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from fake_aihub import FakeAIHub


def entries(http: requests.Session, fake: FakeAIHub, **asked: Any) -> list[dict[str, Any]]:
    answered = http.post(f"{fake.root}/v1/auditlogs", json=asked)
    assert (answered.status_code, answered.json()["status"]) == (200, "OK")
    found: list[dict[str, Any]] = answered.json()["data"]["results"]
    return found


def change_things(http: requests.Session, fake: FakeAIHub) -> int:
    """Create a batch with a file, a run, and a secret, 10 s apart. Return the time at the start."""
    begun_ms = int(fake.clock.now_s() * 1000)
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "b"}).json()["id"]
    http.put(
        f"{fake.root}/v2/batches/{batch_id}/files/a.txt",
        data=b"a",
        headers={"Content-Type": "application/octet-stream"},
    )
    fake.clock.advance(10)
    http.post(f"{fake.root}/v2/apps/deployments/d/runs", json={"batch_id": batch_id})
    fake.clock.advance(10)
    secret = {"alias": "erp", "value": "x", "allowed_workspaces_type": "ALL"}
    http.post(f"{fake.root}/v2/aihub/secrets", json=secret)
    return begun_ms


def test_audit_log_has_what_changed_something_the_newest_first(http: requests.Session, fake: FakeAIHub) -> None:
    change_things(http, fake)
    http.get(f"{fake.root}/v2/batches")
    http.post(f"{fake.root}/v2/batches", json={})
    found = entries(http, fake)
    assert [entry["operation"] for entry in found] == [
        "createSecret",
        "runDeployment",
        "addFileToBatch",
        "createBatch",
    ]
    types = ["org_secrets_v2", "app_deployment_run_v2", "api_v2", "api_v2"]
    assert [entry["log_type"] for entry in found] == types
    assert {entry["user_ip"] for entry in found} == {"127.0.0.1"}
    assert found[1]["subject"] == fake.runs()[0]["id"]
    assert entries(http, fake) == found


def test_audit_log_is_filtered_by_type_address_and_time(http: requests.Session, fake: FakeAIHub) -> None:
    begun_ms = change_things(http, fake)
    [run] = entries(http, fake, log_type="app_deployment_run_v2")
    assert entries(http, fake, start_time=str(begun_ms + 9000), end_time=str(begun_ms + 15000)) == [run]
    assert entries(http, fake, start_time=run["timestamp_millis"], end_time=run["timestamp_millis"]) == [run]
    assert len(entries(http, fake, email=run["email"])) == 4
    assert entries(http, fake, email="someone@else.example") == []
    assert entries(http, fake, log_type="login_v2", email=None) == []


def test_audit_log_comes_in_pages(http: requests.Session, fake: FakeAIHub) -> None:
    change_things(http, fake)
    whole = entries(http, fake)
    pages = [entries(http, fake, start=start, size=3) for start in (0, 3, 6)]
    assert pages == [whole[:3], whole[3:], []]
    assert entries(http, fake, size=0) == []


@pytest.mark.parametrize(
    "asked", [{"start": -1}, {"size": -1}, {"size": "3"}, {"start_time": "yesterday"}, {"end_time": 5}, {"start": True}]
)
def test_audit_log_refuses_what_it_cannot_read(
    http: requests.Session, fake: FakeAIHub, asked: dict[str, object]
) -> None:
    assert http.post(f"{fake.root}/v1/auditlogs", json=asked).status_code == 400


def test_audit_log_is_there_after_a_restart(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        change_things(http, fake)
        before = entries(http, fake)
    with FakeAIHub(tmp_path) as fake:
        assert entries(http, fake) == before
