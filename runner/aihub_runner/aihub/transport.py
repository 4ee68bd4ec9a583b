"""HTTP for the AI Hub API: what may be repeated, what must not, and why it failed.

Requests that may be repeated are repeated here, with growing waits. Requests that create something are sent once, over
a connection of their own, and raise AnswerLost where the outcome is unconfirmed. Many threads may share a client.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import requests
import urllib3
from msgspec import structs
from pydantic import BaseModel

from aihub_runner.aihub import schemas
from aihub_runner.aihub.bodies import FileBytes, FileSlice, SingleUseBody, SourceUnreadable
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.reasons import (
    describe_answer,
    describe_failure,
    hint_for,
    read_date,
    read_retry_after,
    unreachable,
)
from aihub_runner.aihub.requestlog import Exchange
from aihub_runner.aihub.response import Answer, Watch, join, watching
from aihub_runner.aihub.session import FILE_TYPE, Session, name_authorities, open_session
from aihub_runner.aihub.throttle import MAX_PAUSE_S, Pace
from aihub_runner.errors import AnswerLost, Interrupted, Refused, ServiceError, Shortage
from aihub_runner.model import Secret
from aihub_runner.settings import read_key_again
from aihub_runner.spec.values import name_variable
from aihub_runner.system.moment import awake_and_asleep_s
from aihub_runner.system.shortage import find_shortage, probe_shortage

# The service asks to try again later after any 5xx, and gateways have some of their own, such as 520 to 530. These
# three will not pass: not implemented, no such version of HTTP, and a network that wants a login first.
TRANSIENT = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505, 511}
# Statuses by which a creating POST reports that it created nothing (facts of the API, and HTTP's own meaning). A 303
# reports that something was created. Any other unreadable response reports nothing.
REFUSED = frozenset({301, 302, 307, 308, 400, 401, 403, 404, 409, 413, 415, 422, 425, 429})
PRESSED = frozenset({429, 503})  # the service asks all workers to slow down
ATTEMPTS = 6
ATTEMPTS_UNREACHED = 3
RETRIES_PER_SHARD = 200  # of all its requests together: stop retrying a service that fails so often
MAX_WAIT_S = 60.0
MAX_PATIENCE_S = 900.0
SENT_WITHIN_S = 1000.0  # a creating request is sent within this time after its intent, or never
# How long a response may take once the job stops. What is paid is worth a longer wait.
GRACE_S, PAID_GRACE_S = 2.0, 5.0
MAX_AGE_S = 1  # of a response that a cache has only passed on; it may round up
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError)  # requests lets some of urllib3's errors through

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)
Body = bytes | memoryview | FileBytes | FileSlice | SingleUseBody | None


def _ignore(*_: object) -> None:
    """Do nothing: nobody listens."""


class Transport:
    """Sends requests to one root with one token and context.

    `stop` ends waits at once and forbids further requests. Without `may_create`, creating requests are no longer sent.
    Without `is_patient`, a request that the service refuses for now is not repeated here: another process decides when.
    `make_session` opens connections. `on_retry` is called in any thread, with what failed and how long to wait;
    `log`, too, with each request that was sent. `fastest_s` is how long the fastest request took so far.
    """

    def __init__(
        self,
        connection: Connection,
        stop: threading.Event | None = None,
        make_session: Callable[[Connection], Session] = open_session,
    ) -> None:
        self.connection = connection
        self.stop = stop or threading.Event()
        self.secrets = (connection.token, *connection.secrets)
        self.clock_offset_s = 0.0
        self._date = ""
        self.may_create = True
        self.is_patient = True
        self.log: Callable[[Exchange], None] = _ignore
        self.on_retry: Callable[[ServiceError | Shortage, float], None] = _ignore
        self._make_session = make_session
        self._session = make_session(connection)
        self._reached = False
        self.fastest_s = math.inf
        self._pace = Pace(connection.pool_size, self.pause)
        self._spender = threading.local()
        self._retries: Counter[int] = Counter()
        self._renewing = threading.Lock()

    def share_pace(self, paces: dict[str, Pace]) -> None:
        """Go on at the pace of the last client of this service, and leave ours to the next one."""
        if earlier := paces.get(self.connection.root):
            self._pace.follow(earlier)
        paces[self.connection.root] = self._pace

    def slow_down(self, seconds: float | None) -> None:
        """Slow down, since the service asked another process of this job to."""
        self._pace.slow_down(seconds)

    @property
    def rests(self) -> bool:
        """Whether the service asked to wait."""
        return self._pace.rests

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def server_now_s(self) -> float:
        """Return the service's time in Unix seconds, by its last response, for display only.

        The `Date` of a response comes from the nearest gateway, and our own clock may jump. Nothing is decided by it:
        no bound of a search, no proof of an absence, no end of a wait.
        """
        return time.time() + self.clock_offset_s

    def pause(self, seconds: float) -> None:
        """Wait. Raises Interrupted as soon as the job stops."""
        if self.stop.wait(max(0.0, seconds)):
            raise Interrupted("interrupted")

    @contextmanager
    def working_for(self, shard: int) -> Iterator[None]:
        """Count this thread's retries for a shard: all retries of a shard share one limit."""
        before = getattr(self._spender, "shard", 0)
        self._spender.shard = shard
        try:
            yield
        finally:
            self._spender.shard = before

    def _may_retry(self) -> bool:
        shard = getattr(self._spender, "shard", 0)
        self._retries[shard] += 1
        return not shard or self._retries[shard] <= RETRIES_PER_SHARD

    # One request

    def send(
        self,
        method: str,
        path: str,
        *,
        session: Session | None = None,
        params: Mapping[str, Any] | None = None,
        body: Body = None,
        content_type: str = FILE_TYPE,
        span: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send one request once, when it is its turn, and return any response. Raises requests' own errors.

        `span` is the part to read of a file, as in the header Range. `check` is called right before sending, and may
        raise to forbid it.
        """
        with self._pace:
            if self.stop.is_set():
                raise Interrupted("interrupted")
            check()
            grace_s = PAID_GRACE_S if isinstance(body, SingleUseBody) else GRACE_S
            headers = {"Content-Type": content_type} if body is not None else {"Range": span} if span else {}
            watch, session = Watch(self.stop, grace_s), session or self._session
            begun_s = time.monotonic()
            try:
                answer = session.put_over_open(self.connection.root, path, body, watch) if method == "PUT" else None
                if answer is None:
                    with watching(watch):
                        answer = self._exchange(session, method, path, params, body, headers)
            except BaseException as error:
                self._log(Exchange(method, path, body, time.monotonic() - begun_s, error))
                raise
            took_s = time.monotonic() - begun_s
            self.fastest_s = min(self.fastest_s, took_s)
            self._log(Exchange(method, path, body, took_s, answer))
            answer = self._hide(answer)
        self._reached = True
        self._learn_time(answer.headers)
        self._keep_pace(answer)
        return answer

    def _log(self, exchange: Exchange) -> None:
        with suppress(Exception):  # whoever listens must not lose the response of a paid request
            self.log(exchange)

    def _exchange(
        self,
        session: Session,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
    ) -> Answer:
        with self._begin(session, method, path, params, body, headers) as response:
            connection = getattr(response.raw, "connection", None)  # the pool gets it back once the body is read
            content = join(response.iter_content(1 << 18))
            drop = connection.close if connection is not None else lambda: None
            came = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, came, content, drop)

    def _begin(
        self, session: Session, method: str, path: str, params: Mapping[str, Any] | None, body: Any, headers: Any
    ) -> requests.Response:
        """Send a request, and return its response, of which only the head was read."""
        timeout = (self.connection.connect_timeout_s, self.connection.read_timeout_s)
        if method == "PUT":
            return session.put_over_new(self.connection.root, path, body, timeout=timeout)
        return session.request(
            method,
            self.connection.root + path,
            params,
            body,
            headers,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
        )

    def _hide(self, answer: Answer) -> Answer:
        if answer.status < 300:
            return answer
        body = schemas.hide_secrets(answer.body.decode(errors="replace"), self.secrets).encode()
        return replace(answer, body=body)

    def _keep_pace(self, answer: Answer) -> None:
        if answer.status in PRESSED:
            self._pace.slow_down(read_retry_after(answer.headers))
        else:
            self._pace.succeed()

    def _learn_time(self, headers: Mapping[str, str]) -> None:
        date = headers.get("date", "")
        if date == self._date:  # of this second, as most are where there are many
            return
        self._date, time_s = date, read_date(date)
        if time_s is not None and time_s > 0:
            self.clock_offset_s = time_s - time.time()

    def repeat(self, what: str, act: Callable[[], T]) -> T:
        """Repeat an action until it succeeds, fails for good, or runs out of attempts."""
        begun_s, attempt = time.monotonic(), 1
        while True:
            token = self.connection.token
            try:
                return self._explain(what, act)
            except (ServiceError, Shortage) as error:
                if isinstance(error, ServiceError) and error.status == 401 and self._renew(token):
                    if not isinstance(error, Refused):
                        continue
                    error.may_pass = True
                if not error.transient or self._tried_enough(error, attempt, time.monotonic() - begun_s):
                    raise
                wait_s = self._wait_s(error, attempt)
                with suppress(Exception):  # whoever listens must not end the work, or be taken for a fault of a file
                    self.on_retry(error, wait_s)
                self.stop.wait(wait_s)
                attempt += 1

    def _renew(self, refused: Secret) -> bool:
        """Read a refused token again, since tokens are rotated. Return whether there is another one now."""
        with self._renewing:
            connection = self.connection
            if connection.token == refused and connection.settings:
                token = read_key_again(connection.settings)
                if token and token != refused:
                    self.secrets = (token, *self.secrets)
                    connection = structs.replace(connection, token=token)
                    self._session.identify(connection)  # first: who sees the new token must not have sent the old one
                    self.connection = connection
            return self.connection.token != refused

    def _explain(self, what: str, act: Callable[[], T]) -> T:
        """Do an action. Raises a ServiceError or Shortage for what the HTTP stack raises."""
        try:
            return act()
        except ServiceError as error:
            error.hint = self._name_variables(error.hint)
            raise
        except FAILURES as error:
            if shortage := find_shortage(error) or probe_shortage():
                raise shortage from None
            failure = unreachable(what, self.connection.root, name_authorities(self._session), error)
            failure.hint = self._name_variables(failure.hint)
            raise failure from None

    def _name_variables(self, hint: str) -> str:
        """Return a hint with the variables of the target."""
        settings = self.connection.settings
        return hint.replace("AIHUB_API_", name_variable(settings.target, "API_")) if settings else hint

    def _wait_s(self, error: ServiceError | Shortage, attempt: int) -> float:
        if isinstance(error, ServiceError) and error.retry_after_s is not None:
            # As long as the pace makes all requests wait, so that what is shown is what happens.
            return min(MAX_PAUSE_S if error.status in PRESSED else MAX_WAIT_S, error.retry_after_s)
        grown: float = self.connection.retry_wait_s * 2 ** (attempt - 1)
        return min(MAX_WAIT_S, grown * random.uniform(0.75, 1.25))

    def _tried_enough(self, error: ServiceError | Shortage, attempt: int, took_s: float) -> bool:
        if isinstance(error, ServiceError) and error.status in PRESSED and not self.is_patient:
            return True
        if isinstance(error, ServiceError) and error.status == 429:  # the service asks for patience, it has not failed
            return self.stop.is_set() or took_s >= MAX_PATIENCE_S
        limit = ATTEMPTS if self._reached else ATTEMPTS_UNREACHED
        return self.stop.is_set() or attempt >= limit or not self._may_retry()

    def ask(self, read: Callable[[bytes], T], path: str, params: Mapping[str, Any] | None = None) -> T:
        """GET and parse a response. If `read` raises Unreadable, the request is repeated."""
        what = f"GET {path}"

        def act() -> T:
            return accept(self.send("GET", path, params=params), what).read(read)

        return self.repeat(what, act)

    def head(self, path: str) -> Mapping[str, str]:
        """Ask for the headers of a response, and return them by names in lower case."""
        what = f"HEAD {path}"
        return self.repeat(what, lambda: accept(self.send("HEAD", path), what)).headers

    def read_span(self, path: str, params: Mapping[str, Any], start: int, end: int, size: int) -> bytes:
        """GET the bytes of a file of `size` bytes from `start` to before `end`, or to its end."""
        what = f"GET {path}"

        def act() -> bytes:
            answer = accept(self.send("GET", path, params=params, span=f"bytes={start}-{end - 1}"), what)
            if answer.status == 206 and answer.headers.get("content-range") == f"bytes {start}-{end - 1}/{size}":
                found = answer.body
            else:
                found = answer.body[start:] if answer.status == 200 and len(answer.body) == size else b""
            if len(found) not in (end - start, size - start):
                answer.drop()
                raise schemas.Unreadable(f"{what}: not the part that was asked for", "apply again", transient=True)
            return found

        return self.repeat(what, act)

    def get(self, model: type[Model], path: str, params: Mapping[str, Any] | None = None) -> Model:
        """GET a response and return it as a model. Refuse one that a cache kept: it proves nothing about now."""
        what = f"GET {path}"

        def act() -> Model:
            answer = accept(self.send("GET", path, params=params), what)
            _check_current(answer, what)
            return answer.read(lambda body: schemas.parse_answer(model, body, what))

        return self.repeat(what, act)

    def write(self, method: str, path: str, body: Body, read: Callable[[bytes], T], **how: Any) -> T:
        """Send a request that changes something and may be repeated, and parse the response as `ask` does.

        Raises OSError if the body is a file that cannot be read.
        """
        what = f"{method} {path}"

        def act() -> T:
            if isinstance(body, FileSlice):
                body.rewind()
            answer = accept(self.send(method, path, body=body, **how), what)
            if isinstance(body, FileSlice) and body.left:  # its digest is not that of the file
                answer.drop()
                raise schemas.Unreadable(f"{what}: success, but the file was not read", "apply again", transient=True)
            return answer.read(read)

        try:
            return self.repeat(what, act)
        except SourceUnreadable as error:
            raise error.error from None

    def create(self, read: Callable[[bytes], T], path: str, body: Mapping[str, Any]) -> T:
        """POST a request that must not be sent twice: at most one reaches the service. `read` parses the response.

        It is repeated only if it is confirmed unsent. It is sent within `SENT_WITHIN_S` or never, so that a later apply
        knows when to check for its effect. Raises AnswerLost if it may have taken effect, also if `read` raises
        Unreadable. Raises Refused if the response reports that nothing was created, and other ServiceErrors if it
        was not sent.
        """
        what, data = f"POST {path}", json.dumps(body).encode()
        begun_s = awake_and_asleep_s()

        def check() -> None:
            if not self.may_create:
                raise ServiceError(f"{what}: not sent, because its outcome cannot be recorded", "apply again")
            if awake_and_asleep_s() - begun_s > SENT_WITHIN_S:
                raise ServiceError(f"{what}: not sent within {SENT_WITHIN_S:.0f} s", "apply again")

        return self.repeat(what, lambda: self._create_once(read, path, what, data, check))

    def _create_once(
        self, read: Callable[[bytes], T], path: str, what: str, data: bytes, check: Callable[[], None]
    ) -> T:
        body = SingleUseBody(data)
        session = self._make_session(self.connection)
        try:
            answer = self.send("POST", path, session=session, body=body, content_type="application/json", check=check)
        except (*FAILURES, Interrupted) as error:
            if not body.was_read:
                raise
            why = error.message if isinstance(error, Interrupted) else describe_failure(error)
            raise AnswerLost(f"{what}: no response, {why}") from None
        finally:
            session.close()
        if answer.status in REFUSED:
            raise _refusal(answer, what, Refused)
        if not 200 <= answer.status < 300:
            raise AnswerLost(f"{what}: {describe_answer(answer.status, answer.body)}", status=answer.status)
        try:
            return answer.read(read)
        except schemas.Unreadable as error:
            raise AnswerLost(error.message, error.hint, status=answer.status) from None


def _check_current(answer: Answer, what: str) -> None:
    """Raise ServiceError for a response that a cache kept: it says for how long (RFC 9111, 5.1)."""
    age = answer.headers.get("age", "")
    if age.isascii() and age.isdecimal() and int(age[:20]) > MAX_AGE_S:
        raise ServiceError(
            f"{what}: a cache responds instead of the service, {age[:20]} s late",
            "let the proxy or gateway pass on all requests with Cache-Control: no-cache, then apply again",
            transient=True,
        )


def accept(answer: Answer, what: str) -> Answer:
    if 200 <= answer.status < 300:
        return answer
    raise _refusal(answer, what)


def _refusal(answer: Answer, what: str, kind: type[ServiceError] = ServiceError) -> ServiceError:
    return kind(
        f"{what}: {describe_answer(answer.status, answer.body)}",
        hint_for(answer.status),
        transient=answer.status in TRANSIENT and kind is not Refused,
        status=answer.status,
        retry_after_s=read_retry_after(answer.headers),
    )
