"""Read and validate requests by the table of operations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request

from fake_aihub.api.service import Service
from fake_aihub.contract.operations import BY_ID, Operation
from fake_aihub.contract.shapes import Kind, Shape, describe, is_digits
from fake_aihub.world.entities import ApiError

MAX_NAME = 255
FLAGS = {"true": True, "false": False}


def operation_of(request: Request) -> Operation:
    """Return the operation of a request."""
    return BY_ID[request.scope["operation"]]


def check_query(service: Service, request: Request) -> None:
    """Check the query of a request. Raises ApiError 400."""
    operation = operation_of(request)
    for name, text in request.query_params.multi_items():
        if name not in operation.query:
            _note_unknown(service, request, name)
        elif not _fits(operation.query[name], text):
            raise ApiError(400, f"{name} must be {describe(operation.query[name])}.")
    for name in operation.query.required:
        if name not in request.query_params:
            raise ApiError(400, f"{name} is required.")


def _fits(kind: Kind, text: str) -> bool:
    if kind is int:
        return is_digits(text)
    if kind is bool:
        return text.lower() in FLAGS
    origin: Any = get_origin(kind)
    return origin is not Literal or text in get_args(kind)


def _note_unknown(service: Service, request: Request, name: str) -> None:
    if service.strict:
        refusal = f"{operation_of(request).id} has no parameter or property {name[:100]}."
        raise ApiError(400, refusal, {"X-Fake-Unsupported": quote(name[:100])})
    request.scope.setdefault("unknown", []).append(name)


async def read_body(service: Service, request: Request) -> dict[str, Any]:
    """Read the JSON object of a request. A null value counts as absent. Raises ApiError 400."""
    shape = operation_of(request).body or Shape({})
    body: dict[str, Any] = _without_nulls(await _read_object(request), shape)
    for mistake in shape.mistakes(body):
        if mistake.problem != "unknown":
            raise ApiError(400, str(mistake))
        _note_unknown(service, request, mistake.key)
    return body


async def read_json(request: Request, shape: Shape) -> dict[str, Any]:
    """Read a JSON object of a control, as `read_body` does. Unknown keys are mistakes, too."""
    body: dict[str, Any] = _without_nulls(await _read_object(request), shape)
    for mistake in shape.mistakes(body):
        raise ApiError(400, str(mistake))
    return body


async def _read_object(request: Request) -> dict[str, Any]:
    """Read a JSON object that can also be written. Raises ApiError 400 for any other body."""
    try:
        given = json.loads(await request.body())
        # Python's parser accepts what cannot be written as valid JSON in UTF-8: lone surrogates, NaN, infinity.
        json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ApiError(400, "The request body is not JSON.") from None
    if not isinstance(given, dict):
        raise ApiError(400, "The request body is not an object.")
    return given


def _without_nulls(value: Any, kind: Kind) -> Any:
    if isinstance(value, dict) and isinstance(kind, Mapping):
        return {key: _without_nulls(item, kind.get(key)) for key, item in value.items() if item is not None}
    return value


def read_count(request: Request, name: str, default: int, at_most: int | None = None) -> int:
    """Read a number from the query, which `check_query` has checked."""
    number = int(request.query_params.get(name, str(default))[:18])
    return number if at_most is None else min(number, at_most)


def read_flag(request: Request, name: str, default: bool) -> bool:
    """Read true or false from the query."""
    return FLAGS.get(request.query_params.get(name, "").lower(), default)


def check_text(request: Request) -> None:
    """Check that a path is valid text. Raises ApiError 400."""
    path = request.scope["path"]
    if "\0" in path:
        raise ApiError(400, "The path contains a NUL character.")
    if "\ufffd" in path:
        try:
            unquote_to_bytes(request.scope.get("raw_path", path)).decode()
        except UnicodeDecodeError:
            raise ApiError(400, "The path is not UTF-8.") from None


def check_name(name: str) -> str:
    """Check the name of a batch or file. Raises ApiError 400."""
    if not name or len(name) > MAX_NAME:
        raise ApiError(400, f"A name must have 1 to {MAX_NAME} characters.")
    if "/" in name or "\0" in name or name in (".", ".."):
        raise ApiError(400, "The name is not a valid file name.")
    return name
