"""Batches that are kept, and deletions, against a second server that shares no code with the fake, and that lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.plain_hub import Answer, Batch, PlainHub, Stored

from .conftest import Project

Odd = Callable[[str, str, dict[str, str]], Answer | None]
CHANGED = {"b.txt": "document B", "c.txt": "document c", "e.txt": "document e"}


@pytest.fixture
def hub() -> Iterator[PlainHub]:
    with PlainHub() as server:
        yield server


@pytest.fixture
def there(project: Project, hub: PlainHub) -> Project:
    """Return a project with three files, for that server."""
    project.env["AIHUB_API_ROOT"] = hub.root
    for name in "abc":
        project.write(f"in/{name}.txt", f"document {name}")
    return project


def follow(project: Project, hub: PlainHub, mode: str) -> Batch:
    """Let a batch follow the files of a project, and return it. It holds a file of others, but for `keep`."""
    batch = hub.add_batch("theirs", **{"theirs.txt": b"not ours"}) if mode != "keep" else None
    text = f"id = {batch.id}\nsync = {mode}" if batch else "keep = true"
    project.change_spec("[limits]", f"[batch]\n{text}\n[limits]")
    outcome = project.apply(*["--confirm-delete", "1"] * ("exact" in mode))
    assert outcome.code == 0, outcome.text
    return batch or next(one for one in hub.batches.values() if one.files)


def contents(files: dict[str, Stored]) -> dict[str, str]:
    return {name: file.data.decode() for name, file in files.items()}


def test_job_from_its_first_apply_to_its_end(there: Project, hub: PlainHub) -> None:
    for _ in range(2):
        assert there.apply().code == 0
    assert len(hub.runs) == 1
    assert {line["path"]: line["fields"][0]["value"] for line in there.documents} == {
        f"in/{name}.txt": f"document {name}" for name in "abc"
    }
    assert there.run("destroy", "--yes").code == 0
    assert (hub.batches, hub.runs) == ({}, {})


# How a listing, or the request for a change, may lie


def of_files(change: Callable[[dict[str, Any], dict[str, int]], Answer | None]) -> Callable[[PlainHub], Odd]:
    """Return what changes the lists of files. `change` gets the true list, and a place to count in."""

    def make(hub: PlainHub) -> Odd:
        counts: dict[str, int] = {}

        def odd(method: str, path: str, _: dict[str, str]) -> Answer | None:
            if method != "GET" or not path.endswith("/files"):
                return None
            listed = hub.list_files([path.split("/")[3]], {}, b"")[1]
            return change(listed, counts)

        return odd

    return make


def refuse(method: str, part: str, status: int) -> Callable[[PlainHub], Odd]:
    answer = status, {"message": "no"}
    return lambda _: lambda asked, path, _: answer if asked == method and part in path else None


def cut(listed: dict[str, Any], _: dict[str, int]) -> Answer:
    return 200, {"nodes": listed["nodes"][:1], "has_more": False}


def cut_once(listed: dict[str, Any], counts: dict[str, int]) -> Answer | None:
    counts["asked"] = counts.get("asked", 0) + 1
    return cut(listed, counts) if counts["asked"] == 1 else None


def repeat_a_page(listed: dict[str, Any], counts: dict[str, int]) -> Answer:
    counts["asked"] = counts.get("asked", 0) + 1
    return 200, {"nodes": listed["nodes"][:2], "has_more": True, "next_page_token": f"page {counts['asked']}"}


def refuse_second_page(listed: dict[str, Any], counts: dict[str, int]) -> Answer:
    counts["asked"] = counts.get("asked", 0) + 1
    if counts["asked"] % 2:
        return 200, {"nodes": listed["nodes"][:1], "has_more": True, "next_page_token": "second"}
    return 404, {"message": "not there"}


def delete_late(hub: PlainHub) -> Odd:
    hub.late_s = 0.5
    return lambda *_: None


def delete_never(hub: PlainHub) -> Odd:
    hub.late_s = None
    return lambda *_: None


LIES = {
    "no files": of_files(lambda *_: (200, {"nodes": [], "has_more": False})),
    "one file": of_files(cut),
    "one file, once": of_files(cut_once),
    "a page again and again": of_files(repeat_a_page),
    "404 for the second page": of_files(refuse_second_page),
    "403 for files": refuse("GET", "/files", 403),
    "404 for a deletion": refuse("DELETE", "/files/", 404),
    "403 for a deletion": refuse("DELETE", "/files/", 403),
    "404 for a file": refuse("PUT", "/files/", 404),
    "403 for a run": refuse("POST", "/apps/runs", 403),
    "late deletions": delete_late,
    "no deletions": delete_never,
}


@pytest.mark.matrix(most=2, gate=12)
@pytest.mark.parametrize("mode", ["keep", "true", '"exact"'])
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.slow
def test_batch_follows_once_the_lies_end_and_is_paid_once(there: Project, hub: PlainHub, mode: str, lie: str) -> None:
    batch = follow(there, hub, mode)
    (there.folder / "in/a.txt").unlink()
    for name, text in CHANGED.items():
        there.write(f"in/{name}", text)
    hub.odd = LIES[lie](hub)
    for _ in range(2):
        assert there.apply().code in (0, 4)
    hub.odd, hub.late_s = None, 0.0
    outcome = there.apply()
    assert outcome.code == 0, outcome.text
    theirs = {"theirs.txt": "not ours"} if mode == "true" else {}
    assert contents(batch.files) == CHANGED | theirs
    first, last = hub.runs.values()
    assert contents(last["files"]) == CHANGED | theirs != contents(first["files"])
    assert {name.rpartition("/")[2] for name in hub.deleted if "/" in name} <= {"a.txt", "theirs.txt"} - theirs.keys()


# Names


@pytest.mark.matrix(most=2, gate=14)
@pytest.mark.parametrize(
    "name",
    ["a%2Fb", "a/b", "100%", "a+b", "a b", "\u00fc", "u\u0308", "a\nb", "?x", "#x", "%2e%2e", "../a", "a;b", "\0"],
)
@pytest.mark.slow
def test_file_of_others_is_deleted_under_its_exact_name(there: Project, hub: PlainHub, name: str) -> None:
    batch = follow(there, hub, '"exact"')
    batch.files[name] = Stored(b"theirs", hub.tick())
    outcome = there.apply("--confirm-delete", "1")
    assert outcome.code == 0, outcome.text
    assert contents(batch.files) == {f"{name}.txt": f"document {name}" for name in "abc"}
    assert hub.batches[batch.id] is batch


@pytest.mark.parametrize("name", [".", ".."])
@pytest.mark.slow
def test_file_that_no_request_can_name_is_left_and_its_batch_too(there: Project, hub: PlainHub, name: str) -> None:
    batch = follow(there, hub, '"exact"')
    batch.files[name] = Stored(b"theirs", hub.tick())
    outcome = there.apply("--confirm-delete", "1")
    assert outcome.code == 4, outcome.text
    assert f"something named {name!r}, which no request can name" in outcome.err
    assert hub.batches[batch.id] is batch
    assert name in batch.files


# Others' files in a batch of ours


@pytest.mark.matrix(most=2)
@pytest.mark.parametrize("mode", ["plain", "keep"])
@pytest.mark.parametrize("lie", ["404 for the second page", "404 for files", "403 for files"])
@pytest.mark.slow
def test_batch_whose_files_cannot_be_listed_is_not_destroyed(
    there: Project, hub: PlainHub, mode: str, lie: str
) -> None:
    if mode == "keep":
        follow(there, hub, mode)
    assert there.apply().code == 0
    batch = next(one for one in hub.batches.values() if one.files)
    batch.files["theirs.txt"] = Stored(b"not ours", hub.tick())
    hub.odd = (LIES | {"404 for files": refuse("GET", "/files", 404)})[lie](hub)
    assert there.run("destroy", "--yes").code == 3
    assert "theirs.txt" in hub.batches[batch.id].files
    hub.odd = None
    del batch.files["theirs.txt"]
    outcome = there.run("destroy", "--yes")
    assert outcome.code == 0, outcome.text
    assert batch.id not in hub.batches
