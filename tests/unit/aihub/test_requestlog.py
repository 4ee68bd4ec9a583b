"""The request log: what a line contains, and what it never contains."""

from __future__ import annotations

import json
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.requestlog import RequestLog
from aihub_runner.errors import ServiceError
from aihub_runner.model import Secret
from support.raw_server import Piece, RawServer, answer

RUN = json.dumps({"id": "r", "status": "RUNNING", "batch_id": 1}).encode()


def log_of(path: Path, *answers: list[Piece]) -> list[dict[str, Any]]:
    """Start a run with a client that logs, and return its log."""
    with closing(RawServer(answers)) as server, closing(RequestLog(path)) as log:
        connection = Connection(f"http://127.0.0.1:{server.port}/api", Secret("t0ken"), "", retry_wait_s=0.0)
        with closing(AIHub(connection, threading.Event())) as client:
            client.log = log
            with suppress(ServiceError):
                client.start_run("", {"batch_id": 1, "settings": {"tags": ["hidden"]}})
    text = path.read_text()
    assert not any(secret in text for secret in ("t0ken", "hidden"))
    return [json.loads(line) for line in text.splitlines()]


def test_line_has_the_ids_that_the_response_carries(tmp_path: Path) -> None:
    named = answer(RUN, "200 OK\r\nX-Request-Id: abc\r\nX-Amzn-RequestId: def\r\nSet-Cookie: hidden")
    [line] = log_of(tmp_path / "log", [named])
    assert line["request_ids"] == {"x-request-id": "abc", "x-amzn-requestid": "def"}
    assert (line["method"], line["status"], line["received_bytes"]) == ("POST", 200, len(RUN))
    assert line["sent_bytes"] > 0


def test_line_of_a_request_without_a_response_names_the_error(tmp_path: Path) -> None:
    [line] = log_of(tmp_path / "log", [b"no HTTP\r\n\r\n"])
    assert ("status" in line, line["method"]) == (False, "POST")
    assert line["error"].isalpha()


@pytest.mark.parametrize("place", ["", "none/log"])
def test_log_that_cannot_be_written_ends_no_request(tmp_path: Path, place: str) -> None:
    log = RequestLog(tmp_path / place)
    with closing(RawServer([[answer(RUN)]])) as server, closing(log):
        connection = Connection(f"http://127.0.0.1:{server.port}/api", Secret("t"), "")
        with closing(AIHub(connection, threading.Event())) as client:
            client.log = log
            assert client.start_run("", {"batch_id": 1}).id == "r"
    assert log.error


def test_listener_that_fails_loses_no_response() -> None:
    with closing(RawServer([[answer(RUN)]])) as server:
        connection = Connection(f"http://127.0.0.1:{server.port}/api", Secret("t"), "")
        with closing(AIHub(connection, threading.Event())) as client:
            client.log = lambda _: 1 / 0
            assert client.start_run("", {"batch_id": 1}).id == "r"
