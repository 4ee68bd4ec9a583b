"""Faults on demand: scripted calls fail, before or after the service acts."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, Generic, TypeVar

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fake_aihub.controls.deliveries import Late, read_whole, with_deliveries
from fake_aihub.controls.fault_scripts import ACTIONS, KNOBS, Fault, load_faults, parse_fault, parse_header
from fake_aihub.world.clock import SKEW_S
from fake_aihub.world.entities import ApiError

GARBAGE = b"<html><head><title>Gateway</title></head><body>Please try again</body></html>"
HEADER = "X-Fake-Fault"
Entry = TypeVar("Entry")
LINGER_NOT = struct.pack("ii", 1, 0)


class Faults:
    """All scripts, used and unused."""

    def __init__(self) -> None:
        self.scripts: list[Fault] = []
        self.late: list[Late] = []

    def add(self, **script: Any) -> None:
        """Add a script. Raises ValueError if it is invalid."""
        self.scripts.append(parse_fault(script))

    def load(self, path: Path) -> None:
        """Add the `[[fault]]` scripts of a TOML file. Raises ValueError and OSError."""
        self.scripts += load_faults(path)

    __call__ = add

    def unused(self) -> list[dict[str, Any]]:
        """List the scripts that never applied to a call."""
        return [fault.as_dict() for fault in self.scripts if not fault.used]

    def guard(self, app: ASGIApp, name_operation: Callable[[Scope], str]) -> ASGIApp:
        """Wrap an app so that scripted calls fail."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            asked = Headers(scope=scope).get(HEADER)
            if scope["path"].startswith("/_fake/") or not (asked is not None or self.scripts or self.late):
                await app(scope, receive, send)
                return
            scope["operation"] = name_operation(scope)
            try:
                striking = self._strike(scope, asked)
            except ValueError as error:
                await _refuse(scope, receive, send, f"X-Fake-Fault: {error}")
                return
            await self._deliver_late(app, scope["operation"])
            scope["late"] = self.late
            scope["faults"] = [fault.do for fault in striking]
            scope["knobs"] = [fault for fault in striking if fault.do in KNOBS]
            skew = SKEW_S.set(sum(fault.seconds for fault in knobs_of(scope, "skew")))
            try:
                await _play(striking, with_deliveries(app, striking), scope, receive, send)
            finally:
                SKEW_S.reset(skew)

        return guarded

    def _strike(self, scope: Scope, asked: str | None) -> list[Fault]:
        header = [parse_header(asked, scope["operation"])] if asked is not None else []
        token = token_of(scope)
        # Every script counts every call, even if another script applies.
        return header + [fault for fault in self.scripts if fault.strikes(scope["operation"], scope["path"], token)]

    async def _deliver_late(self, app: ASGIApp, operation: str) -> None:
        due = [late for late in self.late if late.until in ("*", operation)]
        for late in due:
            self.late.remove(late)
            await late.deliver(app)


def token_of(scope: Scope) -> str:
    """Return the bearer token of a request, or no text."""
    scheme, _, token = Headers(scope=scope).get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def knobs_of(scope: Scope, do: str) -> list[Fault]:
    """List the faults of a kind that the handler must apply to this call."""
    return [fault for fault in scope.get("knobs", ()) if fault.do == do]


def hidden_since(scope: Scope, now_s: float) -> float:
    """Return the Unix time from which a listing hides new entries; `math.inf` unless the listing lags."""
    return min((now_s - fault.seconds for fault in knobs_of(scope, "lag")), default=math.inf)


@dataclass(frozen=True, slots=True)
class Page(Generic[Entry]):
    """A page of entries, and whether more follow from `next_offset`."""

    entries: list[Entry]
    has_more: bool
    next_offset: int


