"""How an answer comes in from a socket: interim responses are passed over, and none may take for ever.

`requests` and `urllib3` take the first response for the answer, whatever its status but 100, and their time limit is
for each read: a server that sends a byte now and then would hold us without end.
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

SLICE_S = 0.25  # so often reading looks whether we are asked to stop
BYTES_PER_S = 16_384  # an answer that comes at this rate or faster may take as long as it needs
MAX_INTERIM = 100


@dataclass(frozen=True, slots=True)
class Watch:
    """What ends the reading of an answer early: `stop`, `grace_s` after it was seen."""

    stop: threading.Event
    grace_s: float


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let answers that this thread begins to read be watched."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class _Incoming(io.RawIOBase):
    """Reads an answer from a socket, from the moment on when the request was sent.

    Its limit is the socket's own time limit: for each silence, and for the whole answer, which gets a second more for
    each `BYTES_PER_S` that came. Raises TimeoutError, and Interrupted where we are asked to stop.
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
        """Return how long to wait for bytes before the next look around."""
        now_s = time.monotonic()
        left_s = SLICE_S
        if self._limit_s is not None:
            whole_s = self._begun_s + self._limit_s + self._received / BYTES_PER_S
            left_s = min(left_s, whole_s - now_s, silent_s + self._limit_s - now_s)
            if left_s <= 0:
                raise TimeoutError("the answer did not come to its end in time")
        if self._watch.stop.is_set():
            self._stopped_s = now_s if self._stopped_s is None else self._stopped_s
            left_s = min(left_s, self._stopped_s + self._watch.grace_s - now_s)
            if left_s <= 0:
                raise Interrupted("interrupted")
        return left_s

    def close(self) -> None:
        self._inner.close()  # which holds the socket open, as long as an answer is read from it
        super().close()


class FinalResponse(http.client.HTTPResponse):
    """The final response to a request; any other 1xx before it is as good as 100 (RFC 9110, 15.2)."""

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
        """End the answer; where more lies behind it already, nothing is asked over this connection any more."""
        if self._incoming and self.fp is not None:
            self._incoming.is_over = True
            has_more = bool(self.fp.peek(1)) if isinstance(self.fp, io.BufferedReader) else False
            if has_more or getattr(self._sock, "pending", int)():
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
        super()._close_conn()  # type: ignore[misc]
