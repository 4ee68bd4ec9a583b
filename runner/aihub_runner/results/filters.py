"""Select documents and fields. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from aihub_runner.results.naming import UNCLASSIFIED
from aihub_runner.results.record import Document, as_record
from aihub_runner.results.tables import Row, class_of, field_rows
from aihub_runner.text.jsontext import read_float


class Filter(Struct, frozen=True):
    """The conditions that a document or field must meet: class, error, and a confidence `below` a threshold.

    The lower one of the model's and the text recognition's confidence counts, as far as the service returns them.
    """

    classes: frozenset[str] = frozenset()
    only_errors: bool = False
    below: float | None = None

    @property
    def is_of_fields(self) -> bool:
        """Whether it has conditions on fields."""
        return self.only_errors or self.below is not None

    def takes_class(self, document: Document) -> bool:
        """Whether a document has a selected class."""
        return not self.classes or (class_of(document) or UNCLASSIFIED) in self.classes

    def takes_field(self, one: Mapping[str, Any]) -> bool:
        """Whether a field is selected."""
        return (not self.only_errors or bool(one["error"])) and (self.below is None or _lowest(one) < self.below)

    def documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Return the documents with a selected class and a selected field, with all their fields."""
        for document in documents:
            if self.takes_class(document) and (not self.is_of_fields or any(map(self.takes_field, document["fields"]))):
                yield document

    def field_rows(self, document: Document) -> Sequence[Row]:
        """Return the rows of the selected fields."""
        rows = field_rows(as_record(document))
        return [row for row, one in zip(rows, document["fields"], strict=True) if self.takes_field(one)]


def _lowest(one: Mapping[str, Any]) -> float:
    confidence = one.get("confidence")
    given = [confidence.get(name) for name in ("model", "ocr")] if isinstance(confidence, Mapping) else []
    return min((number for number in map(read_float, given) if number is not None), default=math.inf)
