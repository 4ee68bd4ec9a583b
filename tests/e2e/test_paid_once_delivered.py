"""Paid results are fetched, whatever interrupts an apply; a run uses the current version of a file."""

from __future__ import annotations

import hashlib

import pytest

from support.proxy import (
    FILE,
    FILES,
    RESULTS,
    RUN,
    RUN_LIST,
    RUNS,
    Answer,
    Call,
    Proxy,
    answer_instead,
    forward_and_drop,
    hide,
    only_if,
)
from support.world import check_paid_once, lose

from .conftest import Project

pytestmark = pytest.mark.matrix


def leave_a_paid_run(project: Project, name: str = "in/00000.txt") -> str:
    """Pay for a file, leave before its run ends, and let it end."""
    project.write(name, f"document {name}")
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.1s").code == 6
    run = str(project.fake.runs()[-1]["id"])
    project.fake.release(run)
    return run


def fetched(project: Project) -> set[str]:
    """Return the runs whose results are on disk, in the places that users read."""
    path = project.folder / "results" / "job" / "documents.jsonl"
    return {line["run_id"] for line in project.documents} if path.exists() else set()


# An empty inbox


@pytest.mark.parametrize("how", ["emptied", "removed", "only what cannot be sent"])
def test_results_are_fetched_though_the_inbox_is_empty(project: Project, how: str) -> None:
    run = leave_a_paid_run(project)
    (project.folder / "in/00000.txt").unlink()
    if how == "removed":
        (project.folder / "in").rmdir()
    elif how == "only what cannot be sent":
        project.write("in/empty.txt", "")
    outcome = project.apply()
    assert outcome.code != 0, outcome.text
    assert fetched(project) == {run}


@pytest.mark.parametrize("limit", ["option", "spec"])
@pytest.mark.parametrize("new", [True, False])
def test_results_are_fetched_though_nothing_more_may_be_paid(project: Project, limit: str, new: bool) -> None:
    run = leave_a_paid_run(project)
    if new:
        project.write_files(1, start=1)
    if limit == "spec":
        project.change_spec("[limits]", "[limits]\nmax_runs = 0")
    outcome = project.apply(*["--max-runs", "0"] * (limit == "option"))
    assert outcome.code == (2 if new else 0), outcome.text
    assert fetched(project) == {run}
    assert len(project.fake.runs()) == 1


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_results_are_fetched_though_the_answer_is_no(project: Project, answer: str) -> None:
    run = leave_a_paid_run(project)
    project.write_files(1, start=1)
    code, shown = project.on_terminal("apply", "job.toml", answer=answer)
    assert code == 2, shown
    assert fetched(project) == {run}
    assert len(project.fake.runs()) == 1


def test_results_are_fetched_though_another_shard_is_unknown(project: Project, proxy: Proxy) -> None:
    project.write("in/lost.txt", "lost")
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]\nfiles_per_batch = 1')
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, hide("runs"))
    assert project.apply().code == 7
    lost = project.fake.runs()[0]["id"]
    proxy.clear()
    proxy.always("GET", RUN_LIST, hide("runs", lambda run: run["id"] == lost))
    project.write("in/other.txt", "other")
    project.fake.next_run(hold=True)
    project.apply("--wait-timeout", "0.1s")
    going = [run["id"] for run in project.fake.runs() if run["id"] != lost]
    if going:
        project.fake.release(going[0])
    assert project.apply().code == 7
    assert len(fetched(project)) == 1
    check_paid_once(project.fake, 2)


def test_results_are_fetched_though_an_entry_of_the_lock_file_cannot_be_verified(
    project: Project, proxy: Proxy
) -> None:
    project.write_files(1, start=5)
    assert project.apply().code == 0
    first = project.fake.runs()[0]["id"]
    lose(project.folder, "job.state.db")
    for path in (RUN, RESULTS):  # it seems that a colleague's run is not ours
        proxy.always("GET", path, lambda call: other_tag(call, first))
    run = leave_behind(project)
    project.fake.release(run)
    assert project.apply().code == 7
    assert run in fetched(project)


