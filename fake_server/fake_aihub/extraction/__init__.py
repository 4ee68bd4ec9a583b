"""The documents and fields of a run: from its app's scenario pack, the bytes of its files, and fixtures.

The same bytes, pack and seed always give the same documents, whatever else is in the run. Documents are generated in
full. Properties that a request does not ask for are removed afterwards.
"""

from __future__ import annotations

import unicodedata
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from fake_aihub.extraction.documents import Document, draw_review, make_documents
from fake_aihub.extraction.packets import PACKET_FILES, make_case
from fake_aihub.extraction.text import MAX_BYTES, Text, read_text
from fake_aihub.world.entities import File, Run
from fake_aihub.world.world import World

if TYPE_CHECKING:  # packs use pydantic, which is imported only when results are requested
    from fake_aihub.extraction.packs import Pack, Packs
    from fake_aihub.extraction.recorded import Fixtures
    from fake_aihub.world.blobs import Blobs

# Properties that are returned only on request. The names mean the same at every level.
OPTIONAL = {
    "review": frozenset({"review_completed", "class_edit_history", "edit_history"}),
    "confidence": frozenset({"classification_confidence", "confidence"}),
    "validation": frozenset({"validations"}),
    "source": frozenset({"page_layouts", "post_processed_paths", "post_processed_pdf_path", "source_coordinates"}),
}
KEPT = 256  # texts of files, and packs of apps
MAX_NAME = 300


class Extraction:
    """The results of runs. Checks your own packs and fixtures; raises ScenarioError for invalid ones."""

    def __init__(self, scenarios: Path | None = None, fixtures: Path | None = None) -> None:
        self._scenarios = scenarios
        self._read_text = lru_cache(KEPT)(_read_text)
        self._find_pack = lru_cache(KEPT)(lambda names: _find_pack(self.packs, names))
        self._fixtures: Fixtures = {}
        if scenarios is not None:
            _ = self.packs
        if fixtures is not None:
            from fake_aihub.extraction.recorded import load_fixtures

            self._fixtures = load_fixtures(fixtures)

    @cached_property
    def packs(self) -> Packs:
        """The packs by name, your own first."""
        from fake_aihub.extraction.packs import load_packs

        return load_packs(self._scenarios)

    def find_pack(self, run: Run) -> tuple[str, Pack]:
        """Return the name and the pack that applies to a run."""
        given = (run.request.get(key) for key in ("app_name", "app_id", "deployment_id"))
        return self._find_pack(tuple(name[:MAX_NAME] for name in given if isinstance(name, str)))

    def render_file(self, run: Run, file: File, include: frozenset[str], world: World) -> dict[str, Any]:
        """Return the results of one file of a run."""
        rendered = {"original_file_name": file.name, "input_file_path": f"{run.folder}/{file.name}"}
        if fixture := self._find_fixture(file):
            rendered |= {key: value for key, value in fixture.items() if value and key != "documents"}
        hidden = _hidden(include, run)
        over = {"review_completed": True} if run.script.get("reviewed") else {}
        documents = [_without(document | over, hidden) for document in self._documents(run, file, world)]
        return {**rendered, "documents": documents}

    def render_whole(self, run: Run, include: frozenset[str], world: World) -> dict[str, Any]:
        """Return the results of a run as a whole: its cross-class fields, and whether its review is complete."""
        name, pack = self.find_pack(run)
        files = sorted(run.files, key=lambda file: file.name)
        whole: dict[str, Any] = {}
        if pack.cross_class:
            documents = [one for file in files[:PACKET_FILES] for one in self._documents(run, file, world)]
            chance = _chance(world, name, *sorted(file.digest for file in files))
            case = make_case(chance, pack, documents)
            whole["case_info"] = {"fields": [_without(field, _hidden(include, run)) for field in case]}
        if "review" in include:
            each = (self._is_reviewed(name, pack, file, world) for file in files)
            whole["review_completed"] = bool(run.script.get("reviewed")) or (bool(files) and all(each))
        return whole

    def _find_fixture(self, file: File) -> dict[str, Any] | None:
        if not self._fixtures:
            return None
        name = file.name.rpartition("/")[2]  # in a run on a folder, the name starts with the subfolders
        return self._fixtures.get(unicodedata.normalize("NFC", name))

    def _documents(self, run: Run, file: File, world: World) -> list[Document]:
        if (fixture := self._find_fixture(file)) is not None:
            found: list[Document] = fixture["documents"]
            return found
        name, pack = self.find_pack(run)
        text = self._read_text(world.blobs, file.digest)
        return list(make_documents(pack, _chance(world, name, file.digest), file.digest, text))

    def _is_reviewed(self, name: str, pack: Pack, file: File, world: World) -> bool:
        if (fixture := self._find_fixture(file)) is not None:
            return all(document.get("review_completed") for document in fixture["documents"])
        return draw_review(_chance(world, name, file.digest), pack)


def _chance(world: World, pack_name: str, *digests: str) -> Random:
    return Random(f"{world.seed}:{pack_name}:{':'.join(digests)}")


def _find_pack(packs: Packs, names: tuple[str, ...]) -> tuple[str, Pack]:
    from fake_aihub.extraction.packs import find_pack

    return find_pack(packs, names)


def _read_text(blobs: Blobs, digest: str) -> Text:
    return read_text(blobs.read(digest, MAX_BYTES + 1))


def _hidden(include: frozenset[str], run: Run) -> frozenset[str]:
    """Return the properties that a request did not ask for."""
    hidden = frozenset().union(*(names for part, names in OPTIONAL.items() if part not in include))
    config = (run.request.get("settings") or {}).get("runtime_config")
    pdf = isinstance(config, dict) and config.get("generate_post_process_pdf") is True
    return hidden if pdf else hidden | {"post_processed_pdf_path"}


def _without(part: dict[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    kept = {key: value for key, value in part.items() if key not in hidden}
    if "fields" in kept:
        kept["fields"] = [{key: value for key, value in f.items() if key not in hidden} for f in kept["fields"]]
    return kept
