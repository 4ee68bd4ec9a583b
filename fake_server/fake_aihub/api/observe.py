"""`/_fake/journal`, `verify`, `coverage`: inspect the requests to the fake and their clients."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import read_json
from fake_aihub.contract.shapes import Count, Kind, Shape
from fake_aihub.controls.har import render_har
from fake_aihub.controls.verify import CRITERIA, matching, near_misses
from fake_aihub.world.entities import ApiError

NUMBERS: Mapping[str, Kind] = {"count": Count, "at_least": Count, "at_most": Count}
QUESTION = Shape({**CRITERIA, **NUMBERS})


async def journal(service: Service, request: Request) -> Response:
    """GET, DELETE /_fake/journal. `format=har` returns an HTTP archive."""
    kept = service.journal
    if request.method == "DELETE":
        kept.clear()
        return Response(status_code=204)
    form = request.query_params.get("format", "json")
    if form not in ("json", "har"):
        raise ApiError(400, "format must be json or har.")
    if form == "har":
        response = answer(200, render_har(kept.exchanges))
    else:
        entries = [exchange.as_dict() for exchange in kept.exchanges]
        response = answer(200, {"entries": entries, "is_full": kept.dropped > 0, "dropped": kept.dropped})
    if kept.dropped:
        response.raw_headers.append(kept.full_header())
    return response


async def verify(service: Service, request: Request) -> Response:
    """POST /_fake/verify: 200 if the number of matching requests is as expected, else 422 with the nearest misses.

    409 if the journal has dropped requests, because a count would be wrong.
    """
    given = await read_json(request, QUESTION)
    if service.journal.dropped:
        raise ApiError(409, f"The journal was full and has dropped {service.journal.dropped} requests.")
    criteria = {key: value for key, value in given.items() if key in CRITERIA}
    numbers = {key: value for key, value in given.items() if key in NUMBERS} or {"at_least": 1}
    entries = [exchange.as_dict() for exchange in service.journal.exchanges]
    count = len(matching(entries, criteria))
    is_met = _meets(count, numbers)
    body = {"matched": count, "expected": numbers, "is_met": is_met}
    return answer(200 if is_met else 422, body | {"near_misses": [] if is_met else near_misses(entries, criteria)})


def _meets(count: int, numbers: Mapping[str, int]) -> bool:
    exact = numbers.get("count", count)
    return count == exact and numbers.get("at_least", count) <= count <= numbers.get("at_most", count)


async def coverage(service: Service, request: Request) -> Response:
    """GET /_fake/coverage"""
    return answer(200, service.coverage.as_dict())
