"""Read the newest results of each file out of the raw pages: the source that everything else is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import ResultsError
from runner.files import digest_file, write_file
from runner.model import Member, Page, Run, Scan, Shard
from runner.plan import Want
from runner.rawpage import RawPage
from runner.state import State

BYTES_IN_MEMORY = 16_000_000  # of raw pages; one is kept in any case
_FIELD_NAMES = {"field_name": "name", "value": "value", "type": "type", "error_msg": "error"}

Document = dict[str, Any]  # a line of `documents.jsonl`


@dataclass(frozen=True, slots=True)
class Chosen:
    """The run whose results count for a file, and whether the file is still there."""

    path: str
    member: Member
    run: Run
    present: bool


def choose_runs(shards: Iterable[Shard], scan: Scan, want: Want) -> list[Chosen]:
    """Choose for each file the newest complete run of today's key made from today's bytes.

    A file that is not there any more keeps its newest results. Sorted by path.
    """
    today = {source.path: source.identity for source in scan.sources}
    aside = {item.path for item in scan.set_aside}
    chosen: dict[str, Chosen] = {}
    for shard in shards:
        for run in shard.runs_of(want.run_key):
            if run.status != "COMPLETE" or want.include not in run.fetched:
                continue
            for member in shard.members:
                path = member.path
                wanted = path in today and today[path] == member.identity
                removed = bool(path) and path not in today and path not in aside
                if (wanted or removed) and (path not in chosen or chosen[path].run.id < run.id):
                    chosen[path] = Chosen(path, member, run, path in today)
    return sorted(chosen.values(), key=lambda choice: choice.path)


class _Pages:
    """Raw pages, the last ones used kept in memory. Raises ResultsError where one is not as it was fetched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, tuple[int, RawPage]] = {}

    def file(self, page: Page, position: int) -> Mapping[str, Any]:
        """Load one of the files that a page answers."""
        return self._read(page, lambda raw: raw.file(position))  # type: ignore[no-any-return]

    def cases(self, page: Page) -> list[dict[str, Any]]:
        """Load the cross-class fields that a page has."""
        case = self._read(page, lambda raw: raw.member("case_info"))
        fields = case.get("fields") if isinstance(case, dict) else None
        return [one for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []

    def _read(self, page: Page, read: Callable[[RawPage], Any]) -> Any:
        try:
            return read(self._load(page))
        except (OSError, ValueError, IndexError, RecursionError) as error:
            raise ResultsError(f"{page.path}: is missing or damaged", "apply with --refetch") from error

    def _load(self, page: Page) -> RawPage:
        path = page.path
        if path not in self._kept:
            content = (self._folder / path).read_bytes()
            if "sha256:" + hashlib.sha256(content).hexdigest() != page.digest:  # an answer may lie elsewhere by now
                raise ResultsError(f"{path}: is not as it was fetched", "apply with --refetch")
            while self._kept and sum(kept for kept, _ in self._kept.values()) + len(content) > BYTES_IN_MEMORY:
                del self._kept[next(iter(self._kept))]
            self._kept[path] = (len(content), RawPage(content.decode("utf-8", "surrogatepass")))
        self._kept[path] = self._kept.pop(path)  # the last one used is the last
        return self._kept[path][1]


@dataclass(frozen=True, slots=True)
class Found:
    """The results that are here: the newest of each file, ordered by path, and where their pages lie."""

    state: State
    chosen: Sequence[Chosen]
    include: str
    folder: Path

    def identify(self) -> str:
        """Give a digest of everything that documents are made from."""
        digest = hashlib.sha256(self.include.encode())
        for choice in self.chosen:
            line = [choice.path, choice.member.name, choice.member.identity, choice.run.remote_id, choice.present]
            digest.update(json.dumps(line).encode())
        return digest.hexdigest()

    def documents(self) -> Iterator[Document]:
        """Load all documents, ordered by path and place in the file. Raises ResultsError where pages are missing."""
        pages = _Pages(self.folder)
        for choice in self.chosen:
            place = self.state.find_answer(choice.run.id, self.include, choice.member.name)
            if place is not None:
                page, position = place
                yield from _read_file(choice, pages.file(page, position))

    def cases(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Load the id of each run with each of its cross-class fields, the runs in the order of their files.

        Every page of a run repeats them: a page that says the same as the one before it adds nothing.
        Raises ResultsError where pages are missing.
        """
        pages = _Pages(self.folder)
        for run in {choice.run.id: choice.run for choice in self.chosen}.values():
            before = None
            for page in self.state.load_pages(run.id, self.include):
                fields = pages.cases(page)
                if fields != before:
                    yield from ((run.remote_id or "", field) for field in fields)
                before = fields or before


def find_results(state: State, shards: Iterable[Shard], scan: Scan, want: Want, folder: Path) -> Found:
    """Find the results that count today, for a spec's files as they are."""
    return Found(state, choose_runs(shards, scan, want), want.include, folder)


def carry_pages(state: State, old: Path, new: Path) -> list[int]:
    """Copy raw pages to another folder of results, and give the runs (by row) of which some are missing or edited.

    Those can be fetched again for free, as long as the service still has them.
    """
    lacking = []
    for run in (run for shard in state.load_shards() for run in shard.runs):
        pages = [page for include in sorted(run.fetched) for page in state.load_pages(run.id, include)]
        if not all(_carry(page, old, new) for page in pages):
            lacking.append(run.id)
    return lacking


def _carry(page: Page, old: Path, new: Path) -> bool:
    if digest_file(new / page.path) == page.digest:
        return True
    if digest_file(old / page.path) != page.digest:
        return False
    return write_file(new / page.path, [(old / page.path).read_bytes()]) == page.digest


def _read_file(choice: Chosen, file: Mapping[str, Any]) -> Iterator[Document]:
    for index, document in enumerate(file.get("documents") or []):
        line = {
            "path": choice.path,
            "present": choice.present,
            "sha256": choice.member.digest.removeprefix("sha256:"),
            "file_name": choice.member.name,
            "run_id": choice.run.remote_id,
            "document_index": index,
            "class": document.get("class_name"),
            "pages": document.get("page_numbers") or [],
            "fields": [_read_field(field) for field in document.get("fields") or []],
        }
        known = {"class_name", "page_numbers", *line}  # what the service says never takes the place of what we know
        yield line | {key: value for key, value in document.items() if key not in known}


def _read_field(field: Mapping[str, Any]) -> dict[str, Any]:
    named = {ours: field.get(theirs) for theirs, ours in _FIELD_NAMES.items()}
    return named | {key: value for key, value in field.items() if key not in _FIELD_NAMES and key not in named}
