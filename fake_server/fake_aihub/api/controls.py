"""`/_fake/…`: inspect and control the fake. These routes are not part of the API and need no token."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.lifecycle import CHANGE, SCRIPT, change_run, check_script
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import read_json
from fake_aihub.contract.shapes import Count, Shape
from fake_aihub.controls.fault_scripts import parse_fault
from fake_aihub.redact import redact_url
from fake_aihub.world.entities import ApiError

FAULTS = Shape({"faults": list}, ["faults"])
CLOCK = Shape({"advance_s": int | float, "offset_s": int | float})
CHECKPOINT = Shape({"name": str})
UNITS = Shape({"left": Count})


def render_ledger(service: Service) -> dict[str, Any]:
    """Return how often each side effect happened."""
    world = service.world
    return {kind: dict(counts) for kind, counts in world.ledger.items()} | {"digests": dict(world.upload_digests)}


async def ledger(service: Service, request: Request) -> Response:
    """GET /_fake/ledger"""
    return answer(200, render_ledger(service))


async def faults(service: Service, request: Request) -> Response:
    """GET, POST, DELETE /_fake/faults"""
    if request.method == "DELETE":
        service.faults.scripts.clear()
    if request.method == "POST":
        given = await read_json(request, FAULTS)
        try:
            service.faults.scripts += [parse_fault(script) for script in given["faults"]]
        except ValueError as error:
            raise ApiError(400, str(error)) from None
    scripts = [fault.as_dict() for fault in service.faults.scripts]
    return answer(200, {"faults": scripts, "unused": service.faults.unused()})


async def clock(service: Service, request: Request) -> Response:
    """GET, POST /_fake/clock: return the time; advance it by `advance_s`, or set its `offset_s`"""
    if request.method == "POST":
        given = await read_json(request, CLOCK)
        try:
            service.clock.set_offset(given.get("offset_s", service.clock.offset_s) + given.get("advance_s", 0))
        except (ValueError, OverflowError):
            raise ApiError(400, "The time would be before 1970 or too far in the future.") from None
    return answer(200, {"now_s": service.clock.now_s(), "offset_s": service.clock.offset_s})


async def checkpoint(service: Service, request: Request) -> Response:
    """GET, POST /_fake/checkpoint: list the checkpoints; save one, with an optional `name`"""
    if request.method == "GET":
        return answer(200, {"checkpoints": list(service.checkpoints)})
    return answer(200, {"name": service.take_checkpoint(await _read_name(request))})


async def rewind(service: Service, request: Request) -> Response:
    """POST /_fake/rewind: rewind to the checkpoint `name`, or to the last one"""
    return answer(200, {"name": service.rewind(await _read_name(request))})


async def _read_name(request: Request) -> str:
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return ""
    given = await read_json(request, CHECKPOINT)
    return str(given.get("name", ""))


async def next_run(service: Service, request: Request) -> Response:
    """GET, POST, DELETE /_fake/next-run: list, add or remove scripts for future runs"""
    if request.method == "POST":
        script = await read_json(request, SCRIPT)
        check_script(script)
        service.world.add_script(script)
        return Response(status_code=204)
    if request.method == "DELETE":
        service.world.clear_scripts()
    return answer(200, {"scripts": service.world.next_runs, "unused": service.world.unused_scripts})


async def set_run(service: Service, request: Request) -> Response:
    """POST /_fake/runs/{run_id}: set its status, release it, or reject its review"""
    given = await read_json(request, CHANGE)
    run = service.world.runs.get(request.path_params["run_id"])
    if run is None:
        raise ApiError(404, "The run does not exist.")
    change_run(service, run, given)
    return Response(status_code=204)


async def units(service: Service, request: Request) -> Response:
    """POST /_fake/units: set the number of runs `left`; unlimited if left out"""
    service.world.set_units((await read_json(request, UNITS)).get("left"))
    return Response(status_code=204)


async def webhooks(service: Service, request: Request) -> Response:
    """GET /_fake/webhooks: list all webhook calls and their outcomes"""
    calls = [
        {"run_id": run.id, "url": redact_url(run.request["settings"]["webhook_config"]["url"]), **call}
        for run in service.world.runs.values()
        for call in run.webhook
    ]
    return answer(200, {"calls": calls, "due": list(service.world.due_webhooks)})
