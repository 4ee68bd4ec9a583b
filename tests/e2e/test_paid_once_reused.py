"""A service that was restored from a backup gives ids again: a run may come under an id that the state has already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.proxy import (
    BATCHES,
    RUN_LIST,
    RUNS,
    Act,
    Answer,
    Call,
    Proxy,
    after,
    answer_instead,
    forward_and_drop,
    forward_then,
    rewrite,
    rewrite_each,
)
from support.world import check_paid_once

from .conftest import Project
from .test_reclaim import DRIVE, put

pytestmark = pytest.mark.matrix

STATE = "job.state.db"


def restore(project: Project, proxy: Proxy) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """Pay for two files; then the service forgets the second run. Return how it gives that id to the next one."""
    for number in range(2):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    gone = str(project.fake.runs()[1]["id"])
    proxy.always("GET", f"/v2/apps/runs/{gone}", answer_instead(404))
    project.write_files(1, start=2)

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return None if at == 1 else run | {"id": gone} if at == 2 else run

    return show


@pytest.mark.parametrize("is_answered", [True, False])
def test_run_under_an_id_of_an_earlier_run_is_paid_once(project: Project, proxy: Proxy, is_answered: bool) -> None:
    again = restore(project, proxy)
    answered: Act = rewrite(again) if is_answered else forward_and_drop
    proxy.on("POST", RUNS, answered)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", again))
    for _ in range(2):
        outcome = project.apply()
        assert outcome.code == 7
        assert "this id is already recorded for another run" in outcome.text
    check_paid_once(project.fake, 3)
    assert [line["path"] for line in project.documents] == ["in/00000.txt", "in/00001.txt"]


@pytest.mark.parametrize("batch", [{"batch_id": None}, {}], ids=["null", "left out"])
def test_run_under_an_id_of_an_earlier_run_is_paid_once_where_the_list_names_no_batch(
    project: Project, proxy: Proxy, batch: dict[str, Any]
) -> None:
    again = restore(project, proxy)

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        shown = again(run)
        return shown and {key: value for key, value in shown.items() if key != "batch_id"} | batch

    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", show))
    outcome = project.apply()
    assert (outcome.code, "this id is already recorded" in outcome.text) == (7, True), outcome.text
    check_paid_once(project.fake, 3)


@pytest.mark.parametrize("status", [403, 429])
def test_run_of_a_folder_under_an_id_of_an_earlier_run_is_paid_once(
    project: Project, proxy: Proxy, status: int
) -> None:
    """Such a run has no batch, and the answer to its start is a refusal of a gateway that has passed it on."""
    put(project, "in")
    project.change_spec('files = "in/**/*"', f'input_dir = "{DRIVE}/in/"')
    for version in ("1.0", "2.0"):
        project.change_spec("[limits]", f'[run]\nversion = "{version}"\n[limits]')
        assert project.apply().code == 0
        project.change_spec(f'[run]\nversion = "{version}"\n', "")
    project.change_spec("[limits]", '[run]\nversion = "3.0"\n[limits]')
    gone = str(project.fake.runs()[1]["id"])

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return None if at == 1 else run | {"id": gone} if at == 2 else run

    proxy.always("GET", f"/v2/apps/runs/{gone}(/results)?", answer_instead(404))
    proxy.on("POST", RUNS, forward_then(status))
    proxy.always("GET", RUN_LIST, rewrite_each("runs", show))
    for _ in range(3):
        outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert len(project.fake.runs()) == 3


@pytest.mark.parametrize("nth", [3, 5, 7])
@pytest.mark.slow
def test_clone_that_waits_sees_the_run_of_another_under_an_earlier_id(project: Project, proxy: Proxy, nth: int) -> None:
    """Both want to run the same batch again. The other one does while this one checks, and its run gets an old id."""
    for number in range(2):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    clone = project.clone("one")
    assert clone.apply("--max-runs", "0").code == 0
    for each in (project, clone):
        (each.folder / "in/00001.txt").unlink()
        each.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')
    gone, ended = str(project.fake.runs()[1]["id"]), []

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return run if not ended else None if at == 1 else run | {"id": gone} if at == 2 else run

    listed, gone_now = rewrite_each("runs", show), answer_instead(404)

    def act(call: Call) -> Answer | None:
        ended.append(project.run_alone("apply", "job.toml").code)
        return listed(call) if call.path == RUN_LIST else call.forward()

    proxy.on("GET", ".*", act, nth=nth)
    proxy.always("GET", RUN_LIST, listed)
    proxy.always("GET", f"/v2/apps/runs/{gone}(/results)?", lambda it: gone_now(it) if ended else it.forward())
    outcome = clone.run_alone("apply", "job.toml")
    assert (ended, outcome.code) == ([0], 7), outcome.text
    assert len(project.fake.runs()) == 3


@pytest.mark.slow
def test_run_under_an_id_of_an_earlier_run_is_paid_again_on_request(project: Project, proxy: Proxy) -> None:
    test_run_under_an_id_of_an_earlier_run_is_paid_once(project, proxy, is_answered=False)
    outcome = project.run("resolve")
    assert (outcome.code, "--adopt" in outcome.text) == (7, False), outcome.text
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 4
    assert len(project.documents) == 3
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 4


def test_restored_state_that_lacks_a_run_under_an_earlier_id_pays_nothing(
    project: Project, proxy: Proxy, tmp_path: Path
) -> None:
    again = restore(project, proxy)
    proxy.clear()
    backup = tmp_path / "backup.db"
    # the last copy is made right before the intent: the batch is recorded, and its run is not
    proxy.always("GET", BATCHES, after(lambda: shutil.copy(project.folder / STATE, backup)))
    assert project.apply().code == 0
    shutil.copy(backup, project.folder / STATE)
    (project.folder / "job.lock.toml").unlink()
    proxy.clear()
    proxy.always("GET", RUN_LIST, rewrite_each("runs", again))
    outcome = project.apply()
    assert outcome.code == 7
    assert "this id is already recorded for another run" in outcome.text
    check_paid_once(project.fake, 3)


@pytest.mark.slow
def test_files_beside_a_run_under_an_earlier_id_are_paid(project: Project, proxy: Proxy, tmp_path: Path) -> None:
    test_restored_state_that_lacks_a_run_under_an_earlier_id_pays_nothing(project, proxy, tmp_path)
    project.write_files(2, start=3)
    outcome = project.apply()
    assert (outcome.code, "this id is already recorded" in outcome.text) == (7, True), outcome.text
    assert {line["path"] for line in project.documents} >= {"in/00003.txt", "in/00004.txt"}
    assert project.apply().code == 7
    check_paid_once(project.fake, 5)
    assert project.apply("--again", "--only", "in/00002.txt").code == 0
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 5
    assert {line["path"] for line in project.documents} == {f"in/{number:05}.txt" for number in range(5)}


@pytest.mark.slow
def test_run_of_a_twin_under_an_earlier_id_is_paid_once(project: Project, proxy: Proxy, tmp_path: Path) -> None:
    """Two files of one name and content have runs with one tag."""
    backup = tmp_path / "backup.db"
    for path in ("in/a/same.txt", "in/other.txt", "in/b/same.txt"):
        project.write(path, Path(path).name)
        proxy.always("GET", BATCHES, after(lambda: shutil.copy(project.folder / STATE, backup)))
        assert project.apply().code == 0
    gone = str(project.fake.runs()[1]["id"])

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return None if at == 1 else run | {"id": gone} if at == 2 else run

    shutil.copy(backup, project.folder / STATE)
    (project.folder / "job.lock.toml").unlink()
    proxy.clear()
    proxy.always("GET", f"/v2/apps/runs/{gone}", answer_instead(404))
    proxy.always("GET", RUN_LIST, rewrite_each("runs", show))
    outcome = project.apply()
    assert (outcome.code, "this id is already recorded" in outcome.text) == (7, True), outcome.text
    assert len(project.fake.runs()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--only", "in/00002.txt"]], ids=["another group", "--only"])
def test_other_grouping_does_not_hide_a_run_under_an_earlier_id(
    project: Project, proxy: Proxy, tmp_path: Path, options: list[str]
) -> None:
    """Then no fingerprint is that of the run, and the batch is one that the state does not know."""
    for number in range(2):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    shutil.copy(project.folder / STATE, tmp_path / "backup.db")
    project.write_files(2 if options else 1, start=2)
    assert project.apply().code == 0
    project.write_files(4)
    gone = str(project.fake.runs()[1]["id"])

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return None if at == 1 else run | {"id": gone} if at == 2 else run

    shutil.copy(tmp_path / "backup.db", project.folder / STATE)
    (project.folder / "job.lock.toml").unlink()
    proxy.always("GET", f"/v2/apps/runs/{gone}(/results)?", answer_instead(404))
    proxy.always("GET", RUN_LIST, rewrite_each("runs", show))
    assert project.apply(*options).code == 7
    assert len(project.fake.runs()) == 3
    outcome = project.apply(*options, "--adopt")
    assert (outcome.code, "this id is already recorded" in outcome.err) == (7, True), outcome.text
    assert "in the lock file" not in outcome.err  # there is none


@pytest.mark.parametrize("is_grouped", [False, True], ids=["alone", "another group"])
@pytest.mark.slow
def test_run_of_another_clone_under_an_earlier_id_in_the_lock_file_is_paid_once(
    project: Project, proxy: Proxy, tmp_path: Path, is_grouped: bool
) -> None:
    """Only the lock file tells which files it has, where a new one is grouped with them."""
    for number in range(2):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    shutil.copy(project.folder / STATE, tmp_path / "backup.db")
    project.write_files(1, start=2)
    assert project.apply().code == 0
    ids = [str(run["id"]) for run in project.fake.runs()]
    lock = project.folder / "job.lock.toml"
    head, *entries = lock.read_text().split("\n[[run]]\n")
    entries = [entry.replace(ids[2], ids[1]) for entry in entries]
    lock.write_text("\n[[run]]\n".join([head, *entries]))
    shutil.copy(tmp_path / "backup.db", project.folder / STATE)

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return None if at == 1 else run | {"id": ids[1]} if at == 2 else run

    proxy.always("GET", f"/v2/apps/runs/{ids[1]}(/results)?", answer_instead(404))
    proxy.always("GET", RUN_LIST, rewrite_each("runs", show))
    if is_grouped:
        project.write_files(1, start=3)
    for _ in range(2):
        outcome = project.apply()
        assert (outcome.code, "this id is already recorded" in outcome.text) == (7, True), outcome.text
    check_paid_once(project.fake, 3 + is_grouped)
    outcome = project.run("resolve")
    assert (outcome.code, "--adopt" in outcome.text) == (7, False), outcome.text
    assert project.run("resolve", "--adopt", ids[1]).code == 2
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    assert len(project.documents) == 3 + is_grouped
    assert len(project.fake.runs()) == 4 + is_grouped


@pytest.mark.parametrize("status", ["COMPLETE", "DELETED"])
@pytest.mark.slow
def test_clone_with_two_runs_under_one_id_in_its_lock_file_pays_nothing(
    project: Project, proxy: Proxy, status: str
) -> None:
    """The service has neither of them any more."""
    for number in range(3):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    ids = [str(run["id"]) for run in project.fake.runs()]
    lock = project.folder / "job.lock.toml"
    lock.write_text(lock.read_text().replace(ids[2], ids[1]).replace('"COMPLETE"', f'"{status}"'))
    proxy.always("GET", f"/v2/apps/runs/{ids[1]}(/results)?", answer_instead(404))
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: None if run["id"] in ids[1:] else run))
    clone = project.clone("one")
    for _ in range(2):
        outcome = clone.apply()
        assert (outcome.code, "this id is already recorded" in outcome.text) == (7, True), outcome.text
    assert len(project.fake.runs()) == 3


@pytest.mark.parametrize("options", ["", "[batch]\nkeep = true\n"], ids=["a new version", "a batch that is kept"])
@pytest.mark.slow
def test_later_run_on_one_batch_under_an_earlier_id_in_the_lock_file_is_paid_once(
    project: Project, proxy: Proxy, tmp_path: Path, options: str
) -> None:
    """Another clone started it, and deleted it: only the lock file knows it."""
    project.change_spec("[limits]", f"{options}[limits]")
    for number in range(2):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    shutil.copy(project.folder / STATE, tmp_path / "backup.db")
    if options:
        project.write_files(1, start=2)
    else:
        project.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')
    assert project.apply().code == 0
    _, first, *_, second = (str(run["id"]) for run in project.fake.runs())
    made = len(project.fake.runs())
    lock = project.folder / "job.lock.toml"
    head, *entries = lock.read_text().split("\n[[run]]\n")
    entries = [
        entry.replace(second, first).replace('"COMPLETE"', '"DELETED"') if second in entry else entry
        for entry in entries
    ]
    lock.write_text("\n[[run]]\n".join([head, *entries]))
    shutil.copy(tmp_path / "backup.db", project.folder / STATE)
    proxy.always("GET", f"/v2/apps/runs/{first}(/results)?", answer_instead(404))
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: None if run["id"] in (first, second) else run))
    for _ in range(2):
        outcome = project.apply()
        assert (outcome.code, "this id is already recorded" in outcome.text) == (7, True), outcome.text
    assert len(project.fake.runs()) == made
