"""The options of a fake and their ranges, for the command line, marks and code."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_S = 1e9
HOST = re.compile(r"[A-Za-z0-9.\-_:]+")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]+")
# The options of a test's mark. Tests share a server, so its address, folder and token rules are not among them.
OF_A_TEST = (
    *("run_seconds", "latency_ms", "page_files", "part_size", "requests_per_s", "journal_size", "clock", "seed"),
    *("scenarios", "fixtures", "strict", "allow_webhooks", "allow_unused_faults"),
)


class OptionError(ValueError):
    """An invalid option: its `name` and the problem."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Range:
    """The allowed values of an option: the type, a further check, and a description."""

    kind: Any
    fits: Callable[[Any], Any]
    allowed: str

    def takes(self, value: Any) -> bool:
        """Return whether a value is in the range."""
        is_of_kind = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        return is_of_kind and bool(self.fits(value))


def _number(kind: Any, least: float, most: float, allowed: str) -> Range:
    return Range(kind, lambda value: least <= value <= most, allowed)


def _is_clock(text: str) -> bool:
    from fake_aihub.world.clock import parse_clock

    try:
        parse_clock(text)
    except ValueError:
        return False
    return True


FLAG = Range(bool, lambda _: True, "True or False")
FOLDER = Range(str | Path | None, lambda path: path is None or str(path), "the path of a folder")
RANGES: Mapping[str, Range] = {
    "host": Range(str, lambda text: text and not re.search(r"[\s/]", text), "an address such as 127.0.0.1"),
    "port": _number(int, 0, 65535, "a whole number from 0 to 65535"),
    "data_dir": FOLDER,
    "run_seconds": _number(int | float, 0, LONGEST_S, "a number of seconds from 0"),
    "latency_ms": _number(int | float, 0, 3_600_000, "a number of milliseconds from 0 to 3600000"),
    "requests_per_s": _number(int, 0, math.inf, "a whole number from 0"),
    "page_files": _number(int, 1, math.inf, "a whole number from 1"),
    "part_size": _number(int, 1, math.inf, "a whole number from 1"),
    "journal_size": _number(int, 1, math.inf, "a whole number from 1"),
    "clock": Range(str, _is_clock, "real, frozen, 2026-01-31T12:00:00Z"),
    "seed": _number(int, -math.inf, math.inf, "a whole number"),
    "cors": Range(
        str, lambda text: text in ("", "*") or ORIGIN.fullmatch(text), "an origin such as http://localhost:5173"
    ),
    "allowed_hosts": Range(
        tuple,
        lambda names: all(isinstance(name, str) and HOST.fullmatch(name) for name in names),
        "names such as aihub",
    ),
    "scenarios": FOLDER,
    "fixtures": FOLDER,
    "any_token": FLAG,
    "strict": FLAG,
    "allow_webhooks": FLAG,
    "allow_unused_faults": FLAG,
}


def check_options(given: Mapping[str, Any], known: Iterable[str] = RANGES) -> None:
    """Check options by name. Raises OptionError with the value and the allowed values."""
    known = list(known)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) or known
            raise OptionError(name, f"is not a known option; allowed: {', '.join(near)}")
        if not RANGES[name].takes(value):
            raise OptionError(name, f"is {value!r}; allowed: {RANGES[name].allowed}")
