"""Which local files a paid run covers: matches are imported, and the rest is left to the user."""

from __future__ import annotations

from typing import Any

import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply import finder
from aihub_runner.apply.finder import Finder, Inspected
from aihub_runner.apply.matching import (
    choose_twins,
    find_held,
    index_marks,
    inspect_entries,
    mark_files,
    survey_entries,
)
from aihub_runner.errors import ServiceError
from aihub_runner.model import Member, Source
from aihub_runner.plan.batching import assign_names, group_sources, hashed_name, plain_name
from aihub_runner.plan.identity import fingerprint_members, run_tag
from aihub_runner.state.lockfile import Entry, member_hashes

KEY = "0123456789abcdef"
DECOMPOSED, COMPOSED = "u\u0308.txt", "\u00fc.txt"


def source(path: str, content: str = "", size: int = 1) -> Source:
    return Source(path, size, f"sha256:{content or path}")


def paid(*members: Member, marks: bool = True, **given: Any) -> Entry:
    """Return the entry of a run that paid for these files."""
    facts: dict[str, Any] = {"fingerprint": fingerprint_members(members), "members": member_hashes(members) * marks}
    facts |= {"target": "t", "run_key": KEY, "batch_id": 7, "run_id": "r", "attempt": 1, "files": len(members)}
    return Entry(**(facts | given))


A, B = source("in/a.txt"), source("in/b.txt")
SENT = (A.as_member("a.txt"), B.as_member("b.txt"))
LISTED: dict[str, int | None] = {"a.txt": 1, "b.txt": 1}
TWINS = (source("x/a.txt"), source("y/a.txt"))  # of one name and size
TWINS_SENT = tuple(twin.as_member(hashed_name(twin.path)) for twin in TWINS)
TWINS_LISTED: dict[str, int | None] = {member.name: 1 for member in TWINS_SENT}
ACCENTED = source(DECOMPOSED)


@pytest.mark.parametrize("marks", [True, False], ids=["marks", "fingerprint only"])
@pytest.mark.parametrize(
    ("here", "sent", "listed", "found"),
    [
        pytest.param((A, B), SENT, LISTED, ["in/a.txt", "in/b.txt"], id="as it was"),
        pytest.param((B, A, source("in/c.txt")), SENT, LISTED, ["in/a.txt", "in/b.txt"], id="another file is there"),
        pytest.param((A, B), SENT, LISTED | {"a.txt": None}, ["in/a.txt", "in/b.txt"], id="size is not listed"),
        pytest.param((A, B), SENT, LISTED | {"c.txt": 1}, [], id="a file more in the batch"),
        pytest.param((A, B), SENT, {"a.txt": 1}, [], id="a file less in the batch"),
        pytest.param((A, B), SENT, {}, [], id="an empty batch"),
        pytest.param(TWINS, TWINS_SENT, TWINS_LISTED, ["x/a.txt", "y/a.txt"], id="one name and size twice"),
        pytest.param(TWINS, (TWINS[1].as_member("a.txt"),), {"a.txt": 1}, ["y/a.txt"], id="the second of two was sent"),
        pytest.param((ACCENTED,), (ACCENTED.as_member(COMPOSED),), {DECOMPOSED: 1}, [DECOMPOSED], id="decomposed"),
    ],
)
def test_files_of_a_batch_are_found_only_where_all_of_them_fit(
    here: tuple[Source, ...], sent: tuple[Member, ...], listed: dict[str, int | None], found: list[str], marks: bool
) -> None:
    members = Finder(here).match(Inspected(paid(*sent, marks=marks), listed, None))
    assert sorted(member.path for member in members) == found
    assert not members or fingerprint_members(members) == fingerprint_members(sent)


CHANGED = [
    pytest.param((A,), id="one is gone"),
    pytest.param((A, source("in/b.txt", "new")), id="one changed"),
    pytest.param((A, source("in/b.txt", size=2)), id="one has another size"),
]


@pytest.mark.parametrize("here", CHANGED)
def test_file_that_changed_since_is_stale_where_marks_tell_which_and_else_nothing_is_found(
    here: tuple[Source, ...],
) -> None:
    [first, second] = Finder(here).match(Inspected(paid(*SENT), LISTED, None))
    assert (first.path, first.is_stale) == ("in/a.txt", False)
    assert (second.name, second.path, second.is_stale) == ("b.txt", "", True)
    assert Finder(here).match(Inspected(paid(*SENT, marks=False), LISTED, None)) == ()


