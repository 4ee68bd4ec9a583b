"""Update the generated parts of docs/fake.md and docs/scenarios.md: `python -m fake_aihub.docs.pages docs`.

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fake_aihub.catalogue import Behaviour, load_behaviours, render_counts
from fake_aihub.contract.operations import OPERATIONS
from fake_aihub.extraction.packs import (
    Alert,
    CrossField,
    Dates,
    Edit,
    FieldError,
    Numbers,
    Pack,
    PackClass,
    PackField,
    bundled_packs,
)
from fake_aihub.extraction.validation import Table

TABLES: list[type[Table]] = [Pack, PackClass, PackField, Numbers, Dates, FieldError, Alert, Edit, CrossField]


def render_behaviours(behaviours: Iterable[Behaviour]) -> str:
    """Return all behaviours by operation."""
    behaviours = list(behaviours)
    parts = ["### All operations", _render_rows(one for one in behaviours if not one.operations)]
    for operation in OPERATIONS:
        parts += [f"### {operation.id}: `{operation.method} {operation.path}`"]
        parts += [_render_rows(one for one in behaviours if operation.id in one.operations)]
    return "\n\n".join(parts)


def _render_rows(behaviours: Iterable[Behaviour]) -> str:
    chosen = sorted(behaviours, key=lambda one: (one.status or 0, one.text))
    rows = [(one.status or "", one.text, one.source, _render_check(one), _code(one.where)) for one in chosen]
    return _table(("status", "behaviour", "source", "certify", "where"), rows)


def _render_check(one: Behaviour) -> str:
    return _code(one.id) + f", {one.runs} run{'s' * (one.runs > 1)}" * bool(one.runs)


def _render_packs() -> str:
    rows = [
        (f"`{name}`", " ".join(map(_code, pack.apps)) + " and all other apps" * pack.default, pack.about)
        for name, pack in bundled_packs().items()
    ]
    return _table(("pack", "apps", "documents"), rows)


def _render_keys() -> str:
    parts = []
    for table in TABLES:
        rows = [
            (f"`{field.alias or name}`", _render_default(field), field.description or "")
            for name, field in table.model_fields.items()
        ]
        parts += [f"**{(table.__doc__ or '').rstrip('.')}**", _table(("key", "default", "meaning"), rows)]
    return "\n\n".join(parts)


def _render_default(field: Any) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, [], "") else f"`{json.dumps(field.default)}`"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "fake.md": {
        "counts": lambda: render_counts(load_behaviours()),
        "behaviours": lambda: render_behaviours(load_behaviours()),
    },
    "scenarios.md": {"packs": _render_packs, "keys": _render_keys},
}


def update(page: str, text: str) -> str:
    """Return the text of a page with its generated parts up to date."""
    for name, render in PAGES[page].items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{render()}\n\n{end}{rest.split(end)[1]}"
    return text


def main() -> None:
    """Update the pages in a folder."""
    for name in PAGES:
        page = Path(sys.argv[1]) / name
        page.write_text(update(name, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
