"""Run a fake AI Hub: in this process for tests and `runner apply --fake`, or for good."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fake_server.app import create_app
from fake_server.batches import render_batch
from fake_server.clock import Clock
from fake_server.control import render_ledger
from fake_server.faults import Faults
from fake_server.runs import render_run
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


def make_server(service: Service, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """Make a server that answers for a service."""
    config = uvicorn.Config(
        create_app(service),
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


class FakeAIHub:
    """A fake in this process, on a free port of this machine, from entering to leaving.

    With `data_dir` its world is kept there, and bodies on disk. `root` is for AIHUB_API_ROOT.
    """

    token = "fake-embedded"

    def __init__(
        self,
        data_dir: Path | None = None,
        run_seconds: float = 0.0,
        latency_ms: float = 0.0,
        page_files: int = 100,
        part_size: int = 10_485_760,
    ) -> None:
        self.clock = Clock()
        self.world = World(self.clock, data_dir)
        self.service = Service(
            self.clock,
            self.world,
            run_seconds=run_seconds,
            latency_ms=latency_ms,
            page_files=page_files,
            part_size=part_size,
        )
        self.root = ""

    def __enter__(self) -> FakeAIHub:
        self._server = make_server(self.service)
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.root = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="fake-aihub", daemon=True)
        self._thread.start()
        return self

    def _serve(self, listener: socket.socket) -> None:
        # The listener takes connections from the start; they are answered as soon as the loop runs.
        asyncio.run(self._server.serve([listener]))

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.world.close()

    @property
    def faults(self) -> Faults:
        """The fault scripts."""
        return self.service.faults

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Every request and answer so far."""
        return [exchange.as_dict() for exchange in list(self.service.journal.exchanges)]

    def clear_journal(self) -> None:
        """Forget the requests so far."""
        self.service.journal.clear()

    @property
    def ledger(self) -> dict[str, Any]:
        """How often each side effect took place."""
        return render_ledger(self.service)

    def next_run(self, **script: Any) -> None:
        """Say how the next run goes: status, message, after_s, hold; `times` for more than one."""
        self.world.next_runs.append(script)

    def set_run(self, run_id: str, status: str, message: str = "") -> None:
        """Say how a run is from now on."""
        self.world.set_run(run_id, {"status": status, "message": message})

    def batches(self) -> list[dict[str, Any]]:
        """List all batches of all contexts."""
        return [render_batch(batch) for batch in self.world.batches.values()]

    def runs(self) -> list[dict[str, Any]]:
        """List all runs of all contexts, the oldest first."""
        return [render_run(self.service, run) for run in self.world.runs.values()]

    def files(self, batch_id: int) -> dict[str, str]:
        """Tell the names and SHA-256 of what lies in a batch."""
        return {file.name: file.digest for file in self.world.batches[batch_id].files.values()}
