"""Stable names for columns and files, distinct even for readers that ignore case or Unicode forms. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from aihub_runner.text.jsontext import as_unicode

UNCLASSIFIED = "unclassified"

Occurrence = tuple[str, int]  # the name of a field, and its number among the fields of that name in a document, from 1

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# Device names on Windows, whatever follows the first dot.
_RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)})


# Names of columns


def name_columns(
    occurrences: Sequence[Occurrence], known: Mapping[Occurrence, str], others: Iterable[str]
) -> dict[Occurrence, str]:
    """Name the column of each occurrence of a field. Names are distinct from each other and from `others`.

    Known occurrences keep their names. A new field gets its own name if no other name differs from it in case only.
    Other occurrences get a number, like a field that occurs twice: `total`, `total_2`.
    """
    taken = {fold_name(name) for name in others}
    labels: dict[Occurrence, str] = {}

    def take(one: Occurrence, label: str) -> bool:
        if (folded := fold_name(label)) in taken:
            return False
        taken.add(folded)
        labels[one] = label
        return True

    for one, label in known.items():
        take(one, label)
    wanted = [one for one in dict.fromkeys([*known, *occurrences]) if one not in labels]
    numbered = [one for one in wanted if one[1] > 1 or not take(one, as_unicode(one[0]))]
    for name, occurrence in numbered:
        number = max(2, occurrence)
        while not take((name, occurrence), f"{as_unicode(name)}_{number}"):
            number += 1
    return labels


def fold_name(name: str) -> str:
    """Return a key that is equal for names that some reader may treat as the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", as_unicode(name)).casefold())


class Names(Struct, frozen=True):
    """The column name of each occurrence of a field: in the table of its class, and in the table of all classes."""

    classes: dict[str | None, Mapping[Occurrence, str]] = {}
    whole: Mapping[Occurrence, str] = {}

    def as_text(self) -> str:
        """Render the names as text, to be stored."""
        classes = [[name, _listed(labels)] for name, labels in self.classes.items()]
        return json.dumps({"classes": classes, "whole": _listed(self.whole)})


def parse_names(text: str) -> Names:
    """Parse the text of `Names.as_text`. An empty text has no names."""
    if not text:
        return Names()
    found = json.loads(text)
    return Names({name: _labels(listed) for name, listed in found["classes"]}, _labels(found["whole"]))


def _listed(labels: Mapping[Occurrence, str]) -> list[tuple[str, int, str]]:
    return [(*one, label) for one, label in labels.items()]


def _labels(listed: Iterable[tuple[str, int, str]]) -> dict[Occurrence, str]:
    return {(name, number): label for name, number, label in listed}


# Names of files


def name_classes(classes: Sequence[str | None]) -> dict[str | None, str]:
    """Return the file name of each class. It is distinct, and safe on every system.

    A safe name is kept. Otherwise, or if names differ in case only, it is the safe part of the name and a hash.
    """
    folded = Counter(name.casefold() for name in classes if name is not None)
    folded[UNCLASSIFIED] += 1
    return {
        name: UNCLASSIFIED if name is None else name if _is_safe(name) and folded[name.casefold()] == 1 else _hash(name)
        for name in classes
    }


def _is_safe(name: str) -> bool:
    return bool(_SAFE.fullmatch(name)) and name.split(".")[0].casefold() not in _RESERVED


def _hash(name: str) -> str:
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80].lstrip("-")
    return f"{kept}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
