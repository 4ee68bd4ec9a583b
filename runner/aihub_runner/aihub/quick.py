"""PUT a body over a connection that is already open, for a tenth of the processor time that `requests` needs.

`requests` opens every connection, and sends the first request over it. After that, only bytes go here and back.
A response that is not of the plainest kind is read by `FinalResponse`, as those of other requests are.
"""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from urllib3.exceptions import ProtocolError

from aihub_runner.aihub.bodies import FileBytes, FileSlice
from aihub_runner.aihub.response import Answer, FinalResponse, Incoming, Watch, join

PIECE_BYTES = 1 << 18  # each piece of a body may take as long as a silence
HEAD_BYTES, BODY_BYTES = 1 << 13, 1 << 16
_PLAIN = re.compile(rb"HTTP/1\.1 (2\d\d) [^\r\n]*\r\n((?:[\w!#$%&'*+.^`|~-]+:[^\r\n]*\r\n)*)\r\n", re.ASCII)
_NOT_PLAIN = frozenset({"connection", "content-encoding", "transfer-encoding"})

Body = bytes | memoryview | FileBytes | FileSlice


def put(pool: Any, head: bytes, body: Body, watch: Watch) -> Answer | None:
    """Send a head and a body, and return the response, or None if no connection is open: nothing was sent then.

    Its socket still has the time limit of the request before. Raises what `urllib3` raises, and what reading the body
    raises.
    """
    connection = pool._get_conn()
    try:
        sock = connection.sock
        return None if sock is None else _exchange(connection, sock, head, body, watch)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError | http.client.HTTPException):
            raise ProtocolError("Connection aborted.", error) from error
        raise
    finally:
        pool._put_conn(connection)


def _exchange(connection: Any, sock: socket.socket, head: bytes, body: Body, watch: Watch) -> Answer:
    is_cut = False
    try:
        _send(sock, head, body)
    except BrokenPipeError:  # the service may have answered before it hung up
        is_cut = True
    incoming = Incoming(sock, watch)
    early = incoming.read(HEAD_BYTES) or b""
    answer = None if is_cut else _read_plain(sock, early, connection)
    answer = answer or _read_any(connection, sock, incoming, early)
    if is_cut:
        connection.close()
    if is_cut and answer.status < 300:
        raise ProtocolError("The service reports success, but has not read the body.")
    return answer


def _send(sock: socket.socket, head: bytes, body: Body) -> None:
    if isinstance(body, FileBytes) and type(sock) is socket.socket:
        sent = sock.sendmsg([head, body.data])  # without copying them into one
        if sent < len(head) + len(body):
            sock.sendall(head[sent:])
            sock.sendall(memoryview(body.data)[max(0, sent - len(head)) :])
    else:
        for piece in _pieces(head, body):
            sock.sendall(piece)
    if isinstance(body, FileBytes):
        _ = body.digest  # while the service reads it


def _pieces(head: bytes, body: Body) -> Iterator[bytes | memoryview]:
    if isinstance(body, FileSlice):
        yield head
        yield from body
        return
    data = body.data if isinstance(body, FileBytes) else body
    if len(data) <= PIECE_BYTES:
        yield head + data  # one packet more costs more than a copy
    else:
        yield head
        view = memoryview(data)
        for begun in range(0, len(data), PIECE_BYTES):
            yield view[begun : begun + PIECE_BYTES]


def _read_plain(sock: socket.socket, early: bytes, connection: Any) -> Answer | None:
    """Return a response that succeeded, came whole, and has a length; None for any other."""
    found = _PLAIN.match(early)
    if not found or getattr(sock, "pending", int)():
        return None
    lines = found[2].decode("latin-1").split("\r\n")[:-1]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status, body = int(found[1]), early[found.end() :]
    length = headers.get("content-length", "0" if status == 204 else "")
    if not _NOT_PLAIN.isdisjoint(headers) or length != str(len(body)):
        return None
    return Answer(status, headers, body, connection.close)


def _read_any(connection: Any, sock: socket.socket, incoming: Incoming, early: bytes) -> Answer:
    """Return the response that begins with some bytes, however it is sent. Another thread may drop the connection."""
    final = FinalResponse(sock, begun=incoming, early=early, method="PUT")
    final.begin()
    headers: Mapping[str, str] = urllib3.HTTPHeaderDict(final.getheaders())
    response = urllib3.HTTPResponse(final, headers, final.status, preload_content=False, original_response=final)
    lower = {name.lower(): headers[name] for name in headers}
    body = join(response.stream(BODY_BYTES, decode_content=True))
    if final.will_close:
        connection.close()
    return Answer(final.status, lower, body, connection.close)
