"""Faults between client and service: requests delivered twice or late, interim responses, changed responses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import responses as REASONS

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fake_aihub.controls.fault_scripts import REWRITES, Fault
from fake_aihub.controls.rewrites import rewrite
from fake_aihub.world.clock import SKEW_S

NOT_KEPT = ("knobs", "faulted", "transport", "late")


@dataclass(slots=True)
class Late:
    """A request that reaches the service later, before the next call of the operation `until`."""

    until: str
    scope: Scope
    body: bytes
    seconds: float

    async def deliver(self, app: ASGIApp) -> None:
        """Deliver the request, with the service's clock advanced by `seconds`. The response is discarded."""
        skew = SKEW_S.set(self.seconds)
        try:
            await _collect(app, self.scope, self.body)
        finally:
            SKEW_S.reset(skew)


@dataclass(slots=True)
class Answer:
    """A complete, buffered response."""

    start: Message = field(default_factory=lambda: {"type": "http.response.start", "status": 500, "headers": []})
    body: bytes = b""

    async def take(self, message: Message) -> None:
        """Add a part of the response."""
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    async def pass_on(self, send: Send) -> None:
        """Send it, with the actual length of its body."""
        headers = [(key, value) for key, value in self.start.get("headers", []) if key.lower() != b"content-length"]
        if self.start["status"] != 204:
            headers.append((b"content-length", str(len(self.body)).encode()))
        await send({**self.start, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


async def read_whole(receive: Receive) -> bytes:
    """Read a request to its end."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def with_deliveries(app: ASGIApp, striking: Sequence[Fault]) -> ASGIApp:
    """Wrap an app with these faults: response faults on the outside, delivery faults inside."""
    for change in (_INSIDE, _REWRITES, _OUTSIDE):
        for fault in striking:
            if fault.do in change:
                app = partial(change[fault.do], app, fault)
    return app


async def _twice(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_whole(receive)
    # The scope describes the response that the client gets.
    scopes = [scope, _copy(scope)] if fault.items == 1 else [_copy(scope), scope]
    answers = [await _collect(app, one, body) for one in scopes]
    await answers[fault.items - 1].pass_on(send)


async def _postpone(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_whole(receive)
    if fault.when == "after":
        answer = await _collect(app, scope, body)
    else:
        scope["faulted"] = True
        headers = [(b"content-type", b"application/json")] if fault.body else []
        headers += [(key.lower().encode(), value.encode()) for key, value in fault.headers.items()]
        start = {"type": "http.response.start", "status": fault.status, "headers": headers}
        answer = Answer(start, b"" if fault.status == 204 else fault.body.encode(errors="replace"))
    scope["late"].append(Late(fault.until, _copy(scope), body, fault.seconds))
    await answer.pass_on(send)


async def _rewrite(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    answer = Answer()
    await app(scope, receive, answer.take)
    status, body = rewrite(fault, scope["operation"], scope["path"], answer.start["status"], answer.body)
    scope["faulted"] = scope.get("faulted", False) or body != answer.body
    await Answer({**answer.start, "status": status}, body).pass_on(send)


async def _announce(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    # ASGI servers do not support interim responses, so write to the transport directly.
    reason = REASONS.get(fault.status, "Interim")
    lines = [f"HTTP/1.1 {fault.status} {reason}", *(f"{key}: {value}" for key, value in fault.headers.items())]
    has_begun = False

    async def announce(message: Message) -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            for _ in range(fault.items):
                scope["transport"].write("\r\n".join([*lines, "", ""]).encode())
            await asyncio.sleep(fault.seconds)
        await send(message)

    await app(scope, receive, announce)


async def _give_twice(app: ASGIApp, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    answer = Answer()
    await app(scope, receive, answer.take)
    await answer.pass_on(send)
    status, body = answer.start["status"], answer.body
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\nContent-Type: application/json\r\n"
    head += "\r\n" if status == 204 else f"Content-Length: {len(body)}\r\n\r\n"
    scope["transport"].write(head.encode() + body)


_INSIDE = {"twice": _twice, "late": _postpone}
_REWRITES = dict.fromkeys(REWRITES, _rewrite)
_OUTSIDE = {"interim": _announce, "surplus": _give_twice}


def _copy(scope: Scope) -> Scope:
    return {key: value for key, value in scope.items() if key not in NOT_KEPT}


async def _collect(app: ASGIApp, scope: Scope, body: bytes) -> Answer:
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()  # wait for the end of the connection, which never comes
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    answer = Answer()
    await app(scope, receive, answer.take)
    return answer
