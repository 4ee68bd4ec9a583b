"""The promises that `certify` checks: each is a row of the catalogue and a small function that checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fake_aihub.catalogue import Behaviour, load_behaviours

if TYPE_CHECKING:
    from fake_aihub.certify.session import Hub

Check = Callable[["Hub"], object]


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise. `runs` is the number of paid runs that it needs, `needs` the required options.

    A guess has no public source: if a real AI Hub breaks it, the fake is wrong.
    """

    id: str
    sentence: str
    operations: tuple[str, ...]
    runs: int
    needs: tuple[str, ...]
    check: Check
    is_guess: bool = False

    @property
    def source(self) -> str:
        """Return the source of the promise."""
        return "guess" if self.is_guess else "documented"


class Broken(Exception):
    """A broken promise: what was checked, the actual value, and the promised value."""

    def __init__(self, what: str, seen: Any, expected: Any) -> None:
        super().__init__(what)
        self.what, self.seen, self.expected = what, seen, expected


class Skipped(Exception):
    """A promise that cannot be checked here, and why."""


NO_BATCH = 999_999_999_999
NO_UUID = "00000000-0000-4000-8000-000000000000"
GROUPS = ("access", "batches", "uploads", "files", "vault", "runs")


def load_promises() -> list[Promise]:
    """Return the whole suite, in the order of the catalogue. Promises that need paid runs come last.

    A check is a function of a group that is named like a behaviour, or an entry of its CHECKS.
    """
    checks: dict[str, Check] = {}
    for group in GROUPS:
        module = import_module(f"fake_aihub.certify.promises.{group}")
        checks |= {name.replace("_", "-"): check for name, check in vars(module).items()} | module.CHECKS
    return [_join(one, checks[one.id]) for one in load_behaviours() if one.id]


def _join(one: Behaviour, check: Check) -> Promise:
    operations = (*one.operations, *one.also)
    return Promise(one.id, one.text, operations, one.runs, one.needs, check, one.source == "guess")


def check_equal(what: str, seen: Any, expected: Any) -> None:
    """Raise Broken unless the two values are equal and of the same type: 1 is neither True nor 1.0."""
    if seen != expected or type(seen) is not type(expected):
        raise Broken(what, seen, expected)


def check_has(seen: Mapping[str, Any], **expected: Any) -> None:
    """Raise Broken unless an object has these values."""
    for key, value in expected.items():
        check_equal(key, seen.get(key), value)


def check_that(what: str, is_kept: bool, seen: Any, expected: str) -> None:
    """Raise Broken unless the promise is kept."""
    if not is_kept:
        raise Broken(what, seen, expected)