def page_of(scope: Scope, entries: list[Entry], offset: int, size: int) -> Page[Entry]:
    """Return `size` entries from `offset`, unless a fault moves or shortens the page. Raises ApiError beyond a cap."""
    for fault in knobs_of(scope, "cap"):
        if fault.status == 200:
            entries = entries[: fault.items]
        elif offset >= fault.items:
            raise ApiError(fault.status, f"Offsets from {fault.items} are not supported.", fault.headers)
    size = min([size, *(fault.items for fault in knobs_of(scope, "short_pages"))])
    moved = -size * len(knobs_of(scope, "repeat_page"))
    moved += sum(fault.items for fault in knobs_of(scope, "shift_page"))
    begin = max(0, offset + moved)
    return Page(entries[begin : begin + size], begin + size < len(entries), offset + size)


def date_of(scope: Scope, now_s: float) -> bytes | None:
    """Return the `Date` header of a response, or None for no header."""
    if knobs_of(scope, "no_date"):
        return None
    faults = knobs_of(scope, "date")
    text = next((fault.name for fault in faults if fault.name), "")
    return (text or formatdate(now_s + sum(fault.seconds for fault in faults), usegmt=True)).encode()


async def _play(striking: Iterable[Fault], app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    fault = next((fault for fault in striking if fault.do in ACTIONS), None)
    if fault is None:
        await app(scope, receive, send)
    elif fault.do == "slow":
        await app(scope, receive, _slowed(fault, send))
    elif fault.do == "cut":
        await _read_at_most(fault.bytes, receive)
        await _go_wrong(fault, scope, receive, send, [])
    elif fault.when == "before":
        await read_whole(receive)
        await _go_wrong(fault, scope, receive, send, [])
    else:
        kept: list[Message] = []

        async def keep(message: Message) -> None:
            kept.append(message)

        await app(scope, receive, keep)
        await _go_wrong(fault, scope, receive, send, kept)


async def _read_at_most(most: int, receive: Receive) -> None:
    count, more = 0, True
    while more and count < most:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)


def _slowed(fault: Fault, send: Send) -> Send:
    async def slowly(message: Message) -> None:
        body = message.get("body", b"")
        while len(body) > max(1, fault.bytes):
            await send({"type": "http.response.body", "body": body[: max(1, fault.bytes)], "more_body": True})
            await asyncio.sleep(fault.seconds)
            body = body[max(1, fault.bytes) :]
        await send({**message, "body": body} if body else message)

    return slowly


async def _go_wrong(fault: Fault, scope: Scope, receive: Receive, send: Send, kept: list[Message]) -> None:
    scope["faulted"] = True
    if fault.do == "stall":
        await asyncio.sleep(fault.seconds)
    if fault.do in ("reset", "stall", "cut"):
        await _reset(scope, receive, send)
    elif fault.do == "truncate":
        await _truncate(fault, scope, send, kept)
    else:
        is_garbage = fault.do == "garbage"
        body = GARBAGE if is_garbage else fault.body.encode(errors="replace")
        status, kind = (200, "text/html") if is_garbage else (fault.status, "application/json")
        answer = Response(b"" if status in (204, 304) else body, status, fault.headers, kind)
        await answer(scope, receive, send)


async def _reset(scope: Scope, receive: Receive, send: Send) -> None:
    # With a linger time of 0, the peer gets a reset instead of an orderly close.
    scope["transport"].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    scope["transport"].abort()
    await Response(status_code=500)(scope, receive, send)


async def _truncate(fault: Fault, scope: Scope, send: Send, kept: list[Message]) -> None:
    body = b"".join(message.get("body", b"") for message in kept[1:]) or b'{"message": "truncated"}'
    status = kept[0]["status"] if kept else 200
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200 if status == 204 else status, "headers": headers})
    await send({"type": "http.response.body", "body": body[: fault.bytes], "more_body": True})
    await asyncio.sleep(0)
    scope["transport"].close()


async def _refuse(scope: Scope, receive: Receive, send: Send, message: str) -> None:
    scope["faulted"] = True
    await read_whole(receive)
    await JSONResponse({"message": message}, 400)(scope, receive, send)
