"""Cross-class fields of a packet: each draws on fields of the documents in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from fake_aihub.contract.evidence import rule
from fake_aihub.extraction.documents import Document, make_edits, python_name

if TYPE_CHECKING:
    from fake_aihub.extraction.packs import CrossField, Pack

PACKET_FILES = 20
MAX_OPTIONS = 10


@dataclass(frozen=True, slots=True)
class Option:
    """A value that a cross-class field may take; `record_index` is the place of its document among all."""

    record_index: int
    phrase: str
    value: str

    def render(self) -> Document:
        """Render it as the results do."""
        return {"record_index": self.record_index, "refined_phrase_name": self.phrase}


def make_case(chance: Random, pack: Pack, documents: Sequence[Document]) -> list[Document]:
    """Make the cross-class fields of the documents of a run's first files by name, whole."""
    return [_make_field(chance, pack, cross, _list_options(pack, cross, documents)) for cross in pack.cross_class]


def _list_options(pack: Pack, cross: CrossField, documents: Sequence[Document]) -> list[Option]:
    """List the values of the sources, those of the first source first; what failed or is empty is none."""
    options = []
    sources = pack.sources()
    for source in cross.sources:
        class_name, phrase = sources[source][0], python_name(sources[source][1])
        options += [
            Option(index, phrase, field["value"])
            for index, document in enumerate(documents)
            if document.get("class_name") == class_name
            for field in document["fields"]
            if field["field_name"] == phrase and field["value"] and not field.get("error_msg")
        ]
    return options[:MAX_OPTIONS]


@rule("guess", "a cross-class field without any source is an ERROR", operation="getRunResults", status=200)
@rule("guess", "record_index counts the documents of a run, its files by name", operation="getRunResults", status=200)
def _make_field(chance: Random, pack: Pack, cross: CrossField, options: Sequence[Option]) -> Document:
    field: Document = {"name": cross.name, "value": options[0].value if options else "ERROR"}
    if not options:
        field["error_msg"] = f"No document has {' or '.join(cross.sources)}"
    if cross.ranked:
        field["input_fields"] = [option.render() for option in options]
        field["chosen_field"] = options[0].render() if options else None
    field["edit_history"] = make_edits(chance, pack.reviewers, cross.edit)
    alerted = cross.alert is not None and chance.random() < cross.alert.rate
    if cross.alert is not None or cross.all_inputs_match is not None:
        field["validations"] = _validations(cross, options, alerted)
    return field


@rule(
    "spec", "Cross-class validation tells of its failures where valid is false.", operation="getRunResults", status=200
)
def _validations(cross: CrossField, options: Sequence[Option], alerted: bool) -> dict[str, Any]:
    failures = []
    if cross.all_inputs_match is not None and len({option.value for option in options}) > 1:
        failures.append({"type": "all_inputs_match", "msg": cross.all_inputs_match})
    if cross.alert is not None and alerted:
        failures.append({"type": cross.alert.type, "msg": cross.alert.message})
    return {"valid": not failures, "failures": failures}
