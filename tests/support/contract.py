"""Check a fake's journal against the API description: every request and every response."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from openapi_schema_validator import OAS30Validator

from support.selection import OPENAPI

# Not in the description, but sent by the vendor's SDK, as facts of the API go.
UNDESCRIBED = {"webhook_config"}


def check_journal(journal: list[dict[str, Any]]) -> None:
    """Fail for everything that differs from the description, if it is available."""
    if OPENAPI.exists():
        found = violations(journal, OPENAPI)
        assert not found, "\n".join(found)
    else:
        assert not os.environ.get("AIHUB_REQUIRE_SHARED"), f"{OPENAPI} is missing"


@cache
def load_operations(openapi: Path) -> dict[str, dict[str, Any]]:
    """Load the operations by id, with all references resolved."""
    description = json.loads(openapi.read_text(encoding="utf-8"))

    def follow(node: Any) -> Any:
        if isinstance(node, list):
            return [follow(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target: Any = description
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            return follow(target) | ({"nullable": True} if node.get("nullable") else {})
        return {key: follow(value) for key, value in node.items()}

    return {
        operation["operationId"]: {"path": path, **follow(operation)}
        for path, operations in description["paths"].items()
        for operation in operations.values()
    }


def violations(journal: list[dict[str, Any]], openapi: Path) -> list[str]:
    """List what in the journal differs from the description. Scripted faults do not count."""
    operations = load_operations(openapi)
    found = []
    for entry in journal:
        operation = operations.get(entry["operation"])
        if operation is None:
            found.append(f"{entry['method']} {entry['path']}: no such operation")
            continue
        where = f"{entry['operation']} {entry['status']}"
        found += [f"{where}: request: {text}" for text in _check_request(entry, operation)]
        if not entry["faulted"] and entry["status"]:
            found += [f"{where}: answer: {text}" for text in _check_answer(entry, operation)]
    return found


def _check_request(entry: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    described = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
    query = parse_qs(entry["query"], keep_blank_values=True)
    for name in query.keys() - described.keys():
        yield f"query parameter {name} is not described"
    if entry["status"] >= 400:
        return  # a refused request may well be a wrong one
    for name, parameter in described.items():
        if name in query:
            yield from _check_parameter(name, parameter["schema"], query[name])
        elif parameter.get("required"):
            yield f"query parameter {name} is missing"
    yield from _check_path(entry, operation)
    content = operation.get("requestBody", {}).get("content", {})
    media = entry["request_headers"].get("content-type", "").split(";")[0]
    if content and media not in content:
        yield f"content type {media!r} is not described"
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        given = _without_nulls(entry["request_json"])
        yield from _errors(schema, given)
        yield from _unknown(schema, given, "")


def _check_path(entry: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    described = [p for p in operation.get("parameters", []) if p["in"] == "path"]
    pattern = re.sub(r"\\\{.*?\\\}", "(.+)", re.escape(operation["path"]))
    found = re.fullmatch(f"(?:/api)?{pattern}", entry["path"])
    if found is None:
        yield f"{entry['path']} is not as {operation['path']}"
        return
    names = re.findall(r"\{(.*?)\}", operation["path"])
    schemas = {parameter["name"]: parameter["schema"] for parameter in described}
    for name, text in zip(names, found.groups(), strict=True):
        yield from _check_parameter(name, schemas[name], [text])


def _check_parameter(name: str, schema: dict[str, Any], texts: list[str]) -> Iterator[str]:
    """Check the texts of a parameter, which encode values of the schema's type."""
    if schema.get("type") == "array":
        for text in texts:
            yield from _check_parameter(name, schema["items"], [text])
        return
    for text in texts:
        value: Any = text
        if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", text):
            value = int(text)
        elif schema.get("type") == "boolean" and text.lower() in ("true", "false"):
            value = text.lower() == "true"
        yield from (f"parameter {name}: {error}" for error in _errors(schema, value))


def _without_nulls(value: Any) -> Any:
    """In requests, null means absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _unknown(schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    """List the properties that the description does not name, if it names any."""
    properties = schema.get("properties")
    if isinstance(value, list):
        for item in value:
            yield from _unknown(schema.get("items", {}), item, where)
    elif properties and isinstance(value, dict) and not schema.get("additionalProperties"):
        for key, item in value.items():
            if key in properties:
                yield from _unknown(properties[key], item, f"{where}.{key}")
            elif key not in UNDESCRIBED:
                yield f"property {where}.{key} is not described"


def _check_answer(entry: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    responses, status = operation["responses"], entry["status"]
    response = responses.get(str(status)) or responses.get("default")
    if response is None or (status < 400 and str(status) not in responses):
        if status < 400:
            yield "status is not described"
        elif set(entry["response_json"] or {}) != {"message"}:
            yield "an error without a message"
        return
    content = response.get("content", {})
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        if entry["method"] == "HEAD" and entry["response_json"] is None:
            return  # a body is not sent, and may not be written down yet when the client has its answer
        yield from _errors(schema, entry["response_json"])
        yield from _unknown(schema, entry["response_json"], "")
    elif status < 400 and entry["response_json"] is not None:
        yield "a body where none is described"


def _errors(schema: dict[str, Any], value: Any) -> Iterator[str]:
    for error in OAS30Validator(schema).iter_errors(value):
        yield f"{'.'.join(map(str, error.path))}: {error.message[:200]}"
