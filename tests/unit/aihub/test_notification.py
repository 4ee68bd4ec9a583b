"""A notification is sent once if accepted, retried if that may help, and never fails an apply."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.notification import ATTEMPTS, notify
from aihub_runner.model import Secret
from support.raw_server import Piece, RawServer, answer


def tell(server: RawServer, token: str = "", stop: threading.Event | None = None) -> str:
    to = Connection(f"http://127.0.0.1:{server.port}/hook?key=hidden", Secret(token), "", retry_wait_s=0.0)
    return notify(to, b'{"a": 1}', stop or threading.Event())


def serve(*statuses: str) -> RawServer:
    answers: list[list[Piece]] = [[answer(b"", status)] for status in statuses]
    return RawServer(answers)


@pytest.mark.parametrize(
    ("statuses", "requests", "why"),
    [
        (["204 No Content"], 1, ""),
        (["503 Busy", "500 Oops", "200 OK"], 3, ""),
        (["503 Busy"], ATTEMPTS, "HTTP 503"),
        (["404 Not Found"], 1, "HTTP 404"),
        (["302 Found\r\nLocation: /other"], 1, "HTTP 302"),
    ],
)
def test_notification_is_repeated_only_where_that_may_help(statuses: list[str], requests: int, why: str) -> None:
    with closing(serve(*statuses)) as server:
        assert tell(server) == why
        assert [line.split()[1] for line in server.requests] == ["/hook?key=hidden"] * requests
        assert server.bodies == [b'{"a": 1}'] * requests


def test_token_is_sent_as_bearer_and_nothing_without_one() -> None:
    with closing(serve("200 OK")) as server:
        tell(server, "t0ken")
        tell(server)
        assert ["Authorization: Bearer t0ken" in head for head in server.heads] == [True, False]
        assert "Authorization" not in server.heads[1]


def test_interrupted_apply_tells_it_once() -> None:
    stop = threading.Event()
    stop.set()
    with closing(serve("503 Busy")) as server:
        assert tell(server, stop=stop) == "HTTP 503"
        assert len(server.requests) == 1


@pytest.mark.parametrize("token", ["", "not\nsendable", "ключ"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "https://[secret", "https://\0secret", "https://"])
def test_whatever_is_wrong_is_told_without_the_url(url: str, token: str) -> None:
    why = notify(Connection(url, Secret(token), "", retry_wait_s=0.0), b"{}", threading.Event())
    assert why.isalpha()
    assert "secret" not in why


@pytest.mark.parametrize("url", ["http://example.com/hook", "ftp://example.com", "hook", ""])
def test_nothing_is_sent_that_others_could_read(url: str) -> None:
    assert notify(Connection(url, Secret(""), ""), b"{}", threading.Event()) == "not an https URL"
