"""Documents and fields, made from the bytes of a file: the same bytes always give the same."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from fake_server.world import File

CLASSES: dict[str, tuple[tuple[str, str], ...]] = {
    "invoice": (("invoice number", "TEXT"), ("invoice date", "DATE"), ("total", "NUMBER"), ("supplier", "TEXT")),
    "receipt": (("merchant", "TEXT"), ("paid on", "DATE"), ("amount", "NUMBER")),
    "letter": (("sender", "TEXT"), ("subject", "TEXT")),
}
NAMES = ("Northwind", "Blue Harbour", "Alder & Sons", "Kestrel", "Old Mill", "Juniper")


def extract(file: File, include: frozenset[str], *, pdf: bool) -> list[dict[str, Any]]:
    """Make the documents of a file; now and then there are two, and now and then a field has an error."""
    chance = Random(file.digest)
    count = 2 if chance.random() < 0.1 else 1
    return [_document(chance, index, file, include, pdf) for index in range(count)]


def _document(chance: Random, index: int, file: File, include: frozenset[str], pdf: bool) -> dict[str, Any]:
    class_name = chance.choice(sorted(CLASSES))
    class_confidence = round(chance.uniform(0.7, 1.0), 4)
    fields = [_field(chance, name, kind, index, include) for name, kind in CLASSES[class_name]]
    document: dict[str, Any] = {"class_name": class_name, "page_numbers": [index], "fields": fields}
    if "confidence" in include:
        document["classification_confidence"] = {"model": class_confidence}
    if "review" in include:
        document |= {"review_completed": False, "class_edit_history": []}
    if "validation" in include:
        document["validations"] = {"final_result_pass": all(field["validations"]["valid"] for field in fields)}
    if "source" in include:
        document["page_layouts"] = [{"page_number": index, "width": 612.0, "height": 792.0}]
        document["post_processed_paths"] = []
        if pdf:
            document["post_processed_pdf_path"] = f"/fake/pdf/{file.digest[:16]}-{index}.pdf"
    return document


def _field(chance: Random, name: str, kind: str, page: int, include: frozenset[str]) -> dict[str, Any]:
    value, failed = _value(chance, kind), chance.random() < 0.04
    model, ocr = round(chance.uniform(0.5, 1.0), 4), round(chance.uniform(0.8, 1.0), 4)
    left, top = round(chance.uniform(0, 400), 1), round(chance.uniform(0, 700), 1)
    field: dict[str, Any] = {"field_name": python_name(name), "value": "ERROR" if failed else value, "type": kind}
    if failed:
        field["error_msg"] = f"{name} could not be extracted"
    if "confidence" in include:
        field["confidence"] = {"model": model, "ocr": ocr}
    if "review" in include:
        field["edit_history"] = []
    if "validation" in include:
        alert = {"alert_level": "FAILURE", "msg": f"{name} is empty", "blocked": False, "type": "rule", "locations": []}
        field["validations"] = {"valid": not failed, "alerts": [alert] if failed else []}
    if "source" in include:
        box = {"top_x": left, "top_y": top, "bottom_x": left + 80.0, "bottom_y": top + 12.0, "page_number": page}
        field["source_coordinates"] = [box]
    return field


def _value(chance: Random, kind: str) -> str:
    if kind == "NUMBER":
        return f"{chance.randrange(100, 1_000_000) / 100:.2f}"
    if kind == "DATE":
        return f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
    return f"{chance.choice(NAMES)} {chance.randrange(1000, 10000)}"


def python_name(name: str) -> str:
    """Turn a field's name into a Python identifier, as the results do."""
    doubled = re.sub(r"[^A-Za-z0-9_]", "_", name.replace("_", "__"))
    return doubled if re.match(r"[A-Za-z_]", doubled) else f"_{doubled}"
