"""Log each request as a line of JSON, with what a support request needs: no token, no query, no body."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from aihub_runner.aihub.response import Answer
from aihub_runner.outfile import JsonLines

_IDS = ("request-id", "requestid", "trace-id", "correlation-id")  # ends of headers that name a request
_LONGEST_ID = 200


class Exchange(NamedTuple):
    """A request that was sent, and what came of it: a response, or the exception instead of one."""

    method: str
    path: str
    body: Any
    seconds: float
    came: Answer | BaseException


class RequestLog(JsonLines):
    """Appends to a file. Any thread may call it, and nothing that goes wrong here ends a request."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "ab")

    def __call__(self, exchange: Exchange) -> None:
        """Log a request."""
        method, path, body, seconds, came = exchange
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "method": method, "path": path}
        if isinstance(came, Answer):
            found = {"status": came.status, "request_ids": find_ids(came.headers), "received_bytes": len(came.body)}
        else:
            found = {"error": type(came).__name__}
        self.write(line | found | {"sent_bytes": _measure(body), "ms": round(seconds * 1000, 1)})


def find_ids(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that name a request, for the support of the service."""
    return {name: value[:_LONGEST_ID] for name, value in headers.items() if name.endswith(_IDS)}


def _measure(body: Any) -> int:
    """Return the size of a body, however much of it was sent."""
    return 0 if body is None else body.getbuffer().nbytes if isinstance(body, io.BytesIO) else len(body)
