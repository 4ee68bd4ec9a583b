"""Compare two sets of results field by field: changed, appeared, vanished. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.model import Member, Run, Shard
from aihub_runner.results.reader import Chosen, Document
from aihub_runner.text.align import align, common_length
from aihub_runner.text.jsontext import render_json

KINDS = ("changed", "appeared", "vanished", "same")
APP = ("app_name", "app_id", "deployment_id", "owner")

Candidates = Mapping[str, Sequence[tuple[Member, Run]]]  # by path, newest first


class Change(Struct, frozen=True):
    """A field that differs. `before` and `after` have value, type and error, or are None if the field is absent.

    `occurrence` distinguishes fields with the same name, from 0. It and the index of the document are those of the
    newer side; of the older side if only that has the field. The `…_before` values are None if the older side lacks it.
    """

    path: str
    document_index: int
    field: str
    occurrence: int
    kind: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    document_index_before: int | None = None
    occurrence_before: int | None = None


class ClassChange(Struct, frozen=True):
    """A document with another class, or on one side only. Then only that side's class is set."""

    path: str
    document_index: int
    kind: str
    before: str | None
    after: str | None
    document_index_before: int | None = None


class Diff(Struct):
    """The differences between two sets of results of the same files."""

    before: str
    after: str
    files: int = 0
    documents: int = 0
    documents_changed: int = 0
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    other_bytes: tuple[str, ...] = ()
    fields: dict[str, Counter[str]] = {}
    changes: list[Change] = []
    classes: list[ClassChange] = []

    def total(self, kind: str) -> int:
        """Return the number of fields with a kind of change."""
        return sum(counts[kind] for counts in self.fields.values())


def runs_of_id(shards: Iterable[Shard], run_id: str) -> Candidates:
    """Return the files of one run."""
    return _candidates(shards, lambda run: run.remote_id == run_id)


def runs_of_version(
    shards: Iterable[Shard], settings_of: Mapping[str, Mapping[str, Any]], today: Mapping[str, Any], version: str
) -> Candidates:
    """Return the files of all runs of a version of today's app. An empty version means specs without a version."""
    keys = {
        key
        for key, settings in settings_of.items()
        if settings.get("version", "") == version and all(settings.get(name) == today.get(name) for name in APP)
    }
    return _candidates(shards, lambda run: run.run_key in keys)


def known_versions(settings_of: Mapping[str, Mapping[str, Any]], today: Mapping[str, Any]) -> list[str]:
    """List all versions of today's app that were run, sorted. Some may have no results yet."""
    same = (s for s in settings_of.values() if all(s.get(name) == today.get(name) for name in APP))
    return sorted({settings.get("version", "") for settings in same})


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
    """Pair the newest runs of each file that both sides have, preferably runs on the same content."""
    pairs = []
    for path in sorted(before.keys() & after.keys()):
        same = ((a, b) for b in after[path] for a in before[path] if a[0].identity == b[0].identity)
        a, b = next(same, (before[path][0], after[path][0]))
        pairs.append((Chosen(path, *a, True), Chosen(path, *b, True)))
    return pairs


def compare(diff: Diff, before: Iterable[Document], after: Iterable[Document]) -> None:
    """Add the differences between documents, sorted by path and index. Files on one side only are ignored."""
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
    old, new = ([_values(document) for document in documents] for documents in (before, after))

    def likeness(i: int, j: int) -> int:
        return 4 * len(old[i] & new[j]) + 2 * bool(before[i]["class"] == after[j]["class"])

    for i, j in align([*map(_content, before)], [*map(_content, after)], likeness):
        a = None if i is None else before[i]
        b = None if j is None else after[j]
        so_far = len(diff.changes) + len(diff.classes)
        index = (i or 0) if j is None else j
        _compare_classes(diff, ClassChange(path, index, "", _class(a), _class(b), i), a, b)
        _compare_fields(diff, (path, index, i), _fields(a), _fields(b))
        diff.documents += 1
        diff.documents_changed += len(diff.changes) + len(diff.classes) > so_far


def _class(document: Document | None) -> Any:
    return document["class"] if document else None


def _content(document: Document) -> str:
    """Return everything in a document that is compared, as text."""
    return render_json([document["class"], [[str(item["name"]), _side(item)] for item in document["fields"]]])


def _values(document: Document) -> frozenset[tuple[str, str]]:
    return frozenset((str(item["name"]), render_json(item["value"])) for item in document["fields"])


def _compare_classes(diff: Diff, found: ClassChange, a: Document | None, b: Document | None) -> None:
    kind = "appeared" if a is None else "vanished" if b is None else "changed"
    if kind != "changed" or found.before != found.after:
        diff.classes.append(replace(found, kind=kind))


Side = Mapping[str, Any]  # value, type and error of a field


def _side(item: Mapping[str, Any]) -> Side:
    return {key: item[key] for key in ("value", "type", "error")}


def _fields(document: Document | None) -> dict[str, list[Side]]:
    """Return the fields of a document by name, in order."""
    fields: dict[str, list[Side]] = {}
    for item in document["fields"] if document else ():
        fields.setdefault(str(item["name"]), []).append(_side(item))
    return fields


def _compare_fields(
    diff: Diff,
    place: tuple[str, int, int | None],
    before: Mapping[str, Sequence[Side]],
    after: Mapping[str, Sequence[Side]],
) -> None:
    path, index, index_before = place
    for name in dict.fromkeys([*before, *after]):
        counts = diff.fields.setdefault(name, Counter())
        for i, j, a, b in _align_sides(before.get(name, ()), after.get(name, ())):
            kind = "appeared" if a is None else "vanished" if b is None else "same" if a == b else "changed"
            counts[kind] += 1
            if kind != "same":
                occurrence = (i or 0) if j is None else j
                diff.changes.append(Change(path, index, name, occurrence, kind, a, b, index_before, i))


def _align_sides(
    before: Sequence[Side], after: Sequence[Side]
) -> Iterator[tuple[int | None, int | None, Side | None, Side | None]]:
    """Pair the occurrences of a field."""
    old, new = ([*map(render_json, sides)] for sides in (before, after))

    def likeness(i: int, j: int) -> int:
        left, right = old[i], new[j]
        both = common_length(left, right) + common_length(left[::-1], right[::-1])
        return 100 * both // max(len(left), len(right))

    pairs = [(0, 0)] if len(before) == len(after) == 1 else align(old, new, likeness)
    for i, j in pairs:
        yield i, j, None if i is None else before[i], None if j is None else after[j]
