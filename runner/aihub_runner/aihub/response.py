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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from aihub_runner.errors import Interrupted

SLICE_S = 0.25  # how often reading checks `stop`
BYTES_PER_S = 16_384  # a response at this rate or faster may take as long as it needs
MAX_INTERIM = 100


@dataclass(frozen=True, slots=True)
class Watch:
    """What ends the reading of a response early: `stop`, after `grace_s`."""

    stop: threading.Event
    grace_s: float


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Watch the responses that this thread reads inside."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class _Incoming(io.RawIOBase):
    """Reads a response from a socket, from the moment when the request was sent.

    The socket's own time limit applies to each silence and to the whole response, which gets one more second per
    `BYTES_PER_S` received. Raises TimeoutError, and Interrupted when the job stops.
    """

    def __init__(self, sock: socket.socket, inner: io.RawIOBase, watch: Watch) -> None:
        self._sock, self._inner, self._watch = sock, inner, watch
        self._limit_s = sock.gettimeout()
        self._begun_s = time.monotonic()
        self._stopped_s: float | None = None
        self._received = 0
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self.is_over:
            return None
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
        self._inner.close()  # this holds the socket open while a response is read
        super().close()


class FinalResponse(http.client.HTTPResponse):
    """The final response to a request. Other 1xx statuses are skipped like 100 (RFC 9110, 15.2)."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._sock = sock
        watch = _WATCH.get()
        self._incoming = _Incoming(sock, self.fp.detach(), watch) if watch else None
        if self._incoming:
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
