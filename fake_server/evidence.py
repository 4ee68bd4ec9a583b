"""Where each behaviour of the fake is known from: a mark on the code that implements it, collected in `RULES`.

`spec` is the vendor's OpenAPI description, `docs` its public documentation, `sdk` the code of its Python SDK, and
`guess` is ours: nothing public says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from fake_server.operations import OPERATIONS

if TYPE_CHECKING:
    from fake_server.promise import Promise

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
INTRODUCTION = """\
# How far the fake can be trusted

Made from the marks in its code by `make docs`; a test compares them.

{counts}

`spec` is the vendor's OpenAPI description, `docs` its public documentation, `sdk` the code of its Python SDK,
and `guess` is ours: nothing public says so. The last column names where it is implemented in `fake_server/`.

`fake-aihub certify` tries promises on the fake, and on a real AI Hub for those who have one. A promise that a real one
keeps turns a guess into a fact: please send in the report."""


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


def render_counts(rules: Iterable[Rule]) -> str:
    """Render in one sentence how many behaviours have which source, as the README tells it."""
    counts = count_sources(rules)
    return (
        f"Of its {sum(counts.values())} marked behaviours, {counts['spec']} are from the OpenAPI description, "
        f"{counts['docs']} from the public documentation, {counts['sdk']} from the code of the vendor's SDK, "
        f"and {counts['guess']} are guesses."
    )


def render_evidence(rules: Iterable[Rule], promises: Iterable[Promise]) -> str:
    """Render all behaviours by operation, with the promises that `fake-aihub certify` tries there, as Markdown."""
    rules, promises = list(rules), list(promises)
    parts = [INTRODUCTION.format(counts=render_counts(rules)), "## Every operation", _render_rules(rules, "")]
    for operation in OPERATIONS:
        tried = ", ".join(f"`{one.id}`" for one in promises if operation.id in one.operations)
        parts += [f"## {operation.id}: `{operation.method} {operation.path}`", _render_rules(rules, operation.id)]
        parts += [f"Tried by `certify`: {tried}."] if tried else []
    sentences = "\n".join(
        f"| `{one.id}` | {_cell(one.sentence)} | {one.source} | {one.runs or ''} |" for one in promises
    )
    parts += [
        "## The promises of certify",
        f"| promise | what is promised | source | runs |\n| --- | --- | --- | --- |\n{sentences}",
    ]
    return "\n\n".join(parts) + "\n"


def _render_rules(rules: Iterable[Rule], operation: str) -> str:
    chosen = sorted((one for one in rules if one.operation == operation), key=lambda one: (one.status or 0, one.text))
    rows = [f"| {one.status or ''} | {_cell(one.text)} | {one.source} | `{one.where}` |" for one in chosen]
    return "\n".join(["| status | behaviour | source | where |", "| --- | --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Print the page of everything that the fake's modules mark, and of what certify tries."""
    import fake_server.app  # noqa: F401  (imports all modules that mark)
    from fake_server import evidence
    from fake_server.promise import load_promises

    print(evidence.render_evidence(evidence.RULES, load_promises()), end="")  # noqa: T201


if __name__ == "__main__":
    main()
