"""Flat tables from documents as in `documents.jsonl`: their columns and rows. Pure.

A cell has a value of its column's kind, or None. Types are never guessed: a value that the service returns as text
stays text, whatever it looks like. A value of another kind than its column is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from aihub_runner.results.naming import Names, Occurrence, name_classes, name_columns
from aihub_runner.results.record import (
    LARGEST,
    Confidence,
    Document,
    Record,
    as_flag,
    as_integer,
    as_number,
    as_text,
    part,
)

VERSION = 2  # of the layout of tables: a change writes them again

Kind = Literal["text", "integer", "number", "flag", "integers", "json"]
Row = Sequence[Any]
Rows = tuple[str, Sequence[Row]]
Form = tuple[tuple[str | None, tuple[str, ...]], ...]  # of a file: class and field names of each document
Case = tuple[str, Mapping[str, Any]]  # the id of a run, and a cross-class field of its packet

_TEXT_TYPES = frozenset({str, type(None)})


class Column(Struct, frozen=True):
    """A column, the kind of its cells, and their meaning. Columns of an app's fields have no meaning here."""

    name: str
    kind: Kind
    meaning: str = ""


class Table(Struct, frozen=True):
    """A table. `name` is its path in the results folder without an extension; `rows` the number of rows."""

    name: str
    columns: tuple[Column, ...]
    rows: int = 0  # 0 if unknown in advance


OF_DOCUMENT = (
    Column("path", "text", "The file, relative to the spec."),
    Column("present", "flag", "Whether the file still exists."),
    Column("run_id", "text", "The run that produced the results."),
    Column("document_index", "integer", "The position of the document in the file, from 0."),
    Column("class", "text", "The document's class; null if it was not classified."),
    Column("pages", "integers", "The document's pages in the file, as the service counts them."),
)
_EDITED = (
    Column("edited_by", "text", "Who made the last edit in a review; needs `review`."),
    Column("edited_at", "text", "The time of that edit, as the service writes it."),
)
FIELDS = (
    *OF_DOCUMENT,
    Column("field_index", "integer", "The position of the field in the document, from 0."),
    Column("field", "text", "The field's name."),
    Column("value", "text", "The field's value, as the service returns it."),
    Column("type", "text", "The field's type, as the service names it."),
    Column("confidence_model", "number", "The model's confidence, from 0 to 1; needs `confidence`."),
    Column("confidence_ocr", "number", "The confidence of the text recognition, from 0 to 1; needs `confidence`."),
    Column("valid", "flag", "Whether the field passed its validation rules; needs `validation`."),
    Column("alerts", "json", "The alerts of the rules that failed; needs `validation`."),
    Column("error", "text", "Why the field has no value."),
    Column("coordinates", "json", "Where the value is on the pages, one box for each place; needs `source`."),
    *_EDITED,
)
DOCUMENTS = (
    *OF_DOCUMENT,
    Column("class_confidence", "number", "The model's confidence in the class, from 0 to 1; needs `confidence`."),
    Column("valid", "flag", "Whether the document passed all validation rules; needs `validation`."),
    Column("reviewed", "flag", "Whether the review is complete; needs `review`."),
    Column("pdf", "text", "The path of the generated PDF on the service; needs `generate_post_process_pdf`."),
    Column("errors", "integer", "The number of fields with an error."),
)
CASES = (
    Column("run_id", "text", "The run whose files form the packet."),
    Column("field", "text", "The name of the cross-class field."),
    Column("value", "text", "Its value, as the service returns it."),
    Column("valid", "flag", "Whether it passed its validation rules; needs `validation`."),
    Column("failures", "json", "The rules that failed; needs `validation`."),
    Column("error", "text", "Why it has no value."),
    Column("chosen_document", "integer", "For a ranked field: the index of the chosen document."),
    Column("chosen_field", "text", "For a ranked field: the chosen field."),
    Column("choices", "json", "For a ranked field: the candidates."),
    *_EDITED,
)


# Rows


def _last_edit(history: Any) -> tuple[str | None, str | None]:
    last = history[-1] if isinstance(history, list) and history else None
    return as_text(part(last, "user_id")), as_text(part(last, "timestamp"))


