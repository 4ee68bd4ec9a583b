"""Write `documents.jsonl` from the raw pages: the newest results of each file, a line per document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.files import Draft, File, digest_file, explain_disk, is_there, open_regular
from aihub_runner.model import DOCUMENTS_NAME, Damage, Shard
from aihub_runner.plan.planner import Goal
from aihub_runner.results.helper import render_many
from aihub_runner.results.kept import KeptFiles
from aihub_runner.results.pieces import Forms, Pieces, Weaver, find_new, load_pieces, spans
from aihub_runner.results.reader import Choices, Chosen, Document, Found, Located, find_damaged, located_reader
from aihub_runner.results.tables import Form, form_of
from aihub_runner.results.writers.sink import as_line
from aihub_runner.results.written import load_written, note_written
from aihub_runner.state.outputs import DOCUMENTS, Output
from aihub_runner.state.store import State
from aihub_runner.text.jsontext import READER, read_whole

MAX_WARNINGS = 1000
_LOOKS = "1"  # of lines; a change writes all of them again
_NO_OUTPUT = Output("", "", 0, 0)


def update_documents(found: Found) -> None:
    """Write the file if it is missing or its inputs have changed. The caller checks for edits, see `is_edited`.

    Records invalid JSON in the results as warnings. Raises ResultsError if raw pages are missing, StateError
    if the disk is full.
    """
    state, path, made_from = found.state, found.folder / DOCUMENTS_NAME, found.identify()
    if path.is_file() and state.find_made_from(DOCUMENTS) == made_from:
        return

    with explain_disk(path), closing(Draft(path)) as draft:
        pieces = _weave(found, draft)
        digest = draft.finish()
        state.record_announced({DOCUMENTS_NAME: digest})  # after a crash here, the file is known to be ours
        draft.publish()
    with state.transaction():
        state.record_made_from(DOCUMENTS, made_from)
        state.record_output(DOCUMENTS_NAME, digest)
        warnings = dict.fromkeys(text for texts in pieces.warnings.values() for text in texts)
        state.record_warnings(DOCUMENTS, list(warnings)[:MAX_WARNINGS])
    note_written(found.folder, {DOCUMENTS_NAME: digest})
    pieces.sizes[DOCUMENTS_NAME] = digest, _LOOKS, pieces.sizes[DOCUMENTS_NAME][2]
    pieces.save(found.folder, DOCUMENTS)


def _weave(found: Found, file: File) -> Pieces:
    """Write the lines: those of unchanged files are copied from the file as it was, the others are rendered."""
    old, forms, warnings = load_pieces(found.folder, DOCUMENTS), Forms(), dict[int, Sequence[str]]()
    source = old.open_source(DOCUMENTS_NAME, _LOOKS, found.folder, KeptFiles(found.state, found.folder))
    known = old.keys if source else b""
    new = find_new(found.keys(), known)
    located = (found.locate(found.chosen[start]) for start in new)
    rendered = render_many(partial(_Lines, found.folder), located, len(new))
    with closing(rendered), closing(Weaver(file.write, source)) as weaver:
        weaver.add(b"")  # no header
        for start, position, number in spans(found.keys(), known):
            if position is not None:
                weaver.copy(position, number)
                forms.copy(old, position, number)
                for place in range(number) if old.warnings else ():
                    if position + place in old.warnings:
                        warnings[start + place] = old.warnings[position + place]
                continue
            lines, form, texts = next(rendered)
            weaver.add(lines)
            forms.add(form)
            if texts:
                warnings[start] = texts
        weaver.flush()
    return Pieces(found.keys(), {DOCUMENTS_NAME: ("", _LOOKS, weaver.sizes)}, [*forms.numbers], forms.of, warnings)


class _Lines:
    """Renders the lines of files, with the form of each file and the warnings about it."""

    def __init__(self, folder: Path) -> None:
        self._warnings: list[str] = []
        self._read = located_reader(folder, self._warnings.append)

    def __call__(self, places: Sequence[Located]) -> list[tuple[bytes, Form, list[str]]]:
        """Render files."""
        return [*map(self._render, places)]

    def _render(self, located: Located) -> tuple[bytes, Form, list[str]]:
        self._warnings.clear()
        documents = [*self._read(located)]
        return b"".join(map(as_line, documents)), form_of(documents), self._warnings.copy()


def is_edited(state: State, folder: Path) -> bool:
    """Whether the file was edited since we wrote it."""
    written = state.load_outputs().get(DOCUMENTS_NAME, _NO_OUTPUT)
    return bool(written.digest) and not _is_ours(state, folder) and digest_file(folder / DOCUMENTS_NAME) != ""


def _is_ours(state: State, folder: Path) -> bool:
    """Whether the file exists as we wrote it."""
    written = state.load_outputs().get(DOCUMENTS_NAME, _NO_OUTPUT)
    if written.digest and KeptFiles(state, folder).holds(DOCUMENTS_NAME, written.digest):
        return True
    ours = [written.announced, load_written(folder).get(DOCUMENTS_NAME, "")]  # written under a newer state file
    return digest_file(folder / DOCUMENTS_NAME) in filter(None, ours)


def without_damage(found: Found, damage: Damage) -> Found:
    """Exclude damaged pages. Keep the documents that were made from them, if their lines still exist."""
    damaged = frozenset(path for paths in damage.values() for path in paths)
    runs = {choice.run.remote_id for choice in found.chosen if choice.run.id in damage}
    kept: dict[tuple[str, str], list[Document]] = {}
    if runs and _is_ours(found.state, found.folder):
        for line in read_documents(found.folder / DOCUMENTS_NAME, as_written=True):
            if line["run_id"] in runs:
                kept.setdefault((line["run_id"], line["file_name"]), []).append(line)
    return replace(found, damaged=damaged, kept=kept)


def find_damage(state: State, shards: Iterable[Shard], goal: Goal, folder: Path) -> list[str]:
    """List the results that are missing or edited."""
    damaged = []
    if is_edited(state, folder):
        damaged.append(f"{DOCUMENTS_NAME} was edited by hand")
    elif is_missing(state, folder):
        damaged.append(f"{DOCUMENTS_NAME} is missing")
    pages = sorted(path for paths in find_damaged(state, shards, goal, folder).values() for path in paths)
    ways = {path: "was changed after it was fetched" if (folder / path).exists() else "is missing" for path in pages}
    return damaged + [f"{path} {how}" for path, how in ways.items()]


def is_missing(state: State, folder: Path) -> bool:
    """Whether the file was written, and no longer exists."""
    written = state.load_outputs().get(DOCUMENTS_NAME, _NO_OUTPUT)
    return bool(written.digest) and not is_there(folder / DOCUMENTS_NAME)


class Tally(Struct, frozen=True):
    """The contents of `documents.jsonl`, in numbers.

    `gone` documents belong to removed files. `missing` files have no result, `empty` files have a result without a
    document, and `unknown` results belong to no file.
    """

    documents: int
    gone: int
    field_errors: int
    missing: tuple[str, ...]
    empty: tuple[str, ...]
    unknown: tuple[str, ...]


def tally_documents(state: State, shards: Iterable[Shard], chosen: Choices, include: str) -> Tally:
    """Count what the newest results of each file hold, and what is wrong with them. `chosen` are those of `shards`."""
    members = {run.id: shard.members for shard in shards for run in shard.runs}
    files = zip(chosen.members, chosen.runs, strict=True)
    numbers = Counter([run.id for member, run in files if member.path not in chosen.gone])  # of files that are there
    whole = {
        run: sums for run, sums in state.sum_whole(include).items() if 0 < numbers[run] == len(members.get(run, ()))
    }
    by_run: dict[int, list[Chosen]] = {}
    for choice in chosen if len(chosen) > sum(map(numbers.__getitem__, whole)) else ():
        if choice.run.id not in whole:
            by_run.setdefault(choice.run.id, []).append(choice)
    documents, errors = (sum(sums[place] for sums in whole.values()) for place in (0, 1))
    gone, pruned = 0, state.load_pruned()
    missing: list[str] = []
    empty: list[str] = []
    unknown: list[str] = []
    for run, of_run in by_run.items():
        answers = {} if (run, include) in pruned else state.load_counts(run, include)
        for choice in of_run:
            name, present = choice.member.name, choice.present
            if name not in answers:
                missing += [choice.path] * present
                continue
            in_file, errors_in_file = answers[name]
            documents += in_file
            errors += errors_in_file
            gone += 0 if present else in_file
            empty += [choice.path] * (present and not in_file)
        unknown += answers.keys() - {member.name for member in members[run]}
    return Tally(documents, gone, errors, tuple(sorted(missing)), tuple(sorted(empty)), tuple(sorted(unknown)))


def read_documents(path: Path, *, as_written: bool = False) -> Iterator[dict[str, Any]]:
    """Read a `documents.jsonl`, a dictionary per document. `as_written` keeps the text of numbers."""
    with TextIOWrapper(open_regular(path), encoding="utf-8") as lines:
        for line in lines:
            yield READER.decode(line) if as_written else json.loads(line, parse_int=read_whole)
