"""What every handler is given: the world, how it behaves, and what watches it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fake_server.clock import Clock
from fake_server.coverage import Coverage
from fake_server.extraction import Extraction
from fake_server.faults import Faults
from fake_server.journal import SIZE as JOURNAL_SIZE
from fake_server.journal import Journal
from fake_server.world import ApiError, World

MAX_JSON_BYTES = 10 * 1_048_576
MAX_NAME = 255


@dataclass(slots=True)
class Service:
    """One fake AI Hub. Times in seconds, sizes in bytes."""

    clock: Clock
    world: World
    faults: Faults = field(default_factory=Faults)
    extraction: Extraction = field(default_factory=Extraction)
    run_seconds: float = 0.0
    latency_ms: float = 0.0
    page_files: int = 100
    part_size: int = 10_485_760
    requests_per_s: int = 0
    journal_size: int = JOURNAL_SIZE
    coverage: Coverage = field(default_factory=Coverage)
    journal: Journal = field(init=False)
    _second: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.journal = Journal(self.clock, self.journal_size)

    def check_rate(self) -> None:
        """Count a request. Raises ApiError 429 where this second has had its share."""
        now = int(self.clock.now_s())
        second, count = self._second
        self._second = (now, count + 1 if second == now else 1)
        if self.requests_per_s and self._second[1] > self.requests_per_s:
            raise ApiError(429, "Too many requests.")


def answer(status: int, body: Any) -> Response:
    """Answer with JSON."""
    return JSONResponse(body, status)


def context_of(request: Request) -> str:
    """Tell the context that a request is made in; the community account's is empty."""
    return str(request.headers.get("IB-Context", ""))


def user_of(request: Request) -> str:
    """Tell who asks, by the token: `fake-service-…` is a service account."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return "service" if token.startswith("fake-service-") else "fake-user"


async def read_json(request: Request, types: Mapping[str, Any], required: tuple[str, ...] = ()) -> Any:
    """Read a JSON object; null means not given. Raises ApiError 400 for what is missing or of a wrong type."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise ApiError(413, "The request body is too large.")
    try:
        given = json.loads(body)
    except ValueError:
        raise ApiError(400, "The request body is not JSON.") from None
    if not isinstance(given, dict):
        raise ApiError(400, "The request body is not an object.")
    content = {key: value for key, value in given.items() if value is not None}
    for key in required:
        if key not in content:
            raise ApiError(400, f"{key} is required.")
    for key, kind in types.items():
        if key in content and (not isinstance(content[key], kind) or isinstance(content[key], bool) != (kind is bool)):
            raise ApiError(400, f"{key} is of a wrong type.")
    return content


def read_count(request: Request, name: str, default: int, at_most: int | None = None) -> int:
    """Read a number from the query. Raises ApiError 400 where it is none, or negative."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise ApiError(400, f"{name} is not a number.")
    return min(int(text[:18]), at_most) if at_most is not None else int(text[:18])


def check_name(name: str) -> str:
    """Check the name of a batch or file. Raises ApiError 400."""
    if not name or len(name) > MAX_NAME:
        raise ApiError(400, f"A name has 1 to {MAX_NAME} characters.")
    if "/" in name or "\0" in name or name in (".", ".."):
        raise ApiError(400, "The name is not one of a file.")
    return name
