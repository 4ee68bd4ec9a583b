"""Render the differences between two sets of results as text, such that each difference is visible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aihub_runner.results.diff import KINDS, Change, ClassChange, Diff
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import count, show_difference, show_value

SHOWN = 20
VALUE_LENGTH = 60
_Side = Mapping[str, Any]


def render_diff(name: str, diff: Diff) -> str:
    """Render a diff as text."""
    lines = [
        f"{name}: {diff.before} compared with {diff.after}",
        f"  files      {diff.files} compared",
        f"  documents  {diff.documents} compared, {diff.documents_changed} differ",
        "  fields     " + ", ".join(f"{diff.total(kind)} {kind}" for kind in KINDS),
    ]
    notes = {diff.only_before: f"only in {diff.before}", diff.only_after: f"only in {diff.after}"}
    notes[diff.other_bytes] = "with changed content, so differences may come from the file"
    lines += [f"  note       {count(len(paths), 'file')} {text}" for paths, text in notes.items() if paths]
    differing = [name for name, counts in sorted(diff.fields.items()) if counts.total() > counts["same"]]
    if differing:
        lines += ["", *_render_table(diff, differing)]
    names, total = name_fields(diff.fields, VALUE_LENGTH), len(diff.classes) + len(diff.changes)
    shown = [_describe_class(change) for change in diff.classes[:SHOWN]]
    shown += [_describe_change(change, names) for change in diff.changes[: SHOWN - len(shown)]]
    lines += [""] * bool(shown) + shown
    lines += [f"  and {total - SHOWN} more; to list all, pass --json"] * (total > SHOWN)
    return "\n".join(escape_control_chars(line) for line in lines)


def _render_table(diff: Diff, names: Sequence[str]) -> list[str]:
    shown = [*name_fields(names, VALUE_LENGTH).values()]
    width = max(map(len, ["field", *shown]))
    rows = [[f"{diff.fields[name][kind]:>9}" for kind in KINDS] for name in names]
    header = [f"{kind:>9}" for kind in KINDS]
    return [
        f"  {title:<{width}} {' '.join(cells)}" for title, cells in zip(["field", *shown], [header, *rows], strict=True)
    ]


def name_fields(names: Iterable[str], limit: int) -> dict[str, str]:
    """Return field names to show: shortened if they stay distinct, else in full."""
    given: dict[str, list[str]] = {}
    for name in names:
        given.setdefault(show_value(name, limit), []).append(name)
    return {
        name: shown if len(same) == 1 else escape_control_chars(name) for shown, same in given.items() for name in same
    }


def _describe_change(change: Change, names: Mapping[str, str]) -> str:
    index = _shift(change.document_index_before, change.document_index, change.kind)
    occurrence = _shift(change.occurrence_before, change.occurrence, change.kind)
    name = names[change.field] + f" [{occurrence}]" * (occurrence != "0")
    before, after = describe_sides(change, VALUE_LENGTH, "'")
    return f"  {change.path} [{index}] {name}: {before or 'nothing'} → {after or 'nothing'}"


def _shift(before: int | None, after: int, kind: str) -> str:
    """Render an index, with the earlier one if it differs."""
    return str(after) if before in (None, after) or kind != "changed" else f"{before}→{after}"


def _describe_class(change: ClassChange) -> str:
    where = f"  {change.path} [{_shift(change.document_index_before, change.document_index, change.kind)}]"
    if change.kind != "changed":
        return f"{where}: document {change.kind}"
    return f"{where} class: {' → '.join(describe_classes(change, VALUE_LENGTH))}"


def describe_classes(change: ClassChange, limit: int) -> tuple[str, str]:
    """Render the class of a document on each side, such that the difference is visible."""
    before, after = ("none" if side is None else _text(side) for side in (change.before, change.after))
    if before == after or "" in (before, after):
        before, after = render_json(change.before), render_json(change.after)
    return show_difference(before, after, limit)


def describe_sides(change: Change, limit: int, quote: str = "") -> tuple[str | None, str | None]:
    """Render a field on each side, such that the difference is visible; None if it is absent.

    Strings are put between `quote`.
    """
    before, after = change.before, change.after
    if before is None or after is None:
        return _describe_alone(before, limit, quote), _describe_alone(after, limit, quote)
    shown = _describe_parts(before, after, limit, quote)
    if shown[0] != shown[1]:
        return shown
    names = [name for name in before if before[name] != after[name]]
    left, right = (render_json({name: side[name] for name in names}) for side in (before, after))
    return show_difference(left, right, limit)


def _describe_alone(side: _Side | None, limit: int, quote: str) -> str | None:
    return None if side is None else _describe_parts(side, side, limit, quote)[0]


def _describe_parts(before: _Side, after: _Side, limit: int, quote: str) -> tuple[str, str]:
    parts = {name: show_difference(_text(before[name]), _text(after[name]), limit) for name in before}
    whole = bool(before["error"] and after["error"]) and before["error"] == after["error"] and before != after
    left = {name: shown for name, (shown, _) in parts.items()}
    right = {name: shown for name, (_, shown) in parts.items()}
    return _describe_side(before, left, quote, whole), _describe_side(after, right, quote, whole)


def _describe_side(side: _Side, shown: Mapping[str, str], quote: str, whole: bool) -> str:
    """Render a field. An error replaces the value, unless the values differ (`whole`)."""
    value, kind, error = shown["value"], shown["type"], shown["error"]
    value = f"{quote}{value}{quote}" if isinstance(side["value"], str) else value
    typed = value + f" ({kind})" * bool(side["type"])
    if not side["error"]:
        return typed
    return f"error: {error}" + f", {typed}" * whole


def _text(value: Any) -> str:
    return value if isinstance(value, str) else render_json(value)
