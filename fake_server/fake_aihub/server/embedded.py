"""Run a fake AI Hub inside this process, for tests and `runner apply --fake`."""

from __future__ import annotations

import asyncio
import socket
import threading
import warnings
from pathlib import Path
from typing import Self

from starlette.types import ASGIApp

from fake_aihub.api.app import create_app
from fake_aihub.api.service import make_service
from fake_aihub.controls.journal import SIZE as JOURNAL_SIZE
from fake_aihub.server.handle import Handle
from fake_aihub.server.http import PATIENCE_S, make_server
from fake_aihub.world.clock import ticks_s

JOIN_S = 10.0


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time continues when a test freezes the clock of its process."""

    def time(self) -> float:
        """Return the time that the loop uses for waiting."""
        return ticks_s()


class Background:
    """A context manager that runs a server in a thread of this process, on a free local port."""

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
        # The listener accepts connections from the start. The server answers them as soon as the loop runs.
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self._server.serve([listener]))

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            warnings.warn(f"the fake AI Hub did not stop within {JOIN_S:g} s", ResourceWarning, stacklevel=2)


class FakeAIHub(Handle):
    """A context manager that runs a fake in this process, on a free local port.

    With `data_dir`, the world and all bodies are stored in that folder. `scenarios` and `fixtures` are folders with
    your own packs and results. `root` is the value for AIHUB_API_ROOT. Raises ScenarioError for invalid packs or
    fixtures, OptionError for a value out of range, and FolderInUseError.
    """

    token = "fake-embedded"

    def __init__(
        self,
        data_dir: str | Path | None = None,
        run_seconds: float = 0.0,
        latency_ms: float = 0.0,
        page_files: int = 100,
        part_size: int = 10_485_760,
        scenarios: str | Path | None = None,
        fixtures: str | Path | None = None,
        journal_size: int = JOURNAL_SIZE,
    ) -> None:
        super().__init__(
            make_service(
                data_dir,
                scenarios=scenarios,
                fixtures=fixtures,
                run_seconds=run_seconds,
                latency_ms=latency_ms,
                page_files=page_files,
                part_size=part_size,
                journal_size=journal_size,
            )
        )
        self.root = ""

    def __enter__(self) -> FakeAIHub:
        self._background = Background(create_app(self.service)).__enter__()
        self.root = self._background.root
        return self

    def __exit__(self, *_: object) -> None:
        self._background.__exit__()
        self.world.close()
