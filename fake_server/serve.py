"""Run a fake AI Hub: in this process for tests and `runner apply --fake`, or for good."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fake_server.app import create_app
from fake_server.clock import Clock
from fake_server.extraction import Extraction
from fake_server.handle import Handle
from fake_server.journal import SIZE as JOURNAL_SIZE
from fake_server.service import Service
from fake_server.world import World


class _Protocol(H11Protocol):
    """HTTP/1.1 that lets a fault break the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the transport where faults find it."""
        super().connection_made(transport)
        # An answer is two writes. Without this the second waits 40 ms for the other side's acknowledgement;
        # asyncio sees to it only for sockets that were made with their protocol's number.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope["transport"] = transport
            await app(scope, receive, send)

        self.app = with_transport


def make_server(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """Make a server that answers with an application."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )
    return uvicorn.Server(config)


class Background:
    """A server in a thread of this process, on a free port of this machine, from entering to leaving."""

    def __init__(self, app: ASGIApp) -> None:
        self._server = make_server(app)
        self.root = ""

    def __enter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.root = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="fake-aihub", daemon=True)
        self._thread.start()
        return self

    def _serve(self, listener: socket.socket) -> None:
        # The listener takes connections from the start; they are answered as soon as the loop runs.
        asyncio.run(self._server.serve([listener]))

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


class FakeAIHub(Handle):
    """A fake in this process, on a free port of this machine, from entering to leaving.

    With `data_dir` its world is kept there, and bodies on disk. `scenarios` and `fixtures` are folders with packs and
    results of one's own; raises ScenarioError for mistakes in them. `root` is for AIHUB_API_ROOT.
    """

    token = "fake-embedded"

    def __init__(
        self,
        data_dir: Path | None = None,
        run_seconds: float = 0.0,
        latency_ms: float = 0.0,
        page_files: int = 100,
        part_size: int = 10_485_760,
        scenarios: Path | None = None,
        fixtures: Path | None = None,
        journal_size: int = JOURNAL_SIZE,
    ) -> None:
        clock = Clock()
        service = Service(
            clock,
            World(clock, data_dir),
            extraction=Extraction(scenarios, fixtures),
            run_seconds=run_seconds,
            latency_ms=latency_ms,
            page_files=page_files,
            part_size=part_size,
            journal_size=journal_size,
        )
        super().__init__(service)
        self.root = ""

    def __enter__(self) -> FakeAIHub:
        self._background = Background(create_app(self.service)).__enter__()
        self.root = self._background.root
        return self

    def __exit__(self, *_: object) -> None:
        self._background.__exit__()
        self.world.close()
