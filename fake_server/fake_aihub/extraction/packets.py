"""Cross-class fields of a packet. Each is derived from fields of the documents in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from fake_aihub.extraction.documents import Document, make_edits, python_name

if TYPE_CHECKING:
    from fake_aihub.extraction.packs import CrossField, Pack

PACKET_FILES = 20
MAX_OPTIONS = 10


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate value of a cross-class field. `record_index` is the index of its document in the run."""

    record_index: int
    phrase: str
    value: str

    def render(self) -> Document:
        """Return it in the format of the results."""
        return {"record_index": self.record_index, "refined_phrase_name": self.phrase}


def make_case(chance: Random, pack: Pack, documents: Sequence[Document]) -> list[Document]:
    """Generate the cross-class fields in full, from the documents of a run's first files by name."""
    return [_make_field(chance, pack, cross, _list_options(pack, cross, documents)) for cross in pack.cross_class]


def _list_options(pack: Pack, cross: CrossField, documents: Sequence[Document]) -> list[Option]:
    """List the values in order of the sources. Failed and empty fields are skipped."""
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


def _validations(cross: CrossField, options: Sequence[Option], alerted: bool) -> dict[str, Any]:
    failures = []
    if cross.all_inputs_match is not None and len({option.value for option in options}) > 1:
        failures.append({"type": "all_inputs_match", "msg": cross.all_inputs_match})
    if cross.alert is not None and alerted:
        failures.append({"type": cross.alert.type, "msg": cross.alert.message})
    return {"valid": not failures, "failures": failures}
