"""Contexts are separate worlds, and service accounts have no personal workspace."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from fake_aihub import FakeAIHub

APP = {"app_name": "Invoice Extraction"}
SECRET = {"alias": "erp", "value": "x", "allowed_workspaces_type": "ALL"}
BINARY = {"Content-Type": "application/octet-stream"}
FILE = "/v2/files/acme/space/fs/drive/in/a"


@pytest.fixture
def made(http: requests.Session, fake: FakeAIHub) -> dict[str, Any]:
    """One of each in the context acme."""
    http.headers["IB-Context"] = "acme"
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "b"}).json()["id"]
    http.put(f"{fake.root}/v2/batches/{batch_id}/files/a.txt", data=b"a", headers=BINARY)
    run_id = http.post(f"{fake.root}/v2/apps/runs", json=APP | {"batch_id": batch_id}).json()["id"]
    opened = {"batch_id": batch_id, "filename": "x", "file_size": 1}
    session_id = http.post(f"{fake.root}/v2/batches/multipart-upload", json=opened).json()["session_id"]
    http.put(f"{fake.root}{FILE}", data=b"a", headers=BINARY)
    http.post(f"{fake.root}/v2/aihub/secrets", json=SECRET)
    deleted = http.delete(f"{fake.root}/v2/batches/{batch_id}/files/a.txt")
    assert deleted.status_code == 202
    http.put(f"{fake.root}/v2/batches/{batch_id}/files/a.txt", data=b"a", headers=BINARY)
    job_id = http.delete(f"{fake.root}/v2/files/nothing").headers["Location"].rpartition("/")[2]
    return {"batch_id": batch_id, "run_id": run_id, "session_id": session_id, "job_id": job_id}


@pytest.mark.matrix(most=10)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v2/batches/{batch_id}", None),
        ("DELETE", "/v2/batches/{batch_id}", None),
        ("GET", "/v2/batches/{batch_id}/files", None),
        ("PUT", "/v2/batches/{batch_id}/files/b.txt", b"b"),
        ("DELETE", "/v2/batches/{batch_id}/files/a.txt", None),
        ("POST", "/v2/batches/multipart-upload", {"batch_id": "{batch_id}", "filename": "x", "file_size": 1}),
        ("PUT", "/v2/batches/multipart-upload/sessions/{session_id}/parts/1", b"x"),
        ("POST", "/v2/batches/multipart-upload/sessions/{session_id}", {"action": "abort"}),
        ("POST", "/v2/apps/runs", APP | {"batch_id": "{batch_id}"}),
        ("POST", "/v2/apps/runs", APP | {"input_dir": "/acme/space/fs/drive/in"}),
        ("POST", "/v2/apps/deployments/d/runs", {"batch_id": "{batch_id}"}),
        ("GET", "/v2/apps/runs/{run_id}", None),
        ("DELETE", "/v2/apps/runs/{run_id}", None),
        ("GET", "/v2/apps/runs/{run_id}/results", None),
        ("GET", "/v2/jobs/{job_id}", None),
        ("GET", "/v2/batches/jobs/{job_id}", None),
        ("GET", f"{FILE}?expect-node-type=file", None),
        ("HEAD", FILE, None),
        ("PATCH", "/v2/aihub/secrets", {"alias": "erp"}),
        ("DELETE", "/v2/aihub/secrets", {"alias": "erp"}),
    ],
)
def test_what_one_context_made_another_does_not_find(
    http: requests.Session, fake: FakeAIHub, made: dict[str, Any], method: str, path: str, body: Any
) -> None:
    before = (fake.batches(), fake.runs(), fake.ledger)
    if isinstance(body, dict):
        body = {key: made["batch_id"] if value == "{batch_id}" else value for key, value in body.items()}
    sent = {"json": body} if isinstance(body, dict) else {"data": body}
    for context in ("", "Acme", "other"):
        headers = {"IB-Context": context} | (BINARY if isinstance(body, bytes) else {})
        refused = http.request(method, f"{fake.root}{path.format(**made)}", headers=headers, **sent)
        assert refused.status_code == 404
    assert (fake.batches(), fake.runs(), fake.ledger) == before


def test_what_one_context_made_another_does_not_list(
    http: requests.Session, fake: FakeAIHub, made: dict[str, Any]
) -> None:
    def listed() -> list[int]:
        counts = [
            len(http.get(f"{fake.root}{path}").json()[key])
            for path, key in (("/v2/batches", "batches"), ("/v2/apps/runs", "runs"), ("/v2/aihub/secrets", "secrets"))
        ]
        audit = http.post(f"{fake.root}/v1/auditlogs", json={}).json()
        return [*counts, len(audit["data"]["results"])]

    assert listed() == [1, 1, 1, 9]
    http.headers["IB-Context"] = "other"
    assert listed() == [0, 0, 0, 0]


def test_same_file_path_and_alias_are_apart_in_two_contexts(
    http: requests.Session, fake: FakeAIHub, made: dict[str, Any]
) -> None:
    other = {"IB-Context": "other"}
    assert http.put(f"{fake.root}{FILE}", data=b"b", headers=other | BINARY).status_code == 204
    assert http.post(f"{fake.root}/v2/aihub/secrets", json=SECRET, headers=other).status_code == 200
    http.delete(f"{fake.root}{FILE}", headers=other)
    http.delete(f"{fake.root}/v2/aihub/secrets", json={"alias": "erp"}, headers=other)
    assert http.get(f"{fake.root}{FILE}?expect-node-type=file").content == b"a"
    assert len(http.get(f"{fake.root}/v2/aihub/secrets").json()["secrets"]) == 1


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 400),
        ({"output_workspace": ""}, 400),
        ({"output_workspace": None}, 400),
        ({"output_workspace": "w"}, 200),
        ({"output_dir": "/o"}, 200),
    ],
)
def test_service_account_must_say_where_an_app_run_goes(
    http: requests.Session, fake: FakeAIHub, made: dict[str, Any], given: dict[str, Any], status: int
) -> None:
    http.headers["Authorization"] = "bearer fake-service-x"
    body = APP | {"batch_id": made["batch_id"]} | given
    assert http.post(f"{fake.root}/v2/apps/runs", json=body).status_code == status
    assert len(fake.runs()) == (2 if status == 200 else 1)


def test_service_account_is_another_user_of_the_same_context(
    http: requests.Session, fake: FakeAIHub, made: dict[str, Any]
) -> None:
    service = {"Authorization": "Bearer fake-service-x"}
    body = {"name": "its own", "workspace": "w"}
    assert http.post(f"{fake.root}/v2/batches", json={"name": "n", "workspace": ""}, headers=service).status_code == 400
    batch_id = http.post(f"{fake.root}/v2/batches", json=body, headers=service).json()["id"]
    run = APP | {"batch_id": made["batch_id"], "output_workspace": "w"}
    run_id = http.post(f"{fake.root}/v2/apps/runs", json=run, headers=service).json()["id"]
    owner = http.get(f"{fake.root}/v2/batches/{batch_id}").json()["batch_owner"]
    batches = http.get(f"{fake.root}/v2/batches", params={"username": owner}).json()["batches"]
    assert [batch["id"] for batch in batches] == [batch_id]
    runs = http.get(f"{fake.root}/v2/apps/runs", params={"username": owner}).json()["runs"]
    assert [one["id"] for one in runs] == [run_id]
