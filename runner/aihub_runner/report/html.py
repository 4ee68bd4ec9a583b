"""Render a self-contained HTML page. All text is escaped, nothing is loaded, and only the page's own script runs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import show_value

if TYPE_CHECKING:
    from jinja2 import Environment

CELL_LENGTH = 300


class Column(Struct, frozen=True):
    """A column of a table that the script shows.

    `kind` is text, word (never wrapped), number, confidence (from 0 to 1), failed (a count), seconds, id (with a copy
    button), or file (a link). `at` is the column's index in a row, if that differs from its index among the columns.
    `down` sorts the largest first.
    """

    name: str
    kind: str = "text"
    at: int | None = None
    down: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the values that the script reads."""
        given = {"name": self.name, "kind": self.kind, "at": self.at, "down": self.down}
        return {key: value for key, value in given.items() if value not in (None, False)}


class Table(Struct, frozen=True):
    """Rows that the script shows, searches and sorts.

    `places` are indexes in a row: `address` of the address of a file (see `statistics.address_of`), `detail` of the
    fields, `failed` and `confidence` of what decides whether a row needs review, and `pick` of the value to filter by.
    `lists` are indexes of repeated texts, which are stored once and referred to by number.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    lists: tuple[int, ...] = ()
    places: Mapping[str, int] = {}

    def as_json(self) -> dict[str, Any]:
        """Return the values that the script reads."""
        known: dict[int, dict[Any, int]] = {place: {} for place in self.lists}
        rows = [list(row) for row in self.rows]
        for row in rows:
            for place, numbers in known.items():
                row[place] = numbers.setdefault(row[place], len(numbers))
        lists = {str(place): list(numbers) for place, numbers in known.items()}
        return {"columns": [column.as_json() for column in self.columns], "rows": rows, "lists": lists, **self.places}


def render_page(template: str, data: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[bytes]:
    """Render a template of this folder. `data` is for the script, `values` for the template."""
    from markupsafe import Markup

    style, script = _load("page.css"), _load("page.js")
    ours = {"style": Markup(style), "script": Markup(script), "data": Markup(embed_json(data))}
    hashes = {"style_hash": _hash(style), "script_hash": _hash(script)}
    parts = _templates().get_template(template).generate(values, **ours, **hashes)
    return (part.encode() for part in parts)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    # `finalize` sees every value: none has control characters or is too long. What it returns is escaped.
    return Environment(
        loader=FunctionLoader(_load),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else show_value(value, CELL_LENGTH),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embed_json(value: Any) -> str:
    """Render JSON such that no text in it can end the element around it, or begin another one."""
    text = render_json(value, compact=True)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def size_of(value: Any) -> int:
    """Return how many bytes of a page a value takes, with a comma after it."""
    return len(embed_json(value).encode()) + 1


def fitting(rows: Iterable[Sequence[Any]], room_bytes: int) -> list[Sequence[Any]]:
    """Return as many of the first rows as fit into `room_bytes` of a page."""
    kept = []
    for row in rows:
        room_bytes -= size_of(row)
        if room_bytes < 0:
            break
        kept.append(row)
    return kept


def _load(name: str) -> str:
    return resources.files("aihub_runner.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
