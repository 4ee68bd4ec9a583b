"""Faults on demand: scripts that say which call of which operation goes wrong, when, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACTIONS = ("reset", "truncate", "stall", "garbage", "status")
KNOBS = ("lag", "drop_answer", "repeat_page")
GARBAGE = b"<html><head><title>Gateway</title></head><body>Please try again</body></html>"


@dataclass(slots=True)
class Fault:
    """One script: from the `nth` matching call on, for `times` calls.

    `when` is "before" (the service does not act) or "after" (it has acted, and the answer is lost). `do` is
    one of `ACTIONS`, done to the exchange, or one of `KNOBS`, which the handlers ask for.
    """

    operation: str = "*"
    nth: int = 1
    times: int = 1
    match: str = ""
    when: str = "before"
    do: str = "reset"
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"message": "scripted"}'
    bytes: int = 20
    seconds: float = 0.0
    name: str = ""
    calls: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        if self.do not in ACTIONS + KNOBS or self.when not in ("before", "after"):
            raise ValueError(f"no such fault: {self.when} {self.do}")

    def strikes(self, operation: str, path: str) -> bool:
        """Count a call, and tell whether it goes wrong."""
        if self.operation not in ("*", operation) or self.match not in path:
            return False
        self.calls += 1
        hit = self.nth <= self.calls < self.nth + self.times
        self.used += hit
        return hit


class Faults:
    """All scripts, used and unused."""

    def __init__(self) -> None:
        self.scripts: list[Fault] = []

    def add(self, **script: Any) -> None:
        """Add a script. Raises ValueError or TypeError where it is none."""
        self.scripts.append(Fault(**script))

    def unused(self) -> list[dict[str, Any]]:
        """List the scripts that never struck."""
        return [asdict(fault) for fault in self.scripts if not fault.used]

    def knobs(self, operation: str, path: str) -> list[Fault]:
        """List the faults that a handler itself has to make for this call."""
        return [fault for fault in self.scripts if fault.do in KNOBS and fault.strikes(operation, path)]

    def guard(self, app: ASGIApp, name_operation: Any) -> ASGIApp:
        """Wrap an app so that scripted calls go wrong."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not self.scripts or scope["path"].startswith("/_fake/"):
                await app(scope, receive, send)
                return
            operation = scope["operation"] = name_operation(scope)
            fault = _first(self.scripts, operation, scope["path"])
            if fault is None:
                await app(scope, receive, send)
            elif fault.when == "before":
                await _read_all(receive)
                await _go_wrong(fault, scope, send, [])
            else:
                kept: list[Message] = []

                async def keep(message: Message) -> None:
                    kept.append(message)

                await app(scope, receive, keep)
                await _go_wrong(fault, scope, send, kept)

        return guarded


def _first(scripts: Iterable[Fault], operation: str, path: str) -> Fault | None:
    # Every script counts every call, whichever of them strikes.
    striking = [fault for fault in scripts if fault.do in ACTIONS and fault.strikes(operation, path)]
    return striking[0] if striking else None


async def _read_all(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _go_wrong(fault: Fault, scope: Scope, send: Send, kept: list[Message]) -> None:
    scope["faulted"] = True
    if fault.do == "stall":
        await asyncio.sleep(fault.seconds)
    if fault.do in ("reset", "stall"):
        scope["transport"].abort()
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif fault.do == "truncate":
        await _truncate(fault, scope, send, kept)
    else:
        is_garbage = fault.do == "garbage"
        body = GARBAGE if is_garbage else fault.body.encode()
        headers = {"content-type": "text/html" if is_garbage else "application/json"} | fault.headers
        await send(_start(200 if is_garbage else fault.status, headers, len(body)))
        await send({"type": "http.response.body", "body": body})


async def _truncate(fault: Fault, scope: Scope, send: Send, kept: list[Message]) -> None:
    body = b"".join(message.get("body", b"") for message in kept[1:]) or b'{"message": "truncated"}'
    status = kept[0]["status"] if kept else 200
    await send(_start(200 if status == 204 else status, {"content-type": "application/json"}, len(body)))
    await send({"type": "http.response.body", "body": body[: fault.bytes], "more_body": True})
    await asyncio.sleep(0)
    scope["transport"].close()


def _start(status: int, headers: dict[str, str], length: int) -> Message:
    everything = headers | {"content-length": str(length)}
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(key.lower().encode(), value.encode()) for key, value in everything.items()],
    }
