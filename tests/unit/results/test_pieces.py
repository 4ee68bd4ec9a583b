"""Outputs made of copied and new pieces are identical to those rendered in one go."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aihub_runner.results.documents import update_documents
from aihub_runner.results.folder import update_tables
from aihub_runner.results.pieces import spans
from aihub_runner.results.reader import find_results
from aihub_runner.state.store import State
from support.made import goal, open_state, record_run, scan_of

FORMATS = ("jsonl", "csv", "parquet")
NAMES = [f"{number}.pdf" for number in range(5)]
# Names that differ in case, names in several classes, repeated names, and values that need quotes or are no JSON.
FIELD = st.fixed_dictionaries(
    {
        "field_name": st.sampled_from(["a", "A", "b", "path", "é"]),
        "value": st.sampled_from(["1", '=",\n', "\u2028", None]),
    },
    optional={"confidence": st.just({"model": 0.5}), "odd": st.just(float("nan")), "error_msg": st.just("why")},
)
DOCUMENT = st.fixed_dictionaries(
    {"class_name": st.sampled_from(["X", "x", None]), "fields": st.lists(FIELD, max_size=3)}
)
RUN = st.dictionaries(st.sampled_from(NAMES), st.lists(DOCUMENT, max_size=2), min_size=1)
CASES = st.lists(st.fixed_dictionaries({"name": st.sampled_from("cd"), "value": st.just("1")}), max_size=1)
STEP = st.tuples(RUN, CASES, st.sets(st.sampled_from(NAMES), min_size=1), st.sets(st.sampled_from(FORMATS)))


def page(run: Mapping[str, Any], cases: list[Any] | None = None) -> bytes:
    files = [{"original_file_name": name, "documents": documents} for name, documents in run.items()]
    return json.dumps({"files": files, "case_info": {"fields": cases or []}, "has_more": False}).encode()


def update(state: State, folder: Path, present: set[str], formats: tuple[str, ...] = FORMATS) -> dict[str, bytes]:
    """Update the outputs as an apply does, and return them."""
    shards = state.load_shards()
    members = {member.path: member for shard in shards for member in shard.members if member.name in present}
    found = find_results(state, shards, scan_of(members.values()), goal(), folder)
    update_documents(found)
    assert update_tables(found, formats) == []
    return outputs(folder)


def outputs(folder: Path) -> dict[str, bytes]:
    paths = [*folder.glob("*.*"), *folder.glob("documents/*")]
    taken = (path for path in paths if path.is_file() and not path.name.startswith((".", "job.")))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in taken}


def rewrite(state: State, folder: Path, present: set[str], formats: tuple[str, ...] = FORMATS) -> dict[str, bytes]:
    """Write all outputs from nothing, under the names that columns have by now."""
    state.forget_all_outputs()
    for path in [*folder.glob(".aihub-*"), *(folder / name for name in outputs(folder))]:
        path.unlink()
    return update(state, folder, present, formats)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=4))
def test_outputs_made_of_pieces_are_those_of_a_full_rewrite(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    with closing(open_state(folder)) as state:
        for number, (run, cases, present, formats) in enumerate(steps, 1):
            record_run(state, folder, f"run-{number}", [page(run, cases)], number=number)
            woven = update(state, folder, present, tuple(sorted(formats)))
            warnings = state.load_warnings()
        last = tuple(sorted(steps[-1][3]))
        assert woven == rewrite(state, folder, steps[-1][2], last)
        assert warnings == state.load_warnings()
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the outputs of a run of five files, and a newer run of one of them that is not delivered yet."""
    with closing(open_state(tmp_path)) as state:
        record_run(state, tmp_path, "old", [page({name: [document(name)] for name in NAMES})], number=1)
        update(state, tmp_path, set(NAMES))
        record_run(state, tmp_path, "new", [page({"2.pdf": [document("new")]})], number=2)
    return tmp_path


def document(value: str) -> dict[str, Any]:
    return {"class_name": "X", "fields": [{"field_name": "a", "value": value}]}


def test_pages_of_unchanged_files_are_not_read_again(folder: Path) -> None:
    with closing(State(folder / "job.state.db")) as state:
        hidden = (folder / "raw/old").rename(folder / "hidden")
        woven = update(state, folder, set(NAMES), ("jsonl", "csv"))
        hidden.rename(folder / "raw/old")
        assert woven == rewrite(state, folder, set(NAMES), ("jsonl", "csv"))
    assert b'"new"' in woven["documents.jsonl"]


@pytest.mark.parametrize("name", ["fields.csv", "documents.jsonl", ".aihub-pieces-tables", ".aihub-pieces-documents"])
def test_nothing_is_copied_from_a_changed_file(folder: Path, name: str) -> None:
    path = folder / name
    before, text = path.stat(), path.read_bytes()
    path.write_bytes(text.replace(b"4", b"7"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with closing(State(folder / "job.state.db")) as state:
        assert update(state, folder, set(NAMES)) == rewrite(state, folder, set(NAMES))


# Keys that are also found in the middle of two others, and sets of them, each in an order of its own.
ALL_KEYS = [bytes([first]) * 8 + bytes([second]) * 8 for first in range(20) for second in range(20)]
KEYS = st.lists(st.sampled_from(ALL_KEYS), unique=True)


@settings(max_examples=50, deadline=None)
@given(KEYS, KEYS, st.booleans())
@example(ALL_KEYS[::-1], ALL_KEYS, False)
def test_spans_cover_all_files_and_find_each_old_one(keys: list[bytes], old: list[bytes], mostly: bool) -> None:
    keys = [*old[:50], *(key for key in keys if key not in old[:50])] if mostly else keys
    found = {}
    ends = [0]
    for start, position, number in spans(b"".join(keys), b"".join(old)):
        ends.append(start + number)
        assert start == ends[-2]
        found |= {keys[start + place]: None if position is None else position + place for place in range(number)}
    assert ends[-1] == len(keys)
    places = {key: place for place, key in enumerate(old)}
    assert found == {key: places.get(key) for key in keys}
