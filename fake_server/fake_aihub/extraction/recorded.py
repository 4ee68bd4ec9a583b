"""Fixtures: your own results for a file name. Each is a JSON file that is checked before it is served."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from fake_aihub.contract.shapes import Count, Kind, Shape
from fake_aihub.extraction.validation import ScenarioError, check
from fake_aihub.files import read_regular

SCORE = float | None
BOX: Kind = {**dict.fromkeys(("top_x", "top_y", "bottom_x", "bottom_y"), float), "page_number": Count}
LAYOUT = Shape({"page_number": Count, "width": float, "height": float}, ["page_number", "width", "height"])
ALERT: Kind = {**dict.fromkeys(("alert_level", "msg", "type"), str), "blocked": bool, "locations": [dict]}
EDIT = Shape({"timestamp": str, "user_id": str, "modifications": [{"message": str | None}]}, ["timestamp", "user_id"])
FIELD = Shape(
    {
        **dict.fromkeys(("field_name", "value", "type", "error_msg"), str),
        "source_coordinates": [BOX],
        "edit_history": [EDIT],
        "confidence": {"model": SCORE, "ocr": SCORE},
        "validations": {"valid": bool, "alerts": [ALERT]},
    },
    ["field_name", "value"],
)
DOCUMENT = Shape(
    {
        "fields": [FIELD],
        "review_completed": bool,
        "class_name": str | None,
        "page_numbers": [Count],
        "page_layouts": [LAYOUT],
        "post_processed_paths": [str],
        "post_processed_pdf_path": str,
        "class_edit_history": [EDIT],
        "validations": {"final_result_pass": bool},
        "classification_confidence": {"model": SCORE},
    },
    ["fields"],
)
# A fixture is a list of documents, or a whole file object of the results.
FILE = Shape({"documents": [DOCUMENT], "original_file_name": str, "input_file_path": str}, ["documents"])
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
        content = json.loads(read_regular(path).decode(), parse_constant=_refuse_constant)
        json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise ScenarioError(f"{path.name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{path.name}: not valid JSON in UTF-8, {error}") from None
    whole: dict[str, Any] = {"documents": content} if isinstance(content, list) else content
    check(FILE.model, whole, path.name)
    given = unicodedata.normalize("NFC", whole.get("original_file_name") or name)
    if given != name:
        raise ScenarioError(f"{path.name}: original_file_name: must be {name!r}, got {given!r}")
    return whole


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")
