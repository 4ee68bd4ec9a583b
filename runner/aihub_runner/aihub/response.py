"""Read a response from a socket: skip interim responses, and limit the total time.

`requests` and `urllib3` take the first response as final, unless its status is 100. Their time limit applies to each
read, so a server that sends a byte now and then would block us for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from urllib3.exceptions import DecodeError

from aihub_runner.aihub.schemas import Unreadable
from aihub_runner.errors import Interrupted

SLICE_S = 0.25  # how often reading checks `stop`
BYTES_PER_S = 16_384  # a response at this rate or faster may take as long as it needs
MAX_INTERIM = 100
MAX_ANSWER_BYTES = 512 * 1_048_576

T = TypeVar("T")


def _nothing() -> None:
    """Do nothing: there is no connection to drop."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What ends the reading of a response early: `stop`, after `grace_s`."""

    stop: threading.Event
    grace_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, its headers by names in lower case. `drop` closes its connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    drop: Callable[[], None] = field(default=_nothing, repr=False, compare=False)

    def read(self, read: Callable[[bytes], T]) -> T:
        """Return the parsed body. If it does not match the request, drop its connection."""
        try:
            return read(self.body)
        except Unreadable:
            self.drop()
            raise


def join(chunks: Iterable[bytes]) -> bytes:
    """Return a body. Raises urllib3's DecodeError where it is too long."""
    kept, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise DecodeError(f"a response of more than {MAX_ANSWER_BYTES} bytes")
        kept.append(chunk)
    return b"".join(kept)


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Watch the responses that this thread reads inside."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class Incoming(io.RawIOBase):
    """Reads a response from a socket, from the moment when the request was sent.

    The socket's own time limit applies to each silence and to the whole response, which gets one more second per
    `BYTES_PER_S` received. Raises TimeoutError, and Interrupted when the job stops.
    """

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._sock, self._watch = sock, watch
        self._inner: io.RawIOBase | None = None
        self._early = b""
        self._limit_s = sock.gettimeout()
        self._begun_s = time.monotonic()
        self._stopped_s: float | None = None
        self._received = 0
        self.is_over = False

    def readable(self) -> bool:
        return True

    def put_back(self, data: bytes, inner: io.RawIOBase) -> None:
        """Return bytes again that were read early, and hold the socket open by `inner` until closed."""
        self._early, self._inner = data, inner

    def readinto(self, buffer: Any, /) -> int | None:
        if self.is_over:
            return None
        if self._early:
            count = min(len(buffer), len(self._early))
            buffer[:count], self._early = self._early[:count], self._early[count:]
            return count
        silent_s = time.monotonic()
        try:
            while True:
                self._sock.settimeout(self._wait_s(silent_s))
                try:
                    count = self._sock.recv_into(buffer)
                except TimeoutError:
                    continue
                self._received += count
                return count
        finally:
            self._sock.settimeout(self._limit_s)

    def _wait_s(self, silent_s: float) -> float:
        """Return how long to wait for bytes before the next check."""
        now_s = time.monotonic()
        left_s = SLICE_S
        if self._limit_s is not None:
            whole_s = self._begun_s + self._limit_s + self._received / BYTES_PER_S
            left_s = min(left_s, whole_s - now_s, silent_s + self._limit_s - now_s)
            if left_s <= 0:
                raise TimeoutError("the response did not end in time")
        if self._watch.stop.is_set():
            self._stopped_s = now_s if self._stopped_s is None else self._stopped_s
            left_s = min(left_s, self._stopped_s + self._watch.grace_s - now_s)
            if left_s <= 0:
                raise Interrupted("interrupted")
        return left_s

    def close(self) -> None:
        if self._inner:
            self._inner.close()  # this holds the socket open while a response is read
        super().close()


class FinalResponse(http.client.HTTPResponse):
    """The final response to a request. Other 1xx statuses are skipped like 100 (RFC 9110, 15.2).

    `begun` has read the bytes `early` of it already.
    """

    def __init__(
        self, sock: socket.socket, *args: Any, begun: Incoming | None = None, early: bytes = b"", **kwargs: Any
    ) -> None:
        super().__init__(sock, *args, **kwargs)
        self._sock = sock
        watch = _WATCH.get()
        self._incoming = begun or (Incoming(sock, watch) if watch else None)
        if self._incoming:
            self._incoming.put_back(early, self.fp.detach())
            self.fp = io.BufferedReader(self._incoming)

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM):
            status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= status[1] < 200:
                return status
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {MAX_INTERIM} interim responses")

    def _close_conn(self) -> None:
        """End the response. If more bytes follow, close the connection instead of reusing it."""
        if self._incoming and self.fp is not None:
            self._incoming.is_over = True
            has_more = bool(self.fp.peek(1)) if isinstance(self.fp, io.BufferedReader) else False
            if has_more or getattr(self._sock, "pending", int)():
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
        super()._close_conn()  # type: ignore[misc]
