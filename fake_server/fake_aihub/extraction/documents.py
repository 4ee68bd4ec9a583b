"""The documents of a file, generated in full from a scenario pack, a random source and the text of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from fake_aihub.extraction.text import Text, normalise

if TYPE_CHECKING:  # they need pydantic, which is imported only when results are requested
    from fake_aihub.extraction.packs import Edit, Pack, PackClass, PackField

MAX_PDF_PAGES = 100

Document = dict[str, Any]


def draw_review(chance: Random, pack: Pack) -> bool:
    """Draw whether the review of a file is complete. This must be the first draw for the file."""
    return chance.random() < pack.reviewed


def make_documents(pack: Pack, chance: Random, digest: str, text: Text) -> Iterator[Document]:
    """Generate the documents of a file in full. Values from the file's text fill the fields of the first one."""
    reviewed = draw_review(chance, pack)
    count = chance.choice(pack.documents)
    if text.pages is not None:
        count = min(count, text.pages)
    start = 0
    for index in range(count):
        found = text if index == 0 else None
        one = _choose_class(chance, pack, found)
        pages = chance.choice(one.pages)
        if text.pages is not None:  # at least one page for each document, the rest for the last one
            left = text.pages - start - (count - index - 1)
            pages = left if index == count - 1 else min(pages, left)
        document = _document(chance, pack, one, range(start, start + pages), found)
        yield document | _describe_output(digest, index, pages) | {"review_completed": reviewed}
        start += pages


def _choose_class(chance: Random, pack: Pack, text: Text | None) -> PackClass:
    """Choose the class with the most labels in the text, else a random one."""
    drawn = chance.choices(pack.classes, [one.weight for one in pack.classes])[0]
    if text is None or not text.pairs:
        return drawn
    named = [sum(text.find(_labels(field)) is not None for field in one.fields) for one in pack.classes]
    return pack.classes[named.index(max(named))] if any(named) else drawn


def _describe_output(digest: str, index: int, pages: int) -> Document:
    path = f"/fake/processed/{digest[:16]}-{index}"
    output: Document = {"post_processed_paths": [f"{path}.txt"]}
    return output | ({"post_processed_pdf_path": f"{path}.pdf"} if pages < MAX_PDF_PAGES else {})


def _document(chance: Random, pack: Pack, one: PackClass, pages: range, text: Text | None) -> Document:
    width, height = one.page_size
    score = _score(chance, one.confidence)
    edits = make_edits(chance, pack.reviewers, one.edit)
    fields = [_field(chance, pack, one, field, pages, text) for field in one.fields]
    return {
        "class_name": one.name,
        "page_numbers": list(pages),
        "fields": fields,
        "classification_confidence": {"model": None if one.name is None else score},
        "class_edit_history": edits,
        "validations": {"final_result_pass": all(field["validations"]["valid"] for field in fields)},
        "page_layouts": [{"page_number": page, "width": width, "height": height} for page in pages],
    }


def _field(chance: Random, pack: Pack, one: PackClass, spec: PackField, pages: range, text: Text | None) -> Document:
    made = _value(chance, spec)
    found = text.find(_labels(spec)) if text is not None else None
    failed = spec.error is not None and chance.random() < spec.error.rate
    value = "ERROR" if failed else made if found is None else found
    model, ocr = _score(chance, spec.confidence), _score(chance, spec.ocr)
    alerted = spec.alert is not None and chance.random() < spec.alert.rate
    field: Document = {"field_name": python_name(spec.name), "value": value, "type": spec.type}
    if spec.error is not None and failed:
        field["error_msg"] = spec.error.message
    return field | {
        "confidence": {"model": None, "ocr": None} if spec.unscored else {"model": model, "ocr": ocr},
        "edit_history": make_edits(chance, pack.reviewers, spec.edit),
        "validations": _validations(spec, failed, alerted),
        "source_coordinates": _boxes(chance, one, pages, "" if failed else value),
    }


def _validations(spec: PackField, failed: bool, alerted: bool) -> Document:
    alerts = []
    if spec.error is not None and failed:
        alerts.append(("error", spec.error.message, False))
    if spec.alert is not None and alerted:
        alerts.append((spec.alert.type, spec.alert.message, spec.alert.blocked))
    return {
        "valid": not alerts,
        "alerts": [
            {"alert_level": "FAILURE", "msg": message, "blocked": blocked, "type": kind, "locations": []}
            for kind, message, blocked in alerts
        ],
    }


def _boxes(chance: Random, one: PackClass, pages: range, value: str) -> list[Document]:
    """Return the position of a value on one of the pages. An empty value has no position."""
    page, left, top = chance.choice(pages), chance.random(), chance.random()
    if not value:
        return []
    width, height = one.page_size
    x, y = round(left * width * 0.6, 1), round(top * height * 0.9, 1)
    right = round(min(x + 6.0 * len(value), width), 1)
    return [{"top_x": x, "top_y": y, "bottom_x": right, "bottom_y": round(y + height / 66, 1), "page_number": page}]


def make_edits(chance: Random, reviewers: Sequence[str], edit: Edit | None) -> list[Document]:
    """Generate an edit history with zero or one edits. The time is drawn from the seed, so that it is repeatable."""
    if edit is None or chance.random() >= edit.rate:
        return []
    seconds = chance.randrange(86_400)
    time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    message = chance.choice(edit.messages) or None
    return [
        {
            "timestamp": f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T{time}Z",
            "user_id": chance.choice(reviewers),
            "modifications": [{"message": message}],
        }
    ]


def _score(chance: Random, scores: Sequence[float]) -> float:
    return round(scores[0] + chance.random() * (scores[1] - scores[0]), 4)


def _value(chance: Random, spec: PackField) -> str:
    if spec.number is not None:
        return f"{chance.uniform(spec.number.low, spec.number.high):.{spec.number.decimals}f}"
    if spec.date is not None:
        first, last = spec.date.first.toordinal(), spec.date.last.toordinal()
        return type(spec.date.first).fromordinal(chance.randint(first, last)).strftime(spec.date.format)
    return re.sub("#", lambda _: chance.choice("0123456789"), chance.choice(spec.values))


@lru_cache(4096)
def _normalised(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(normalise(name) for name in names)


def _labels(spec: PackField) -> tuple[str, ...]:
    return _normalised((spec.name, *spec.labels))


@lru_cache(4096)
def python_name(name: str) -> str:
    """Convert a field name to a Python identifier, as the results do."""
    doubled = re.sub(r"[^A-Za-z0-9_]", "_", name.replace("_", "__"))
    return doubled if re.match(r"[A-Za-z_]", doubled) else f"_{doubled}"
