"""Run a fake AI Hub: in this process for tests and `runner apply --fake`, or for good."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Self

from starlette.types import ASGIApp

from fake_server.app import create_app
from fake_server.clock import Clock
from fake_server.connections import PATIENCE_S, make_server
from fake_server.extraction import Extraction
from fake_server.handle import Handle
from fake_server.journal import SIZE as JOURNAL_SIZE
from fake_server.service import Service
from fake_server.world import World


class Background:
    """A server in a thread of this process, on a free port of this machine, from entering to leaving."""

    def __init__(self, app: ASGIApp, patience_s: float = PATIENCE_S) -> None:
        self._server = make_server(app, patience_s=patience_s)
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
