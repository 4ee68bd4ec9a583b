"""Fault scripts: what they may say, and how a wrong one is refused."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_server.operations import BY_ID

ACTIONS = ("reset", "truncate", "cut", "stall", "slow", "garbage", "status")
LISTINGS = ("listBatches", "listFiles", "listRuns")
# What happens within the call, and the operations whose handlers can do it; none means all.
KNOBS: Mapping[str, tuple[str, ...]] = {
    "lag": LISTINGS,
    "drop_answer": ("getRunResults",),
    "repeat_page": (*LISTINGS, "getRunResults"),
    "shift_page": (*LISTINGS, "getRunResults"),
    "skew": (),
}
FIELD_VALUE = re.compile(r"[\x20-\x7e]*")
FRAMING = ("content-length", "transfer-encoding")  # the server's own
FIELD_NAME = re.compile(r"[A-Za-z0-9-]+")
LONGEST_S = 1e9


@dataclass(slots=True)
class Fault:
    """One script: from the `nth` matching call on, for `times` calls.

    `when` is "before" (the service does not act) or "after" (it has acted, and the answer is lost). `do` is one of
    `ACTIONS`, done to the exchange: `truncate` ends the answer's body after `bytes`, `cut` breaks the connection after
    so many of the request's, `stall` waits `seconds` and breaks it, `slow` gives the answer in pieces of `bytes` with
    `seconds` between. Or it is one of `KNOBS`: `lag` hides what is younger than `seconds`, `drop_answer` the results
    of the file `name`; `repeat_page` gives the page before the one that was asked for, `shift_page` one that begins
    `items` later, or earlier where that is negative; `skew` sets the service's clock off by `seconds`.
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

    def strikes(self, operation: str, path: str) -> bool:
        """Count a call, and tell whether it goes wrong."""
        if self.operation not in ("*", operation) or self.match not in path:
            return False
        self.calls += 1
        hit = self.nth <= self.calls < self.nth + self.times
        self.used += hit
        return hit


def _one_of(*allowed: str) -> tuple[type, Callable[[Any], bool], str]:
    return str, lambda value: value in allowed, ", ".join(allowed)


def _number(kind: Any, least: float, most: float, what: str) -> tuple[Any, Callable[[Any], bool], str]:
    return kind, lambda value: least <= value <= most, what


def _are_headers(value: dict[Any, Any]) -> bool:
    return all(
        FIELD_NAME.fullmatch(name)
        and name.lower() not in FRAMING
        and isinstance(text, str)
        and FIELD_VALUE.fullmatch(text)
        for name, text in value.items()
    )


# Each key: the type of its value, what else is asked of it, and what is allowed, in words.
KEYS: Mapping[str, tuple[Any, Callable[[Any], Any], str]] = {
    "operation": _one_of("*", *BY_ID),
    "nth": _number(int, 1, math.inf, "a whole number from 1"),
    "times": _number(int, 1, math.inf, "a whole number from 1"),
    "match": (str, lambda _: True, "a part of the path"),
    "when": _one_of("before", "after"),
    "do": _one_of(*ACTIONS, *KNOBS),
    "status": _number(int, 200, 599, "a status from 200 to 599"),
    "headers": (dict, _are_headers, "a table of header names and ASCII texts"),
    "body": (str, lambda _: True, "a text"),
    "bytes": _number(int, 0, math.inf, "a whole number from 0"),
    "seconds": _number(int | float, -LONGEST_S, LONGEST_S, "a number of seconds"),
    "items": _number(int, -math.inf, math.inf, "a whole number"),
    "name": (str, lambda _: True, "the name of a file"),
}
NOT_IN_A_HEADER = ("operation", "nth", "times", "match")


def parse_fault(script: Any) -> Fault:
    """Turn a script into a fault. Raises ValueError, which names the key and what is allowed."""
    if not isinstance(script, dict):
        raise ValueError(f"a fault is a table with some of the keys {', '.join(KEYS)}")
    for key, value in script.items():
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}; allowed: {', '.join(KEYS)}")
        kind, fits, allowed = KEYS[key]
        if not isinstance(value, kind) or isinstance(value, bool) or not fits(value):
            raise ValueError(f"{key} is {value!r}; allowed: {allowed}")
    fault = Fault(**script)
    places = KNOBS.get(fault.do)
    if places and fault.operation not in places:
        raise ValueError(f"{fault.do} is not for the operation {fault.operation!r}; allowed: {', '.join(places)}")
    if fault.seconds < 0 and fault.do != "skew":
        raise ValueError(f"seconds is {fault.seconds}; allowed: a number of seconds from 0")
    return fault


def parse_header(text: str, operation: str) -> Fault:
    """Turn the header of one request into its fault: `after reset`, `status status=429`, or a JSON object.

    Raises ValueError, which names what is wrong and what is allowed.
    """
    script = _parse_json(text) if text.startswith("{") else _parse_words(text)
    for key in NOT_IN_A_HEADER:
        if key in script:
            raise ValueError(f"{key} is not for a header, which is for its own request")
    return parse_fault({**script, "operation": operation or "*"})


def _parse_json(text: str) -> dict[str, Any]:
    try:
        script: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not a JSON object") from None
    return script


def _parse_words(text: str) -> dict[str, Any]:
    script: dict[str, Any] = {}
    for word in text.split():
        key, is_pair, value = word.partition("=")
        if is_pair:
            script[key] = _parse_number(value) if key in KEYS and KEYS[key][0] is not str else value
        elif word in ("before", "after"):
            script["when"] = word
        elif word in ACTIONS or word in KNOBS:
            script["do"] = word
        else:
            raise ValueError(f"{word!r} is none of before, after, {', '.join((*ACTIONS, *KNOBS))}, key=value")
    return script


def _parse_number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def load_faults(path: Path) -> list[Fault]:
    """Load the `[[fault]]` tables of a TOML file. Raises ValueError, which names the table, and OSError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    unknown = [key for key in content if key != "fault"]
    tables = content.get("fault", [])
    if unknown or not isinstance(tables, list):
        raise ValueError(f"{path}: unknown key {(unknown or ['fault'])[0]!r}; allowed: [[fault]]")
    faults = []
    for number, table in enumerate(tables, 1):
        try:
            faults.append(parse_fault(table))
        except ValueError as error:
            raise ValueError(f"{path}: fault {number}: {error}") from None
    return faults
