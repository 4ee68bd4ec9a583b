"""Faults between client and service: proxies that act but answer otherwise, mixed-up and hidden entries."""

from __future__ import annotations

import math
import socket
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import tomli_w

from fake_aihub import FakeAIHub

TAGS = ["mine:a:1", "aihub:0123456789:1"]
DAY_S = 86_400


@pytest.fixture
def batch_id(http: requests.Session, fake: FakeAIHub) -> int:
    return new_batch(http, fake, "first")


def put(http: requests.Session, fake: FakeAIHub, batch_id: int, name: str, body: bytes) -> int:
    url = f"{fake.root}/v2/batches/{batch_id}/files/{name}"
    return http.put(url, data=body, headers={"Content-Type": "application/octet-stream"}).status_code


def new_batch(http: requests.Session, fake: FakeAIHub, name: str) -> int:
    key = http.post(f"{fake.root}/v2/batches", json={"name": name}).json()["id"]
    put(http, fake, key, f"{name}.txt", b"content")
    return int(key)


def start(http: requests.Session, fake: FakeAIHub, batch_id: int) -> requests.Response:
    body = {"app_name": "a", "batch_id": batch_id, "settings": {"tags": TAGS}}
    return http.post(f"{fake.root}/v2/apps/runs", json=body, allow_redirects=False)


def read(http: requests.Session, fake: FakeAIHub, path: str, **query: Any) -> Any:
    return http.get(f"{fake.root}/v2/{path}", params=query).json()


@pytest.mark.parametrize("status", [200, 302, 303, 403, 404, 409, 413, 425, 429, 500, 503])
def test_proxy_that_forwards_a_request_answers_by_itself(
    http: requests.Session, fake: FakeAIHub, batch_id: int, status: int
) -> None:
    headers = {"Retry-After": "7", "Date": "Thu, 01 Jan 1970 00:00:00 GMT"}
    fake.faults(operation="runApp", when="after", do="status", status=status, headers=headers, body='{"message": "x"}')
    found = start(http, fake, batch_id)
    assert (found.status_code, found.json()) == (status, {"message": "x"})
    assert (found.headers["Retry-After"], found.headers["Date"]) == ("7", headers["Date"])
    assert len(fake.runs()) == 1


@pytest.mark.parametrize("items", [1, 2])
def test_proxy_delivers_a_request_twice_and_gives_one_of_the_answers(
    http: requests.Session, fake: FakeAIHub, batch_id: int, items: int
) -> None:
    fake.faults(operation="runApp", do="twice", items=items)
    told = start(http, fake, batch_id).json()
    runs = fake.runs()
    assert [run["tags"] for run in runs] == [TAGS, TAGS]
    assert told["id"] == runs[items - 1]["id"]
    assert fake.ledger["tags"][TAGS[0]] == 2


def test_proxy_delivers_a_request_twice_and_then_answers_by_itself(
    http: requests.Session, fake: FakeAIHub, batch_id: int
) -> None:
    fake.faults(operation="runApp", do="twice")
    fake.faults(operation="runApp", do="status", when="after", status=409)
    assert start(http, fake, batch_id).status_code == 409
    assert len(fake.runs()) == 2


def test_bytes_that_are_put_come_once_more_before_a_later_call(
    http: requests.Session, fake: FakeAIHub, batch_id: int
) -> None:
    fake.faults(operation="addFileToBatch", do="late", when="after", until="runApp", seconds=5)
    for body in (b"old", b"new"):
        assert put(http, fake, batch_id, "late.txt", body) == 204
    new = fake.files(batch_id)["late.txt"]
    before = read(http, fake, f"batches/{batch_id}/files")["nodes"][1]["metadata"]
    assert fake.files(batch_id)["late.txt"] == new
    assert start(http, fake, batch_id).status_code == 200
    assert fake.files(batch_id)["late.txt"] != new
    after = read(http, fake, f"batches/{batch_id}/files")["nodes"][1]["metadata"]
    assert after["size"] == before["size"]
    assert after["modified_timestamp"] >= before["modified_timestamp"] + 5
    assert fake.ledger["uploads"][f"{batch_id}/late.txt"] == 3


