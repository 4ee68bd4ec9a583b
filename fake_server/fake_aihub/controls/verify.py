"""Find the requests in a journal that match criteria, and the nearest misses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

CRITERIA: Mapping[str, Any] = {
    "method": str,
    "path": str,
    "operation": str,
    "status": int,
    "query": dict,
    "headers": dict,
    "body": dict,
    "faulted": bool,
}
NEAR_MISSES = 3


def matching(entries: Iterable[dict[str, Any]], criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the entries that match the criteria."""
    return [entry for entry in entries if not differences(entry, criteria)]


def near_misses(entries: Iterable[dict[str, Any]], criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the nearest misses: the entries with the fewest differences, and those differences."""
    found = [
        {"method": entry["method"], "path": entry["path"], "operation": entry["operation"], "differs_in": differs}
        for entry in entries
        if 0 < len(differs := differences(entry, criteria)) < max(2, len(criteria))
    ]
    path = str(criteria.get("path", ""))
    found.sort(key=lambda miss: (len(miss["differs_in"]), -_likeness(miss["path"].removeprefix("/api"), path)))
    return found[:NEAR_MISSES]


def _likeness(path: str, wanted: str) -> int:
    return sum(one == other for one, other in zip(path, wanted, strict=False))


def differences(entry: dict[str, Any], criteria: Mapping[str, Any]) -> dict[str, Any]:
    """Return the differences between an entry and the criteria: the expected and the actual values."""
    was = {
        **entry,
        "query": dict(parse_qsl(entry["query"], keep_blank_values=True)),
        "headers": entry["request_headers"],
        "body": entry["request_json"],
    }
    return {
        key: {"wanted": wanted, "was": _part(was[key], wanted)}
        for key, wanted in criteria.items()
        if not _fits(key, wanted, was[key])
    }


def _fits(key: str, wanted: Any, was: Any) -> bool:
    if key == "path":
        path = was.removeprefix("/api")
        return any(_is_like(form, wanted.removeprefix("/api")) for form in (path, unquote(path)))
    if key == "headers":
        wanted = {name.lower(): value for name, value in wanted.items()}
    return _contains(was, wanted)


def _is_like(text: str, pattern: str) -> bool:
    """Return whether a text matches a pattern with `*` wildcards. Runs in one pass for every pattern."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == first
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _contains(was: Any, wanted: Any) -> bool:
    """Return whether an object contains everything expected. It may contain more."""
    if isinstance(wanted, dict) and isinstance(was, dict):
        return all(key in was and _contains(was[key], value) for key, value in wanted.items())
    return bool(was == wanted)


def _part(was: Any, wanted: Any) -> Any:
    """Return the part of an object that the criteria name."""
    if isinstance(wanted, dict) and isinstance(was, dict):
        return {key: value for key, value in was.items() if key.lower() in {name.lower() for name in wanted}}
    return was
