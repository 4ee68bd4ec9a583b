"""The table of operations, compared with the API description, if it is available."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest

from fake_aihub.contract.operations import OPERATIONS, Operation
from support.contract import load_operations

# Known to the fake, and not in the description: sent by the vendor's SDK, or spoken of in the prose alone.
BEYOND = {
    ("runApp", "settings.webhook_config"),
    ("runApp", "settings.webhook_config.url"),
    ("runApp", "settings.webhook_config.headers"),
    ("runDeployment", "settings.webhook_config"),
    ("runDeployment", "settings.webhook_config.url"),
    ("runDeployment", "settings.webhook_config.headers"),
    ("runDeployment", "output_workspace"),
    ("writeFile", "If-None-Match"),
}
# A whole number, or a string of digits: for the size by the description, for the batch of a run by the vendor's sample.
WIDER = {"file_size", "batch_id"}
TYPES = {"string": str, "integer": int, "boolean": bool, "number": int | float}


def kind_of(schema: dict[str, Any]) -> Any:
    if schema.get("enum"):
        return Literal[tuple(schema["enum"])]
    if schema.get("type") == "array":
        return [kind_of(schema["items"])]
    if schema.get("properties"):
        return {name: kind_of(value) for name, value in schema["properties"].items()}
    return TYPES.get(schema.get("type", ""), dict)


def names(kind: Any, where: str = "") -> dict[str, Any]:
    """All properties below a kind, by their dotted path."""
    if isinstance(kind, list):
        return names(kind[0], where)
    if not isinstance(kind, Mapping):
        return {}
    found = {}
    for name, below in kind.items():
        found[where + name] = below
        found |= names(below, f"{where}{name}.")
    return found


def simple(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return simple(get_args(kind)[0])
    if isinstance(kind, Mapping):
        return "object"
    if isinstance(kind, list):
        return f"list of {simple(kind[0])}"
    return str(sorted(get_args(kind))) if get_origin(kind) is Literal else str(kind)


@pytest.fixture(scope="module")
def described(openapi: Path) -> dict[str, Any]:
    return load_operations(openapi)


def test_operations_are_those_of_the_description(described: dict[str, Any]) -> None:
    assert {operation.id for operation in OPERATIONS} == set(described)
    assert len(OPERATIONS) == 27


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_operation_takes_and_answers_what_is_described(operation: Operation, described: dict[str, Any]) -> None:
    wanted = described[operation.id]
    statuses = {status for status in wanted["responses"] if status != "default"}
    assert {str(status) for status in operation.statuses} == statuses
    assert operation.default_error == ("default" in wanted["responses"])
    parameters = wanted.get("parameters", [])
    query = {one["name"]: simple(kind_of(one["schema"])) for one in parameters if one["in"] == "query"}
    assert {name: simple(kind) for name, kind in operation.query.items()} == query
    headers = {one["name"] for one in parameters if one["in"] == "header"}
    assert {name for name in operation.headers if (operation.id, name) not in BEYOND} == headers


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_operation_reads_the_body_that_is_described(operation: Operation, described: dict[str, Any]) -> None:
    content = described[operation.id].get("requestBody", {}).get("content", {})
    assert operation.is_binary == ("application/octet-stream" in content)
    assert (operation.body is not None) == ("application/json" in content)
    schema = content.get("application/json", {}).get("schema", {})
    known = {name: kind for name, kind in names(operation.body).items() if (operation.id, name) not in BEYOND}
    wanted = names(kind_of(schema) if schema else {})
    known_kinds = {name: simple(kind) for name, kind in known.items() if name not in WIDER}
    assert known_kinds == {name: simple(kind) for name, kind in wanted.items() if name not in WIDER}
    if operation.body is not None:
        assert set(operation.body.required) == set(schema.get("required", ()))
