"""The runs of a job as a table: batch, run, status, files, age."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count

SHOWN = 10
HEAD = ("batch", "run", "status", "files", "age")


def list_rows(recorded: Iterable[Mapping[str, Any]], *, is_at_work: bool = False) -> list[dict[str, Any]]:
    """Return a row for each run, and for each batch without one, oldest first.

    `begun_s` is in Unix seconds, None if it is unknown. While an apply works, runs without an id are being started.
    """
    without_id = "being started" if is_at_work else "UNCONFIRMED"
    return [_row(one, without_id) for one in recorded if one["run"] or not one["batch_gone"]]


def _row(one: Mapping[str, Any], without_id: str) -> dict[str, Any]:
    begun_s = (one["started_ns"] or 0) / 1e9 or one["intent_s"] or None
    status = _name(one, without_id)
    return {"batch": one["batch"], "run": one["run"], "status": status, "files": one["files"], "begun_s": begun_s}


def _name(one: Mapping[str, Any], without_id: str) -> str:
    """Name the status: the service's own, or what is known in its place."""
    if one["status"] is None:
        return "no run yet"
    if one["given_up"]:
        return "NOT STARTED"
    if one["run_gone"]:
        return "DELETED" if one["is_deleted"] else "GONE"
    return one["status"] or ("REFUSED" if one["refused"] else "started" if one["run"] else without_id)


def render_rows(rows: Sequence[Mapping[str, Any]], now_s: float, *, verbose: bool) -> list[str]:
    """Render a table, the newest rows of it or all."""
    if not rows:
        return []
    shown = rows if verbose else rows[-SHOWN:]
    cells = [HEAD, *(_cells(row, now_s) for row in shown)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = ["  " + "  ".join(_fit(line, widths)).rstrip() for line in cells]
    older = len(rows) - len(shown)
    return [*lines, *[f"  and {count(older, 'older run')}; to list all, pass -v"] * bool(older)]


def _cells(row: Mapping[str, Any], now_s: float) -> tuple[str, ...]:
    values = (row["batch"] or "-", row["run"] or "-", row["status"], row["files"], _show_age(row["begun_s"], now_s))
    return tuple(escape_control_chars(str(value)) for value in values)


def _fit(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Pad the cells: numbers to the right."""
    pads = (str.ljust, str.ljust, str.ljust, str.rjust, str.rjust)
    return [pad(cell, width) for pad, cell, width in zip(pads, cells, widths, strict=True)]


def _show_age(begun_s: float | None, now_s: float) -> str:
    if begun_s is None:
        return "-"
    age_s = max(0, round(now_s - begun_s))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= size:
            return f"{age_s // size} {unit}"
    return f"{age_s} s"