def test_deletion_that_is_answered_takes_place_later(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    fake.faults(operation="deleteFileFromBatch", do="late")
    found = http.delete(f"{fake.root}/v2/batches/{batch_id}/files/first.txt")
    assert (found.status_code, found.content) == (202, b"")
    assert fake.files(batch_id).keys() == {"first.txt"}
    assert read(http, fake, f"batches/{batch_id}/files")["nodes"] == []


@pytest.mark.parametrize("name", ["", "named", "unknown"])
def test_answer_is_about_another_run(http: requests.Session, fake: FakeAIHub, batch_id: int, name: str) -> None:
    first, second = (start(http, fake, batch_id).json()["id"] for _ in range(2))
    other = {"": second, "named": second, "unknown": "no-such-run"}[name]
    named = "" if not name else other
    for operation, path in (("getRunStatus", f"apps/runs/{first}"), ("getRunResults", f"apps/runs/{first}/results")):
        fake.faults(operation=operation, do="another", name=named)
        assert read(http, fake, path)["id"] == other
        assert read(http, fake, path)["id"] == first
    fake.faults(operation="runApp", do="another", name=named)
    assert start(http, fake, batch_id).json()["id"] == other
    assert len(fake.runs()) == 3


def test_answer_is_about_another_batch(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    other = new_batch(http, fake, "other")
    fake.faults(operation="createBatch", do="another", name=str(batch_id))
    assert http.post(f"{fake.root}/v2/batches", json={"name": "third"}).json() == {"id": batch_id}
    assert [batch["name"] for batch in fake.batches()] == ["first", "other", "third"]
    fake.faults(operation="getBatch", do="another", name=str(other))
    assert read(http, fake, f"batches/{batch_id}")["name"] == "other"
    fake.faults(operation="listFiles", do="another", name=str(other))
    assert [node["name"] for node in read(http, fake, f"batches/{batch_id}/files")["nodes"]] == ["other.txt"]


def test_answer_is_about_a_run_that_never_was_where_there_is_no_other(
    http: requests.Session, fake: FakeAIHub, batch_id: int
) -> None:
    fake.faults(operation="runApp", do="another")
    told, run = start(http, fake, batch_id).json(), fake.runs()[0]
    assert told["id"] != run["id"]
    assert {**told, "id": ""} == {**run, "id": ""}


@pytest.mark.parametrize(
    ("script", "tags"),
    [
        ({"do": "cut_tags", "items": 8}, ["mine:a:1", "aihub:01"]),
        ({"do": "drop_tags", "name": "aihub:"}, ["mine:a:1"]),
        ({"do": "drop_tags"}, []),
        ({"do": "dash_tags"}, ["mine-a-1", "aihub-0123456789-1"]),
        ({"do": "join_tags"}, ["mine:a:1,aihub:0123456789:1"]),
        ({"do": "set", "fields": {"tags": None, "batch_id": None}}, None),
    ],
)
def test_tags_are_altered_in_answers_and_listings(
    http: requests.Session, fake: FakeAIHub, batch_id: int, script: dict[str, Any], tags: list[str] | None
) -> None:
    fake.faults(operation="*", times=0, **script)
    told = start(http, fake, batch_id).json()
    assert told["tags"] == tags
    assert read(http, fake, f"apps/runs/{told['id']}")["tags"] == tags
    assert [run["tags"] for run in read(http, fake, "apps/runs")["runs"]] == [tags]
    assert told["batch_id"] == (batch_id if tags is not None else None)
    assert fake.runs()[0]["tags"] == TAGS


def test_what_a_token_may_not_see_is_not_there(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    run_id = start(http, fake, batch_id).json()["id"]
    fake.faults(do="hide", times=0, token="fake-other")
    paths = ("batches", f"batches/{batch_id}", f"batches/{batch_id}/files", "apps/runs", f"apps/runs/{run_id}")
    statuses = {}
    for token in ("fake-other", "fake-test"):
        http.headers["Authorization"] = f"Bearer {token}"
        statuses[token] = [http.get(f"{fake.root}/v2/{path}").status_code for path in paths]
    assert statuses == {"fake-other": [200, 404, 404, 200, 404], "fake-test": [200] * 5}
    http.headers["Authorization"] = "Bearer fake-other"
    assert read(http, fake, "batches") == {"batches": []}
    assert read(http, fake, "apps/runs") == {"runs": []}
    told = requests.get(fake.root.replace("/api", "/_fake/faults")).text
    assert "fake-other" not in told


def test_run_that_the_listing_hides_can_be_read(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    first, second = (start(http, fake, batch_id).json()["id"] for _ in range(2))
    fake.faults(operation="listRuns", do="hide", name=first)
    assert [run["id"] for run in read(http, fake, "apps/runs")["runs"]] == [second]
    assert read(http, fake, f"apps/runs/{first}")["id"] == first


@pytest.mark.parametrize(
    ("kind", "batches", "runs", "status"), [("", 0, 0, 404), ("batches", 0, 1, 200), ("runs", 1, 0, 404)]
)
def test_what_is_old_vanishes_by_the_clock_of_the_fake(
    http: requests.Session, fake: FakeAIHub, batch_id: int, kind: str, batches: int, runs: int, status: int
) -> None:
    run_id = start(http, fake, batch_id).json()["id"]
    fake.faults(do="expire", times=0, seconds=30 * DAY_S, name=kind)
    fake.clock.advance(29 * DAY_S)
    assert len(read(http, fake, "batches")["batches"]) == 1
    fake.clock.advance(2 * DAY_S)
    assert len(read(http, fake, "batches")["batches"]) == batches
    assert len(read(http, fake, "apps/runs", from_timestamp=1)["runs"]) == runs
    assert http.get(f"{fake.root}/v2/apps/runs/{run_id}/results").status_code == status
    assert fake.ledger["deletions"] == {}


def test_results_that_are_old_vanish_and_their_run_stays(
    http: requests.Session, fake: FakeAIHub, batch_id: int
) -> None:
    run_id = start(http, fake, batch_id).json()["id"]
    fake.clock.advance(DAY_S)
    fake.faults(do="expire", times=0, seconds=60, name="results")
    assert http.get(f"{fake.root}/v2/apps/runs/{run_id}").status_code == 200
    assert http.get(f"{fake.root}/v2/apps/runs/{run_id}/results").status_code == 404


def test_listing_that_is_capped_ends_or_refuses_beyond(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    for name in ("second", "third"):
        new_batch(http, fake, name)
    fake.faults(operation="listBatches", do="cap", items=2, times=2)
    seen = [[batch["name"] for batch in read(http, fake, "batches", offset=at)["batches"]] for at in (0, 2)]
    assert seen == [["first", "second"], []]
    fake.faults(operation="listBatches", do="cap", items=2, status=400, times=2)
    found = [http.get(f"{fake.root}/v2/batches", params={"limit": 2, "offset": at}) for at in (0, 2)]
    assert [one.status_code for one in found] == [200, 400]


def test_pages_that_are_short_lead_to_the_next(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    for name in ("b", "c"):
        put(http, fake, batch_id, name, b"content")
    fake.faults(operation="listFiles", do="short_pages", items=2, times=2)
    page = read(http, fake, f"batches/{batch_id}/files")
    rest = read(http, fake, f"batches/{batch_id}/files", start_token=page["next_page_token"])
    assert [node["name"] for node in (*page["nodes"], *rest["nodes"])] == ["b", "c", "first.txt"]
    assert (page["has_more"], rest["has_more"]) == (True, False)


def test_properties_are_set_or_left_out(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    fake.faults(operation="runApp", do="set", fields={"id": "", "status": "", "unknown": 1})
    told = start(http, fake, batch_id).json()
    assert (told["id"], told["status"], "unknown" in told) == ("", "", False)
    fake.faults(operation="*", do="leave_out", fields=["created_at_ms"], times=2)
    assert "created_at_ms" not in read(http, fake, f"batches/{batch_id}")
    assert "created_at_ms" not in read(http, fake, "batches")["batches"][0]
    assert "created_at_ms" in read(http, fake, f"batches/{batch_id}")


def test_results_of_one_file_have_no_documents(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    put(http, fake, batch_id, "other.txt", b"other")
    run_id = start(http, fake, batch_id).json()["id"]
    fake.faults(operation="getRunResults", do="set", fields={"documents": []}, name="other.txt")
    files = read(http, fake, f"apps/runs/{run_id}/results")["files"]
    assert [(file["original_file_name"], bool(file["documents"])) for file in files] == [
        ("first.txt", True),
        ("other.txt", False),
    ]


def test_numbers_become_such_as_json_has_not(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    path = f"apps/runs/{start(http, fake, batch_id).json()['id']}/results"
    fake.faults(operation="getRunResults", do="replace", old=r'"model":[0-9.]+', new='"model":NaN')
    document = read(http, fake, path, include_confidence_scores="true")["files"][0]["documents"][0]
    assert math.isnan(document["classification_confidence"]["model"])
    fake.faults(operation="getRunResults", do="set", fields={"value": math.inf})
    assert read(http, fake, path)["files"][0]["documents"][0]["fields"][0]["value"] == math.inf
    assert requests.get(fake.root.replace("/api", "/_fake/faults")).json()["faults"][1]["fields"] == {"value": "inf"}


def test_date_of_answers_is_off_or_strange_or_missing(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    def date() -> str | None:
        return http.get(f"{fake.root}/v2/batches").headers.get("Date")

    fake.faults(do="date", seconds=2 * 3600, every=2, times=2)  # it jumps from one answer to the next
    text = [date() for _ in range(5)]
    at = [parsedate_to_datetime(one).timestamp() for one in text if one]
    assert [round((one - at[1]) / 3600) for one in at] == [2, 0, 2, 0, 0]
    fake.faults(do="date", seconds=-31_536_000 * 20)
    assert parsedate_to_datetime(date() or "").timestamp() < at[0] - 600_000_000
    fake.faults(do="date", name="Thu, 26 Nov 2026 16:00:00 +0200")
    assert date() == "Thu, 26 Nov 2026 16:00:00 +0200"
    fake.faults(do="no_date")
    assert date() is None
    assert date()
    made = [batch["created_at_ms"] / 1000 for batch in fake.batches()]
    assert abs(made[0] - at[1]) < 60, "what the service writes down is right"


@pytest.mark.parametrize("status", [102, 103, 199])
def test_interim_answers_come_before_the_answer(fake: FakeAIHub, status: int) -> None:
    fake.faults(operation="listBatches", do="interim", status=status, items=2, headers={"Link": "</x>"})
    there = urlsplit(fake.root)
    with socket.create_connection((there.hostname, there.port), timeout=5) as client:
        ask = b"GET /api/v2/batches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer fake-x\r\nConnection: close\r\n\r\n"
        client.sendall(ask)
        got = b"".join(iter(lambda: client.recv(65536), b""))
    heads = got.split(b"\r\n\r\n")
    assert [head.split(b" ")[1] for head in heads[:3]] == [b"%d" % status, b"%d" % status, b"200"]
    assert b"Link: </x>" in heads[0]
    assert heads[3] == b'{"batches":[]}'


def test_answer_comes_twice_and_is_left_for_the_next_request(fake: FakeAIHub) -> None:
    fake.faults(operation="listBatches", do="surplus")
    there = urlsplit(fake.root)
    ask = "GET /api/v2/{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer fake-x\r\nConnection: {}\r\n\r\n"
    with socket.create_connection((there.hostname, there.port), timeout=5) as client:
        client.sendall(ask.format("batches", "keep-alive").encode())
        got = b""
        while got.count(b'{"batches":[]}') < 2:
            got += client.recv(65536)
        client.sendall(ask.format("apps/runs", "close").encode())
        rest = b"".join(iter(lambda: client.recv(65536), b""))
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert rest.endswith(b'{"runs":[]}')


ARMED: list[dict[str, Any]] = [
    {"operation": "runApp", "do": "status", "when": "after", "status": 303},
    {"operation": "runApp", "do": "twice", "items": 2},
    {"operation": "addFileToBatch", "do": "late", "when": "after", "until": "runApp", "seconds": 5},
    {"operation": "*", "do": "interim", "status": 102, "items": 2},
    {"operation": "*", "do": "date", "seconds": 7200, "every": 2, "times": 0},
    {"operation": "getRunStatus", "do": "another", "name": "run"},
    {"operation": "*", "do": "set", "fields": {"id": "", "tags": [], "documents": [{"fields": []}]}, "name": "a.pdf"},
    {"operation": "*", "do": "leave_out", "fields": ["created_at_ms"]},
    {"operation": "getRunResults", "do": "replace", "old": '"model":[0-9.]+', "new": '"model":NaN'},
    {"operation": "*", "do": "cut_tags", "items": 64, "token": "fake-x"},
    {"operation": "*", "do": "hide", "status": 403},
    {"operation": "*", "do": "expire", "seconds": 86400, "name": "runs"},
    {"operation": "listRuns", "do": "cap", "items": 100, "status": 400},
]


@pytest.mark.parametrize("script", ARMED, ids=lambda script: script["do"])
def test_script_is_the_same_however_it_comes(fake: FakeAIHub, tmp_path: Path, script: dict[str, Any]) -> None:
    fake.faults(**script)
    file = tmp_path / "faults.toml"
    file.write_text(tomli_w.dumps({"fault": [script]}))
    fake.faults.load(file)
    assert requests.post(fake.root.replace("/api", "/_fake/faults"), json={"faults": [script]}).status_code == 200
    found = fake.faults.scripts
    assert found[0] == found[1] == found[2]
    assert all(getattr(found[0], key) == value for key, value in script.items())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"do": "set"}, "fields"),
        ({"do": "set", "fields": ["id"]}, "fields"),
        ({"do": "leave_out", "fields": {"id": 1}}, "fields"),
        ({"do": "leave_out", "fields": [1]}, "fields"),
        ({"do": "replace"}, "old"),
        ({"do": "replace", "old": "("}, "regular expression"),
        ({"do": "twice", "items": 3}, "items"),
        ({"do": "cap", "operation": "listRuns", "items": -1}, "items"),
        ({"do": "cap"}, "listBatches"),
        ({"do": "another", "operation": "createBatch", "name": "first"}, "allowed: a batch id"),
        ({"do": "another", "operation": "listRuns"}, "getRunStatus"),
        ({"do": "interim", "status": 200}, "102 to 199"),
        ({"do": "interim", "status": 101}, "102 to 199"),
        ({"do": "interim", "items": 0}, "from 1 to 100"),
        ({"do": "status", "status": 103}, "200 to 599"),
        ({"do": "expire", "name": "files"}, "batches, runs, results"),
        ({"do": "expire", "seconds": -1}, "from 0"),
        ({"do": "date", "name": "x\r\ny"}, "ASCII"),
        ({"do": "hide", "operation": "runApp"}, "listBatches"),
        ({"do": "cut_tags", "operation": "listBatches"}, "listRuns"),
        ({"do": "short_pages", "operation": "listRuns", "items": 0}, "from 1"),
        ({"do": "late", "until": "never"}, "until"),
        ({"every": 0}, "from 1"),
        ({"times": -1}, "0 for all"),
    ],
)
def test_script_that_asks_what_cannot_be_done_is_refused(fake: FakeAIHub, script: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fake.faults(**script)
