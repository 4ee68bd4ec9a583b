"""Compare two sets of results field by field: what changed, what appeared, what vanished. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from runner.model import Member, Run, Shard
from runner.pages import Chosen, Document
from runner.shown import count, make_visible, show_value

KINDS = ("changed", "appeared", "vanished", "same")
APP = ("app_name", "app_id", "deployment_id", "owner")
SHOWN = 20
VALUE_LENGTH = 60

Candidates = Mapping[str, Sequence[tuple[Member, Run]]]  # by path, the newest first


@dataclass(frozen=True, slots=True)
class Change:
    """A field that is not the same on both sides; `before` and `after` have value, type and error, or are None.

    `occurrence` tells fields of one name apart, from 0.
    """

    path: str
    document_index: int
    field: str
    occurrence: int
    kind: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A document that is of another class, or there on one side only; that side's class alone is given then."""

    path: str
    document_index: int
    kind: str
    before: str | None
    after: str | None


@dataclass(slots=True)
class Diff:
    """What differs between two sets of results of the same files."""

    before: str
    after: str
    files: int = 0
    documents: int = 0
    documents_changed: int = 0
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    other_bytes: tuple[str, ...] = ()
    fields: dict[str, Counter[str]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    classes: list[ClassChange] = field(default_factory=list)

    def total(self, kind: str) -> int:
        """Count the fields of a kind of change."""
        return sum(counts[kind] for counts in self.fields.values())


def runs_of_id(shards: Iterable[Shard], run_id: str) -> Candidates:
    """List the files of one run."""
    return _candidates(shards, lambda run: run.remote_id == run_id)


def runs_of_version(
    shards: Iterable[Shard], settings_of: Mapping[str, Mapping[str, Any]], today: Mapping[str, Any], version: str
) -> Candidates:
    """List the files of all runs of a version of today's app; an empty version is that of specs that name none."""
    keys = {
        key
        for key, settings in settings_of.items()
        if settings.get("version", "") == version and all(settings.get(name) == today.get(name) for name in APP)
    }
    return _candidates(shards, lambda run: run.run_key in keys)


def known_versions(settings_of: Mapping[str, Mapping[str, Any]], today: Mapping[str, Any]) -> list[str]:
    """List the versions of today's app that anything was run with, sorted."""
    same = (s for s in settings_of.values() if all(s.get(name) == today.get(name) for name in APP))
    return sorted({str(settings.get("version", "")) for settings in same})


def _candidates(shards: Iterable[Shard], is_wanted: Any) -> Candidates:
    found: dict[str, list[tuple[Member, Run]]] = {}
    for shard in shards:
        for run in shard.runs:
            if is_wanted(run) and run.status == "COMPLETE" and run.fetched:
                for member in shard.members:
                    if member.path:
                        found.setdefault(member.path, []).append((member, run))
    return {path: sorted(pairs, key=lambda pair: -pair[1].id) for path, pairs in found.items()}


def pair_files(before: Candidates, after: Candidates) -> list[tuple[Chosen, Chosen]]:
    """Choose for each file that both sides have the newest runs, of the same bytes where there are any."""
    pairs = []
    for path in sorted(before.keys() & after.keys()):
        same = ((a, b) for b in after[path] for a in before[path] if a[0].identity == b[0].identity)
        a, b = next(same, (before[path][0], after[path][0]))
        pairs.append((Chosen(path, *a, True), Chosen(path, *b, True)))
    return pairs


def compare(diff: Diff, before: Iterable[Document], after: Iterable[Document]) -> None:
    """Add what differs between documents, both sorted by path and index; files that one side lacks add nothing."""
    files_after = _by_path(after)
    path_after, documents_after = next(files_after, ("", []))
    for path, documents in _by_path(before):
        while path_after and path_after < path:
            path_after, documents_after = next(files_after, ("", []))
        if path_after == path:
            _compare_file(diff, path, documents, documents_after)


def _by_path(documents: Iterable[Document]) -> Iterator[tuple[str, list[Document]]]:
    for path, group in groupby(documents, key=itemgetter("path")):
        yield path, list(group)


def _compare_file(diff: Diff, path: str, before: Sequence[Document], after: Sequence[Document]) -> None:
    for index in range(max(len(before), len(after))):
        a = before[index] if index < len(before) else None
        b = after[index] if index < len(after) else None
        so_far = len(diff.changes) + len(diff.classes)
        _compare_classes(diff, path, index, a, b)
        _compare_fields(diff, path, index, _fields(a), _fields(b))
        diff.documents += 1
        diff.documents_changed += len(diff.changes) + len(diff.classes) > so_far


def _compare_classes(diff: Diff, path: str, index: int, a: Document | None, b: Document | None) -> None:
    kind = "appeared" if a is None else "vanished" if b is None else "changed"
    before, after = a["class"] if a else None, b["class"] if b else None
    if kind != "changed" or before != after:
        diff.classes.append(ClassChange(path, index, kind, before, after))


def _fields(document: Document | None) -> dict[tuple[str, int], dict[str, Any]]:
    seen: Counter[str] = Counter()
    fields = {}
    for item in document["fields"] if document else ():
        name = str(item["name"])
        fields[name, seen[name]] = {key: item[key] for key in ("value", "type", "error")}
        seen[name] += 1
    return fields


def _compare_fields(
    diff: Diff,
    path: str,
    index: int,
    before: Mapping[tuple[str, int], Mapping[str, Any]],
    after: Mapping[tuple[str, int], Mapping[str, Any]],
) -> None:
    for key in dict.fromkeys([*before, *after]):
        a, b = before.get(key), after.get(key)
        kind = "appeared" if a is None else "vanished" if b is None else "same" if a == b else "changed"
        diff.fields.setdefault(key[0], Counter())[kind] += 1
        if kind != "same":
            diff.changes.append(Change(path, index, *key, kind, a, b))


def render_diff(name: str, diff: Diff) -> str:
    """Render what differs for people."""
    lines = [
        f"{name}: {diff.before} against {diff.after}",
        f"  files      {diff.files} compared",
        f"  documents  {diff.documents} compared, {diff.documents_changed} differ",
        "  fields     " + ", ".join(f"{diff.total(kind)} {kind}" for kind in KINDS),
    ]
    notes = {diff.only_before: f"only in {diff.before}", diff.only_after: f"only in {diff.after}"}
    notes[diff.other_bytes] = "had other bytes then; what differs may be the file"
    lines += [f"  note       {count(len(paths), 'file')} {text}" for paths, text in notes.items() if paths]
    differing = [name for name, counts in sorted(diff.fields.items()) if counts.total() > counts["same"]]
    if differing:
        lines += ["", *_render_table(diff, differing)]
    shown = [*map(_describe_class, diff.classes), *map(_describe_change, diff.changes)]
    lines += [""] * bool(shown) + shown[:SHOWN]
    lines += [f"  and {len(shown) - SHOWN} more; --json lists all"] * (len(shown) > SHOWN)
    return "\n".join(make_visible(line) for line in lines)


def _render_table(diff: Diff, names: Sequence[str]) -> list[str]:
    shown = [show_value(name, VALUE_LENGTH) for name in names]
    width = max(map(len, ["field", *shown]))
    rows = [[f"{diff.fields[name][kind]:>9}" for kind in KINDS] for name in names]
    header = [f"{kind:>9}" for kind in KINDS]
    return [
        f"  {title:<{width}} {' '.join(cells)}" for title, cells in zip(["field", *shown], [header, *rows], strict=True)
    ]


def describe_side(side: Mapping[str, Any] | None) -> str:
    """Say what a field is on one side."""
    if side is None:
        return "nothing"
    if side["error"]:
        return f"error: {show_value(side['error'], VALUE_LENGTH)}"
    return repr(show_value(side["value"], VALUE_LENGTH)) + (
        f" ({show_value(side['type'], 20)})" if side["type"] else ""
    )


def _describe_change(change: Change) -> str:
    name = show_value(change.field, VALUE_LENGTH) + f" [{change.occurrence}]" * bool(change.occurrence)
    sides = f"{describe_side(change.before)} → {describe_side(change.after)}"
    return f"  {change.path} [{change.document_index}] {name}: {sides}"


def _describe_class(change: ClassChange) -> str:
    where = f"  {change.path} [{change.document_index}]"
    if change.kind != "changed":
        return f"{where}: document {change.kind}"
    sides = (show_value(side, VALUE_LENGTH) or "none" for side in (change.before, change.after))
    return f"{where} class: {' → '.join(sides)}"
