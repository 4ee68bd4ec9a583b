"""`/_fake/`: a page that shows the fake while clients use it. It loads nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib.resources import files
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from fake_aihub.api.batches import render_batch
from fake_aihub.api.lifecycle import render_run
from fake_aihub.api.nearest import describe_nearest
from fake_aihub.api.service import Service, answer
from fake_aihub.contract.operations import OPERATIONS
from fake_aihub.controls.fault_scripts import DOS, Fault
from fake_aihub.controls.journal import Exchange
from fake_aihub.redact import redact_query
from fake_aihub.world.entities import ApiError, Batch

KINDS = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
MOST_EXCHANGES, MOST_ITEMS = 500, 100  # rows on the page
PAUSE_S = 0.25
SHOWN_ALWAYS = {"operation", "do", "when", "calls", "used"}  # of a fault
POLICY = (
    "default-src 'self'; script-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


async def page(service: Service, request: Request) -> Response:
    """GET /_fake/ and the files that it loads"""
    name, kind = KINDS[request.scope["path"].rpartition("/")[2]]
    return Response((files("fake_aihub") / "page" / name).read_bytes(), 200, SAFE, kind)


async def redirect(service: Service, request: Request) -> Response:
    """GET / and GET /_fake: send a browser to the page. Nothing is here for other clients."""
    if "text/html" not in request.headers.get("accept", ""):
        raise ApiError(501, describe_nearest("GET", request.scope["path"]))
    return RedirectResponse("/_fake/", 307)


async def exchange(service: Service, request: Request) -> Response:
    """GET /_fake/journal/{number}: return one request and its response"""
    number = request.path_params["number"]
    found = next((one for one in service.journal.exchanges if str(one.number) == number), None)
    if found is None:
        raise ApiError(404, f"The journal has no request {number[:20]!r}.")
    return answer(200, {"number": found.number, **found.as_dict()})


async def events(service: Service, request: Request) -> Response:
    """GET /_fake/events: server-sent events, `exchanges` for new requests and `state` for everything else"""
    return StreamingResponse(_stream(service), 200, SAFE, "text/event-stream")


async def _stream(service: Service) -> AsyncIterator[str]:
    journal, shown, seen, rewinds = service.journal, "", 0, -1
    yield "retry: 1000\n\n"
    while True:
        if rewinds != journal.rewinds:
            seen, rewinds = 0, journal.rewinds
            yield _event("reset", {})
        if seen != journal.changes:
            new = [one for one in journal.exchanges if one.changed > seen][-MOST_EXCHANGES:]
            seen = journal.changes
            yield _event("exchanges", [render_exchange(one) for one in new])
        state = _event("state", render_state(service))
        if state != shown:
            shown = state
            yield state
        await asyncio.sleep(PAUSE_S)


def _event(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n"


def render_exchange(one: Exchange) -> dict[str, Any]:
    """Return a request as a row of the page. Its status is 0 until the response begins."""
    headers = {name.lower(): value for name, value in one.request_headers}
    return {
        "number": one.number,
        "at_s": one.begun_s,
        "method": one.method,
        "path": one.path + (f"?{redact_query(one.query)}" if one.query else ""),
        "operation": one.operation,
        "client": headers.get("user-agent", ""),
        "status": one.status,
        "took_s": max(0.0, one.ended_s - one.begun_s) if one.ended_s else None,
        "faults": list(one.scope.get("faults", ())) or ["fault"] * bool(one.scope.get("faulted")),
        "is_repeat": one.is_repeat,
    }


def render_state(service: Service) -> dict[str, Any]:
    """Return everything else on the page. Long lists are cut to their newest items, with the number of all."""
    world, coverage = service.world, service.coverage.as_dict()
    return {
        "clock": {
            "now_s": int(service.clock.now_s()),
            "offset_s": service.clock.offset_s,
            "is_frozen": service.clock.is_frozen,
        },
        "requests": len(service.journal.exchanges),
        "checkpoints": list(service.checkpoints),
        "batches": _newest(world.batches.values(), len(world.batches), _render_batch),
        "runs": _newest(world.runs.values(), len(world.runs), lambda run: render_run(service, run)),
        "ledger": {kind: _render_counts(counts) for kind, counts in world.ledger.items()},
        "faults": [_render_fault(fault) for fault in service.faults.scripts],
        "coverage": {key: coverage[key] for key in ("exercised", "of", "never", "unknown")}
        | {"calls": {name: told["calls"] for name, told in coverage["operations"].items()}},
        "operations": [operation.id for operation in OPERATIONS],
        "dos": list(DOS),
    }


def _render_fault(fault: Fault) -> dict[str, Any]:
    """Return a fault without the keys that have their default."""
    usual = Fault().as_dict()
    return {key: value for key, value in fault.as_dict().items() if key in SHOWN_ALWAYS or value != usual[key]}


def _newest(items: Any, count: int, render: Any) -> dict[str, Any]:
    return {"count": count, "newest": [render(item) for item in islice(reversed(items), MOST_ITEMS)]}


def _render_batch(batch: Batch) -> dict[str, Any]:
    named = [{"name": file.name, "size": file.size} for file in islice(batch.files.values(), MOST_ITEMS)]
    return {**render_batch(batch), "context": batch.context, "files": named, "file_count": len(batch.files)}


def _render_counts(counts: dict[str, int]) -> dict[str, Any]:
    """Return how many items were counted, and the newest, those counted more than once first."""
    twice = [key for key, count in counts.items() if count > 1]
    once = [key for key in islice(reversed(counts), MOST_ITEMS) if counts[key] == 1]
    newest = [*reversed(twice), *once][:MOST_ITEMS]
    return {"count": len(counts), "twice": len(twice), "newest": {key: counts[key] for key in newest}}
