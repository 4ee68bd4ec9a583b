"""Reads that return something else, and interim responses: repeated, and never recorded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from support.proxy import (
    BATCH,
    BATCHES,
    FILES,
    RESULTS,
    RUN,
    RUN_LIST,
    RUNS,
    Act,
    Proxy,
    interim,
    rewrite,
    rewrite_each,
)
from support.world import check_paid_once

from .conftest import Project
from .test_paid_once_answers import colleagues_batch

pytestmark = pytest.mark.matrix

Change = Callable[[dict[str, Any]], dict[str, Any]]

OTHERS_STATUS: dict[str, Change] = {
    "another id": lambda run: run | {"id": "others-run"},
    "another batch": lambda run: run | {"batch_id": 77},
    "another tag": lambda run: run | {"tags": ["aihub-runner:" + 64 * "0" + ":" + 16 * "0" + ":1"]},
    "another id, FAILED": lambda run: run | {"id": "others-run", "status": "FAILED"},
    "an empty id, FAILED": lambda run: run | {"id": "", "status": "FAILED"},
    "no status": lambda run: {"id": run["id"]},
}


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kind", OTHERS_STATUS)
def test_status_of_another_run_is_asked_for_again(project: Project, proxy: Proxy, kind: str, times: int) -> None:
    project.write_files(1)
    project.fake.next_run(after_polls=times)
    proxy.on("GET", RUN, rewrite(OTHERS_STATUS[kind]), times=times)
    project.check_done(1)
    assert [line["run_id"] for line in project.documents] == [project.fake.runs()[0]["id"]]


@pytest.mark.parametrize("what", ["status", "results", "both"])
def test_answer_of_a_foreign_run_is_not_taken_for_ours(project: Project, proxy: Proxy, what: str) -> None:
    """Each answer is a whole and right one, but of a colleague's run on a file of the same name."""
    theirs = int(proxy.send("POST", BATCHES, {"name": "theirs"}).json["id"])
    proxy.send("PUT", f"/v2/batches/{theirs}/files/00000.txt", b"Total: 123456.78")
    body = {"app_name": "Theirs", "batch_id": theirs}
    foreign = proxy.send("POST", RUN_LIST, body).json["id"]
    project.write_files(1)
    project.fake.next_run(after_polls=1)

    def swap(suffix: str) -> Act:
        return lambda call: proxy.send("GET", f"{RUN_LIST}/{foreign}{suffix}")

    if what in ("status", "both"):
        proxy.on("GET", RUN, swap(""))
    if what in ("results", "both"):
        proxy.on("GET", RESULTS, swap("/results?file_offset=0"))
    project.apply()
    ours = next(run["id"] for run in project.fake.runs() if run["id"] != foreign)
    assert foreign not in results_text(project)
    for _ in range(2):
        outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert [line["run_id"] for line in project.documents] == [ours]
    assert foreign not in results_text(project)
    assert len(project.fake.runs()) == 2


def results_text(project: Project) -> str:
    files = (project.folder / "results").rglob("*")
    return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())


OTHERS_RESULTS: dict[str, Change] = {
    "another id": lambda page: page | {"id": "others-run"},
    "another batch": lambda page: page | {"batch_id": "77"},
    "files of other names": lambda page: (
        page | {"files": [file | {"original_file_name": "theirs.txt"} for file in page["files"]]}
    ),
}


@pytest.mark.parametrize("kind", OTHERS_RESULTS)
def test_results_of_another_run_are_asked_for_again(project: Project, proxy: Proxy, kind: str) -> None:
    project.write_files(2)
    proxy.on("GET", RESULTS, rewrite(lambda page: OTHERS_RESULTS[kind](copy.deepcopy(page))))
    project.check_done(2)
    assert "others-run" not in results_text(project)
    assert "theirs.txt" not in results_text(project)
    assert '"77"' not in results_text(project)


@pytest.mark.parametrize("statuses", [(102,), (103,), (102, 103), (102, 102, 102), (100,), (199,)])
@pytest.mark.parametrize("where", ["everywhere", "runs"])
def test_interim_answers_are_no_answers(project: Project, proxy: Proxy, statuses: tuple[int, ...], where: str) -> None:
    project.write_files(2)
    proxy.always("*", ".*" if where == "everywhere" else RUNS, interim(*statuses))
    outcome = project.apply()
    check_paid_once(project.fake, 2)
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
def test_files_of_another_batch_are_not_taken_for_those_of_ours(project: Project, proxy: Proxy) -> None:
    theirs = colleagues_batch(proxy)
    project.write_files(1)
    proxy.on("GET", FILES, lambda call: proxy.send("GET", f"/v2/batches/{theirs}/files"), times=2)
    if project.apply().code == 7:
        project.apply("--adopt")
    project.check_done(1)
    assert project.fake.ledger["deletions"] == {}


def test_batch_that_is_shown_with_another_name_is_not_used(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    proxy.always("GET", BATCH, rewrite(lambda batch: batch | {"name": "theirs"}))
    proxy.always("GET", BATCHES, rewrite_each("batches", lambda batch: batch | {"name": "theirs"}))
    outcome = project.apply()
    assert project.fake.ledger["uploads"] == {}
    assert outcome.code in (4, 7), outcome.text


@pytest.mark.parametrize("place", ["answer", "lists", "everywhere"])
@pytest.mark.parametrize("change", [{"msg": "odd \ud800"}, {"tags": ["odd \udc80"]}], ids=["message", "tags"])
def test_text_of_a_run_that_is_no_unicode_hides_no_run(
    project: Project, proxy: Proxy, place: str, change: dict[str, Any]
) -> None:
    """Another client's run may carry it, too: a list with one such run must stay readable."""

    def spoil(run: dict[str, Any]) -> dict[str, Any]:
        return run | {key: value if key == "msg" else run[key] + value for key, value in change.items()}

    project.write_files(1)
    if place != "lists":
        proxy.always("POST", RUNS, rewrite(spoil))
    if place != "answer":
        proxy.always("GET", RUN, rewrite(spoil))
        proxy.always("GET", RUN_LIST, rewrite_each("runs", spoil))
    assert project.apply().code == 0
    project.check_done(1)
