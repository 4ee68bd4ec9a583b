"""The HTTP client of `certify`: every request has a timeout, and every exchange is recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from fake_aihub.addresses import is_loopback

TIMEOUT_S = (10.0, 60.0)
ANSWER_S = 120.0
MAX_ANSWER_BYTES = 64 * 1_048_576
MAX_TRIES = 4
MAX_DEPTH = 100
MAX_WAITED_S = 600.0
TELLING_HEADERS = frozenset(
    (
        *("content-length", "content-range", "content-type", "date", "last-modified", "location"),
        *("retry-after", "server", "x-fake-aihub"),
    )
)


class NoAnswer(Exception):
    """No response, or an incomplete one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the service."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body. Raises ValueError if it is not JSON, or nested too deeply."""
        return _parse(self.body)


@dataclass(slots=True)
class Exchange:
    """One request and its response, for the report. Tokens are never stored."""

    method: str
    path: str
    request: dict[str, Any]
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    answer: Any = None
    seconds: float = 0.0


class _Token(AuthBase):
    """Send the given token or none. Otherwise requests would use credentials from ~/.netrc."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value:
            request.headers["Authorization"] = self._value
        return request


class Target:
    """A client for one service. `now` and `sleep` are its clock, in seconds."""

    def __init__(
        self,
        root: str,
        token: str,
        context: str = "",
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.root, self.context = root.rstrip("/"), context
        self.now, self.sleep = now, sleep
        self.exchanges: list[Exchange] = []
        self.is_fake = False
        self._waited_s = 0.0
        self._token = f"Bearer {token}"
        self._session = requests.Session()
        # Proxies and certificates from the environment do not apply to this machine.
        self._session.trust_env = not is_loopback(urlsplit(root).hostname)

    def send(
        self,
        method: str,
        path: str,
        *parts: object,
        token: str | None = None,
        context: str | None = None,
        headers: Mapping[str, str] | None = None,
        **what: Any,
    ) -> Answer:
        """Send a request, and retry it after a wait if the service asks to. `parts` are quoted into the path's `{}`.

        `what` is `params`, `json` or `data`, as in requests. Raises NoAnswer.
        """
        url = path.format(*(quote(str(part), safe="") for part in parts))
        sent = {"User-Agent": "aihub-runner certify", "Accept": "application/json, */*", **(headers or {})}
        if "data" in what:
            sent.setdefault("Content-Type", "application/octet-stream")
        if context if context is not None else self.context:
            sent["IB-Context"] = context or self.context
        shown = sent | ({"IB-Context": "<context>"} if sent.get("IB-Context") == self.context else {})
        exchange = Exchange(method, url, _render_request(shown, what))
        self.exchanges.append(exchange)
        for left in reversed(range(MAX_TRIES)):
            answer = self._ask(exchange, self._token if token is None else token, sent, what)
            if answer.status != 429 or not left or self._waited_s > MAX_WAITED_S:
                break
            self._waited_s += _wait_s(answer)
            self.sleep(_wait_s(answer))
        return answer

    def _ask(self, exchange: Exchange, token: str, headers: Mapping[str, str], what: Mapping[str, Any]) -> Answer:
        begun = self.now()
        try:
            response = self._session.request(
                exchange.method,
                self.root + exchange.path,
                auth=_Token(token),
                headers=headers,
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
                **what,
            )
            with response:
                answer = Answer(response.status_code, response.headers, self._read(response, begun))
        except (requests.RequestException, OSError) as error:
            exchange.answer = f"no response: {type(error).__name__}"
            raise NoAnswer(type(error).__name__) from None
        finally:
            exchange.seconds = round(self.now() - begun, 3)
        self.is_fake = self.is_fake or "x-fake-aihub" in answer.headers
        exchange.status, exchange.answer = answer.status, _render_body(answer.body)
        exchange.headers = {key: value for key, value in answer.headers.items() if key.lower() in TELLING_HEADERS}
        return answer

    def _read(self, response: requests.Response, begun: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(65_536):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES or self.now() - begun > ANSWER_S:
                raise requests.Timeout
        return bytes(body)


def _wait_s(answer: Answer) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(min(int(text[:9]), 60)) if text.isascii() and text.isdigit() else 5.0


def _render_request(headers: Mapping[str, str], what: Mapping[str, Any]) -> dict[str, Any]:
    rendered: dict[str, Any] = {"headers": {k: v for k, v in headers.items() if k not in ("User-Agent", "Accept")}}
    rendered |= {key: what[key] for key in ("params", "json") if key in what}
    return rendered | ({"body": _render_body(what["data"])} if "data" in what else {})


def _parse(body: bytes) -> Any:
    if max(body.count(b"["), body.count(b"{")) > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    return json.loads(body)


def _depth(body: bytes) -> int:
    """Return the maximum nesting depth of brackets, including those inside strings."""
    steps = (1 if byte in b"[{" else -1 for byte in body if byte in b"[]{}")
    return max(accumulate(steps))


def _render_body(body: bytes) -> Any:
    if not body:
        return None
    try:
        return _parse(body)
    except ValueError:
        text = body[:500].decode("utf-8", "replace")
        return {"bytes": len(body), "sha256": sha256(body).hexdigest(), "begins": text if text.isprintable() else "…"}
