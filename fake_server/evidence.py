"""Where each behaviour of the fake is known from: a mark on the code that implements it, collected in `RULES`.

`spec` is the vendor's OpenAPI description, `docs` its public documentation, `sdk` the code of its Python SDK, and
`guess` is ours: nothing public says so.
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
    """One behaviour. Without an operation it holds for all, without a status for each answer."""

    source: Source
    text: str
    operation: str
    status: int | None
    where: str


RULES: list[Rule] = []


def rule(source: Source, text: str, *, operation: str = "", status: int | None = None) -> Callable[[Marked], Marked]:
    """Mark a function or class with a behaviour that it implements, and where that is known from."""

    def mark(marked: Marked) -> Marked:
        where = f"{getattr(marked, '__module__', '')}.{getattr(marked, '__name__', '')}"
        RULES.append(Rule(source, text, operation, status, where.removeprefix("fake_server.")))
        return marked

    return mark


def count_sources(rules: Iterable[Rule]) -> dict[Source, int]:
    """Count the behaviours per source."""
    counts = Counter(one.source for one in rules)
    return {source: counts[source] for source in SOURCES}


def render_evidence(rules: Iterable[Rule]) -> str:
    """Render a table of all behaviours, and how many have which source, as Markdown."""
    chosen = sorted(rules, key=lambda one: (one.operation, one.status or 0, one.text))
    counts = "\n".join(f"| {source} | {count} |" for source, count in count_sources(chosen).items())
    rows = "\n".join(
        f"| {one.operation or 'all'} | {one.status or ''} | {one.text} | {one.source} | `{one.where}` |"
        for one in chosen
    )
    return (
        f"| source | behaviours |\n| --- | --- |\n{counts}\n\n"
        f"| operation | status | behaviour | source | where |\n| --- | --- | --- | --- | --- |\n{rows}\n"
    )


def main() -> None:
    """Print the table of everything that the fake's modules mark."""
    import fake_server.app  # noqa: F401  (imports all modules that mark)
    from fake_server import evidence

    print(evidence.render_evidence(evidence.RULES), end="")  # noqa: T201


if __name__ == "__main__":
    main()
