"""What tables take from a document, read straight from a raw page, and cells of each kind.

To read only that takes half as long as to read all, and to give it our names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.json import Decoder

from aihub_runner.text.jsontext import Numeral, read_float, read_fraction, render_json

LARGEST = 1e308  # numbers from here on are left out
_INT64 = range(-(2**63), 2**63)

Document = Mapping[str, Any]  # as in `documents.jsonl`


class Confidence(Struct, gc=False):
    """The confidences of a field."""

    model: Any = None
    ocr: Any = None


class Field(Struct, gc=False, rename={"name": "field_name", "error": "error_msg"}):
    """A field. In a raw page, its members have the names of the service."""

    name: Any = None
    value: Any = None
    type: Any = None
    error: Any = None
    confidence: Confidence | None = None
    validations: Any = None
    edit_history: Any = None
    source_coordinates: Any = None


class Record(Struct, gc=False):
    """A document as tables need it. `place` sets its `cells`, those of OF_DOCUMENT, whatever was read."""

    cells: Any = ()
    class_name: Any = None
    page_numbers: Any = None
    fields: list[Field] | None = None
    classification_confidence: Any = None
    validations: Any = None
    review_completed: Any = None
    post_processed_pdf_path: Any = None

    def place(self, path: str, present: bool, run_id: str | None, index: int) -> Record:
        """Set the cells that every document has."""
        self.class_name = as_text(self.class_name)
        self.cells = (path, present, run_id, index, self.class_name, as_integers(self.page_numbers))
        return self


class RawFile(Struct, gc=False):
    """A file in a raw page."""

    documents: list[Record] | None = None


# Reads what `jsontext.QUICK_READER` reads, or raises ValueError or RecursionError.
FILE_READER = Decoder(RawFile, float_hook=read_fraction)


def as_record(document: Document) -> Record:
    """Return what tables take from a document."""
    record = Record(
        class_name=document["class"],
        page_numbers=document["pages"],
        fields=[*map(_as_field, document["fields"])],
        classification_confidence=document.get("classification_confidence"),
        validations=document.get("validations"),
        review_completed=document.get("review_completed"),
        post_processed_pdf_path=document.get("post_processed_pdf_path"),
    )
    return record.place(document["path"], document["present"], document["run_id"], document["document_index"])


def _as_field(one: Mapping[str, Any]) -> Field:
    confidence = one.get("confidence")
    return Field(
        one.get("name"),
        one.get("value"),
        one.get("type"),
        one.get("error"),
        Confidence(confidence.get("model"), confidence.get("ocr")) if isinstance(confidence, dict) else None,
        one.get("validations"),
        one.get("edit_history"),
        one.get("source_coordinates"),
    )


# Cells


def as_text(value: Any) -> str | None:
    """Return a cell of the kind text."""
    return value if value is None or isinstance(value, str) else render_json(value, compact=True)


def as_integer(value: Any) -> int | None:
    """Return a cell of the kind integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None


def as_number(value: Any) -> float | Numeral | None:
    """Return a cell of the kind number."""
    if value.__class__ is float and -LARGEST < value < LARGEST:
        return value
    number = read_float(value)
    if number is None or abs(number) >= LARGEST:
        return None
    return value if isinstance(value, Numeral) else number


def as_flag(value: Any) -> bool | None:
    """Return a cell of the kind flag."""
    return value if isinstance(value, bool) else None


def as_integers(value: Any) -> list[int]:
    """Return a cell of the kind integers."""
    return [one for one in value if as_integer(one) is not None] if isinstance(value, list) else []


def part(value: Any, *names: str) -> Any:
    """Return a member of a member of an object; None if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
