"""Responses as bytes on a socket: interim ones, endless ones, and surplus bytes."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from aihub_runner.aihub.bodies import FileSlice
from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.errors import AnswerLost, Interrupted, ServiceError
from aihub_runner.model import Secret
from support.raw_server import Drip, Piece, RawServer, answer

RUN = b'{"id": "r", "status": "RUNNING"}'
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UNHEARD_OF = b"HTTP/1.1 199 Patience\r\nContent-Length: 5\r\n\r\n"
CERTIFICATE = Path(__file__).parents[2] / "data" / "hub_example.pem"


@contextmanager
def talking(
    *answers: list[Piece], limit_s: float = 60.0, certificate: Path | None = None, scheme: str = "http"
) -> Iterator[tuple[AIHub, RawServer]]:
    root = f"{scheme}://127.0.0.1:{{}}/api"
    with closing(RawServer(answers, certificate)) as server:
        connection = Connection(root.format(server.port), Secret("t"), "", read_timeout_s=limit_s, retry_wait_s=0.0)
        with closing(AIHub(connection, threading.Event())) as client:
            yield client, server


def get(client: AIHub) -> object:
    return client.get_run("r")


def put(client: AIHub) -> object:
    return client.put_file(1, "a", b"abc")


def start(client: AIHub) -> object:
    return client.start_run("", {"batch_id": 1})


@pytest.mark.parametrize("act", [get, put, start])
@pytest.mark.parametrize("interim", [PROCESSING, HINTS, CONTINUE, UNHEARD_OF, PROCESSING + CONTINUE + HINTS * 3])
def test_interim_responses_are_not_the_answer(act: Callable[[AIHub], object], interim: bytes) -> None:
    with talking([interim, answer(RUN)]) as (client, server):
        for _ in range(3):
            act(client)
        assert len(server.requests) == 3


@pytest.mark.parametrize("pieces", [[PROCESSING + answer(RUN)], [PROCESSING[:7], PROCESSING[7:], answer(RUN)]])
def test_interim_response_is_passed_over_however_it_is_cut_up(pieces: list[Piece]) -> None:
    with talking(pieces) as (client, server):
        get(client)
        get(client)
        assert server.connections == 1


@pytest.mark.parametrize("interim", [[PROCESSING * 1000], [Drip(PROCESSING)]])
@pytest.mark.slow
def test_interim_responses_without_end_are_given_up(interim: list[Piece]) -> None:
    with talking(interim, limit_s=0.5) as (client, _):
        with pytest.raises(ServiceError):
            get(client)
        with pytest.raises(AnswerLost):
            start(client)


def test_only_interim_responses_are_no_answer() -> None:
    closed = [PROCESSING, b"HTTP/1.1 200 OK\r\nConnection: close\r\n"]
    with talking(closed, limit_s=0.2) as (client, _), pytest.raises(AnswerLost):
        start(client)


@pytest.mark.parametrize("more", [answer(RUN), b"x", answer(b'{"id": "s", "status": "FAILED"}') * 1000])
def test_nothing_is_asked_over_a_connection_that_says_more_than_was_asked(more: bytes) -> None:
    with talking([answer(RUN) + more], [answer(RUN)]) as (client, server):
        for _ in range(3):
            get(client)
        assert server.connections == 2


def test_nothing_is_asked_over_a_connection_that_answered_about_something_else() -> None:
    with talking([answer(RUN)], [answer(RUN.replace(b'"r"', b'"s"'))], [answer(RUN)]) as (client, server):
        for _ in range(3):
            get(client)
        assert (len(server.requests), server.connections) == (4, 2)


def test_connection_is_used_again_where_nothing_is_wrong() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(RUN), RUN)
    with talking([answer(RUN)], [chunked], [answer(RUN)]) as (client, server):
        for _ in range(4):
            get(client)
        assert server.connections == 1


WHOLE = answer(RUN + b" " * 1000)
DRIPS = [
    pytest.param([Drip(b"H")], id="status line"),
    pytest.param([b"HTTP/1.1 200 OK\r\n", Drip(b"x")], id="header"),
    pytest.param([b"HTTP/1.1 200 OK\r\n", Drip(b"X: y\r\n")], id="headers"),
    pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", Drip(b" ")], id="body"),
    pytest.param([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", Drip(b" ")], id="body without length"),
    pytest.param([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Drip(b"1\r\n \r\n")], id="chunks"),
    pytest.param([Drip(PROCESSING)], id="interim"),
]


@pytest.mark.parametrize("pieces", DRIPS)
@pytest.mark.slow
def test_answer_that_drips_is_given_up_in_the_end(pieces: list[Piece]) -> None:
    with talking(pieces, limit_s=0.3) as (client, server):
        with pytest.raises(AnswerLost):
            start(client)
        assert len(server.requests) == 1
        with pytest.raises(ServiceError):
            get(client)


@pytest.mark.parametrize("pieces", DRIPS)
def test_reading_ends_when_we_are_asked_to_stop(pieces: list[Piece], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aihub_runner.aihub.transport.GRACE_S", 0.1)
    monkeypatch.setattr("aihub_runner.aihub.transport.PAID_GRACE_S", 0.1)
    with talking(pieces) as (client, _):
        next(piece for piece in pieces if isinstance(piece, Drip)).begun = client.stop.set
        with pytest.raises(Interrupted):
            get(client)
        client.stop.clear()
        with pytest.raises(AnswerLost):
            start(client)


def test_answer_that_is_under_way_when_we_are_asked_to_stop_is_taken() -> None:
    with talking([b"HTTP/1.1 200 OK\r\n", answer(RUN)[len(b"HTTP/1.1 200 OK\r\n") :]]) as (client, server):
        server.seen = client.stop.set
        assert client.start_run("", {"batch_id": 1}).id == "r"


def test_large_answer_may_take_longer_than_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aihub_runner.aihub.response.BYTES_PER_S", 1)
    body = RUN + b" " * 100
    slow: list[Piece] = [answer(body)[:-100], *[bytes(piece) for piece in [b" " * 10] * 10]]
    with talking(slow, limit_s=0.3) as (client, server):
        server.pace_s = 0.05
        assert client.get_run("r").id == "r"
        assert len(server.requests) == 1


def test_unknown_authority_is_told_with_the_file_that_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with talking([answer(RUN)], certificate=CERTIFICATE, scheme="https") as (client, _):
        with pytest.raises(ServiceError, match=r"authority that is not in .*cacert\.pem") as caught:
            get(client)
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint


def test_other_host_name_is_told_from_an_unknown_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with (
        talking([answer(RUN)], certificate=CERTIFICATE, scheme="https") as (client, _),
        pytest.raises(ServiceError, match="for another host name"),
    ):
        get(client)


def test_plain_http_behind_https_is_told() -> None:
    with (
        talking([b"HTTP/1.1 400 Bad Request\r\n\r\n"], scheme="https") as (client, _),
        pytest.raises(ServiceError, match="speaks plain HTTP"),
    ):
        get(client)


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([PROCESSING + b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"], "the proxy refused, .*407"),
        ([Drip(b"H")], "cannot be reached"),
    ],
)
def test_paid_request_that_a_proxy_blocks_is_confirmed_as_not_sent(
    monkeypatch: pytest.MonkeyPatch, pieces: list[Piece], why: str
) -> None:
    with closing(RawServer([pieces])) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("NO_PROXY", "")
        limits = {"connect_timeout_s": 0.3, "retry_wait_s": 0.0}
        connection = Connection("https://hub.example/api", Secret("t"), "", **limits)
        with closing(AIHub(connection, threading.Event())) as client, pytest.raises(ServiceError, match=why) as caught:
            start(client)
        assert not isinstance(caught.value, AnswerLost)
        assert {line.split()[0] for line in server.requests} == {"CONNECT"}


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that gives EIO")
def test_file_that_cannot_be_read_is_no_trouble_of_the_network() -> None:
    with (
        talking([answer(b"")]) as (client, _),
        FileSlice(Path("/proc/self/mem"), 0, 10) as body,
        pytest.raises(OSError, match="Input/output") as caught,
    ):
        client.put_file(7, "a", body)
    assert caught.value.errno == errno.EIO
