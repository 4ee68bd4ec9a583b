"""Every request and answer, as they were: what tests look at, and what is checked against the API description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_ENTRIES = 200_000
MAX_BODY_BYTES = 4 * 1_048_576
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(slots=True)
class Exchange:
    """One request and its answer; bodies are kept where they are JSON."""

    method: str
    path: str
    query: str
    request_headers: Mapping[str, str]
    scope: Scope
    request_body: bytes = b""
    request_bytes: int = 0
    status: int = 0
    response_headers: Mapping[str, str] | None = None
    response_body: bytes = b""

    @property
    def operation(self) -> str:
        """The operation's id, known once the request is routed."""
        return str(self.scope.get("operation", ""))

    def as_dict(self) -> dict[str, Any]:
        """Give it as values that JSON can carry; tokens are left out."""
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "operation": self.operation,
            "status": self.status,
            "request_headers": {k: v if k not in SECRET_HEADERS else "…" for k, v in self.request_headers.items()},
            "request_bytes": self.request_bytes,
            "request_json": _parse(self.request_body),
            "response_headers": dict(self.response_headers or {}),
            "response_json": _parse(self.response_body),
            "faulted": self.scope.get("faulted", False),
        }


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


class Journal:
    """The exchanges so far, the oldest first; `is_full` says that later ones are missing."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.is_full = False

    def clear(self) -> None:
        """Forget all."""
        self.exchanges.clear()
        self.is_full = False

    def watch(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app so that what passes through it is written down."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith("/_fake/"):
                await app(scope, receive, send)
                return
            exchange = _begin(scope)
            self._add(exchange)

            async def receive_and_note() -> Message:
                message = await receive()
                _note_request(exchange, message)
                return message

            async def send_and_note(message: Message) -> None:
                _note_response(exchange, message)
                await send(message)

            try:
                await app(scope, receive_and_note, send_and_note)
            finally:  # of the scope, only what is told is kept
                exchange.scope = {key: scope[key] for key in ("operation", "faulted") if key in scope}

        return watched

    def _add(self, exchange: Exchange) -> None:
        if len(self.exchanges) >= MAX_ENTRIES:
            self.is_full = True
        else:
            self.exchanges.append(exchange)


def _begin(scope: Scope) -> Exchange:
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    raw = scope.get("raw_path") or scope["path"].encode()
    return Exchange(scope["method"], raw.decode("latin-1"), scope["query_string"].decode("latin-1"), headers, scope)


def _note_request(exchange: Exchange, message: Message) -> None:
    body = message.get("body", b"")
    exchange.request_bytes += len(body)
    is_json = exchange.request_headers.get("content-type", "").startswith("application/json")
    if is_json and exchange.request_bytes <= MAX_BODY_BYTES:
        exchange.request_body += body


def _note_response(exchange: Exchange, message: Message) -> None:
    if message["type"] == "http.response.start":
        exchange.status = message["status"]
        exchange.response_headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in message.get("headers", [])}
    elif len(exchange.response_body) <= MAX_BODY_BYTES:
        exchange.response_body += message.get("body", b"")