def class_of(document: Document) -> str | None:
    """Return the class of a document; None if it is unclassified."""
    return as_text(document["class"])


def field_rows(record: Record) -> list[tuple[Any, ...]]:
    """Return the rows of FIELDS for a document, in the order of its fields."""
    return [record.cells + others for others in zip(*field_columns([record]), strict=True)]


def field_columns(records: Collection[Record]) -> list[Sequence[Any]]:
    """Return the columns of FIELDS for documents, after those of OF_DOCUMENT.

    Most values have the kind of their column: one look at a whole column is less than one at each value.
    """
    fields = [one for record in records for one in record.fields or ()]
    confidences, validations = [one.confidence for one in fields], [one.validations for one in fields]
    edits = [one.edit_history for one in fields]
    edited = [[None] * len(fields)] * 2 if _is_empty(edits) else [*zip(*map(_last_edit, edits), strict=True)]
    return [
        [index for record in records for index in range(len(record.fields or ()))],
        _texts([one.name for one in fields]),
        _texts([one.value for one in fields]),
        _texts([one.type for one in fields]),
        *_confidences(confidences),
        _map(as_flag, _parts(validations, "valid")),
        _map(_or_none, _parts(validations, "alerts")),
        _map(_or_none, _texts([one.error for one in fields])),
        _map(_or_none, [one.source_coordinates for one in fields]),
        *edited,
    ]


def _confidences(column: Sequence[Confidence | None]) -> list[Sequence[Any]]:
    """Return the columns of the model's and the text recognition's confidences."""
    if _is_empty(column):
        return [column, column]
    return [
        _numbers([one and one.model for one in column]),
        _numbers([one and one.ocr for one in column]),
    ]


def _numbers(column: Sequence[Any]) -> Sequence[Any]:
    """Return cells of numbers. A sum is not below the limit if one of the numbers is not, or is NaN."""
    if {*map(type, column)} == {float} and sum(map(abs, column)) < LARGEST:
        return column
    return _map(as_number, column)


def _is_empty(column: Sequence[Any]) -> bool:
    return column.count(None) == len(column)


def _map(convert: Callable[[Any], Any], column: Sequence[Any]) -> Sequence[Any]:
    """Convert the values of a column. None stays None."""
    return column if _is_empty(column) else [*map(convert, column)]


def _texts(column: Sequence[Any]) -> Sequence[str | None]:
    return column if {*map(type, column)} <= _TEXT_TYPES else [*map(as_text, column)]


def _or_none(value: Any) -> Any:
    return value or None


def _parts(column: Sequence[Any], name: str) -> Sequence[Any]:
    """Return a member of each object of a column."""
    return column if _is_empty(column) else [one.get(name) if one.__class__ is dict else None for one in column]


