"""Export the journal as an HTTP archive (HAR 1.2), which browsers and proxies can open."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import parse_qsl

from fake_aihub.controls.journal import Exchange


def render_har(exchanges: Iterable[Exchange]) -> dict[str, Any]:
    """Render exchanges as HAR, without secrets and without bodies that are not JSON."""
    creator = {"name": "fake-aihub", "version": _version()}
    return {"log": {"version": "1.2", "creator": creator, "entries": [_entry(exchange) for exchange in exchanges]}}


def _version() -> str:
    try:
        return version("aihub-runner")
    except PackageNotFoundError:
        return "unknown"


def _entry(exchange: Exchange) -> dict[str, Any]:
    record = exchange.as_dict()
    took_ms = round(record["took_s"] * 1000, 3)
    return {
        "startedDateTime": datetime.fromtimestamp(exchange.begun_s, UTC).isoformat(timespec="milliseconds"),
        "time": took_ms,
        "request": _request(exchange, record),
        "response": _response(exchange, record),
        "cache": {},
        "timings": {"send": 0, "wait": took_ms, "receive": 0},
        "_operation": record["operation"],
        "_faulted": record["faulted"],
    }


def _request(exchange: Exchange, record: dict[str, Any]) -> dict[str, Any]:
    host = record["request_headers"].get("host", "")
    query = f"?{record['query']}" if record["query"] else ""
    request: dict[str, Any] = {
        "method": exchange.method,
        "url": f"http://{host}{exchange.path}{query}",
        "queryString": _pairs(parse_qsl(record["query"], keep_blank_values=True)),
        "bodySize": exchange.request_bytes,
        **_common(exchange.request_headers),
    }
    if record["request_json"] is not None:
        request["postData"] = {"mimeType": "application/json", "text": _dump(record["request_json"])}
    return request


def _response(exchange: Exchange, record: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "size": exchange.response_bytes,
        "mimeType": record["response_headers"].get("content-type", ""),
    }
    if record["response_json"] is not None:
        content["text"] = _dump(record["response_json"])
    known = exchange.status in HTTPStatus._value2member_map_
    return {
        "status": exchange.status,
        "statusText": HTTPStatus(exchange.status).phrase if known else "",
        "content": content,
        "redirectURL": "",
        "bodySize": exchange.response_bytes,
        **_common(exchange.response_headers),
    }


def _common(headers: list[tuple[str, str]]) -> dict[str, Any]:
    return {"httpVersion": "HTTP/1.1", "cookies": [], "headers": _pairs(headers), "headersSize": -1}


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
