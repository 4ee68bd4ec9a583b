"""Fixtures: your own results for a file name. Each is a JSON file that is checked before it is served."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fake_aihub.extraction.validation import ScenarioError, Table, check

Whole = Annotated[int, Field(ge=0)]


class Modification(Table):
    """A change in an edit."""

    message: str | None = None


class Edited(Table):
    """An edit by a reviewer."""

    timestamp: str
    user_id: str
    modifications: list[Modification] = Field([])


class Score(Table):
    """The confidence of the model in a class."""

    model: float | None = None


class FieldScore(Score):
    """The confidence of the model and the OCR in a field."""

    ocr: float | None = None


class FieldAlert(Table):
    """A validation failure of a field."""

    alert_level: str = ""
    msg: str = ""
    blocked: bool = False
    type: str = ""
    locations: list[dict[str, Any]] = Field([])


class FieldValidations(Table):
    """Whether a field is valid."""

    valid: bool = True
    alerts: list[FieldAlert] = Field([])


class DocumentValidations(Table):
    """Whether a document is valid."""

    final_result_pass: bool = True


class Box(Table):
    """The position of a value on a page."""

    top_x: float = 0.0
    top_y: float = 0.0
    bottom_x: float = 0.0
    bottom_y: float = 0.0
    page_number: Whole = 0


class Layout(Table):
    """The size of a page."""

    page_number: Whole
    width: float
    height: float


class FixtureField(Table):
    """A field of a document."""

    field_name: str
    value: str
    type: str = "TEXT"
    error_msg: str = ""
    source_coordinates: list[Box] = Field([])
    edit_history: list[Edited] = Field([])
    confidence: FieldScore = FieldScore()
    validations: FieldValidations = FieldValidations()


class FixtureDocument(Table):
    """A document in a file."""

    fields: list[FixtureField]
    review_completed: bool = False
    class_name: str | None = None
    page_numbers: list[Whole] = Field([])
    page_layouts: list[Layout] = Field([])
    post_processed_paths: list[str] = Field([])
    post_processed_pdf_path: str = ""
    class_edit_history: list[Edited] = Field([])
    validations: DocumentValidations = DocumentValidations()
    classification_confidence: Score = Score()


class FixtureFile(Table):
    """The content of a fixture: a list of documents, or a whole file object of the results."""

    documents: list[FixtureDocument]
    original_file_name: str = ""
    input_file_path: str = ""


Fixtures = dict[str, dict[str, Any]]


def load_fixtures(folder: Path) -> Fixtures:
    """Return the fixtures by file name, in NFC. Raises ScenarioError with all mistakes."""
    if not folder.is_dir():
        raise ScenarioError(f"{folder}: not a folder with fixtures")
    found: Fixtures = {}
    mistakes: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".json"):
            name = unicodedata.normalize("NFC", path.name.removesuffix(".json"))
            try:
                found[name] = _load(path, name)
            except ScenarioError as error:
                mistakes.append(str(error))
    if mistakes:
        raise ScenarioError("\n".join(mistakes))
    return found


def _load(path: Path, name: str) -> dict[str, Any]:
    """Return a fixture exactly as written. Missing properties are not filled in."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise ScenarioError(f"{path.name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{path.name}: not valid JSON in UTF-8, {error}") from None
    whole: dict[str, Any] = {"documents": content} if isinstance(content, list) else content
    checked = check(FixtureFile, whole, path.name)
    given = unicodedata.normalize("NFC", checked.original_file_name or name)
    if given != name:
        raise ScenarioError(f"{path.name}: original_file_name: must be {name!r}, got {given!r}")
    return whole


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")
