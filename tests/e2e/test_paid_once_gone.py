"""Missing, deleted and duplicate runs: absence never causes a payment, nor undoes a finished run."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from support.proxy import (
    BATCHES,
    FILE,
    RESULTS,
    RUN,
    RUN_LIST,
    RUNS,
    Act,
    Answer,
    Call,
    Proxy,
    answer_instead,
    hide,
)
from support.world import check_paid_once, lose

from .conftest import Project

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"


def see_nothing(proxy: Proxy) -> None:
    """Show what a token that may not see is shown: 404, and empty lists."""
    proxy.always("GET", RUN, answer_instead(404))
    proxy.always("GET", RESULTS, answer_instead(404))
    proxy.always("GET", "/v2/batches/.*", answer_instead(404))
    proxy.always("GET", RUN_LIST, hide("runs"))
    proxy.always("GET", BATCHES, hide("batches"))
    proxy.on("POST", BATCHES, answer_instead(401), nth=4, times=99)  # so that it ends, should it make them without end


def leave_a_run_going(project: Project, files: int = 1) -> str:
    """Apply, and leave before its run ends; long enough ago that it is not young any more."""
    project.write_files(files)
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.1s").code == 6
    project.fake.clock.advance(600)
    return str(project.fake.runs()[-1]["id"])


# "gone"


@pytest.mark.parametrize("kind", ["all is hidden", "one 404 and an empty list", "one 404 and others in the list"])
def test_run_that_seems_gone_is_asked_for_again(project: Project, proxy: Proxy, kind: str) -> None:
    if "others" in kind:
        project.write_files(1, start=7)
        assert project.apply().code == 0
    going = leave_a_run_going(project)
    if kind == "all is hidden":
        see_nothing(proxy)
    else:
        hidden = (lambda run: True) if "empty" in kind else (lambda run: run["id"] == going)
        proxy.on("GET", RUN, answer_instead(404))
        proxy.on("GET", RUN_LIST, hide("runs", hidden))
    outcome = project.apply("--wait-timeout", "0.1s")
    assert outcome.code != 0, outcome.text
    if kind == "all is hidden":
        assert outcome.code == 4, outcome.text
    proxy.clear()
    project.fake.release(going)
    project.check_done(2 if "others" in kind else 1)


@pytest.mark.parametrize("seen_again", ["before", "never"])
def test_run_that_seems_gone_is_not_retried_while_nothing_is_seen(
    project: Project, proxy: Proxy, seen_again: str
) -> None:
    going = leave_a_run_going(project)
    see_nothing(proxy)
    project.apply("--wait-timeout", "0.1s")
    if seen_again == "before":
        proxy.clear()
        project.fake.release(going)
    outcome = project.apply("--retry-failed", "--wait-timeout", "0.1s")
    check_paid_once(project.fake, 1)
    assert outcome.code == (0 if seen_again == "before" else 4), outcome.text


@pytest.mark.slow
def test_run_that_is_confirmed_gone_has_failed_and_may_be_retried(project: Project, proxy: Proxy) -> None:
    project.write_files(1, start=7)
    assert project.apply().code == 0
    going = leave_a_run_going(project)
    assert proxy.send("DELETE", f"{RUN_LIST}/{going}?delete_input=false").status == 202
    for _ in range(2):
        assert project.apply().code == 3
    assert project.apply("--retry-failed").code == 0
    assert {line["path"] for line in project.documents} == {"in/00000.txt", "in/00007.txt"}


@pytest.mark.parametrize("kind", ["one 404", "all is hidden", "a list without it"])
@pytest.mark.parametrize("option", [(), ("--retry-failed",)])
def test_lock_file_keeps_a_complete_run_that_is_not_seen(
    project: Project, proxy: Proxy, kind: str, option: tuple[str, ...]
) -> None:
    project.write_files(1)
    project.apply()
    project.write_files(1, start=1)
    assert project.apply().code == 0
    before = {entry["run_id"]: entry["status"] for entry in project.lock}
    lose(project.folder, STATE)
    first = project.fake.runs()[0]["id"]
    if kind == "all is hidden":
        see_nothing(proxy)
    else:
        proxy.on("GET", RUN, answer_instead(404), times=1 if kind == "one 404" else 99)
    if kind == "a list without it":
        proxy.always("GET", RUN_LIST, hide("runs", lambda run: run["id"] == first))
        proxy.always("GET", RESULTS, answer_instead(404))
    for _ in range(2):
        project.apply(*option)
        check_paid_once(project.fake, 2)
        assert {entry["run_id"]: entry["status"] for entry in project.lock} == before
    proxy.clear()
    project.check_done(2)


# Retention


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("new_file", [True, False])
def test_fresh_clone_imports_a_run_whose_batch_is_gone(
    project: Project, proxy: Proxy, files: int, new_file: bool
) -> None:
    project.write_files(files)
    assert project.apply().code == 0
    batch = project.fake.batches()[0]["id"]
    assert proxy.send("DELETE", f"/v2/batches/{batch}").status == 202
    project.fake.clock.advance(40 * 86_400)
    lose(project.folder, STATE)
    if new_file:
        project.write_files(1, start=10)
    project.check_done(files + new_file)


@pytest.mark.parametrize("what", ["batch and run", "run"])
@pytest.mark.slow
def test_fresh_clone_processes_a_new_file_beside_what_is_gone(project: Project, proxy: Proxy, what: str) -> None:
    """Nothing can be fetched any more of what was paid; it is not paid again, and the rest goes on.

    Another run is still there, else it might be that nothing can be seen.
    """
    project.write_files(2)
    assert project.apply().code == 0
    project.write_files(1, start=5)
    assert project.apply().code == 0
    before = project.lock
    run, batch = project.fake.runs()[0]["id"], project.fake.batches()[0]["id"]
    proxy.send("DELETE", f"{RUN_LIST}/{run}?delete_input=false")
    if what == "batch and run":
        proxy.send("DELETE", f"/v2/batches/{batch}")
    project.fake.clock.advance(40 * 86_400)
    lose(project.folder, STATE)
    project.write_files(1, start=10)
    outcome = project.apply()
    assert outcome.code in (3, 7), outcome.text
    assert [file.name for run in project.fake.world.runs.values() for file in run.files] == ["00005.txt", "00010.txt"]
    assert [line["path"] for line in project.documents] == ["in/00005.txt", "in/00010.txt"]
    assert [entry["status"] for entry in project.lock if entry["run_id"] == run] == ["COMPLETE"], before


def test_entry_that_cannot_be_verified_blocks_only_its_own_files(project: Project, proxy: Proxy) -> None:
    """The batch is gone, and the run has no tag."""
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(2)
    assert project.apply().code == 0
    first, _ = (batch["id"] for batch in project.fake.batches())
    proxy.send("DELETE", f"/v2/batches/{first}")
    project.fake.clock.advance(40 * 86_400)
    lose(project.folder, STATE)
    project.write_files(1, start=10)
    broken = next(run["id"] for run in project.fake.runs() if int(run["batch_id"]) == first)
    strange = ["aihub-runner:" + 64 * "0" + ":" + 16 * "0" + ":1"]

    def act(call: Call) -> Any:
        answer = call.forward()
        is_it = answer.status == 200 and answer.json["id"] == broken
        return answer.with_json(answer.json | {"tags": strange}) if is_it else answer

    proxy.always("GET", RUN, act)
    outcome = project.apply()
    check_paid_once(project.fake, 3)
    assert outcome.code == 7, outcome.text
    assert "until then 1 file (in/00000.txt) is not paid for again" in outcome.err
    assert {f"in/{number:05}.txt" for number in (1, 10)} <= {line["path"] for line in project.documents}
    proxy.clear()
    assert project.apply().code == 0
    check_paid_once(project.fake, 3)


# Twins with one tag


def deliver_twice(known: int) -> Act:
    """Pass a start on twice, and return the first or the second response."""
    return lambda call: (call.forward(), call.forward())[known]


@pytest.mark.parametrize("known", [0, 1])
@pytest.mark.parametrize("lost", [(STATE,), (STATE, LOCK)], ids=["state", "state and lock"])
@pytest.mark.parametrize("end", ["CANCELLED", "FAILED"])
def test_complete_run_of_twins_is_preferred(
    project: Project, proxy: Proxy, known: int, lost: tuple[str, ...], end: str
) -> None:
    """A gateway delivered the start twice, and a person cancelled the one that we do not know."""
    project.write_files(2)
    proxy.on("POST", RUNS, deliver_twice(known))
    assert project.apply().code in (0, 3)
    runs = [run["id"] for run in project.fake.runs()]
    project.fake.set_run(runs[1 - known], status=end)
    lose(project.folder, *lost)
    for option in ((), ("--adopt",), ()):
        outcome = project.apply(*option)
        if outcome.code in (0, 3):
            break
    assert outcome.code in (0, 3), outcome.text
    assert {line["run_id"] for line in project.documents} == {runs[known]}
    assert {entry["status"] for entry in project.lock if entry["run_id"] == runs[known]} == {"COMPLETE"}
    project.apply("--retry-failed")
    assert len(project.fake.runs()) == 2


@pytest.mark.parametrize("known", [0, 1])
def test_twin_of_a_failed_run_is_found_before_a_retry_is_paid(project: Project, proxy: Proxy, known: int) -> None:
    project.write_files(1)
    project.fake.next_run(hold=True, times=2)
    proxy.on("POST", RUNS, deliver_twice(known))
    project.apply("--wait-timeout", "0s")
    runs = [run["id"] for run in project.fake.runs()]
    project.fake.set_run(runs[known], status="FAILED", message="as told")
    project.fake.set_run(runs[1 - known], status="COMPLETE")
    project.apply()
    project.apply("--retry-failed")
    assert len(project.fake.runs()) == 2
    assert [line["run_id"] for line in project.documents] == [runs[1 - known]]


@pytest.mark.parametrize("known", [0, 1])
def test_unknown_run_on_our_batch_is_told_of(project: Project, proxy: Proxy, known: int) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, deliver_twice(known))
    outcome = project.apply()
    runs = [run["id"] for run in project.fake.runs()]
    assert [line["run_id"] for line in project.documents] == [runs[known]]
    assert runs[1 - known] in outcome.text


def test_run_that_somebody_else_starts_on_our_batch_is_told_of(project: Project, proxy: Proxy) -> None:
    others: list[str] = []

    def start_another(call: Call) -> Answer:
        answer = call.forward()
        body = {"app_name": "Another App", "batch_id": call.json["batch_id"]}
        others.append(proxy.send("POST", RUN_LIST, body).json["id"])
        return answer

    project.write_files(1)
    proxy.on("POST", RUNS, start_another)
    outcome = project.apply()
    assert outcome.code in (0, 3), outcome.text
    assert others[0] in outcome.text


# Batches without end


@pytest.mark.parametrize("shown", ["not in the list", "no list"])
@pytest.mark.parametrize("files", [1, 3])
def test_batches_are_not_made_without_end(project: Project, proxy: Proxy, shown: str, files: int) -> None:
    project.write_files(files)
    proxy.always("PUT", FILE, answer_instead(404))
    unseen = hide("batches") if shown == "not in the list" else answer_instead(404)
    proxy.always("GET", BATCHES, lambda call: unseen(call) if proxy.count("PUT", FILE) else call.forward())
    proxy.always("GET", "/v2/batches/.*/files", answer_instead(404))
    proxy.on("POST", BATCHES, answer_instead(401), nth=4, times=9)  # so that it ends today
    outcome = project.apply()
    assert len(project.fake.batches()) <= 2, outcome.text
    assert outcome.code == 4, outcome.text
    proxy.clear()
    project.check_done(files)


def test_batches_are_not_made_without_end_for_each_shard(project: Project, proxy: Proxy) -> None:
    project.write_files(3)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    proxy.always("PUT", FILE, answer_instead(404))
    proxy.always("GET", BATCHES, hide("batches"))
    proxy.on("POST", BATCHES, answer_instead(401), nth=10, times=9)
    outcome = project.apply()
    assert len(project.fake.batches()) <= 6, outcome.text
    assert outcome.code == 4, outcome.text


def test_batch_that_is_gone_once_is_made_anew(project: Project, proxy: Proxy) -> None:
    def vanish(call: Call) -> Any:
        proxy.send("DELETE", call.path.rpartition("/files")[0])
        return call.forward()

    project.write_files(1)
    proxy.on("PUT", FILE, vanish)
    project.apply()
    project.check_done(1)


def test_results_folder_that_was_tidied_up_pays_nothing(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    shutil.rmtree(project.folder / "results")
    see_nothing(proxy)
    project.apply()
    project.apply("--retry-failed")
    check_paid_once(project.fake, 1)
