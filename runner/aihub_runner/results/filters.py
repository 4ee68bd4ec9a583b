"""Which documents and fields are meant, of all that there are. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aihub_runner.results.naming import UNCLASSIFIED
from aihub_runner.results.tables import Document, Row, class_of, field_rows
from aihub_runner.text.jsontext import read_float


@dataclass(frozen=True, slots=True)
class Filter:
    """What all must fit: classes, and for a field, that it has an error or that one is not confident of it.

    A confidence counts that the service gives, the model's or that of the text recognition.
    """

    classes: frozenset[str] = frozenset()
    only_errors: bool = False
    below: float | None = None

    @property
    def is_of_fields(self) -> bool:
        """Whether it leaves out fields."""
        return self.only_errors or self.below is not None

    def takes_class(self, document: Document) -> bool:
        """Return whether a document is of a class that is meant."""
        return not self.classes or (class_of(document) or UNCLASSIFIED) in self.classes

    def takes_field(self, one: Mapping[str, Any]) -> bool:
        """Return whether a field is meant."""
        return (not self.only_errors or bool(one["error"])) and (self.below is None or _lowest(one) < self.below)

    def documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Return the documents that are meant, whole: of a class that is, with a field that is."""
        for document in documents:
            if self.takes_class(document) and (not self.is_of_fields or any(map(self.takes_field, document["fields"]))):
                yield document

    def field_rows(self, document: Document) -> Sequence[Row]:
        """Return the rows of the fields that are meant."""
        rows = field_rows(document)
        return [row for row, one in zip(rows, document["fields"], strict=True) if self.takes_field(one)]


def _lowest(one: Mapping[str, Any]) -> float:
    confidence = one.get("confidence")
    given = [confidence.get(name) for name in ("model", "ocr")] if isinstance(confidence, Mapping) else []
    return min((number for number in map(read_float, given) if number is not None), default=math.inf)
