"""A server that answers with exact bytes, to test how a client reads them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

PACE_S = 0.02
TLS_HELLO = b"\x16"


class Drip:
    """Sends some bytes repeatedly until the client disconnects."""

    def __init__(self, piece: bytes, begun: Callable[[], None] = lambda: None) -> None:
        self.piece, self.begun = piece, begun


Piece = bytes | Drip


class RawServer:
    """Returns `answers` in turn, one for each request on any connection, and repeats the last one.

    `requests` holds the request lines, `heads` whole heads, `bodies` what followed them, and `connections` how many
    were opened; `seen` is called when a request came in, and `pace_s` lies between the pieces of an answer. After the
    answer to request number `hangs_up_after`, its connection is closed.
    """

    def __init__(self, answers: Iterable[list[Piece]], certificate: Path | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.hangs_up_after = 0
        self._sockets: list[socket.socket] = []
        self.seen: Callable[[], None] = lambda: None
        self.pace_s = 0.0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._context and certificate:
            self._context.load_cert_chain(certificate)
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections, and stop repeated bytes."""
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a thread that waits in accept is not woken by close alone
        self._listener.close()

    def hang_up(self) -> None:
        """End all connections."""
        for sock in self._sockets:
            sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), closing(sock):
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
            elif sock.recv(1, socket.MSG_PEEK) == TLS_HELLO:
                self._send(sock, self.answers[0][0])
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = sock.makefile("rb")
            while came := _read_request(reader):
                self.heads.append(came[0])
                self.bodies.append(came[1])
                self.requests.append(came[0].split("\n")[0])
                is_last = len(self.requests) == self.hangs_up_after
                self.seen()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for piece in answer:
                    self._send(sock, piece)
                    self._stop.wait(self.pace_s)
                if is_last:
                    return

    def _send(self, sock: socket.socket, piece: Piece) -> None:
        if isinstance(piece, bytes):
            sock.sendall(piece)
            return
        piece.begun()
        while not self._stop.wait(PACE_S):
            sock.sendall(piece.piece)


def _read_request(reader: IO[bytes]) -> tuple[str, bytes] | None:
    """Return the head and the body of a request, or None at the end."""
    lines = [reader.readline().decode("latin-1").strip()]
    length = 0
    while header := reader.readline().decode("latin-1").strip():
        lines.append(header)
        name, _, value = header.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    body = reader.read(length)
    return ("\n".join(lines), body) if lines[0] else None


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """Make a complete response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
