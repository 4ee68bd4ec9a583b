"""The catalogue of behaviours, behaviours.csv: what the fake does, where that is known from, and what certify checks.

| column | meaning |
| --- | --- |
| id | the promise of `certify` that checks it: its function, with dashes; empty if none does |
| operations | whose behaviour it is; empty for every operation |
| also | further operations that the check uses |
| status | of the response; empty for every response |
| source | `spec`, `docs`, `sdk` or `guess`, as docs/fake.md explains |
| runs, needs | what the check needs: paid runs, and options of `certify` |
| where | the code of the fake that implements it; empty if it is not a matter of one place |
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCES = ("spec", "docs", "sdk", "guess")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One row of the catalogue."""

    id: str
    operations: tuple[str, ...]
    also: tuple[str, ...]
    status: int | None
    source: str
    runs: int
    needs: tuple[str, ...]
    where: str
    text: str


@cache
def load_behaviours() -> tuple[Behaviour, ...]:
    """Return the whole catalogue."""
    text = (files("fake_aihub") / "behaviours.csv").read_text(encoding="utf-8")
    return tuple(
        Behaviour(
            id=row["id"],
            operations=tuple(row["operations"].split()),
            also=tuple(row["also"].split()),
            status=int(row["status"]) if row["status"] else None,
            source=row["source"],
            runs=int(row["runs"] or 0),
            needs=tuple(row["needs"].split()),
            where=row["where"],
            text=row["text"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def render_counts(behaviours: Iterable[Behaviour]) -> str:
    """Return one sentence with the number of behaviours per source, as shown in the README."""
    counts = Counter(one.source for one in behaviours if one.where)
    return (
        f"Of its {counts.total()} behaviours, {counts['spec']} are from the OpenAPI description, "
        f"{counts['docs']} from the public documentation, {counts['sdk']} from the code of the vendor's SDK, "
        f"and {counts['guess']} are guesses."
    )
