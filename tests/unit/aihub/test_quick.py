"""Bodies over open connections: `requests` sends the first, our own code the others."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from aihub_runner.aihub import quick
from aihub_runner.aihub.bodies import FileSlice, SourceChanged
from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.response import Answer, Watch
from aihub_runner.aihub.session import Session
from aihub_runner.errors import Interrupted, ServiceError
from aihub_runner.model import Secret
from support.raw_server import Drip, Piece, RawServer, answer

PART = b'{"part_id": "p", "part_num": 2}'
PACKED = gzip.compress(PART)
CERTIFICATE = Path(__file__).parents[2] / "data" / "hub_example.pem"


@contextmanager
def kept(*answers: list[Piece], limit_s: float = 60.0) -> Iterator[tuple[AIHub, RawServer]]:
    """Yield a client with an open connection, over which one file was sent."""
    with closing(RawServer([[answer(b"")], *answers])) as server:
        root = f"http://127.0.0.1:{server.port}/a%20b/api"
        connection = Connection(root, Secret("t"), "acme", read_timeout_s=limit_s, retry_wait_s=0.0)
        with closing(AIHub(connection, threading.Event())) as client:
            client.put_file(1, "a", b"abc")
            yield client, server


def test_second_request_is_like_the_first() -> None:
    with kept() as (client, server):
        client.put_file(1, "b ü.txt", b"abc")
        first, second = (sorted(head.splitlines()[1:]) for head in server.heads)
        assert server.requests[1] == "PUT /a%20b/api/v2/batches/1/files/b%20%C3%BC.txt HTTP/1.1"
        assert first == second
        assert "Authorization: Bearer t" in first
        assert server.connections == 1


@pytest.mark.parametrize("size", [0, 1, quick.PIECE_BYTES, quick.PIECE_BYTES + 1, 3 * quick.PIECE_BYTES])
def test_body_arrives_whole(size: int, tmp_path: Path) -> None:
    data = bytes(number % 251 for number in range(size))
    (tmp_path / "a").write_bytes(data)
    with kept() as (client, server):
        client.put_file(1, "b", data)
        if size:
            client.put_file(1, "b", memoryview(data))  # type: ignore[arg-type]
        with FileSlice(tmp_path / "a", 0, size) as body:
            client.put_file(1, "b", body)
        assert set(server.bodies[1:]) == {data}
        assert server.connections == 1


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(PART), PART)
SHAPES: dict[str, tuple[bytes, int]] = {  # a response, and the connections that a request before and after it need
    "plain": (answer(PART), 1),
    "chunked": (CHUNKED, 1),
    "interim": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(PART), 1),
    "folded": (answer(PART).replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n"), 1),
    "packed": (answer(PACKED).replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), 1),
    "to be closed": (answer(PART).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 2),
    "of HTTP/1.0": (answer(PART).replace(b"1.1", b"1.0"), 2),
    "with more behind it": (answer(PART) + answer(PART), 2),
}


@pytest.mark.parametrize("cut", [None, 1, 12, -1, -len(PART)])
@pytest.mark.parametrize(("came", "connections"), SHAPES.values(), ids=SHAPES)
def test_response_is_read_however_it_is_sent(came: bytes, connections: int, cut: int | None) -> None:
    pieces: list[Piece] = [came] if cut is None else [came[:cut], came[cut:]]
    with kept(pieces, [answer(b"")]) as (client, server):
        server.pace_s = 0.01
        assert client.put_part("s", 2, b"abc").part_id == "p"
        server.pace_s = 0.0
        client.put_file(1, "b", b"abc")
        assert (len(server.requests), server.connections) == (3, connections)


@pytest.mark.parametrize("refused", [answer(b"{}", "500 Broken"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_request_is_repeated_after_a_failure(refused: bytes) -> None:
    with kept([refused], [b"HTTP/1.1 204 No Content\r\n\r\n"]) as (client, server):
        server.hangs_up_after = 2
        client.put_file(1, "b", b"abc")
        assert len(server.requests) == 3


def test_nothing_is_sent_over_a_connection_that_answered_about_something_else() -> None:
    with kept([answer(PART.replace(b"2", b"3"))], [answer(PART)]) as (client, server):
        client.put_part("s", 2, b"abc")
        assert (len(server.requests), server.connections) == (3, 2)


def test_connection_is_not_used_again_after_a_file_became_shorter(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    with kept([answer(b"")]) as (client, server):
        with FileSlice(path, 0, 1001) as body, pytest.raises(SourceChanged):
            client.put_file(1, "b", body)
        client.put_file(1, "c", b"abc")
        assert server.connections == 2


DRIPS: dict[str, list[Piece]] = {
    "status line": [Drip(b"H")],
    "headers": [b"HTTP/1.1 200 OK\r\n", Drip(b"X: y\r\n")],
    "body": [b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", Drip(b" ")],
    "interim": [Drip(b"HTTP/1.1 102 Processing\r\n\r\n")],
}


@pytest.mark.parametrize("pieces", DRIPS.values(), ids=DRIPS)
@pytest.mark.slow
def test_response_that_drips_is_given_up_in_the_end(pieces: list[Piece]) -> None:
    with kept(pieces, limit_s=0.2) as (client, _), pytest.raises(ServiceError):
        client.put_file(1, "b", b"abc")


@pytest.mark.parametrize("pieces", DRIPS.values(), ids=DRIPS)
def test_reading_ends_when_we_are_asked_to_stop(pieces: list[Piece], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aihub_runner.aihub.transport.GRACE_S", 0.1)
    with kept(pieces) as (client, _):
        next(piece for piece in pieces if isinstance(piece, Drip)).begun = client.stop.set
        with pytest.raises(Interrupted):
            client.put_file(1, "b", b"abc")


def test_connection_that_was_closed_meanwhile_is_opened_anew() -> None:
    with kept([answer(b"")]) as (client, server):
        server.hang_up()
        client.put_file(1, "b", b"abc")
        assert (len(server.requests), server.connections) == (2, 2)


def test_client_that_is_closed_leaves_no_connection_open() -> None:
    with kept() as (client, server):
        connections = [one for one in client._session.adapter.pool.pool._items if one and one.sock]
        assert connections
        client.close()
        assert not any(one.sock for one in connections)
        client.put_file(1, "c", b"abc")  # by a thread that outlived the job: over a connection of its own
        assert server.connections == 2


def test_tls_connections_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with closing(RawServer([[answer(b"")]], CERTIFICATE)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", _to(server.port))
        with closing(AIHub(Connection("https://hub.example/api", Secret("t"), ""), threading.Event())) as client:
            for size in (3, quick.PIECE_BYTES + 1):
                client.put_file(1, "a", b"a" * size)
        assert (server.bodies[1], server.connections) == (b"a" * (quick.PIECE_BYTES + 1), 1)


def _to(port: int) -> object:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    return lambda *_: found


class _Pool:
    """A pool with one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock

    def _get_conn(self) -> _Pool:
        return self

    def _put_conn(self, connection: object) -> None:
        pass

    def close(self) -> None:
        self.sock = None


