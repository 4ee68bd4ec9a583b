"""HTTP/1.1 connections that withstand hostile clients and that a fault can break."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 30.0
KEEP_ALIVE_S = 75
TICK_S = 0.1  # the tick interval of uvicorn's server
END_TICK_S = 0.005  # how often a stopping server checks for open work
OPEN_FILES = 65_536
ABSOLUTE = re.compile(rb"https?://([^/]*)", re.IGNORECASE)
SPARE_FILES = 100  # for bodies, the log, and everything else that is not a connection


def make_server(app: ASGIApp, host: str = "127.0.0.1", port: int = 0, patience_s: float = PATIENCE_S) -> Server:
    """Create a server for an application.

    The server disconnects a client that stalls for `patience_s` seconds: while it sends a request body, sends the
    request head, or reads the response.
    """
    protocol: Any = partial(_Protocol, patience_ticks=round(patience_s / TICK_S), most=_most_connections())
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    return Server(config)


def _make_relative(scope: Any) -> None:
    """Convert an absolute request target, as proxies get it, to the origin form. The target's host replaces `Host`."""
    raw = scope["raw_path"]
    if absolute := ABSOLUTE.match(raw):
        scope["raw_path"] = raw[absolute.end() :] or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("ascii"))
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", absolute[1]), *others]


def raise_open_files() -> None:
    """Raise this process's limit of open files as far as the system allows, up to `OPEN_FILES`."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _most_connections() -> int:
    try:
        import resource
    except ImportError:
        return 10_000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(10, soft - SPARE_FILES) if soft != resource.RLIM_INFINITY else 1_000_000


class Server(uvicorn.Server):
    """A server that times out its connections and that another thread can stop."""

    _stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    async def main_loop(self) -> None:
        """Tick until the server stops."""
        loop, stopped = self._stop = (asyncio.get_running_loop(), asyncio.Event())
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864_000
            tick = loop.call_later(TICK_S, stopped.set)
            await stopped.wait()
            stopped.clear()
            tick.cancel()

    def stop(self) -> None:
        """Request a stop. Safe to call from another thread."""
        self.should_exit = True
        if self._stop is not None:
            loop, stopped = self._stop
            with contextlib.suppress(RuntimeError):  # the loop has already ended
                loop.call_soon_threadsafe(stopped.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish requests in flight. Return at once if there are none; uvicorn always waits 100 ms."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while (self.server_state.connections or self.server_state.tasks) and not self.force_exit:
                    await asyncio.sleep(END_TICK_S)
                for server in self.servers:
                    await server.wait_closed()
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Notify every connection that time has passed."""
        for protocol in list(self.server_state.connections):
            if isinstance(protocol, _Protocol):
                protocol.tick()
        return await super().on_tick(counter)


class _Protocol(H11Protocol):
    """One connection."""

    def __init__(self, *args: Any, patience_ticks: int, most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience_ticks = patience_ticks
        self._most = most
        self._ticks = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expose the transport to faults, and reject connections above the limit."""
        super().connection_made(transport)
        # A response is two writes. Without TCP_NODELAY the second one waits 40 ms for the peer's acknowledgement;
        # asyncio sets it only for sockets that were created with an explicit protocol number.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope["transport"] = transport
            _make_relative(scope)
            await app(scope, receive, send)

        self.app = with_transport
        if len(self.connections) > self._most:
            self._end(503, "Too many connections.")

    def data_received(self, data: bytes) -> None:
        """Process received data. The timeout of a request head keeps running, however slowly the head arrives."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._ticks = 0
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Respond to data that is not HTTP."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._end(400, msg)
        else:  # a response has already started, or is complete
            self.transport.abort()

    def tick(self) -> None:
        """Count the time without expected data, and disconnect a client that exceeds the limit."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle:
            waits = self.timeout_keep_alive_task is None or bool(self.conn.trailing_data[0])
        else:
            waits = (self.cycle.more_body and not self.flow.read_paused) or self.flow.write_paused
        self._ticks = self._ticks + 1 if waits else 0
        if self._ticks > self._patience_ticks and not self.transport.is_closing():
            self._ticks = 0
            if is_idle or not self.cycle.response_started:
                self._end(408, "The request took too long to arrive.")
            else:
                self.transport.abort()

    def _end(self, status: int, message: str) -> None:
        body = b'{"message": "%s"}' % message.encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nX-Fake-AIHub: 1\r\nContent-Type: application/json\r\n"
        self.transport.write(head.encode() + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        self.transport.close()
