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
from aihub_runner.text.jsontext import Numeral, read_float, render_json

VERSION = 2  # of the layout of tables: a change writes them again

Kind = Literal["text", "integer", "number", "flag", "integers", "json"]
Row = Sequence[Any]
Rows = tuple[str, Sequence[Row]]
Document = Mapping[str, Any]  # as in `documents.jsonl`
Form = tuple[tuple[str | None, tuple[str, ...]], ...]  # of a file: class and field names of each document
Case = tuple[str, Mapping[str, Any]]  # the id of a run, and a cross-class field of its packet

_INT64 = range(-(2**63), 2**63)


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


# Cells


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else render_json(value, compact=True)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None


def _number(value: Any) -> float | Numeral | None:
    if value.__class__ is float and -1e308 < value < 1e308:
        return value
    number = read_float(value)
    if number is None or abs(number) >= 1e308:
        return None
    return value if isinstance(value, Numeral) else number


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integers(value: Any) -> list[int]:
    return [one for one in value if _integer(one) is not None] if isinstance(value, list) else []


def _inner(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


_TEXT_TYPES = frozenset({str, type(None)})


def _last_edit(value: Mapping[str, Any]) -> tuple[str | None, str | None]:
    history = value.get("edit_history")
    last = history[-1] if isinstance(history, list) and history else None
    return _text(_inner(last, "user_id")), _text(_inner(last, "timestamp"))


# Rows


def document_cells(document: Document) -> tuple[Any, ...]:
    """Return the cells of OF_DOCUMENT."""
    return (
        document["path"],
        document["present"],
        document["run_id"],
        document["document_index"],
        class_of(document),
        _integers(document["pages"]),
    )


def class_of(document: Document) -> str | None:
    """Return the class of a document; None if it is unclassified."""
    return _text(document["class"])


def field_rows(document: Document) -> list[tuple[Any, ...]]:
    """Return the rows of FIELDS for a document, in the order of its fields."""
    cells = document_cells(document)
    return [cells + others for others in zip(*field_columns([document]), strict=True)]


def field_columns(documents: Collection[Document]) -> list[Sequence[Any]]:
    """Return the columns of FIELDS for documents, after those of OF_DOCUMENT.

    Most values have the kind of their column: one look at a whole column is less than one at each value.
    """
    fields = [one for document in documents for one in document["fields"]]

    def values(name: str) -> list[Any]:
        return [one.get(name) for one in fields]

    confidences, validations, edits = values("confidence"), values("validations"), values("edit_history")
    edited = [[None] * len(fields)] * 2 if _is_empty(edits) else [*zip(*map(_last_edit, fields), strict=True)]
    return [
        [index for document in documents for index in range(len(document["fields"]))],
        *map(_texts, map(values, ("name", "value", "type"))),
        *(_map(_number, _parts(confidences, name)) for name in ("model", "ocr")),
        _map(_flag, _parts(validations, "valid")),
        _map(_or_none, _parts(validations, "alerts")),
        _map(_or_none, _texts(values("error"))),
        _map(_or_none, values("source_coordinates")),
        *edited,
    ]


def _is_empty(column: Sequence[Any]) -> bool:
    return column.count(None) == len(column)


def _map(convert: Callable[[Any], Any], column: Sequence[Any]) -> Sequence[Any]:
    """Convert the values of a column. None stays None."""
    return column if _is_empty(column) else [*map(convert, column)]


def _texts(column: Sequence[Any]) -> Sequence[str | None]:
    return column if {*map(type, column)} <= _TEXT_TYPES else [*map(_text, column)]


def _or_none(value: Any) -> Any:
    return value or None


def _parts(column: Sequence[Any], name: str) -> Sequence[Any]:
    """Return a member of each object of a column."""
    return column if _is_empty(column) else [one.get(name) if one.__class__ is dict else None for one in column]


def case_row(run_id: str, case: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the row of CASES for a cross-class field of a run."""
    return (
        run_id,
        _text(case.get("name")),
        _text(case.get("value")),
        _flag(_inner(case, "validations", "valid")),
        _inner(case, "validations", "failures") or None,
        _text(case.get("error_msg")) or None,
        _integer(_inner(case, "chosen_field", "record_index")),
        _text(_inner(case, "chosen_field", "refined_phrase_name")),
        case.get("input_fields") or None,
        *_last_edit(case),
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

    def row(self, document: Document) -> list[Any]:
        """Return the row of a document, in the order of `columns`. Call `columns` first."""
        fields = document["fields"]
        row = [
            *document_cells(document),
            _number(_inner(document.get("classification_confidence"), "model")),
            _flag(_inner(document.get("validations"), "final_result_pass")),
            _flag(document.get("review_completed")),
            _text(document.get("post_processed_pdf_path")),
            sum(map(bool, [one["error"] for one in fields])),
        ]
        names = field_names(document)
        if names != self._last[0]:
            seen: Counter[str] = Counter()
            found = []
            for name in names:
                seen[name] += 1
                found.append(self.places[name, seen[name]])
            self._last = names, found
        row += [None] * len(self.places)
        for place, value in zip(self._last[1], _texts([one["value"] for one in fields]), strict=True):
            row[place] = value
        return row


def field_names(document: Document) -> tuple[str, ...]:
    """Return the names of a document's fields."""
    names = tuple([one["name"] for one in document["fields"]])
    if {*map(type, names)} <= {str} and "" not in names:
        return names
    return tuple(map(_name, names))


def form_of(documents: Iterable[Document]) -> Form:
    """Return the form of a file's documents."""
    return tuple([(class_of(document), field_names(document)) for document in documents])


def _name(name: Any) -> str:
    return _text(name) or "unnamed"


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

    def rows(self, documents: Iterable[Document], names: Collection[str]) -> Iterator[Rows]:
        """Yield the rows of documents in the named tables, with the name of the table."""
        for document in documents:
            if self.fields.name in names:
                yield self.fields.name, field_rows(document)
            name = class_of(document)
            if self.classes[name].name in names:
                yield self.classes[name].name, [self.shapes[name].row(document)]


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
