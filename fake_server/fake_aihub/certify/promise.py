"""The promises that `certify` checks: each is a sentence and a small function that checks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_aihub.certify.session import Hub

Check = Callable[["Hub"], None]


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


GROUPS = ("access", "batches", "uploads", "files", "secrets", "runs")
PROMISES: dict[str, Promise] = {}


def promise(
    sentence: str, *operations: str, runs: int = 0, needs: tuple[str, ...] = (), guess: bool = False
) -> Callable[[Check], Check]:
    """Add a promise to the suite. Its id is the function's name with dashes."""

    def add(check: Check) -> Check:
        made = Promise(check.__name__.replace("_", "-"), sentence, operations, runs, needs, check, guess)
        if made.id in PROMISES:
            raise ValueError(f"two promises are called {made.id}")
        PROMISES[made.id] = made
        return check

    return add


def load_promises() -> list[Promise]:
    """Return the whole suite in order. Promises that need paid runs come last."""
    for group in GROUPS:
        import_module(f"fake_aihub.certify.promises.{group}")
    return list(PROMISES.values())


def check_equal(what: str, seen: Any, expected: Any) -> None:
    """Raise Broken unless the two values are equal and of the same type: 1 is neither True nor 1.0."""
    if seen != expected or type(seen) is not type(expected):
        raise Broken(what, seen, expected)


def check_that(what: str, is_kept: bool, seen: Any, expected: str) -> None:
    """Raise Broken unless the promise is kept."""
    if not is_kept:
        raise Broken(what, seen, expected)
