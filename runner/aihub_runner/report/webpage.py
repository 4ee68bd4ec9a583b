"""Render a self-contained HTML page. All text is escaped, nothing is loaded, and only the page's own script runs."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from typing import Any

from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import show_value

CELL_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Column:
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


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that the script shows, searches and sorts.

    `places` are indexes in a row: `address` of the address of a file (see `statistics.address_of`), `detail` of the
    fields, `failed` and `confidence` of what decides whether a row needs review, and `pick` of the value to filter by.
    `lists` are indexes of repeated texts, which are stored once and referred to by number.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    lists: tuple[int, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the values that the script reads."""
        known: dict[int, dict[Any, int]] = {place: {} for place in self.lists}
        rows = [list(row) for row in self.rows]
        for row in rows:
            for place, numbers in known.items():
                row[place] = numbers.setdefault(row[place], len(numbers))
        lists = {str(place): list(numbers) for place, numbers in known.items()}
        return {"columns": [column.as_json() for column in self.columns], "rows": rows, "lists": lists, **self.places}


def show(value: Any) -> str:
    """Escape any value for HTML."""
    return escape(show_value(value, CELL_LENGTH))


def render_page(title: str, body: Iterable[str], data: Mapping[str, Any]) -> Iterator[bytes]:
    """Render a whole page. `body` is HTML; `data` is for the script."""
    style, script = _load("page.css"), _load("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
        f"<title>{show(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
    ).encode()
    yield from (f"{part}\n".encode("utf-8", "backslashreplace") for part in body)
    yield b'</main>\n<script type="application/json" id="data">'
    yield embed_json(data)
    yield f"</script>\n<script>{script}</script>\n</body>\n</html>\n".encode()


def embed_json(value: Any) -> bytes:
    """Render JSON such that no text in it can end the element around it, or begin another one."""
    text = render_json(value, compact=True)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def fitting(rows: Sequence[Sequence[Any]], room_bytes: int) -> list[Sequence[Any]]:
    """Return as many of the first rows as fit into `room_bytes` of a page."""
    kept = []
    for row in rows:
        room_bytes -= len(embed_json(row)) + 1
        if room_bytes < 0:
            break
        kept.append(row)
    return kept


def _load(name: str) -> str:
    return resources.files("aihub_runner.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def section(name: str, title: str, *parts: str) -> str:
    """Render a section with its heading. `parts` are HTML."""
    return "\n".join([f'<section id="{name}">', f"<h2>{show(title)}</h2>", *filter(None, parts), "</section>"])


def note(text: str, kind: str = "soft") -> str:
    """Render a paragraph."""
    return f'<p class="{kind}">{show(text)}</p>'


def facts(items: Mapping[str, Any], kind: str = "facts") -> str:
    """Render names with their values. Empty values are left out."""
    shown = {name: value for name, value in items.items() if value not in ("", None)}
    lines = [f"<div><dt>{show(name)}</dt><dd>{show(value)}</dd></div>" for name, value in shown.items()]
    if kind == "facts":
        lines = [line.removeprefix("<div>").removesuffix("</div>") for line in lines]
    return "\n".join([f'<dl class="{kind}">', *lines, "</dl>"])


def live_table(key: str, name: str, *, only: str = "", sort: int | None = None, confidence: bool = False) -> str:
    """Render the element in which the script shows a table. `sort` is the column that it is sorted by at first."""
    more = f' data-only="{only}"' * bool(only) + ' data-confidence="1"' * confidence
    more += "" if sort is None else f' data-sort="{sort}"'
    return (
        f'<div data-table="{key}" data-name="{show(name)}"{more}><noscript>This table needs JavaScript. '
        "The script is part of this page; nothing is loaded.</noscript></div>"
    )


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, texts: int = 1) -> str:
    """Render a table that needs no script. The first `texts` columns are text, the others numbers."""
    kinds = ["first", *["text"] * (texts - 1), *["number"] * (len(columns) - texts)]
    heads = (f'<th scope="col" class="{kind}">{show(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    lines = ['<div class="scroll cards plain"><table>', f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    for row in rows:
        cells = zip(columns, kinds, row, strict=True)
        lines.append("<tr>" + "".join(_cell(name, kind, value) for name, kind, value in cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _cell(name: str, kind: str, value: Any) -> str:
    shown = f"{value:,}" if isinstance(value, int) else show(value)
    return f'<td class="{kind}" data-label="{show(name)}">{shown}</td>'