@pytest.mark.parametrize(
    ("entry", "names", "found"),
    [
        pytest.param(paid(*SENT), (), 2, id="marks"),
        pytest.param(paid(*SENT, marks=False), ("a.txt", "b.txt"), 2, id="names in its results"),
        pytest.param(paid(*SENT, marks=False), (), 0, id="nothing"),
        pytest.param(paid(*SENT, fingerprint="f" * 64), (), 0, id="marks of another fingerprint"),
        pytest.param(paid(*SENT, fingerprint="f" * 64), ("a.txt", "b.txt"), 0, id="names of another fingerprint"),
    ],
)
def test_files_of_a_batch_that_is_gone_are_found_by_marks_or_results(
    entry: Entry, names: tuple[str, ...], found: int
) -> None:
    assert len(Finder((A, B)).match(Inspected(entry, None, None, names=names))) == found


def test_files_of_a_batch_that_is_gone_are_found_however_many_of_them_have_twins() -> None:
    here = [source(f"{folder}/{number}.txt") for number in range(20) for folder in "xy"]
    names = assign_names([one.path for one in here])
    sent = [one.as_member(names[one.path]) for one in here]
    assert {*Finder(here).match(Inspected(paid(*sent), None, None))} == {*sent}


def test_files_of_one_size_are_found_without_a_look_at_all_of_them_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As scans without compression have it, where neither state nor lock file is left."""
    here, named = [source(f"{number % 7}/{number}.tif") for number in range(500)], list[str]()

    def name(path: str) -> str:
        named.append(path)
        return plain_name(path)

    monkeypatch.setattr(finder, "plain_name", name)
    matching = Finder(here)
    for group in group_sources(here, 100):
        listed: dict[str, int | None] = {member.name: 1 for member in group}
        assert {*matching.match(Inspected(paid(*group, marks=False), listed, None))} == {*group}
    assert len(named) <= 2 * len(here)


@pytest.mark.parametrize("size", [1, None], ids=["sizes are listed", "only names"])
def test_moved_files_of_one_name_are_not_all_tried_for_each_name(size: int | None) -> None:
    made = list[str]()

    class Counted(Source):
        def as_member(self, name: str) -> Member:
            made.append(name)
            return super().as_member(name)

    here = [Counted(f"new/{number}/scan.pdf", 1, f"sha256:{number}") for number in range(1000)]
    names = [hashed_name(f"old/{number}/scan.pdf") for number in range(100)]
    members = [one.as_member(name) for one, name in zip(here, names, strict=False)]
    found = Inspected(paid(*members, marks=False), None, None, names=tuple(names))
    if size:
        found = Inspected(paid(*members, marks=False), dict.fromkeys(names, size), None)
    made.clear()
    assert Finder(here).match(found) == ()  # too many fit
    assert len(made) <= finder.MAX_MOVED * len(names)


COPIES = source("in/a.txt", "same"), source("in/b.txt", "same")
COPIES_SENT = tuple(copy.as_member(name) for copy, name in zip(COPIES, LISTED, strict=True))
MOVED = source("in/c.txt", "same"), source("in/d.txt", "same")


@pytest.mark.parametrize(
    ("here", "listed", "found"),
    [
        (COPIES, LISTED, ["in/a.txt", "in/b.txt"]),
        (COPIES, None, ["in/a.txt", "in/b.txt"]),
        (MOVED, LISTED, ["in/c.txt", "in/d.txt"]),
    ],
)
def test_copies_of_one_file_are_each_matched_once(
    here: tuple[Source, ...], listed: dict[str, int | None] | None, found: list[str]
) -> None:
    members = Finder(here).match(Inspected(paid(*COPIES_SENT), listed, None))
    assert [member.path for member in members] == found


@pytest.mark.parametrize(
    ("entries", "held"),
    [
        pytest.param([], set(), id="none"),
        pytest.param([paid(SENT[0])], {"in/a.txt"}, id="its marks"),
        pytest.param([paid(SENT[0]), paid(SENT[1])], {"in/a.txt", "in/b.txt"}, id="the marks of both"),
        pytest.param([paid(SENT[0]), paid(SENT[1], marks=False)], {"in/a.txt", "in/b.txt", "in/c.txt"}, id="no marks"),
    ],
)
def test_files_that_an_unverified_run_may_have_paid_for_are_held(entries: list[Entry], held: set[str]) -> None:
    left = [Inspected(entry, None, None, "cannot be verified") for entry in entries]
    assert find_held(left, (A, B, source("in/c.txt"))) == held


@pytest.mark.parametrize(
    ("files", "fits"),
    [
        ({"a.txt": 1}, True),
        ({"a.txt": None}, True),
        ({hashed_name("in/a.txt"): 1}, True),
        ({"c.txt": 1, "a.txt": 1}, True),
        ({"a.txt": 2}, False),
        ({"A.txt": 1}, False),
        ({}, False),
    ],
)
def test_batch_may_hold_a_file_by_its_name_and_size(files: dict[str, int | None], fits: bool) -> None:
    assert bool(mark_files(files) & index_marks([A]).keys()) == fits


def test_marks_lead_to_the_files_of_a_batch() -> None:
    """So that each file is marked once, not once for each batch."""
    files = [Member("a.txt", f"in/{folder}/a.txt", size, "sha256:a") for folder, size in (("x", 1), ("y", 1), ("z", 2))]
    index = index_marks(files)
    held = [mark_files({"a.txt": 1}), mark_files({"a.txt": None}), mark_files({hashed_name("in/y/a.txt"): 1})]
    assert [{at for mark in marks for at in index.get(mark, ())} for marks in held] == [{0, 1}, {0, 1, 2}, {0, 1}]


def run(run_id: str, status: str, tag: str, batch: int | None = 7, started: int = 1) -> RunInfo:
    return RunInfo(id=run_id, status=status, tags=[tag], batch_id=batch, start_timestamp=started)


TAG = run_tag("a" * 64, KEY, 1)


@pytest.mark.parametrize(
    ("runs", "chosen", "twins"),
    [
        ([run("old", "FAILED", TAG, 7, 1), run("new", "COMPLETE", TAG, 7, 2)], ["new"], ["old"]),
        ([run("old", "RUNNING", TAG, 7, 1), run("new", "COMPLETE", TAG, 7, 2)], ["new"], ["old"]),
        ([run("old", "FAILED", TAG, 7, 1), run("new", "RUNNING", TAG, 7, 2)], ["new"], ["old"]),
        ([run("new", "COMPLETE", TAG, 7, 2), run("old", "COMPLETE", TAG, 7, 1)], ["old"], ["new"]),
        ([run("a", "COMPLETE", TAG, 7), run("b", "COMPLETE", TAG, 8, 2)], ["a", "b"], []),
        ([run("a", "COMPLETE", TAG), run("b", "COMPLETE", run_tag("a" * 64, KEY, 2), 7, 2)], ["a", "b"], []),
        ([run("a", "COMPLETE", "invoices"), run("b", "COMPLETE", TAG, None), run("c", "COMPLETE", TAG[:-1])], [], []),
    ],
)
def test_of_runs_with_one_tag_on_one_batch_the_best_is_chosen(
    runs: list[RunInfo], chosen: list[str], twins: list[str]
) -> None:
    found = choose_twins(survey_entries(runs, "t"))
    assert tuple([entry.run_id for entry in entries] for entries in found) == (chosen, twins)


RUN = {"id": "r", "status": "COMPLETE", "batch_id": 7, "tags": [paid(*SENT).tag]}
OTHER = {"id": "other", "status": "COMPLETE", "start_timestamp": 1}


def inspect(hub: AIHub, router: respx.MockRouter, told: dict[str, Any] | None, listed: list[Any]) -> Inspected:
    """Ask about a run whose batch is gone."""
    router.get("/v2/batches/7/files").respond(404)
    router.get("/v2/apps/runs/r/results").respond(404)
    router.get("/v2/apps/runs/r").respond(404 if told is None else 200, json=told)
    router.get("/v2/apps/runs").respond(json={"runs": listed})
    [found] = inspect_entries(hub, [paid(*SENT)], {"other"}, "runner resolve job.toml")
    return found


@pytest.mark.parametrize(
    ("told", "listed", "is_gone", "why"),
    [
        (RUN, [], False, ""),
        (RUN | {"tags": []}, [], False, ""),
        (RUN | {"tags": ["invoices"], "batch_id": 8}, [], False, "has another tag or another batch"),
        (RUN | {"tags": [TAG]}, [], False, "has another tag or another batch"),
        (None, [OTHER], True, ""),
        (None, [OTHER, RUN | {"start_timestamp": 2}], False, "returned 404, but is listed"),
    ],
)
def test_paid_run_is_gone_only_where_another_known_run_is_listed_without_it(
    hub: AIHub, router: respx.MockRouter, told: dict[str, Any] | None, listed: list[Any], is_gone: bool, why: str
) -> None:
    found = inspect(hub, router, told, listed)
    assert (found.is_gone, bool(found.why)) == (is_gone, bool(why))
    assert why in found.why


@pytest.mark.parametrize("listed", [[], [OTHER | {"id": "a stranger's"}]])
def test_paid_run_is_not_called_gone_where_no_known_run_is_listed(
    hub: AIHub, router: respx.MockRouter, listed: list[Any]
) -> None:
    with pytest.raises(ServiceError, match="no known run is listed"):
        inspect(hub, router, None, listed)


def test_folder_with_one_more_file_than_a_batch_had_is_still_that_of_the_batch() -> None:
    """It is not the one of the same size, and files of another folder stand for none of its."""
    sent = (source("a/1.txt", "1").as_member("1.txt"), source("a/terms.txt", "same").as_member("terms.txt"))
    here = (source("a/1.txt", "1"), source("a/2.txt", "2"), source("a/terms.txt", "same"), source("b/t.txt", "same"))
    found = Finder(here, by_folder=True).match(Inspected(paid(*sent), {"1.txt": 1, "terms.txt": 1}, None))
    assert [member.path for member in found] == ["a/1.txt", "a/terms.txt"]