def answer_before_the_body(status: str) -> tuple[Answer | None, socket.socket | None]:
    """Return how a response is read whose sender hung up before it had the body, and which connections stay open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer(b"{}", status))
        theirs.shutdown(socket.SHUT_RDWR)
        pool = _Pool(ours)
        return quick.put(pool, b"PUT / HTTP/1.1\r\n\r\n", b"abc", Watch(threading.Event(), 1.0)), pool.sock


def test_refusal_before_the_body_was_read_is_heard() -> None:
    got, left_open = answer_before_the_body("413 Too Large")
    assert (got and got.status, left_open) == (413, None)


def test_success_before_the_body_was_read_is_none() -> None:
    with pytest.raises(ProtocolError):
        answer_before_the_body("200 OK")


class _Deaf(Session):
    """Reports success, and reads a body only the second time."""

    sent = 0

    def put_over_open(self, root: str, path: str, body: Any, watch: Watch) -> Answer:
        self.sent += 1
        body.read(10 if self.sent == 1 else -1)
        return Answer(200, {}, b"")


def test_digest_of_a_file_is_of_all_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    session, connection = _Deaf(), Connection("http://127.0.0.1:9/api", Secret("t"), "", retry_wait_s=0.0)
    client = AIHub(connection, threading.Event(), lambda _: session)
    with FileSlice(tmp_path / "a", 0, 1000) as body:
        client.put_file(1, "a", body)
    assert (body.digest, session.sent) == ("sha256:" + hashlib.sha256(b"x" * 1000).hexdigest(), 2)
