"""The journal of requests and responses, for tests and for checks against the API description."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fake_aihub.redact import redact_body, redact_headers, redact_query
from fake_aihub.world.clock import Clock

SIZE = 200_000
MAX_BODY_BYTES = 4 * 1_048_576
MAX_BYTES = 64 * 1_048_576  # for all bodies together
KEPT_OF_SCOPE = ("operation", "faulted", "faults", "unknown")
IDEMPOTENT = ("PUT", "DELETE")  # a repeated GET is nothing to point at
Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Exchange:
    """One request and its response. Only JSON bodies are kept. Times are in Unix seconds.

    `number` counts all requests. `changed` is the journal's count of changes when this one last changed. `is_repeat`
    is whether an idempotent request with the same path came before.
    """

    scope: Scope
    method: str
    path: str
    query: str
    begun_s: float
    raw_request_headers: Headers
    request_body: bytes = b""
    request_bytes: int = 0
    status: int = 0
    raw_response_headers: Headers | None = None
    response_body: bytes = b""
    response_bytes: int = 0
    ended_s: float = 0.0
    is_kept: bool = True
    weight: int = 0
    number: int = 0
    changed: int = 0
    is_repeat: bool = False

    @property
    def operation(self) -> str:
        """The operation id, set after routing."""
        return str(self.scope.get("operation", ""))

    @property
    def request_headers(self) -> list[tuple[str, str]]:
        """The request headers, without secrets."""
        return redact_headers(_decode(self.raw_request_headers))

    @property
    def response_headers(self) -> list[tuple[str, str]]:
        """The response headers, without secrets."""
        return redact_headers(_decode(self.raw_response_headers or []))

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without secrets."""
        return {
            "method": self.method,
            "path": self.path,
            "query": redact_query(self.query),
            "operation": self.operation,
            "status": self.status,
            "request_headers": dict(self.request_headers),
            "request_bytes": self.request_bytes,
            "request_json": redact_body(self.path, _parse(self.request_body)),
            "response_headers": dict(self.response_headers),
            "response_bytes": self.response_bytes,
            "response_json": redact_body(self.path, _parse(self.response_body)),
            "faulted": self.scope.get("faulted", False),
            "unknown": list(self.scope.get("unknown", ())),
            "begun_s": self.begun_s,
            "took_s": max(0.0, self.ended_s - self.begun_s),
        }


def _key_of(exchange: Exchange) -> tuple[str, str, str]:
    return exchange.method, exchange.path, exchange.query


def _decode(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None


class Journal:
    """The last `size` exchanges, oldest first. `dropped` counts those that were removed.

    `changes` counts the beginnings and ends of exchanges, and `rewinds` how often some were forgotten.
    """

    def __init__(self, clock: Clock, size: int = SIZE, max_bytes: int = MAX_BYTES) -> None:
        self.exchanges: deque[Exchange] = deque()
        self.total = 0
        self.changes = 0
        self.rewinds = 0
        self.size = size
        self._begun = 0
        self._paths: Counter[tuple[str, str, str]] = Counter()  # of idempotent requests
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0

    @property
    def dropped(self) -> int:
        """The number of exchanges that were removed because the journal was full."""
        return self.total - len(self.exchanges)

    def clear(self) -> None:
        """Forget all."""
        self.rewind(0)

    def rewind(self, total: int) -> None:
        """Remove all exchanges after the first `total`."""
        self.rewinds += 1
        while self.exchanges and self.total > total:
            self._forget(self.exchanges.pop())
            self.total -= 1
        self.total = min(self.total, total)

    def watch(self, app: ASGIApp, *watchers: Callable[[Exchange], None]) -> ASGIApp:
        """Wrap an app so that every exchange is recorded in the journal. Call the watchers when it ends."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].startswith("/_fake/"):
                await app(scope, receive, send)
                return
            exchange = self._begin(scope)

            async def receive_and_note() -> Message:
                message = await receive()
                _note_request(exchange, message)
                return message

            async def send_and_note(message: Message) -> None:
                _note_response(exchange, message)
                if self.dropped and message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), self.full_header()]
                await send(message)

            try:
                await app(scope, receive_and_note, send_and_note)
            finally:
                self._end(exchange)
                for note in watchers:
                    note(exchange)

        return watched

    def full_header(self) -> tuple[bytes, bytes]:
        """Return the header that reports dropped exchanges."""
        return b"x-fake-journal", f"full; dropped={self.dropped}".encode()

    def _begin(self, scope: Scope) -> Exchange:
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        exchange = Exchange(scope, scope["method"], path, query, self._clock.now_s(), scope["headers"])
        self._begun += 1
        exchange.number = self._begun
        if exchange.method in IDEMPOTENT:
            exchange.is_repeat = self._paths[_key_of(exchange)] > 0
            self._paths[_key_of(exchange)] += 1
        self._note_change(exchange)
        self.exchanges.append(exchange)
        self.total += 1
        self._make_room()
        return exchange

    def _end(self, exchange: Exchange) -> None:
        exchange.ended_s = self._clock.now_s()
        self._note_change(exchange)
        # Keep only the parts of the scope that the journal shows.
        exchange.scope = {key: exchange.scope[key] for key in KEPT_OF_SCOPE if key in exchange.scope}
        if exchange.is_kept:
            exchange.weight = len(exchange.request_body) + len(exchange.response_body)
            self._bytes += exchange.weight
            self._make_room()

    def _make_room(self) -> None:
        while self.exchanges and (len(self.exchanges) > self.size or self._bytes > self._max_bytes):
            self._forget(self.exchanges.popleft())

    def _note_change(self, exchange: Exchange) -> None:
        self.changes += 1
        exchange.changed = self.changes

    def _forget(self, exchange: Exchange) -> None:
        if exchange.method in IDEMPOTENT:
            key = _key_of(exchange)
            self._paths[key] -= 1
            if not self._paths[key]:
                del self._paths[key]
        exchange.is_kept = False
        self._bytes -= exchange.weight


def _note_request(exchange: Exchange, message: Message) -> None:
    body = message.get("body", b"")
    if not body:
        return
    exchange.request_bytes += len(body)
    if exchange.request_bytes <= MAX_BODY_BYTES and _is_json(exchange.raw_request_headers):
        exchange.request_body += body


def _note_response(exchange: Exchange, message: Message) -> None:
    if message["type"] == "http.response.start":
        exchange.status = message["status"]
        exchange.raw_response_headers = list(message.get("headers", []))
        return
    body = message.get("body", b"")
    exchange.response_bytes += len(body)
    if exchange.response_bytes <= MAX_BODY_BYTES and _is_json(exchange.raw_response_headers or []):
        exchange.response_body += body


def _is_json(headers: Headers) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"application/json") for name, value in headers)
