"""A tampering proxy between the command line and the fake. It shares no code with either.

A rule says for which requests what is done: pass on and answer otherwise, pass on twice, answer without passing on,
hang up, alter what comes back. Acts are plain functions from a `Call` to an `Answer`, or to None, which hangs up.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

RUNS = "/v2/apps/(deployments/[^/]+/)?runs"  # POST starts one
RUN_LIST = "/v2/apps/runs"
RUN = "/v2/apps/runs/[^/]+"
RESULTS = "/v2/apps/runs/[^/]+/results"
BATCHES = "/v2/batches"
BATCH = "/v2/batches/[0-9]+"
FILES = "/v2/batches/[0-9]+/files"
FILE = "/v2/batches/[0-9]+/files/[^/]+"

ALWAYS = 1_000_000
_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "host", "proxy-connection", "keep-alive"}


@dataclass(frozen=True)
class Answer:
    """A complete response. `interim` are the 1xx responses before it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    interim: tuple[int, ...] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def with_json(self, value: Any) -> Answer:
        return replace(self, body=json.dumps(value).encode())


@dataclass(frozen=True)
class Call:
    """A received request."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    send: Callable[[], Answer] = field(repr=False)
    token: str = field(default="", repr=False)

    def forward(self) -> Answer:
        """Pass it on, and return the service's response."""
        return self.send()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Act = Callable[[Call], Answer | None]


@dataclass
class Rule:
    """What to do with matching requests, from the `nth` on, `times` times."""

    method: str
    path: re.Pattern[str]
    act: Act
    nth: int
    times: int
    seen: int = 0

    def takes(self, call: Call) -> bool:
        if self.method not in ("*", call.method) or not self.path.fullmatch(call.path):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times

    @property
    def used(self) -> int:
        """How many requests it was applied to."""
        return max(0, min(self.seen - self.nth + 1, self.times))


class Proxy:
    """Listens on its own port. The first matching rule handles a request; without one, it is passed on.

    `date` makes the Date header of every answer out of the real one; None leaves it out.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "", parts.port or 80
        self.prefix = parts.path
        self._lock = threading.Lock()
        self.rules: list[Rule] = []
        self.calls: list[tuple[str, str]] = []
        self.date: Callable[[str], str | None] = lambda real: real
        self._offset_s = 0.0
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def on(self, method: str, path: str, act: Act, *, nth: int = 1, times: int = 1) -> Rule:
        """Add a rule; `path` is a regular expression for the path below the root, without the query."""
        rule = Rule(method, re.compile(path), act, nth, times)
        with self._lock:
            self.rules.append(rule)
        return rule

    def always(self, method: str, path: str, act: Act) -> Rule:
        return self.on(method, path, act, times=ALWAYS)

    def clear(self) -> None:
        """Remove all rules: pass everything on."""
        with self._lock:
            self.rules.clear()
        self.date = lambda real: real

    def count(self, method: str, path: str) -> int:
        """Count the requests that came in so far."""
        return sum(m == method and re.fullmatch(path, p) is not None for m, p in list(self.calls))

    def send(self, method: str, path: str, body: Any = None, token: str = "fake-test", context: str = "acme") -> Answer:
        """Send a request past all rules, as another client would, or as a late copy of an earlier request."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        headers = {"Authorization": f"Bearer {token}", "IB-Context": context}
        headers |= {"Content-Type": kind} if data else {}
        return self.pass_on(method, self.prefix + path, headers, data)

    def pass_on(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        connection = HTTPConnection(*self._upstream, timeout=60)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        kept = tuple((k, v) for k, v in response.getheaders() if k.lower() not in _NOT_PASSED_ON)
        if date := response.getheader("Date"):
            self._offset_s = parsedate_to_datetime(date).timestamp() - time.time()
        return Answer(response.status, kept, content)

    def choose(self, call: Call) -> Act:
        with self._lock:
            self.calls.append((call.method, call.path))
            return next((rule.act for rule in self.rules if rule.takes(call)), Call.forward)

    def stamp(self, answer: Answer) -> tuple[tuple[str, str], ...]:
        real = next((v for k, v in answer.headers if k.lower() == "date"), None)
        if real is None:  # an answer of our own, at the time of the service
            real = formatdate(time.time() + self._offset_s, usegmt=True)
        rest = tuple((k, v) for k, v in answer.headers if k.lower() != "date")
        date = self.date(real)
        return rest if date is None else (*rest, ("Date", date))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Do not report disconnected clients."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_request(self) -> None:
        proxy = self.server.proxy
        parts = urlsplit(self.path)  # of an absolute form, too
        body = self._read_body()
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_PASSED_ON}
        path = re.sub("//+", "/", parts.path)  # as most services do

        def send() -> Answer:
            return proxy.pass_on(self.command, path + (f"?{parts.query}" if parts.query else ""), headers, body)

        token = headers.get("Authorization", "").removeprefix("Bearer ")
        call = Call(self.command, path.removeprefix(proxy.prefix), parse_qs(parts.query), body, send, token)
        try:
            answer = proxy.choose(call)(call)
        except (HTTPException, OSError):  # the service itself hung up
            answer = None
        if answer is None:
            self.close_connection = True
        else:
            self._reply(answer)

    def _reply(self, answer: Answer) -> None:
        is_empty = answer.status in (204, 304)
        lines = [f"HTTP/1.1 {answer.status} Tampered"]
        lines += [f"{name}: {value}" for name, value in self.server.proxy.stamp(answer)]
        lines += [] if is_empty else [f"Content-Length: {len(answer.body)}"]
        head = "".join(f"HTTP/1.1 {status} Interim\r\n\r\n" for status in answer.interim)
        head += "\r\n".join([*lines, "", ""])
        try:
            self.wfile.write(head.encode("latin-1") + (b"" if is_empty else answer.body))
        except OSError:
            self.close_connection = True

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = handle_request

    def log_message(self, *_: object) -> None:
        pass


