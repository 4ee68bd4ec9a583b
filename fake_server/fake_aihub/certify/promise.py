"""What `certify` tries: promises, each a sentence and a small function that sees whether it is kept."""

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
    """One promise; `runs` is how many paid runs must have been started for it, `needs` the options it takes.

    Where it is a guess, nothing public says so: if a real AI Hub breaks it, the fake is wrong.
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
        """Return where it is known from."""
        return "guess" if self.is_guess else "documented"


class Broken(Exception):
    """A promise that is not kept: what was looked at, what was seen, what was promised."""

    def __init__(self, what: str, seen: Any, expected: Any) -> None:
        super().__init__(what)
        self.what, self.seen, self.expected = what, seen, expected


class Skipped(Exception):
    """A promise that cannot be tried here, and why."""


GROUPS = ("access", "batches", "uploads", "files", "secrets", "runs")
PROMISES: dict[str, Promise] = {}


def promise(
    sentence: str, *operations: str, runs: int = 0, needs: tuple[str, ...] = (), guess: bool = False
) -> Callable[[Check], Check]:
    """Add a promise to the suite. Its id is the function's name, with dashes."""

    def add(check: Check) -> Check:
        made = Promise(check.__name__.replace("_", "-"), sentence, operations, runs, needs, check, guess)
        if made.id in PROMISES:
            raise ValueError(f"two promises are called {made.id}")
        PROMISES[made.id] = made
        return check

    return add


def load_promises() -> list[Promise]:
    """Load the whole suite in its order: what is paid for comes last."""
    for group in GROUPS:
        import_module(f"fake_aihub.certify.promises.{group}")
    return list(PROMISES.values())


def check_equal(what: str, seen: Any, expected: Any) -> None:
    """Raise Broken unless the two are equal, in type too: 1 is not True, nor 1.0."""
    if seen != expected or type(seen) is not type(expected):
        raise Broken(what, seen, expected)


def check_that(what: str, is_kept: bool, seen: Any, expected: str) -> None:
    """Raise Broken unless it is kept."""
    if not is_kept:
        raise Broken(what, seen, expected)
