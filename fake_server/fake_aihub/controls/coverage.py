"""Coverage: which operations, parameters, body properties and statuses were used, and by which clients."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from fake_aihub.contract.operations import BY_ID
from fake_aihub.contract.shapes import Kind
from fake_aihub.controls.journal import Exchange

MAX_NAMES = 100  # for names that clients choose freely
MAX_NAME = 100
PARTS = ("statuses", "query", "headers", "body", "clients")
NO_ROUTE = (404, 405, 501)


class Coverage:
    """Coverage since the start. A rewind does not change it: it is about clients, not about the world."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Counter[str]]] = {
            operation: {part: Counter() for part in PARTS} for operation in BY_ID
        }
        self._unknown: Counter[str] = Counter()

    def note(self, exchange: Exchange) -> None:
        """Count a completed exchange."""
        operation = BY_ID.get(exchange.operation)
        if operation is None:
            if exchange.status in NO_ROUTE:
                _count(self._unknown, f"{exchange.method} {exchange.path}")
            return
        for name in exchange.scope.get("unknown", ()):
            _count(self._unknown, f"{operation.id}: {name}")
        seen = self._seen[operation.id]
        seen["statuses"]["faulted" if exchange.scope.get("faulted") else str(exchange.status)] += 1
        headers = {name.lower(): value for name, value in exchange.raw_request_headers}
        _count(seen["clients"], headers.get(b"user-agent", b"").decode("latin-1"))
        seen["headers"].update(name for name in operation.headers if name.lower().encode() in headers)
        if exchange.query:
            given = {name for name, _ in parse_qsl(exchange.query, keep_blank_values=True)}
            seen["query"].update(given & operation.query.keys())
        if operation.body is not None and exchange.request_body:
            seen["body"].update(_used(operation.body, exchange.request_body))

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, including what was never used."""
        used = {operation: seen for operation, seen in self._seen.items() if seen["statuses"]}
        return {
            "operations": {operation: _tell(operation, seen) for operation, seen in used.items()},
            "exercised": len(used),
            "of": len(self._seen),
            "never": [operation for operation in self._seen if operation not in used],
            "unknown": dict(self._unknown),
        }


def _tell(name: str, seen: Mapping[str, Counter[str]]) -> dict[str, Any]:
    operation = BY_ID[name]
    known: Mapping[str, Iterable[str]] = {
        "statuses": map(str, operation.statuses),
        "query": operation.query,
        "headers": operation.headers,
        "body": _names(operation.body, ""),
    }
    counted = {part: dict(counts) for part, counts in seen.items()}
    return {
        "calls": seen["statuses"].total(),
        "faulted": counted["statuses"].pop("faulted", 0),
        **counted,
        "never": {part: [one for one in names if one not in seen[part]] for part, names in known.items()},
    }


def _count(counts: Counter[str], name: str) -> None:
    name = name[:MAX_NAME]
    counts[name if name in counts or len(counts) < MAX_NAMES else "(others)"] += 1


def _used(kind: Kind, text: bytes) -> set[str]:
    try:
        return set(_walk(kind, json.loads(text), ""))
    except (ValueError, RecursionError):
        return set()


def _walk(kind: Kind, value: Any, where: str) -> Iterator[str]:
    """Return the declared properties that are present in a body. A null property counts as absent."""
    if isinstance(kind, list) and isinstance(value, list):
        for item in value:
            yield from _walk(kind[0], item, where)
    elif isinstance(kind, Mapping) and isinstance(value, dict):
        for key in kind:
            if value.get(key) is not None:
                yield where + key
                yield from _walk(kind[key], value[key], f"{where}{key}.")


def _names(kind: Kind, where: str) -> Iterator[str]:
    """Return all declared properties."""
    if isinstance(kind, list):
        yield from _names(kind[0], where)
    elif isinstance(kind, Mapping):
        for key in kind:
            yield where + key
            yield from _names(kind[key], f"{where}{key}.")
