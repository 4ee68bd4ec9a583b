"""Rows of results as a table, for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aihub_runner.cli.output import say
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count

MOST_ROWS = 100
_WIDEST = 24  # characters that a column needs at most; longer text is folded
_HIDDEN = ("present", "run_id", "document_index", "field_index", "type", "pages", "coordinates")


class RowsOnScreen:
    """Lines of JSON, one a row. Keeps the first `MOST_ROWS` of them, and counts the rest."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.left = 0

    def write(self, chunk: bytes) -> int:
        """Add whole lines."""
        for line in chunk.splitlines():
            if len(self.rows) < MOST_ROWS:
                self.rows.append(json.loads(line))
            else:
                self.left += 1
        return len(chunk)

    def show(self) -> None:
        """Print the rows, without columns that are empty or only for programs, and those that the terminal lacks."""
        console = Console(highlight=False)
        columns = _with_text(self.rows)
        fitting = _fit(columns, console.width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in fitting:
            table.add_column(Text(escape_control_chars(name)), overflow="fold")
        for cells in zip(*fitting.values(), strict=True):
            table.add_row(*map(Text, cells))
        if self.rows:
            console.print(table)
        left = [count(self.left, "more row")] * bool(self.left)
        left += [count(len(columns) - len(fitting), "more column")] * (len(columns) > len(fitting))
        if left:
            say(f"and {' and '.join(left)}; pass --output FILE to write all")


def _with_text(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the columns that are for people, each with its texts."""
    columns = {name: [_show(row[name]) for row in rows] for name in (rows or [{}])[0] if name not in _HIDDEN}
    return {name: texts for name, texts in columns.items() if any(texts)}


def _fit(columns: Mapping[str, list[str]], width: int) -> dict[str, list[str]]:
    """Return the first columns that a terminal of a width has room for, and at least two."""
    fitting: dict[str, list[str]] = {}
    used = 0
    for name, texts in columns.items():
        used += min(max(map(len, [name, *texts])), _WIDEST) + 2
        if used > width and len(fitting) >= 2:
            break
        fitting[name] = texts
    return fitting


def _show(value: Any) -> str:
    if value is None:
        return ""
    return escape_control_chars(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
