"""Unknown parameters are counted, or rejected if strict; hostile requests are rejected, never with a 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import quote

import pytest
import requests

from fake_aihub import FakeAIHub
from fake_aihub.contract.operations import OPERATIONS
from fake_aihub.contract.shapes import Count, Shape


@pytest.fixture
def open_fake() -> Iterator[FakeAIHub]:
    """A fake whose journal is not checked against the description: these tests send undescribed requests."""
    with FakeAIHub() as server:
        yield server


UNKNOWN = [
    ("GET", "/v2/batches?limitt=3", None, "limitt"),
    ("GET", "/v2/batches?b%C3%A4d=3", None, "bäd"),
    ("POST", "/v2/batches", {"name": "b", "colour": "red"}, "colour"),
    ("POST", "/v2/batches?x=1", {"name": "b"}, "x"),
    ("POST", "/v2/apps/runs", {"app_name": "a", "batch_id": 1, "settings": {"tagss": []}}, "settings.tagss"),
    ("DELETE", "/v2/files/a/b/fs/c/d?force=true", None, "force"),
]


@pytest.mark.parametrize(("method", "path", "body", "name"), UNKNOWN)
def test_unknown_names_are_accepted_and_journalled(
    http: requests.Session, open_fake: FakeAIHub, method: str, path: str, body: Any, name: str
) -> None:
    answered = http.request(method, f"{open_fake.root}{path}", json=body)
    assert answered.status_code in (200, 202, 404)
    assert open_fake.journal[-1]["unknown"] == [name]


@pytest.mark.parametrize(("method", "path", "body", "name"), UNKNOWN)
def test_unknown_names_are_refused_by_name_when_strict(
    http: requests.Session, open_fake: FakeAIHub, method: str, path: str, body: Any, name: str
) -> None:
    open_fake.service.strict = True
    refused = http.request(method, f"{open_fake.root}{path}", json=body)
    assert (refused.status_code, refused.headers["X-Fake-Unsupported"]) == (400, quote(name))
    assert name in refused.json()["message"]
    assert (open_fake.batches(), open_fake.world.jobs) == ([], {})


def test_strict_fake_takes_all_that_is_known(http: requests.Session, open_fake: FakeAIHub) -> None:
    open_fake.service.strict = True
    batch_id = http.post(f"{open_fake.root}/v2/batches", json={"name": "b", "workspace": None}).json()["id"]
    http.put(f"{open_fake.root}/v2/batches/{batch_id}/files/a.txt", data=b"a")
    settings = {
        "tags": ["t"],
        "keys": {"custom": {"any": {"thing": None}}, "secret": {"k": "alias"}},
        "runtime_config": {"instabase": {"pdf": {"passwords": {"a.pdf": "x"}}}},
        "webhook_config": {"url": None},
    }
    body = {"app_name": "a", "batch_id": batch_id, "owner": "o", "settings": settings}
    run = http.post(f"{open_fake.root}/v2/apps/runs", json=body)
    assert run.status_code == 200
    results = http.get(f"{open_fake.root}/v2/apps/runs/{run.json()['id']}/results").json()
    assert results["keys"]["custom"] == {"any": {"thing": None}}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_method_that_a_path_has_not_is_told_which_it_has(
    http: requests.Session, open_fake: FakeAIHub, operation: Any
) -> None:
    path = operation.path.replace("{", "").replace("}", "")
    refused = http.request("PURGE", f"{open_fake.root}{path}")
    assert refused.status_code == 405
    assert operation.method in refused.headers["Allow"].split(", ")


@pytest.mark.parametrize("path", ["/v2/nowhere", "/v2/batches/", "/v2", "/", "/v3/batches", "/api/api/v2/batches"])
def test_unknown_route_is_501(http: requests.Session, open_fake: FakeAIHub, path: str) -> None:
    answered = http.get(f"{open_fake.root.removesuffix('/api')}{path}")
    assert (answered.status_code, list(answered.json())) == (501, ["message"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'{"name": NaN}',
        b'{"name": "\\ud800"}',
        b'{"name": "b", "x": 1e999}',
        b'{"name": "b", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name": ' + b"9" * 10_000 + b"}",
        b'\xff{"name": "b"}',
        b'{"name": ["b"]}',
        b'{"name": true}',
    ],
    ids=range(10),
)
def test_hostile_body_is_refused(http: requests.Session, open_fake: FakeAIHub, body: bytes) -> None:
    refused = http.post(f"{open_fake.root}/v2/batches", data=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, list(refused.json())) == (400, ["message"])
    json.dumps(open_fake.journal, ensure_ascii=False)


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "limit=%C2%B2", "limit=" + "9" * 5000, "offset=1.5", "limit=", "limit=1&limit=x"],
)
def test_number_in_a_query_that_is_none_is_refused(http: requests.Session, open_fake: FakeAIHub, query: str) -> None:
    status = http.get(f"{open_fake.root}/v2/batches?{query}").status_code
    assert status == (200 if query.endswith("999") else 400)


@pytest.mark.parametrize(
    "query", ["sort_by=name", "order=up", "status=DONE&status=COMPLETE", "sort_by=status", "from_timestamp=x"]
)
def test_choice_in_a_query_that_is_none_is_refused(http: requests.Session, open_fake: FakeAIHub, query: str) -> None:
    status = http.get(f"{open_fake.root}/v2/apps/runs?{query}").status_code
    assert status == (200 if "status" in query else 400)


@pytest.mark.parametrize("name", ["a%0Ab", "%0A", "a%0A", "a%0D%0Ab"])
def test_file_name_may_hold_a_line_break(http: requests.Session, open_fake: FakeAIHub, name: str) -> None:
    batch_id = http.post(f"{open_fake.root}/v2/batches", json={"name": "b"}).json()["id"]
    url = f"{open_fake.root}/v2/batches/{batch_id}/files"
    assert http.put(f"{url}/{name}", data=b"a").status_code == 204
    assert len(http.get(url).json()["nodes"]) == 1
    assert http.delete(f"{url}/{name}").status_code == 202


@pytest.mark.parametrize("host", ["[", "a:b:c", "x" * 5000, "%00", "a@b"])
def test_host_that_is_none_does_no_harm(http: requests.Session, open_fake: FakeAIHub, host: str) -> None:
    headers = {"Host": host}
    assert http.post(f"{open_fake.root}/v2/batches", json={"name": "b"}, headers=headers).status_code == 200
    assert http.delete(f"{open_fake.root}/v2/files/a", headers=headers).status_code == 202
    assert http.get(f"{open_fake.root}/v2/nowhere", headers=headers).status_code == 501
    assert http.delete(f"{open_fake.root}/v2/batches", headers=headers).status_code == 405


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v2/batches/a%2Fb", "getBatch"),
        ("/v2/batches/a%2Fb/files", "listFiles"),
        ("/v2/jobs/..%2F..%2Fx", "jobStatus"),
        ("/v2/%62atches/1", "getBatch"),
        ("/v2/apps/runs/%2F", "getRunStatus"),
        ("/v2/apps/runs/%252F", "getRunStatus"),
    ],
)
def test_escaped_slash_is_part_of_an_id(
    http: requests.Session, open_fake: FakeAIHub, path: str, operation: str
) -> None:
    assert http.get(f"{open_fake.root}{path}").status_code == 404
    assert open_fake.journal[-1]["operation"] == operation


THING = Shape(
    {
        "a": int,
        "b": str | int,
        "c": [{"d": bool}],
        "e": Literal["x", "y"],
        "f": dict,
        "g": Count,
        "h": {"i": float},
    },
    ["a"],
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "a is required."),
        ({"a": 1.0}, "a must be a whole number."),
        ({"a": True}, "a must be a whole number."),
        ({"a": 1, "b": None}, "b must be a text or a whole number."),
        ({"a": 1, "c": {}}, "c must be a list."),
        ({"a": 1, "c": [{"d": True}, {"d": 1}]}, "c.d must be true or false."),
        ({"a": 1, "c": [{"dd": True}]}, "unknown key 'c.dd'; allowed: d"),
        ({"a": 1, "e": "z"}, "e must be one of x, y."),
        ({"a": 1, "f": []}, "f must be an object."),
        ({"a": 1, "g": -1}, "g must be a whole number from 0."),
        ({"a": 1, "h": {"i": float("nan")}}, "h.i must be a number."),
        ({"a": 1, "h": 1}, "h must be an object."),
        ({"a": 1, "z": 1}, "unknown key 'z'; allowed: a, b, c, e, f, g, h"),
    ],
)
def test_shape_tells_the_first_mistake_by_its_path(value: Any, message: str) -> None:
    assert str(THING.mistakes(value)[0]) == message


def test_shape_takes_what_it_allows() -> None:
    value = {"a": 10**30, "b": "", "c": [{}, {"d": False}], "e": "y", "f": {"any": None}, "g": 0, "h": {"i": 0.5}}
    assert THING.mistakes(value) == []
