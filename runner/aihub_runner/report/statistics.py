"""Count documents by class and by field, and keep as many rows as the report page can show. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from aihub_runner.report.html import size_of
from aihub_runner.results.reader import Document
from aihub_runner.spec.urls import is_url
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.jsontext import read_float
from aihub_runner.text.shown import show_value

BINS = 10
NAME_LENGTH = 100
VALUE_LENGTH = 160
# Limits that keep the page small enough to open: for all documents with their fields, and within that, for the
# documents alone (by whether they need review; the last 2 MB are reserved for those that do).
DOCUMENTS_BYTES = 11_500_000
ROWS_BYTES = {False: 6_000_000, True: 8_000_000}
FAILED_BYTES = 1_000_000
MAX_NAMES = 500
OTHERS = "(others)"


class FieldCount(Struct):
    """The counts of one field. `bins` are tenths of the model's confidence; the last one includes 1.0."""

    documents: int = 0
    failed: int = 0
    below: int = 0
    lowest: float | None = None
    confidences: int = 0
    confidence_sum: float = 0.0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)

    @property
    def mean(self) -> float | None:
        """The mean confidence."""
        return self.confidence_sum / self.confidences if self.confidences else None

    def add_confidence(self, confidence: float, threshold: float) -> None:
        """Count one more confidence."""
        self.confidences += 1
        self.confidence_sum += confidence
        self.below += confidence < threshold
        self.lowest = confidence if self.lowest is None else min(self.lowest, confidence)
        self.bins[min(BINS - 1, int(confidence * BINS))] += 1


class ClassCount(Struct):
    """The counts of one class."""

    documents: int = 0
    pages: int = 0
    failed: int = 0
    below: int = 0


class Census(Struct):
    """All counts, and the rows to show. Documents are added one at a time.

    A row has the document's path, index, class, pages, fields, failed fields, lowest confidence, run, the address of
    its file (1: its path; 0: the file is gone), and the fields as shown, or None if they did not fit.
    """

    threshold: float
    documents: int = 0
    needs_review: int = 0
    rows_left_out: int = 0
    fields_left_out: int = 0
    failed_left_out: int = 0
    classes: dict[str, ClassCount] = {}
    fields: dict[str, FieldCount] = {}
    rows: list[list[Any]] = []
    failed: list[list[Any]] = []
    _rows_bytes: int = 0
    _fields_bytes: int = 0
    _failed_bytes: int = 0
    _names: set[str] = set()
    # The rows with fields, as (index, bytes of the fields), by whether the document needs review.
    _with_fields: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {False: [], True: []})

    @property
    def has_confidence(self) -> bool:
        """Whether any field has a confidence."""
        return any(count.confidences for count in self.fields.values())

    def add(self, document: Document) -> None:
        """Count a document, and keep its row if it fits."""
        self.documents += 1
        lowest, failed = self._count_fields(document)
        is_below = lowest is not None and lowest < self.threshold
        name = show_value(document["class"], NAME_LENGTH) or "(none)"
        counts = _named(self.classes, name, ClassCount())
        counts.documents += 1
        counts.pages += len(document["pages"])
        counts.failed += failed
        counts.below += is_below
        needy = bool(failed or is_below)
        self.needs_review += needy
        self._keep(document, name, lowest, failed, needy)

    def _count_fields(self, document: Document) -> tuple[float | None, int]:
        lowest, failed = None, 0
        for item in document["fields"]:
            counts = _named(self.fields, show_value(item["name"], NAME_LENGTH) or "(none)", FieldCount())
            counts.documents += 1
            confidence = read_confidence(item)
            if confidence is not None:
                counts.add_confidence(confidence, self.threshold)
                lowest = confidence if lowest is None else min(lowest, confidence)
            if item["error"]:
                failed += 1
                counts.failed += 1
                self._keep_failed(document, item)
        return lowest, failed

    def _keep_failed(self, document: Document, item: dict[str, Any]) -> None:
        path = escape_control_chars(document["path"])
        address = address_of(document["path"], path) if document["present"] else 0
        shown = [show_value(item["name"], NAME_LENGTH), show_value(item["error"], VALUE_LENGTH)]
        row = [path, address, document["document_index"], *shown]
        size = size_of(row)
        if self._failed_bytes + size > FAILED_BYTES:
            self.failed_left_out += 1
            return
        self._failed_bytes += size
        self.failed.append(row)

    def _keep(self, document: Document, name: str, lowest: float | None, failed: int, needy: bool) -> None:
        path = escape_control_chars(document["path"])
        address = address_of(document["path"], path) if document["present"] else 0
        counts = [len(document["pages"]), len(document["fields"]), failed, self._round(lowest)]
        row = [path, document["document_index"], name, *counts, show_value(document["run_id"], NAME_LENGTH), address]
        names = {name, row[7]} - self._names  # of classes and runs; the page holds each once
        size = size_of([path, *counts, address]) + 16 + sum(map(size_of, names))
        if self._rows_bytes + size > ROWS_BYTES[needy]:
            self.rows_left_out += 1
            return
        self._rows_bytes += size
        self._names |= names
        self.rows.append([*row, None])
        self._keep_fields(document, needy)

    def _round(self, confidence: float | None) -> float | None:
        """Round a confidence, but never across the threshold."""
        if confidence is None:
            return None
        short = round(confidence, 3)
        return short if (short < self.threshold) == (confidence < self.threshold) else confidence

    def _keep_fields(self, document: Document, needy: bool) -> None:
        """Keep the fields of the last row. If they do not fit, drop fields of the newest rows until they do.

        Documents that need no review lose their fields first.
        """
        shown = [show_field(item) for item in document["fields"][:MAX_NAMES]]
        size = size_of(shown)
        self.rows[-1][-1] = shown
        self._with_fields[needy].append((len(self.rows) - 1, size))
        self._fields_bytes += size
        while self._rows_bytes + self._fields_bytes > DOCUMENTS_BYTES:
            place, size = (self._with_fields[False] or self._with_fields[True]).pop()
            self.rows[place][-1] = None
            self._fields_bytes -= size
            self.fields_left_out += 1


def address_of(path: str, shown: str) -> str | int:
    """Return the path if it differs from the shown path, else 1; 0 for a file that a page cannot link to."""
    if is_url(path):
        return 0
    return 1 if path == shown else path


def show_field(item: dict[str, Any]) -> list[Any]:
    """Return name, value, confidence and error as the page shows them, without trailing absent ones."""
    confidence = read_confidence(item)
    cells: list[Any] = [show_value(item["name"], NAME_LENGTH), show_value(item["value"], VALUE_LENGTH)]
    cells += [None if confidence is None else round(confidence, 3), show_value(item["error"], VALUE_LENGTH) or None]
    while cells[-1] is None:
        del cells[-1]
    return cells


def read_confidence(item: dict[str, Any]) -> float | None:
    """Return the model's confidence in a field, from 0 to 1; None if it is absent or invalid."""
    given = item.get("confidence")
    value = given.get("model") if isinstance(given, dict) else None
    number = read_float(value)
    return number if number is not None and 0 <= number <= 1 else None


def _named(counts: dict[str, Any], name: str, new: Any) -> Any:
    """Return the counts of a name. Names beyond the first `MAX_NAMES` share one entry."""
    return counts.setdefault(name if name in counts or len(counts) < MAX_NAMES else OTHERS, new)


def take_census(documents: Iterable[Document], threshold: float) -> Census:
    """Count all documents. A confidence below the threshold, from 0 to 1, needs review."""
    census = Census(threshold)
    for document in documents:
        census.add(document)
    return census
