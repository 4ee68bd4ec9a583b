"""Faults on demand: scripts that say which call of which operation goes wrong, when, and how."""

from __future__ import annotations

import asyncio
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ACTIONS = ("reset", "truncate", "stall", "garbage", "status")
LISTINGS = ("listBatches", "listFiles", "listRuns")
# What only the handler itself can do, and whose handlers do it.
KNOBS: dict[str, tuple[str, ...]] = {
    "lag": LISTINGS,
    "drop_answer": ("getRunResults",),
    "repeat_page": (*LISTINGS, "getRunResults"),
    "shift_page": (*LISTINGS, "getRunResults"),
}
GARBAGE = b"<html><head><title>Gateway</title></head><body>Please try again</body></html>"


@dataclass(slots=True)
class Fault:
    """One script: from the `nth` matching call on, for `times` calls.

    `when` is "before" (the service does not act) or "after" (it has acted, and the answer is lost). `do` is
    one of `ACTIONS`, done to the exchange, or one of `KNOBS`, which the handlers ask for: `lag` hides what is
    younger than `seconds`, `drop_answer` the results of the file `name`; `repeat_page` gives the page before the
    one that was asked for, `shift_page` one that begins `items` later, or earlier where that is negative.
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
    items: int = 1
    name: str = ""
    calls: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        if self.do not in (*ACTIONS, *KNOBS) or self.when not in ("before", "after"):
            raise ValueError(f"no such fault: {self.when} {self.do}")
        if self.operation not in KNOBS.get(self.do, (self.operation,)):
            raise ValueError(f"{self.do} is for {', '.join(KNOBS[self.do])} only")

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

    __call__ = add

    def unused(self) -> list[dict[str, Any]]:
        """List the scripts that never struck."""
        return [asdict(fault) for fault in self.scripts if not fault.used]

    def guard(self, app: ASGIApp, name_operation: Any) -> ASGIApp:
        """Wrap an app so that scripted calls go wrong."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not self.scripts or scope["path"].startswith("/_fake/"):
                await app(scope, receive, send)
                return
            operation = scope["operation"] = name_operation(scope)
            # Every script counts every call, whichever of them strikes.
            striking = [fault for fault in self.scripts if fault.strikes(operation, scope["path"])]
            scope["knobs"] = [fault for fault in striking if fault.do in KNOBS]
            fault = next((fault for fault in striking if fault.do in ACTIONS), None)
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


def knobs_of(scope: Scope, do: str) -> list[Fault]:
    """List the faults of a kind that a handler itself has to make for this call."""
    return [fault for fault in scope.get("knobs", ()) if fault.do == do]


def hidden_since(scope: Scope, now_s: float) -> float:
    """Tell from when on, in Unix seconds, a listing does not show what was made: now and later unless it lags."""
    return min((now_s - fault.seconds for fault in knobs_of(scope, "lag")), default=math.inf)


def shifted(scope: Scope, offset: int, size: int) -> int:
    """Tell where a page of `size` really begins: at `offset`, unless a fault moves it."""
    moved = -size * len(knobs_of(scope, "repeat_page"))
    moved += sum(fault.items for fault in knobs_of(scope, "shift_page"))
    return max(0, offset + moved)


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