# Acts


def answer_instead(status: int, body: Any = None, **headers: str) -> Act:
    """Answer without passing on."""
    return lambda call: _refusal(status, body, headers)


def forward_then(status: int, body: Any = None, **headers: str) -> Act:
    """Pass on, discard the response, and return another."""

    def act(call: Call) -> Answer:
        call.forward()
        return _refusal(status, body, headers)

    return act


def _refusal(status: int, body: Any, headers: dict[str, str]) -> Answer:
    given = {"Content-Type": "application/json", "Retry-After": "0"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"message": "the gateway says so"} if body is None else body
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer(status, tuple(given.items()), data)


def forward_and_drop(call: Call) -> None:
    """Pass on, and hang up."""
    call.forward()


def drop(call: Call) -> None:
    """Hang up without passing on."""


def forward_twice(call: Call) -> Answer:
    """Pass on twice, like a gateway that retries, and return the second response."""
    call.forward()
    return call.forward()


def rewrite(change: Callable[[Any], Any]) -> Act:
    """Change the JSON of a successful response."""

    def act(call: Call) -> Answer:
        answer = call.forward()
        return answer.with_json(change(answer.json)) if 200 <= answer.status < 300 else answer

    return act


def rewrite_each(key: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Act:
    """Change each entry of a listing, and leave out those for which the change returns None."""

    def whole(value: Any) -> Any:
        return value | {key: [new for entry in value[key] if (new := change(entry)) is not None]}

    return rewrite(whole)


def hide(key: str, hidden: Callable[[dict[str, Any]], bool] = lambda entry: True) -> Act:
    """Leave entries out of a listing."""
    return rewrite_each(key, lambda entry: None if hidden(entry) else entry)


def lag(key: str, listings: int) -> Act:
    """Hide each new entry from the first listings."""
    seen: Counter[Any] = Counter()

    def change(entry: dict[str, Any]) -> dict[str, Any] | None:
        seen[entry["id"]] += 1
        return entry if seen[entry["id"]] > listings else None

    return rewrite_each(key, change)


def interim(*statuses: int) -> Act:
    """Send 1xx answers before the real one."""
    return lambda call: replace(call.forward(), interim=statuses)


def before(hook: Callable[[], object], act: Act = Call.forward) -> Act:
    """Do something before the request is passed on."""

    def wrapped(call: Call) -> Answer | None:
        hook()
        return act(call)

    return wrapped


def after(hook: Callable[[], object], act: Act = Call.forward) -> Act:
    """Do something after the service has acted, before its response is passed on."""

    def wrapped(call: Call) -> Answer | None:
        answer = act(call)
        hook()
        return answer

    return wrapped


def only_if(condition: Callable[[], bool], act: Act) -> Act:
    """Act only if a condition holds by then; otherwise pass on."""
    return lambda call: act(call) if condition() else call.forward()


def meet(parties: int, timeout_s: float = 3.0) -> Act:
    """Hold requests until a number of them have arrived, so that none is ahead; each waits for a limited time."""
    barrier = threading.Barrier(parties)

    def act(call: Call) -> Answer:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(timeout_s)
        return call.forward()

    return act


def show_after(key: str, seconds: float) -> Act:
    """Hide each new entry of a listing for a while."""
    first: dict[Any, float] = {}

    def change(entry: dict[str, Any]) -> dict[str, Any] | None:
        now = time.monotonic()
        return entry if now - first.setdefault(entry["id"], now) >= seconds else None

    return rewrite_each(key, change)


# Dates


def shifted(seconds: float) -> Callable[[str], str]:
    """Make a Date header that is ahead or behind."""
    return lambda real: formatdate(parsedate_to_datetime(real).timestamp() + seconds, usegmt=True)


def jumping(*seconds: float) -> Callable[[str], str]:
    """Make Date headers that are off by a different time in each response."""
    turns = itertools.cycle(seconds)
    return lambda real: shifted(next(turns))(real)
