"""Run the real command line, and crash it at its N-th boundary.

A boundary is before a request, after the server has acted, after the answer, and around each commit, each rename and
each deletion of a file; 0 is none, and -1 freezes the process at each of them until somebody lets it go on. `os._exit`
cleans nothing up. Exits with 137 at the boundary, and as the command line does if there are fewer. Long waits pass on
the clock of the fake, so that `settle_s` may be what it is for people.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.request import urlopen

import requests
from msgspec.structs import replace

import aihub_runner.state.database
from aihub_runner.aihub.transport import Transport
from aihub_runner.apply.pool import Engine
from aihub_runner.cli import main as cli
from aihub_runner.errors import Interrupted
from support.forks import EVERY

CRASHED = 137
LONG_WAIT_S = 1.0


def instrument(crash_at: int) -> None:
    """Count boundaries from now on, and crash at one of them."""
    counter = itertools.count(1)
    one_at_a_time = threading.Lock()  # going on from one stop makes the system forget a second one

    def boundary() -> None:
        with one_at_a_time:
            if next(counter) == crash_at:
                os._exit(CRASHED)
            if crash_at == EVERY:
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def around(act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            boundary()
            result = act(*args, **kwargs)
            boundary()
            return result

        return counted

    def after(act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = act(*args, **kwargs)
            boundary()
            return result

        return counted

    class CountingConnection(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            run = super().execute
            return around(run)(sql, *args) if sql == "COMMIT" else run(sql, *args)

    connect = sqlite3.connect
    aihub_runner.state.database.sqlite3.connect = lambda *args, **how: connect(*args, factory=CountingConnection, **how)
    for owner, name, waits in WAITS:
        setattr(owner, name, waits)
    requests.Session.request = after(requests.Session.request)  # the server has acted
    Transport.send = around(Transport.send)  # before the request, after the answer
    Path.replace = around(Path.replace)
    Path.unlink = around(Path.unlink)


def pause(client: Transport, seconds: float) -> None:
    """Advance the fake's clock instead of waiting long, in place of `Transport.pause`. This is not a boundary."""
    if seconds > LONG_WAIT_S:
        pass_time(client, seconds)
        seconds = 0.0
    if client.stop.wait(max(0.0, seconds)):
        raise Interrupted("interrupted")


def submit_later(engine: Engine, step: Any, delay_s: float) -> None:
    """Advance the fake's clock instead of waiting long, in place of `Engine.submit_later`."""
    if delay_s > LONG_WAIT_S:
        pass_time(engine.client, delay_s)
        step, delay_s = replace(step, settled_at_s=engine.clock()), 0.0
    SUBMIT_LATER(engine, step, delay_s)


def pass_time(client: Transport, seconds: float) -> None:
    """Advance the clock of the fake."""
    control = client.connection.root.removesuffix("/api") + "/_fake/clock"
    with urlopen(control, json.dumps({"advance_s": seconds}).encode(), timeout=10):
        pass


SUBMIT_LATER = Engine.submit_later
WAITS: list[tuple[type, str, Callable[..., None]]] = [
    (Transport, "pause", pause),
    (Engine, "submit_later", submit_later),
]


def run(boundary: int, *arguments: str) -> NoReturn:
    """Run the command line in this process, to its end or to a boundary, and end the process with its exit code."""
    instrument(boundary)
    sys.argv = ["runner", *arguments]
    code: Any = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))