def case_row(run_id: str, case: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the row of CASES for a cross-class field of a run."""
    return (
        run_id,
        as_text(case.get("name")),
        as_text(case.get("value")),
        as_flag(part(case, "validations", "valid")),
        part(case, "validations", "failures") or None,
        as_text(case.get("error_msg")) or None,
        as_integer(part(case, "chosen_field", "record_index")),
        as_text(part(case, "chosen_field", "refined_phrase_name")),
        case.get("input_fields") or None,
        *_last_edit(case.get("edit_history")),
    )


class Shape(Struct):
    """The shape of a class's documents: their number, and the most occurrences of each field in a document."""

    documents: int = 0
    fields: dict[str, int] = {}  # in the order of first occurrence
    labels: dict[Occurrence, str] = {}  # column names that are known already
    # The column index of each occurrence of a field, after the columns that every document has.
    places: dict[Occurrence, int] = {}
    _last: tuple[tuple[str, ...], list[int]] = ((), [])  # the names of the last row's fields, and their columns

    def add(self, fields: Iterable[str], documents: int = 1) -> None:
        """Add documents with these fields."""
        self.documents += documents
        for name, number in Counter(fields).items():
            if number > self.fields.get(name, 0):
                self.fields[name] = number

    def add_shape(self, other: Shape) -> None:
        """Add the documents of another class."""
        self.documents += other.documents
        for name, number in other.fields.items():
            self.fields[name] = max(number, self.fields.get(name, 0))

    def columns(self) -> tuple[Column, ...]:
        """Return the columns: first those that every document has, then the fields, sorted by name."""
        occurrences = [(name, n) for name, most in self.fields.items() for n in range(1, most + 1)]
        self.labels = name_columns(occurrences, self.labels, [column.name for column in DOCUMENTS])
        ordered = sorted(occurrences)
        self._last = (), []
        self.places = {one: len(DOCUMENTS) + place for place, one in enumerate(ordered)}
        return (*DOCUMENTS, *(Column(self.labels[one], "text") for one in ordered))

    def row(self, record: Record) -> list[Any]:
        """Return the row of a document, in the order of `columns`. Call `columns` first."""
        fields = record.fields or []
        row = [
            *record.cells,
            as_number(part(record.classification_confidence, "model")),
            as_flag(part(record.validations, "final_result_pass")),
            as_flag(record.review_completed),
            as_text(record.post_processed_pdf_path),
            sum(map(bool, [one.error for one in fields])),
        ]
        names = _names([one.name for one in fields])
        if names != self._last[0]:
            seen: Counter[str] = Counter()
            found = []
            for name in names:
                seen[name] += 1
                found.append(self.places[name, seen[name]])
            self._last = names, found
        row += [None] * len(self.places)
        for place, value in zip(self._last[1], _texts([one.value for one in fields]), strict=True):
            row[place] = value
        return row


def field_names(document: Document) -> tuple[str, ...]:
    """Return the names of a document's fields."""
    return _names([one["name"] for one in document["fields"]])


def form_of(documents: Iterable[Document]) -> Form:
    """Return the form of a file's documents."""
    return tuple([(class_of(document), field_names(document)) for document in documents])


def _names(names: Sequence[Any]) -> tuple[str, ...]:
    if {*map(type, names)} <= {str} and "" not in names:
        return tuple(names)
    return tuple(map(_name, names))


def _name(name: Any) -> str:
    return as_text(name) or "unnamed"


# Tables


class Layout(Struct, frozen=True):
    """All tables, and the assignment of rows to them."""

    fields: Table
    cases: Table
    classes: Mapping[str | None, Table]
    shapes: Mapping[str | None, Shape]
    whole: Shape  # of the documents of all classes, side by side
    known: Names

    def names(self) -> Names:
        """Return the column names, by class and of the table of all classes, to be stored."""
        return Names(
            self.known.classes | {name: shape.labels for name, shape in self.shapes.items()}, self.whole.labels
        )

    def tables(self) -> list[Table]:
        """List the tables. The table of packets exists only if there are packets."""
        return [self.fields, *self.classes.values(), *([self.cases] if self.cases.rows else [])]

    def tables_of(self, form: Form) -> list[str]:
        """List the tables that have rows of a file of a form."""
        names = dict.fromkeys(self.classes[name].name for name, _ in form)
        return [*([self.fields.name] if form else []), *names]

    def rows(self, records: Iterable[Record], names: Collection[str]) -> Iterator[Rows]:
        """Yield the rows of documents in the named tables, with the name of the table."""
        for record in records:
            if self.fields.name in names:
                yield self.fields.name, field_rows(record)
            name = record.class_name
            if self.classes[name].name in names:
                yield self.classes[name].name, [self.shapes[name].row(record)]


def survey(forms: Mapping[Form, int], cases: int, known: Names | None = None) -> Layout:
    """Return the layout of the tables of files with these forms, each with the number of its files.

    Columns with known names keep them.
    """
    known = known or Names()
    shapes: dict[str | None, Shape] = {}
    fields = 0
    for form, files in forms.items():
        for name, names in form:
            if name not in shapes:
                shapes[name] = Shape(labels=dict(known.classes.get(name, {})))
            shapes[name].add(names, files)
            fields += len(names) * files
    places = name_classes(list(shapes))
    whole = Shape(labels=dict(known.whole))
    for shape in shapes.values():
        whole.add_shape(shape)
    whole.columns()
    return Layout(
        Table("fields", FIELDS, fields),
        Table("cases", CASES, cases),
        {
            name: Table(f"documents/{places[name]}", shape.columns(), shape.documents)
            for name, shape in sorted(shapes.items(), key=lambda item: places[item[0]])
        },
        shapes,
        whole,
        known,
    )
