"""Write `documents.jsonl`: the newest results of each file, a line per document, from the raw pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from runner.errors import ResultsError
from runner.files import digest_file, write_file
from runner.model import Answer, Member, Page, Run, Scan, Shard
from runner.plan import Want
from runner.state import State

FILE_NAME = "documents.jsonl"
PAGES_IN_MEMORY = 16
_FIELD_NAMES = {"field_name": "name", "value": "value", "type": "type", "error_msg": "error"}


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


def update_documents(state: State, shards: Sequence[Shard], scan: Scan, want: Want, folder: Path) -> None:
    """Write the file again where what it is made from has changed or it is missing; never over a person's edits.

    Raises ResultsError where raw pages are missing, StateError where the disk is full.
    """
    chosen = choose_runs(shards, scan, want)
    made_from = _fingerprint(chosen, want.include)
    path = folder / FILE_NAME
    if path.exists() and state.get_meta("documents_from") == made_from:
        return

    def announce(digest: str) -> None:  # if we die between the two, the file is known to be ours all the same
        state.record_meta("documents_next", digest)

    digest = write_file(path, _render(state, chosen, want.include, folder), announce)
    with state.transaction():
        state.record_meta("documents_from", made_from)
        state.record_meta("documents_digest", digest)


def is_edited(state: State, folder: Path) -> bool:
    """Tell whether the file was changed by someone else since it was written."""
    written = state.get_meta("documents_digest")
    ours = ("", written, state.get_meta("documents_next"))
    return bool(written) and digest_file(folder / FILE_NAME) not in ours


def find_damage(state: State, shards: Iterable[Shard], want: Want, folder: Path) -> list[str]:
    """List the results that are not as they were fetched or written: missing, or edited by hand."""
    damaged = []
    if is_edited(state, folder):
        damaged.append(f"{FILE_NAME} was edited by hand")
    elif state.get_meta("documents_digest") and not (folder / FILE_NAME).exists():
        damaged.append(f"{FILE_NAME} is missing")
    for run in (run for shard in shards for run in shard.runs_of(want.run_key) if want.include in run.fetched):
        for page in state.load_pages(run.id, want.include):
            found = digest_file(folder / page.path)
            if found != page.digest:
                damaged.append(f"{page.path} {'is not as it was fetched' if found else 'is missing'}; see --refetch")
    return damaged


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


def _fingerprint(chosen: Iterable[Chosen], include: str) -> str:
    digest = hashlib.sha256(include.encode())
    for choice in chosen:
        line = [choice.path, choice.member.name, choice.member.identity, choice.run.remote_id, choice.present]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def _render(state: State, chosen: Sequence[Chosen], include: str, folder: Path) -> Iterator[bytes]:
    @lru_cache(maxsize=PAGES_IN_MEMORY)
    def load_page(page: Page) -> Any:
        try:
            body = (folder / page.path).read_bytes()
        except OSError as error:
            raise ResultsError(f"{page.path}: is missing, {error.strerror}", "apply with --refetch") from error
        if "sha256:" + hashlib.sha256(body).hexdigest() != page.digest:  # an answer may lie elsewhere by now
            raise ResultsError(f"{page.path}: is not as it was fetched", "apply with --refetch")
        return json.loads(body)["files"]

    @cache
    def load_run(run: int) -> tuple[dict[int, Page], dict[str, Answer]]:
        pages = {page.file_offset: page for page in state.load_pages(run, include)}
        return pages, state.load_answers(run, include)

    for choice in chosen:
        pages, answers = load_run(choice.run.id)
        answer = answers.get(choice.member.name)
        if answer is not None:
            file = load_page(pages[answer.file_offset])[answer.position]
            yield from _render_file(choice, file)


def _render_file(choice: Chosen, file: Mapping[str, Any]) -> Iterator[bytes]:
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
            "fields": [_render_field(field) for field in document.get("fields") or []],
        }
        rest = {key: value for key, value in document.items() if key not in ("class_name", "page_numbers", "fields")}
        yield json.dumps(line | rest, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _render_field(field: Mapping[str, Any]) -> dict[str, Any]:
    named = {ours: field.get(theirs) for theirs, ours in _FIELD_NAMES.items()}
    return named | {key: value for key, value in field.items() if key not in _FIELD_NAMES}


@dataclass(frozen=True, slots=True)
class Tally:
    """What `documents.jsonl` is made of, in numbers; `missing` files have no answer, `unknown` answers no file."""

    documents: int
    field_errors: int
    missing: tuple[str, ...]
    unknown: tuple[str, ...]


def tally_documents(state: State, shards: Iterable[Shard], scan: Scan, want: Want) -> Tally:
    """Count what the newest results of each file hold, and what is amiss with them."""
    members = {run.id: shard.members for shard in shards for run in shard.runs}
    by_run: dict[int, list[Chosen]] = {}
    for choice in choose_runs(shards, scan, want):
        by_run.setdefault(choice.run.id, []).append(choice)
    documents = errors = 0
    missing: list[str] = []
    unknown: list[str] = []
    for run, chosen in by_run.items():
        answers = state.load_answers(run, want.include)
        found = [answers[choice.member.name] for choice in chosen if choice.member.name in answers]
        documents += sum(answer.documents for answer in found)
        errors += sum(answer.field_errors for answer in found)
        missing += [choice.path for choice in chosen if choice.present and choice.member.name not in answers]
        unknown += answers.keys() - {member.name for member in members[run]}
    return Tally(documents, errors, tuple(sorted(missing)), tuple(sorted(unknown)))


def documents_by_run(state: State, shards: Iterable[Shard]) -> dict[int, int]:
    """Count the documents of each run (by row) whose results are here."""
    runs = [run for shard in shards for run in shard.runs if run.fetched]
    answers = ((run.id, state.load_answers(run.id, min(run.fetched)).values()) for run in runs)
    return {run: sum(answer.documents for answer in of_run) for run, of_run in answers}


def read_documents(path: Path) -> Iterator[dict[str, Any]]:
    """Read a `documents.jsonl`, a dictionary per document."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
