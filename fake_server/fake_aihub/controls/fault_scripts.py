"""Fault scripts: their keys and their validation."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Interval, MinLen, Predicate

from fake_aihub.contract.operations import BY_ID
from fake_aihub.contract.shapes import Count, Kind, Shape
from fake_aihub.files import read_regular
from fake_aihub.redact import LEFT_OUT

# Faults of the exchange. Only one applies at a time.
ACTIONS = ("reset", "truncate", "cut", "stall", "slow", "garbage", "status")
LISTINGS = ("listBatches", "listFiles", "listRuns")
PAGED = (*LISTINGS, "getRunResults")
TAGGED = ("runApp", "runDeployment", "getRunStatus", "listRuns")
HIDEABLE = ("listBatches", "getBatch", "listFiles", "listRuns", "getRunStatus", "getRunResults")
NAMING_BATCHES = ("createBatch", "getBatch", "listFiles")
NAMING_RUNS = ("runApp", "runDeployment", "getRunStatus", "getRunResults")
# Faults inside a call, with the operations that support them; an empty tuple means all.
KNOBS: Mapping[str, tuple[str, ...]] = {
    "lag": LISTINGS,
    "drop_answer": ("getRunResults",),
    "repeat_page": PAGED,
    "shift_page": PAGED,
    "short_pages": PAGED,
    "cap": PAGED,
    "another": (*NAMING_BATCHES, *NAMING_RUNS),
    "skew": (),
    "date": (),
    "no_date": (),
    "expire": (),
}
# Faults of the delivery, and interim responses.
DELIVERIES: Mapping[str, tuple[str, ...]] = {"twice": (), "late": (), "interim": (), "surplus": ()}
# Changes to a response, with the operations that support them; an empty tuple means all.
REWRITES: Mapping[str, tuple[str, ...]] = {
    "set": (),
    "leave_out": (),
    "replace": (),
    "hide": HIDEABLE,
    "cut_tags": TAGGED,
    "drop_tags": TAGGED,
    "dash_tags": TAGGED,
    "join_tags": TAGGED,
}
PLACES: Mapping[str, tuple[str, ...]] = {**dict.fromkeys(ACTIONS, ()), **KNOBS, **DELIVERIES, **REWRITES}
DOS = tuple(PLACES)
# Defaults that differ from those of `Fault`.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "cap": {"status": 200},
    "hide": {"status": 404},
    "interim": {"status": 103},
    "late": {"status": 202, "body": ""},
}
FIELD_VALUE = re.compile(r"[\x20-\x7e]*")
FRAMING = ("content-length", "transfer-encoding")  # set by the server
FIELD_NAME = re.compile(r"[A-Za-z0-9-]+")
LONGEST_S = 1e9


@dataclass(slots=True)
class Fault:
    """One script: from the `nth` matching call, every `every`-th one, for `times` calls (0 means all).

    `when` is "before" (the service does not act) or "after" (it acts, and the response is lost). docs/controls.md
    describes each `do` and its keys. `calls` and `used` are counters.
    """

    operation: str = "*"
    nth: int = 1
    times: int = 1
    every: int = 1
    match: str = ""
    token: str = ""
    when: str = "before"
    do: str = "reset"
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"message": "scripted"}'
    bytes: int = 20
    seconds: float = 0.0
    items: int = 1
    name: str = ""
    fields: dict[str, Any] | list[str] = field(default_factory=dict)
    old: str = ""
    new: str = ""
    until: str = "*"
    calls: int = 0
    used: int = 0

    def strikes(self, operation: str, path: str, token: str = "") -> bool:
        """Count a call, and return whether the fault applies to it."""
        if self.operation not in ("*", operation) or self.match not in path or self.token not in ("", token):
            return False
        if operation not in (PLACES[self.do] or (operation,)):
            return False
        self.calls += 1
        is_turn = self.calls >= self.nth and (self.calls - self.nth) % self.every == 0
        hit = is_turn and (not self.times or self.used < self.times)
        self.used += hit
        return hit

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without the token."""
        # JSON has no NaN and no infinities: they become texts.
        rendered: dict[str, Any] = json.loads(json.dumps(asdict(self)), parse_constant=lambda text: str(float(text)))
        return rendered | ({"token": LEFT_OUT} if self.token else {})


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _are_headers(value: dict[Any, Any]) -> bool:
    return all(
        FIELD_NAME.fullmatch(name)
        and name.lower() not in FRAMING
        and isinstance(text, str)
        and FIELD_VALUE.fullmatch(text)
        for name, text in value.items()
    )


def _seconds(least: float, allowed: str) -> Kind:
    return Annotated[int | float, Interval(ge=least, le=LONGEST_S), allowed]


def _whole(least: int | None, most: int | None, allowed: str) -> Kind:
    return Annotated[int, Interval(ge=least, le=most), allowed]


