"""The source of each behaviour of the fake: a mark on the code that implements it, collected in `RULES`.

`spec` is the vendor's OpenAPI description, `docs` its public documentation, `sdk` the code of its Python SDK. `guess`
is our assumption: nothing public confirms it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

Source = Literal["spec", "docs", "sdk", "guess"]
SOURCES: tuple[Source, ...] = get_args(Source)
Marked = TypeVar("Marked")


@dataclass(frozen=True, slots=True)
class Rule:
    """One behaviour. An empty operation means every operation; a status of None means every response."""

    source: Source
    text: str
    operation: str
    status: int | None
    where: str


RULES: list[Rule] = []


def rule(source: Source, text: str, *, operation: str = "", status: int | None = None) -> Callable[[Marked], Marked]:
    """Mark a function or class with a behaviour that it implements and the source of that behaviour."""

    def mark(marked: Marked) -> Marked:
        where = f"{getattr(marked, '__module__', '')}.{getattr(marked, '__name__', '')}"
        RULES.append(Rule(source, text, operation, status, where.removeprefix("fake_aihub.")))
        return marked

    return mark


def count_sources(rules: Iterable[Rule]) -> dict[Source, int]:
    """Count the behaviours per source."""
    counts = Counter(one.source for one in rules)
    return {source: counts[source] for source in SOURCES}


def render_counts(rules: Iterable[Rule]) -> str:
    """Return one sentence with the number of behaviours per source, as shown in the README."""
    counts = count_sources(rules)
    return (
        f"Of its {sum(counts.values())} marked behaviours, {counts['spec']} are from the OpenAPI description, "
        f"{counts['docs']} from the public documentation, {counts['sdk']} from the code of the vendor's SDK, "
        f"and {counts['guess']} are guesses."
    )
