"""The size limit of request bodies. Larger bodies are rejected and not read to the end."""

from __future__ import annotations

import json

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fake_aihub.contract.shapes import is_digits

MAX_FILE_BYTES = 100 * 1_048_576  # twice the limit of a file in a run
MAX_JSON_BYTES = 10 * 1_048_576
LINGER_BYTES = 16 * 1_048_576


def limit_bodies(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that it never reads more of a body than allowed."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        most = MAX_FILE_BYTES if scope["method"] == "PUT" else MAX_JSON_BYTES
        if _length_of(scope) > most:
            await _refuse(scope, receive, send, most)
            return
        got = 0

        async def receive_some() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            return message if got <= most else {"type": "http.disconnect"}

        async def send_unless_refused(message: Message) -> None:
            if got <= most:
                await send(message)

        await app(scope, receive_some, send_unless_refused)
        if got > most:
            await _refuse(scope, receive, send, most)

    return limited


def _length_of(scope: Scope) -> int:
    text = Headers(scope=scope).get("Content-Length", "0")
    return int(text) if is_digits(text) and len(text) < 20 else 0


async def _refuse(scope: Scope, receive: Receive, send: Send, most: int) -> None:
    scope["faulted"] = False
    body = json.dumps({"message": f"The request body is larger than {most} bytes."}).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    # The client is still sending. If the connection closed at once, it would see an error instead of the response.
    left, more = LINGER_BYTES, not any(name == b"expect" for name, _ in scope["headers"])
    while more and left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.body", "body": b""})
