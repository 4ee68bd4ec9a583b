"""The journal: its limits, verify, near misses, HAR, and coverage."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from fake_aihub import FakeAIHub
from fake_aihub.api.nearest import describe_nearest
from fake_aihub.controls.journal import Exchange, Journal
from fake_aihub.world.clock import Clock

SECRETS = {
    "settings": {
        "webhook_config": {"url": "http://127.0.0.1:9/", "headers": {"X-Hook": "hush-1"}},
        "runtime_config": {"instabase": {"pdf": {"passwords": {"a.pdf": "hush-2"}}}},
        "keys": {"custom": {"a": "shown"}, "secret": {"b": "hush-3"}},
    }
}


def control(fake: FakeAIHub, path: str) -> str:
    return f"{fake.root.removesuffix('/api')}/_fake/{path}"


def make_batches(http: requests.Session, fake: FakeAIHub, *names: str) -> None:
    for name in names:
        http.post(f"{fake.root}/v2/batches", json={"name": name}, headers={"IB-Context": "acme"})


def verify(http: requests.Session, fake: FakeAIHub, **criteria: object) -> tuple[int, dict[str, Any]]:
    found = http.post(control(fake, "verify"), json=criteria)
    return found.status_code, found.json()


def test_journal_and_archive_show_no_secret(http: requests.Session, fake: FakeAIHub) -> None:
    make_batches(http, fake, "shown")
    run = {"app_name": "Any", "batch_id": fake.batches()[0]["id"], **SECRETS}
    http.post(f"{fake.root}/v2/apps/runs", json=run, headers={"Cookie": "a=hush-4", "X-Api-Key": "hush-5"})
    secret = {"alias": "a", "value": "hush-6", "allowed_workspaces_type": "ALL"}
    http.post(f"{fake.root}/v2/aihub/secrets", json=secret)
    http.get(f"{fake.root}/v2/nowhere?access_token=hush-7&start_token=5")
    for form in ("json", "har"):
        text = http.get(control(fake, "journal"), params={"format": form}).text
        assert "shown" in text
        assert "start_token" in text
        assert "hush" not in text
        assert "fake-test" not in text
    fake.clear_journal()


def test_archive_is_one_of_its_version(http: requests.Session, fake: FakeAIHub) -> None:
    make_batches(http, fake, "one")
    log = http.get(control(fake, "journal?format=har")).json()["log"]
    assert log["version"] == "1.2"
    [entry] = log["entries"]
    assert entry["request"]["url"] == f"{fake.root}/v2/batches"
    assert entry["request"]["postData"] == {"mimeType": "application/json", "text": '{"name": "one"}'}
    assert (entry["response"]["status"], entry["response"]["statusText"]) == (200, "OK")
    assert entry["startedDateTime"].endswith("+00:00")
    assert entry["time"] == entry["timings"]["wait"] >= 0
    assert http.get(control(fake, "journal?format=xml")).status_code == 400


def test_journal_that_is_full_says_so_and_keeps_the_last(http: requests.Session) -> None:
    with FakeAIHub(journal_size=2) as fake:
        make_batches(http, fake, "one", "two")
        assert http.get(control(fake, "journal")).json()["is_full"] is False
        found = http.post(f"{fake.root}/v2/batches", json={"name": "three"})
        assert found.headers["X-Fake-Journal"] == "full; dropped=1"
        told = http.get(control(fake, "journal"))
        assert told.headers["X-Fake-Journal"] == "full; dropped=1"
        assert (told.json()["is_full"], told.json()["dropped"]) == (True, 1)
        assert [entry["request_json"]["name"] for entry in told.json()["entries"]] == ["two", "three"]
        assert verify(http, fake, operation="createBatch", count=3)[0] == 409
        http.delete(control(fake, "journal"))
        assert "X-Fake-Journal" not in http.get(f"{fake.root}/v2/batches").headers


def test_journal_holds_no_more_than_its_bytes() -> None:
    journal = Journal(Clock(0.0), max_bytes=100)
    for _ in range(10):
        exchange = journal._begin({"method": "GET", "path": "/", "query_string": b"", "headers": []})
        exchange.response_body = b"x" * 40
        journal._end(exchange)
    assert (len(journal.exchanges), journal.dropped) == (2, 8)
    assert all(isinstance(exchange, Exchange) for exchange in journal.exchanges)


@pytest.mark.parametrize(
    ("criteria", "is_met"),
    [
        ({"operation": "createBatch"}, True),
        ({"operation": "createBatch", "count": 2}, True),
        ({"operation": "createBatch", "count": 1}, False),
        ({"operation": "createBatch", "at_least": 3}, False),
        ({"operation": "createBatch", "at_most": 1}, False),
        ({"operation": "runApp", "count": 0}, True),
        ({"path": "/v2/batches", "method": "POST", "status": 200}, True),
        ({"path": "/v2/bat*", "count": 3}, True),
        ({"path": "*", "count": 3}, True),
        ({"path": "/api/*/b*es", "count": 3}, True),
        ({"path": "/v2/batches*s", "count": 0}, True),
        ({"path": "*v2*v2*", "count": 0}, True),
        ({"path": "*" * 5000 + "x", "count": 0}, True),
        ({"body": {"name": "one"}, "count": 1}, True),
        ({"headers": {"IB-Context": "acme"}, "count": 2}, True),
        ({"query": {"limit": "1"}, "count": 1}, True),
        ({"faulted": True, "count": 0}, True),
    ],
)
@pytest.mark.slow
def test_verify_counts_what_was_sent(
    http: requests.Session, fake: FakeAIHub, criteria: dict[str, object], is_met: bool
) -> None:
    make_batches(http, fake, "one", "two")
    http.get(f"{fake.root}/v2/batches?limit=1")
    status, told = verify(http, fake, **criteria)
    assert (status, told["is_met"]) == ((200, True) if is_met else (422, False))


def test_verify_tells_what_came_near(http: requests.Session, fake: FakeAIHub) -> None:
    make_batches(http, fake, "one")
    status, told = verify(http, fake, method="POST", path="/v2/batches", body={"name": "won"})
    assert status == 422
    [miss] = told["near_misses"]
    assert miss["differs_in"] == {"body": {"wanted": {"name": "won"}, "was": {"name": "one"}}}
    status, told = verify(http, fake, methud="POST")
    assert status == 400
    assert "method, path" in told["message"]


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/api/v2/batchs", "GET /api/v2/batches; differences: 'batchs' instead of 'batches'"),
        ("GET", "/api/v2/batch/7/files", "GET /api/v2/batches/{batch_id}/files; differences: 'batch' instead of"),
        ("PATCH", "/api/v2/apps/runs", "/api/v2/apps/runs; differences: the method, PATCH instead of"),
        ("GET", "/api/v2/jobs/", "GET /api/v2/jobs/{job_id}; differences: '{job_id}' is missing"),
        ("GET", "/api/v2/jobs/7/now", "GET /api/v2/jobs/{job_id}; differences: 'now' is unexpected"),
        ("GET", "/v2/batches", "GET /api/v2/batches; differences: 'api' is missing at the start."),
        ("GET", "/" + "x/" * 10_000 + "y" * 100_000, "differences: "),
    ],
    ids=["misspelt", "within", "method", "too short", "too long", "root without /api", "huge"],
)
def test_unknown_route_is_told_which_is_the_nearest(method: str, path: str, told: str) -> None:
    assert told in describe_nearest(method, path)


def test_coverage_tells_what_was_exercised_and_by_whom(http: requests.Session, fake: FakeAIHub) -> None:
    make_batches(http, fake, "one")
    http.get(f"{fake.root}/v2/batches?limit=1", headers={"User-Agent": "others/1"})
    fake.faults.add(operation="listBatches", do="status", status=500)
    http.get(f"{fake.root}/v2/batches")
    http.get(f"{fake.root}/v2/nowhere")
    told = http.get(control(fake, "coverage")).json()
    assert (told["exercised"], told["of"]) == (2, 27)
    assert "runApp" in told["never"]
    listed, made = told["operations"]["listBatches"], told["operations"]["createBatch"]
    assert (listed["calls"], listed["faulted"], listed["statuses"], listed["query"]) == (2, 1, {"200": 1}, {"limit": 1})
    assert listed["clients"]["others/1"] == 1
    assert listed["never"]["query"] == ["workspace", "username", "offset"]
    assert (made["body"], made["headers"]) == ({"name": 1}, {"IB-Context": 1})
    assert made["never"]["body"] == ["workspace"]
    assert any("/v2/nowhere" in name for name in told["unknown"])
    fake.clear_journal()


def test_coverage_stays_small_whatever_is_asked(http: requests.Session, fake: FakeAIHub) -> None:
    for number in range(120):
        http.get(f"{fake.root}/v2/nowhere/{number}", headers={"User-Agent": f"{number}"})
    unknown = http.get(control(fake, "coverage")).json()["unknown"]
    assert len(unknown) <= 101
    assert sum(unknown.values()) == 120
    fake.clear_journal()
