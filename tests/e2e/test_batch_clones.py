"""Several clones change one batch that is kept at the same time: each content is paid once, as its run says."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from support.proxy import ALWAYS, BATCHES, FILE, FILES, RUN_LIST, RUNS, Proxy, before, meet

from .conftest import Project, apply_at_once
from .test_batch_id import TURN, make_batch, put

pytestmark = pytest.mark.matrix(gate=8)

MODES = ["keep", "sync"]
LINEAGES = ["state and lock file", "two lock files", "copied state", "nothing"]
POINTS = {
    "look": ("GET", FILES, 1),
    "turn": ("POST", BATCHES, 1),
    "send": ("PUT", FILE, 1),
    "delete": ("DELETE", FILE, 1),
    "check": ("GET", FILES, 3),
    "runs": ("GET", RUN_LIST, 3),
    "start": ("POST", RUNS, 1),
}
MEMBERS = """
    SELECT runs.remote_id, members.name, members.digest, members.stale
    FROM runs JOIN members ON members.shard = runs.shard WHERE runs.remote_id IS NOT NULL
"""


def prepare(project: Project, mode: str, lineage: str) -> tuple[Project, Project]:
    """Return two clones that use one batch; unless they share nothing, it holds three files that were run."""
    how = "keep = true" if mode == "keep" else f"id = {make_batch(project, theirs='not ours')}\nsync = true"
    project.change_spec("[limits]", f"[batch]\n{how}\n[limits]")
    project.write_files(3)
    if lineage == "nothing":
        return project, project.clone("other")
    assert project.apply().code == 0
    project.fake.clock.advance(5)
    if lineage == "two lock files":
        return project.clone("one"), project.clone("other")
    other = project.clone("other", *["job.state.db"] * (lineage == "copied state"))
    if lineage == "copied state":
        shutil.copytree(project.folder / "results", other.folder / "results")
    return project, other


def change(first: Project, other: Project, lineage: str, *, is_same: bool) -> None:
    """Change the files of two clones; if it is not the same, each leaves what the other one changes as it was."""
    if lineage == "nothing" or not is_same:
        other.write("in/00001.txt", "document number B" if not is_same else "document number 1")
    if lineage != "nothing" and not is_same:
        (first.folder / "in/00000.txt").unlink()
        first.write("in/00002.txt", "document number A")
    if lineage != "nothing" and is_same:
        for clone in (first, other):
            (clone.folder / "in/00000.txt").unlink()
            clone.write("in/00001.txt", "document number A")
            clone.write("in/00003.txt", "document A")


def check_truth(project: Project, *clones: Project) -> None:
    """Check that no content was paid twice, and that each run got exactly what every state says of it."""
    runs = project.fake.world.runs
    held = {
        run_id: {file.name: file.digest.removeprefix("sha256:") for file in run.files} for run_id, run in runs.items()
    }
    contents = [tuple(sorted(files.items())) for files in held.values()]
    assert len({*contents}) == len(contents), contents
    tags = [run.request["settings"]["tags"][0] for run in runs.values()]
    assert len({*tags}) == len(tags), tags
    for clone in clones:
        recorded: dict[str, list[dict[str, str]]] = {}
        with closing(sqlite3.connect(clone.folder / "job.state.db")) as db:
            for run_id, name, digest, is_stale in db.execute(MEMBERS):
                known = {} if is_stale or digest.startswith("listed:") else {name: digest.removeprefix("sha256:")}
                recorded.setdefault(run_id, []).append(known)
        for run_id, members in recorded.items():
            assert len(members) == len(held[run_id]), (clone.folder, run_id)
            for known in members:
                assert known.items() <= held[run_id].items(), (clone.folder, run_id)


def check_settles(project: Project, *clones: Project) -> None:
    """Check that clones which want the same content end with success, and that the batch holds it."""
    runs = {*project.fake.world.runs}
    for _ in range(3):  # what one of them began, the other may not know to be theirs until it is run
        outcomes = [clone.apply() for clone in clones]
        if "sync" in clones[0].spec_path.read_text():  # they leave different files in the batch
            outcomes = [clone.apply("--adopt") for clone in clones]
        if all(outcome.code == 0 for outcome in outcomes):
            break
    assert [outcome.code for outcome in outcomes] == [0] * len(clones), [outcome.text for outcome in outcomes]
    assert len({*project.fake.world.runs} - runs) <= 1, "at most the one that nobody could start before"
    mine = {path.name for path in (clones[0].folder / "in").iterdir()}
    *_, last = project.fake.world.runs.values()
    left = {*project.fake.files(last.request["batch_id"])} - mine
    may_stay = {"theirs.txt", "00000.txt"} if "sync" in clones[0].spec_path.read_text() else set()
    assert left <= may_stay, "with sync, a clone deletes only what it put there itself"
    assert turns(project) == []


def turns(project: Project) -> list[str]:
    """List the batches by which a client says that it is its turn."""
    return [one["name"] for one in project.fake.batches() if one["name"].startswith(TURN)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lineage", LINEAGES)
@pytest.mark.parametrize("is_same", [True, False], ids=["same", "different"])
@pytest.mark.parametrize("point", POINTS)
def test_clone_that_applies_in_the_middle_of_another(
    project: Project, proxy: Proxy, mode: str, lineage: str, is_same: bool, point: str
) -> None:
    """Whatever request of the first one is under way: the other applies from beginning to end before it arrives."""
    if point == "delete" and (lineage == "nothing" or (mode == "sync" and lineage == "two lock files")):
        return  # there is nothing to delete, or nothing that the first one put there
    first, other = prepare(project, mode, lineage)
    change(first, other, lineage, is_same=is_same)
    ended: list[Any] = []
    method, path, nth = POINTS[point]
    meanwhile = before(lambda: ended.append(other.start("apply", "job.toml").communicate(timeout=60)))
    proxy.on(method, path, meanwhile, nth=nth)
    outcome = first.run_alone("apply", "job.toml")
    assert ended, "so many requests are not sent"
    assert outcome.code in (0, 4, 6, 7), outcome.text
    check_truth(project, first, other)
    proxy.clear()
    if is_same:
        check_settles(project, first, other)
    check_truth(project, first, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.slow
def test_file_that_changes_after_the_plan_is_not_deleted(project: Project, proxy: Proxy, mode: str) -> None:
    first, _ = prepare(project, mode, "state and lock file")
    (first.folder / "in/00000.txt").unlink()
    [batch] = [one["id"] for one in project.fake.batches() if project.fake.files(one["id"])]
    proxy.on("POST", BATCHES, before(lambda: put(project, batch, "00000.txt", "of somebody else")))
    outcome = first.apply()
    assert (outcome.code, len(project.fake.runs())) == (4, 1), outcome.text
    assert f"batch {batch}: 00000.txt changed since the plan; nothing was changed" in outcome.err
    assert "00000.txt" in project.fake.files(batch)
    assert turns(project) == []


@pytest.mark.slow
def test_clones_that_both_make_the_batch_use_the_older_one(project: Project, proxy: Proxy) -> None:
    first, other = prepare(project, "keep", "nothing")
    ended: list[Any] = []
    meanwhile = before(lambda: ended.append(other.start("apply", "job.toml").communicate(timeout=60)))
    proxy.on("POST", BATCHES, meanwhile)
    outcome = first.run_alone("apply", "job.toml")
    assert outcome.code in (0, 4, 6, 7), outcome.text
    assert ended
    proxy.clear()
    assert first.apply().code == 0
    batches = [batch["id"] for batch in project.fake.batches()]
    assert [batch for batch in batches if project.fake.files(batch)] == [min(batches)]
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lineage", ["two lock files", "nothing"])
@pytest.mark.parametrize("is_same", [True, False], ids=["same", "different"])
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", FILE), ("POST", BATCHES), ("POST", RUNS)], ids=["send", "create", "start"]
)
def test_clones_that_meet_at_a_request(
    project: Project, proxy: Proxy, mode: str, lineage: str, is_same: bool, method: str, path: str
) -> None:
    """Neither is ahead of the other there."""
    project.change_spec("settle_s = 0.2", "settle_s = 1.5")
    first, other = prepare(project, mode, lineage)
    change(first, other, lineage, is_same=is_same)
    proxy.on(method, path, meet(2, timeout_s=0.7), times=ALWAYS)
    ended = apply_at_once(first, other)
    assert {code for code, _ in ended} <= {0, 4, 6, 7}, ended
    check_truth(project, first, other)
    proxy.clear()
    if is_same:
        check_settles(project, first, other)
    check_truth(project, first, other)


@pytest.mark.parametrize("first", ["apply", "destroy"])
@pytest.mark.slow
def test_batch_is_not_destroyed_while_another_clone_runs_it(project: Project, proxy: Proxy, first: str) -> None:
    project, other = prepare(project, "keep", "state and lock file")
    other.write("in/new.txt", "document new")
    codes: list[int] = []

    def destroy() -> None:
        codes.append(project.run_alone("destroy", "job.toml", "--yes").code)

    def apply() -> None:
        codes.append(other.run_alone("apply", "job.toml").code)

    if first == "apply":
        proxy.on("POST", RUNS, before(destroy))
        apply()
    else:
        proxy.on("DELETE", "/v2/batches/[0-9]+", before(apply))
        destroy()
    assert codes == [6, 0]  # the one in between ends first
    assert [file.name for run in project.fake.world.runs.values() for file in run.files].count("new.txt") == (
        first == "apply"
    )
    assert not [one["name"] for one in project.fake.batches() if one["name"].startswith(TURN)]
