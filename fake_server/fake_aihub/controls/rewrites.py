"""Faults that change a response: properties set or removed, tags altered, entries hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from fake_aihub.controls.fault_scripts import Fault

LISTED = {"listBatches": "batches", "listRuns": "runs"}
Change = Callable[[dict[str, Any]], None]


def rewrite(fault: Fault, operation: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    """Return the status and body of a response, changed by a fault. Errors and bodies other than JSON are unchanged."""
    if fault.do == "replace":
        text = body.decode("utf-8", "surrogateescape")
        return status, re.sub(fault.old, lambda _: fault.new, text).encode("utf-8", "surrogateescape")
    try:
        content = json.loads(body)
    except ValueError:
        return status, body
    if status >= 300 or not isinstance(content, dict):
        return status, body
    if fault.do == "hide":
        return _hide(fault, operation, path, status, content)
    before = json.dumps(content)
    _change(content, _changes(fault), "" if fault.do == "drop_tags" else fault.name)
    after = json.dumps(content)
    return status, body if after == before else after.encode()


def _hide(fault: Fault, operation: str, path: str, status: int, content: dict[str, Any]) -> tuple[int, bytes]:
    if operation in LISTED:
        key = LISTED[operation]
        content[key] = [entry for entry in content[key] if fault.name not in ("", str(entry["id"]))]
    elif fault.name == "" or fault.name in path.split("/"):
        status, content = fault.status, {"message": "The id does not exist."}
    return status, json.dumps(content).encode()


def _changes(fault: Fault) -> Change:
    """Return the function that applies a fault to an object."""
    fields = fault.fields if isinstance(fault.fields, dict) else dict.fromkeys(fault.fields)

    def change(thing: dict[str, Any]) -> None:
        tags = thing.get("tags")
        if fault.do == "set":
            for key in thing.keys() & fields.keys():
                thing[key] = fields[key]
        elif fault.do == "leave_out":
            for key in fields:
                thing.pop(key, None)
        elif isinstance(tags, list):
            thing["tags"] = _alter(fault, tags)

    return change


def _alter(fault: Fault, tags: list[str]) -> list[str]:
    if fault.do == "cut_tags":
        return [tag[: fault.items] for tag in tags]
    if fault.do == "drop_tags":
        return [tag for tag in tags if not tag.startswith(fault.name)]
    if fault.do == "dash_tags":
        return [tag.replace(":", "-") for tag in tags]
    return [",".join(tags)] if tags else []


def _change(value: Any, change: Change, name: str) -> None:
    """Change each object in a value, or only those that contain a given name and the objects inside them."""
    if isinstance(value, list):
        for item in value:
            _change(item, change, name)
    elif isinstance(value, dict):
        if any(isinstance(item, str | int) and str(item) == name for item in value.values()):
            name = ""
        for item in value.values():
            _change(item, change, name)
        if not name:
            change(value)
