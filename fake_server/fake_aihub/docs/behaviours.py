"""Make docs/fake.md from the marks in the code: `python -m fake_aihub.docs.behaviours > docs/fake.md`."""

from __future__ import annotations

from collections.abc import Iterable

import fake_aihub.api.app  # noqa: F401  (imports all modules that mark)
from fake_aihub.certify.promise import Promise, load_promises
from fake_aihub.contract.evidence import RULES, Rule, render_counts
from fake_aihub.contract.operations import OPERATIONS

INTRODUCTION = """\
# How far the fake can be trusted

Made from the marks in its code by `make docs`; a test compares them.

{counts}

`spec` is the vendor's OpenAPI description, `docs` its public documentation, `sdk` the code of its Python SDK,
and `guess` is ours: nothing public says so. The last column names where it is implemented in `fake_server/fake_aihub/`.

`fake-aihub certify` tries promises on the fake, and on a real AI Hub for those who have one. A promise that a real one
keeps turns a guess into a fact: please send in the report."""


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
    print(render_evidence(RULES, load_promises()), end="")  # noqa: T201


if __name__ == "__main__":
    main()