def other_tag(call: Call, run: str) -> Answer:
    answer = call.forward()
    if run not in call.path or answer.status != 200 or call.path.endswith("results"):
        return answer
    return answer.with_json(answer.json | {"tags": ["aihub-runner:" + 64 * "0" + ":" + 16 * "0" + ":1"]})


def leave_behind(project: Project) -> str:
    project.write_files(1)
    project.fake.next_run(hold=True)
    project.apply("--wait-timeout", "0.1s")
    runs = project.fake.runs()
    assert len(runs) == 2, "the new file was not run"
    return str(runs[-1]["id"])


@pytest.mark.parametrize("status", [401, 403, 409, 500])
def test_results_are_fetched_though_nothing_can_be_made(project: Project, proxy: Proxy, status: int) -> None:
    run = leave_a_paid_run(project)
    project.write_files(1, start=1)
    proxy.always("POST", "/v2/batches", answer_instead(status))
    outcome = project.apply()
    assert outcome.code == 4, outcome.text
    if status != 401:
        assert fetched(project) == {run}
    proxy.clear()
    project.check_done(2)


def test_results_are_fetched_though_a_survey_finds_a_stranger(project: Project) -> None:
    """Nothing new may be paid, since somebody's batch holds these very files; what is paid comes all the same."""
    run = leave_a_paid_run(project)
    other = project.clone("other")
    (other.folder / "job.lock.toml").unlink()
    other.write("in/b.txt", "b")
    other.write("in/c.txt", "c")
    (other.folder / "in/00000.txt").unlink()
    other.change_spec('name = "job"', 'name = "theirs"')
    assert other.apply().code == 0
    project.write("in/b.txt", "b")
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert fetched(project) == {run}
    check_paid_once(project.fake, 3)


# Other bytes of the same size


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def ran_on(project: Project) -> list[dict[str, str]]:
    return [{file.name: file.digest for file in run.files} for run in project.fake.world.runs.values()]


def send_old_then_new(project: Project, proxy: Proxy) -> str:
    """Send a file, change it to other bytes of the same size, send it again, and do not come to pay for it."""
    project.write("in/a.txt", "one")
    project.write("in/b.txt", "b")
    proxy.on("GET", FILES, only_if(lambda: proxy.count("PUT", FILE) > 0, answer_instead(400)), times=2)
    proxy.on("POST", RUNS, answer_instead(400))
    assert project.apply().code == 4
    proxy.clear()
    batch = project.fake.batches()[0]["id"]
    project.fake.clock.advance(5)
    project.write("in/a.txt", "two")
    proxy.on("POST", RUNS, answer_instead(400))
    assert project.apply().code == 4
    project.fake.clock.advance(5)
    return f"/v2/batches/{batch}/files/a.txt"


@pytest.mark.slow
def test_late_duplicate_of_older_bytes_is_noticed_before_it_is_paid(project: Project, proxy: Proxy) -> None:
    path = send_old_then_new(project, proxy)
    assert proxy.send("PUT", path, b"one").status == 204
    project.fake.clock.advance(5)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert ran_on(project) == [{"a.txt": digest("two"), "b.txt": digest("b")}]


def test_delayed_deletion_of_a_file_that_came_back_is_noticed(project: Project, proxy: Proxy) -> None:
    path = send_old_then_new(project, proxy)
    assert proxy.send("DELETE", path).status == 202
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert ran_on(project) == [{"a.txt": digest("two"), "b.txt": digest("b")}]


def test_file_that_somebody_changed_to_the_same_size_is_sent_again(project: Project, proxy: Proxy) -> None:
    path = send_old_then_new(project, proxy)
    assert proxy.send("PUT", path, b"six").status == 204
    project.fake.clock.advance(5)
    project.check_done(2)
    assert ran_on(project) == [{"a.txt": digest("two"), "b.txt": digest("b")}]


def test_file_of_another_apply_that_was_not_touched_is_not_sent_again(project: Project, proxy: Proxy) -> None:
    send_old_then_new(project, proxy)
    before_it = proxy.count("PUT", FILE)
    project.check_done(2)
    assert proxy.count("PUT", FILE) == before_it
