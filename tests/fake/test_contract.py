"""The checks of each exchange against the API description: every difference is reported."""

from __future__ import annotations

from typing import Any

import pytest

from support.contract import OPENAPI, violations

BATCH = {
    "id": 1001,
    "name": "batch",
    "workspace": "w",
    "mount_point": "m",
    "repo_owner": "o",
    "batch_owner": "o",
    "created_at_ms": 1,
    "updated_at_ms": 1,
    "path_suffix": "p",
}
GET_BATCH = {"operation": "getBatch", "path": "/api/v2/batches/1001", "response_json": BATCH}
READ_FILE = {"operation": "readFile", "path": "/api/v2/files/a", "query": "expect-node-type=file"}
RUN_APP = {"operation": "runApp", "method": "POST", "path": "/v2/apps/runs", "request_json": {"app_id": "a"}}
RUN = {"id": "r", "status": "RUNNING", "msg": None, "start_timestamp": 1, "finish_timestamp": None, "batch_id": 1}


def found_in(**changed: Any) -> list[str]:
    headers = {"content-type": "application/json"}
    whole = {"method": "GET", "query": "", "status": 200, "request_headers": headers, "request_json": None}
    return violations([{**whole, "response_json": None, "faulted": False, **changed}], OPENAPI)


@pytest.mark.needs_openapi
@pytest.mark.parametrize("entry", [GET_BATCH, READ_FILE, RUN_APP | {"response_json": RUN}])
def test_contract_has_nothing_to_say_of_what_is_described(entry: dict[str, Any]) -> None:
    assert found_in(**entry) == []


@pytest.mark.needs_openapi
@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (GET_BATCH | {"operation": "nothing"}, "no such operation"),
        (GET_BATCH | {"path": "/api/v2/batches/x"}, "parameter batch_id"),
        (GET_BATCH | {"path": "/api/v2/runs/1"}, "is not as /v2/batches/{batch_id}"),
        (GET_BATCH | {"query": "limit=1"}, "query parameter limit is not described"),
        (GET_BATCH | {"response_json": BATCH | {"id": "1001"}}, "answer: id"),
        (GET_BATCH | {"response_json": BATCH | {"colour": "red"}}, "property .colour is not described"),
        (GET_BATCH | {"status": 299}, "status is not described"),
        (GET_BATCH | {"status": 401, "response_json": {"error": "no"}}, "an error without a message"),
        (READ_FILE | {"query": ""}, "query parameter expect-node-type is missing"),
        (READ_FILE | {"query": "expect-node-type=link"}, "parameter expect-node-type"),
        (RUN_APP | {"request_headers": {"content-type": "text/html"}}, "content type 'text/html'"),
        (RUN_APP | {"request_json": {"batch_id": "1"}}, "request: batch_id"),
        (RUN_APP | {"request_json": {"settings": {"tag": []}}}, "property .settings.tag is not described"),
        (RUN_APP | {"response_json": {"runs": []}}, "answer:"),
    ],
)
def test_contract_tells_what_is_not_as_described(entry: dict[str, Any], told: str) -> None:
    assert any(told in text for text in found_in(**entry)), found_in(**entry)