def _text(fits: Callable[[str], Any], allowed: str) -> Kind:
    return Annotated[str, Predicate(lambda text: bool(fits(text))), allowed]


FROM_1 = _whole(1, None, "a whole number from 1")
ANY_OPERATION = Literal["*", *BY_ID]  # type: ignore[valid-type]
# The kind of each key: the type, or what is allowed of it.
KEYS: Mapping[str, Kind] = {
    **{key: kind for key, kind in get_type_hints(Fault).items() if key not in ("calls", "used")},
    "operation": ANY_OPERATION,
    "nth": FROM_1,
    "times": _whole(0, None, "a whole number from 1, or 0 for all calls"),
    "every": FROM_1,
    "when": Literal["before", "after"],
    "do": Literal[DOS],
    "status": _whole(200, 599, "a status from 200 to 599"),
    "headers": Annotated[dict, Predicate(_are_headers), "a table of header names and ASCII texts"],
    "bytes": Count,
    "seconds": _seconds(0, "a number of seconds from 0"),
    "old": _text(_is_pattern, "a regular expression"),
    "until": ANY_OPERATION,
}
NAMES = Annotated[list[str], MinLen(1), "a list of names"]
ANY_SECONDS = _seconds(-LONGEST_S, "a number of seconds")
# The kinds that are different for a `do`.
DEMANDS: Mapping[str, Mapping[str, Kind]] = {
    "set": {"fields": Annotated[dict[str, Any], MinLen(1), "a table of names and values"]},
    "leave_out": {"fields": NAMES},
    "replace": {"old": _text(lambda text: text and _is_pattern(text), "a regular expression")},
    "twice": {"items": _whole(1, 2, "1 or 2, the delivery whose response is returned")},
    "cap": {"items": Count},
    "cut_tags": {"items": Count},
    "short_pages": {"items": FROM_1},
    "interim": {
        "items": _whole(1, 100, "a whole number from 1 to 100"),
        "status": _whole(102, 199, "a status from 102 to 199"),
    },
    "expire": {"name": Literal["", "batches", "runs", "results"]},
    "skew": {"seconds": ANY_SECONDS},
    "date": {"name": _text(FIELD_VALUE.fullmatch, "a header value in ASCII"), "seconds": ANY_SECONDS},
}
BATCH_ID = _text(re.compile("([0-9]{1,18})?").fullmatch, "a batch id, or empty")
NUMERIC = ("status", "bytes", "seconds", "items")
NOT_IN_A_HEADER = ("operation", "nth", "times", "every", "match", "token")


def parse_fault(script: Any) -> Fault:
    """Return the fault of a script. Raises ValueError, which names the key and the allowed values."""
    if not isinstance(script, dict):
        raise ValueError(f"a fault must be a table; allowed keys: {', '.join(KEYS)}")
    do = script.get("do", "reset")
    known = do if do in DOS else "reset"
    whole = {**{key: getattr(Fault(), key) for key in KEYS}, **DEFAULTS.get(known, {}), **script}
    for mistake in _shape_of(known, whole["operation"] in NAMING_BATCHES).mistakes(whole):
        raise ValueError(f"{known}: " * ("do" in script) + mistake.show())
    return Fault(**whole)


@cache
def _shape_of(do: str, is_of_batches: bool) -> Shape:
    """Return the shape of a fault with all its keys."""
    kinds = {**KEYS, **DEMANDS.get(do, {})}
    if PLACES[do]:
        # Changes to responses can apply to all operations at once.
        wide = ("*",) if do in REWRITES else ()
        kinds["operation"] = Literal[*PLACES[do], *wide]
    if do == "another" and is_of_batches:
        kinds["name"] = BATCH_ID
    return Shape(kinds)


def parse_header(text: str, operation: str) -> Fault:
    """Return the fault in the header of a request: `after reset`, `status status=429`, or a JSON object.

    Raises ValueError, which names the mistake and the allowed values.
    """
    try:
        script = json.loads(text) if text.startswith("{") else _parse_words(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("invalid JSON object") from None
    for key in NOT_IN_A_HEADER:
        if key in script:
            raise ValueError(f"{key} is not allowed in a header, which applies to its own request only")
    return parse_fault({**script, "operation": operation or "*"})


def _parse_words(text: str) -> dict[str, Any]:
    script: dict[str, Any] = {}
    for word in text.split():
        key, is_pair, value = word.partition("=")
        if is_pair:
            script[key] = _parse_number(value) if key in NUMERIC else value
        elif word in ("before", "after"):
            script["when"] = word
        elif word in DOS:
            script["do"] = word
        else:
            raise ValueError(f"unknown word {word!r}; allowed: before, after, {', '.join(DOS)}, key=value")
    return script


def _parse_number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def load_faults(path: Path) -> list[Fault]:
    """Return the faults in a TOML file, from its `[[fault]]` tables. Raises ValueError and OSError."""
    try:
        content = tomllib.loads(read_regular(path).decode())
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
