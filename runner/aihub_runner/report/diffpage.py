"""The page of a diff: the counts of each field, and a table of all changes with search and sort."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aihub_runner.report.html import Column, Table, fitting, render_page
from aihub_runner.report.overview import base_of
from aihub_runner.report.statistics import address_of
from aihub_runner.report.subject import Subject
from aihub_runner.results.diff import KINDS, Change, ClassChange, Diff
from aihub_runner.results.diffwords import describe_classes, describe_sides, name_fields
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import are, count, show_value

VALUE_LENGTH = 300
NAME_LENGTH = 100
ROWS_BYTES = 12_000_000  # keeps the page small enough to open
MAX_FIELDS = 500
COLUMNS = (
    Column("File", "file"),
    Column("Document", "number", 2),
    Column("Field", at=3),
    Column("Change", at=4),
    Column("Before", at=5),
    Column("After", at=6),
)


def render_diff_page(job: Subject, diff: Diff, output: Path) -> Iterator[bytes]:
    """Render the page. Links to local files are relative to `output`, where the page is written."""
    rows = fitting(_rows(job, diff), ROWS_BYTES)
    table = Table(COLUMNS, rows, (3, 4), {"address": 1, "pick": 3})
    data = {"base": base_of(job.folder, output), "threshold": 0, "tables": {"changes": table.as_json()}}
    fields = _fields(diff)
    values = {
        "title": f"{job.spec.name}: {diff.before} against {diff.after}",
        "counts": _counts(diff),
        "notes": _notes(diff),
        "columns": ["Field", *(kind.capitalize() for kind in KINDS)],
        "fields": fields,
        "fields_left_out": len(diff.fields) - len(fields),
        "changes": len(rows),
        "changes_left_out": len(diff.classes) + len(diff.changes) - len(rows),
    }
    return render_page("diff.html", data, values)


def _counts(diff: Diff) -> dict[str, int]:
    counts = {"Files": diff.files, "Documents": diff.documents, "Documents that differ": diff.documents_changed}
    return counts | {f"Fields {kind}": diff.total(kind) for kind in KINDS}


def _notes(diff: Diff) -> list[str]:
    notes = {f"only in {diff.before}": diff.only_before, f"only in {diff.after}": diff.only_after}
    notes["compared although the content changed"] = diff.other_bytes
    return [f"{count(len(paths), 'file')} {are(len(paths))} {text}." for text, paths in notes.items() if paths]


def _fields(diff: Diff) -> list[list[Any]]:
    ordered = sorted(diff.fields.items(), key=lambda item: (item[1]["same"] - item[1].total(), item[0]))
    names = name_fields(diff.fields, NAME_LENGTH)
    return [[names[name], *(counts[kind] for kind in KINDS)] for name, counts in ordered[:MAX_FIELDS]]


def _rows(job: Subject, diff: Diff) -> Iterator[list[Any]]:
    names = name_fields(diff.fields, NAME_LENGTH)
    present: dict[str, bool] = {}
    every: list[Change | ClassChange] = [*diff.classes, *diff.changes]
    for change in every:
        path = escape_control_chars(change.path)
        if change.path not in present:
            present[change.path] = os.path.isfile(job.folder / change.path)
        address = address_of(change.path, path) if present[change.path] else 0
        yield [path, address, change.document_index, *_cells(change, names)]


def _cells(change: Change | ClassChange, names: Mapping[str, str]) -> list[Any]:
    if isinstance(change, ClassChange):
        if change.kind == "changed":
            return ["(class)", change.kind, *describe_classes(change, VALUE_LENGTH)]
        return ["(document)", change.kind, *(show_value(side, VALUE_LENGTH) for side in (change.before, change.after))]
    name = names[change.field] + f" [{change.occurrence}]" * bool(change.occurrence)
    return [name, change.kind, *describe_sides(change, VALUE_LENGTH)]
