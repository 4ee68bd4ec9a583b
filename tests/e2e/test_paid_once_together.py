"""Two who apply at once, roots that are spelled otherwise, settings that go back and forth while a run is open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aihub_runner.apply.job import Options, open_job
from aihub_runner.errors import InputError
from fake_aihub import FakeAIHub
from support.proxy import (
    ALWAYS,
    BATCHES,
    FILES,
    RUN_LIST,
    RUNS,
    Act,
    Call,
    Proxy,
    answer_instead,
    drop,
    forward_and_drop,
    forward_twice,
    hide,
    meet,
    rewrite_each,
)
from support.world import check_paid_once, lose, payments

from .conftest import Process, Project

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"

# Item 3: at once


def end(processes: list[Process]) -> list[tuple[int, str]]:
    ended = [(process.communicate(timeout=60), process.returncode) for process in processes]
    return [(code, out + err) for (out, err), code in ended]


def apply_at_once(*projects: Project, options: tuple[tuple[str, ...], ...] = ()) -> list[tuple[int, str]]:
    """Apply in processes of their own, and give the exit codes and what was said."""
    given = options or ((),) * len(projects)
    return end([each.start("apply", each.spec_name, *more) for each, more in zip(projects, given, strict=True)])


def check_all_done(*projects: Project) -> None:
    """Each is done in the end, by itself or after a person imports what the other has paid."""
    for project in projects:
        for options in ((), ("--adopt",), ()):
            outcome = project.apply(*options)
            if outcome.code == 0:
                break
            assert outcome.code == 7, outcome.text
        assert outcome.code == 0, outcome.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", RUN_LIST), ("POST", BATCHES), ("PUT", ".*"), ("GET", FILES), ("POST", RUNS)],
    ids=["survey", "batch", "upload", "check", "run"],
)
def test_two_fresh_clones_at_once_pay_once(project: Project, proxy: Proxy, method: str, path: str) -> None:
    """Wherever they meet: neither is ahead of the other there."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other")
    proxy.on(method, path, meet(2, timeout_s=1.5), times=2)
    ended = apply_at_once(project, other)
    check_paid_once(project.fake, 1)
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended
    proxy.clear()
    check_all_done(project, other)
    check_paid_once(project.fake, 1)


def test_three_fresh_clones_at_once_pay_once(project: Project, proxy: Proxy) -> None:
    project.write_files(2)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    others = [project.clone(name) for name in ("b", "c")]
    proxy.on("POST", BATCHES, meet(3, timeout_s=3), times=3)
    ended = apply_at_once(project, *others)
    check_paid_once(project.fake, 2)
    assert {code for code, _ in ended} <= {0, 7}, ended


def test_two_clones_that_know_each_others_past_pay_what_is_new_once(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other", STATE)
    for each in (project, other):
        each.write_files(1, start=1)
    proxy.on("POST", BATCHES, meet(2, timeout_s=3), times=2)
    ended = apply_at_once(project, other)
    check_paid_once(project.fake, 2)
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended


@pytest.mark.parametrize("in_folders", [False, True])
def test_two_state_files_in_one_folder_pay_once(project: Project, proxy: Proxy, in_folders: bool) -> None:
    project.write_files(1)
    names = ["one.db", "two.db"]
    if in_folders:
        (project.folder / "a").mkdir()
        names = [str(project.folder / "a" / "one.db"), "job.state.db"]
    proxy.on("POST", BATCHES, meet(2, timeout_s=1.5), times=2)
    ended = apply_at_once(project, project, options=tuple(("--state", name) for name in names))
    check_paid_once(project.fake, 1)
    assert {code for code, _ in ended} <= {0, 5, 7}, ended


def test_clone_whose_twin_died_before_it_paid_says_so_and_pays_when_told(project: Project, proxy: Proxy) -> None:
    """The other made the batch, sent the file, and never came to start the run."""
    project.write_files(1)
    other = project.clone("other")
    proxy.on("GET", FILES, answer_instead(400))
    assert other.apply().code == 4
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert project.fake.runs() == []
    assert "--adopt" in outcome.text
    outcome = project.apply("--adopt")
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)
    assert other.apply().code == 0
    check_paid_once(project.fake, 1)


@pytest.mark.parametrize("listings", [1, 2, 3, 4, ALWAYS])
def test_batch_of_our_own_that_was_left_behind_keeps_nobody_waiting(
    project: Project, proxy: Proxy, listings: int
) -> None:
    """We made two of one name, since the first answer was lost, and the batch did not show for so many listings."""
    project.write_files(1)
    proxy.on("POST", BATCHES, forward_and_drop)
    proxy.on("GET", BATCHES, hide("batches"), times=listings)
    project.apply()
    proxy.clear()
    check_all_done(project)
    check_paid_once(project.fake, 1)


def wait_for(happened: Callable[[], object], at_most_s: float) -> None:
    until_s = time.monotonic() + at_most_s
    while not happened() and time.monotonic() < until_s:
        time.sleep(0.05)


def test_batch_that_a_twin_makes_while_our_own_is_lost_is_not_shared(project: Project, proxy: Proxy) -> None:
    """Our own creation never arrived, and the other's batch of the same name is still empty: we wait for its run."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other")
    started: list[Any] = []

    def let_the_other_begin(call: Call) -> None:
        started.append(other.start("apply", "job.toml"))
        wait_for(project.fake.batches, 10)

    def hold(call: Call) -> Any:
        wait_for(project.fake.runs, 1)
        return call.forward()

    proxy.on("POST", BATCHES, let_the_other_begin)
    proxy.on("PUT", ".*", hold)
    started.append(project.start("apply", "job.toml"))
    wait_for(lambda: len(started) > 1, 10)
    ended = end(started)
    check_paid_once(project.fake, 1)
    assert {0, 7} >= {code for code, _ in ended}, ended
    proxy.clear()
    check_all_done(project, other)
    check_paid_once(project.fake, 1)


def test_batch_that_a_gateway_makes_twice_pays_nothing_until_told(project: Project, proxy: Proxy) -> None:
    """The creation makes two of one name, and the answer names the second: the first may be another clone's."""
    project.write_files(1)
    proxy.on("POST", BATCHES, forward_twice)
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert "--adopt" in outcome.text
    check_paid_once(project.fake, 0)
    assert project.apply("--adopt").code == 0
    check_paid_once(project.fake, 1)


# A batch that several clones know: its age decides nothing

CHANGES = ("version", "retry", "refused")


def share_a_batch(project: Project, proxy: Proxy, change: str) -> tuple[str, ...]:
    """Apply once, so that clones know the batch from the lock file; return the options for the next apply."""
    project.write_files(1)
    if change == "retry":
        project.fake.next_run(status="FAILED")
    if change == "refused":
        proxy.on("POST", RUNS, answer_instead(403))
    project.apply()
    return ("--retry-failed",) if change == "retry" else ()


def want_another_run(project: Project, change: str) -> None:
    if change == "version":
        project.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("has_creator", [False, True])
def test_clones_at_once_on_a_batch_that_both_know_pay_once(
    project: Project, proxy: Proxy, change: str, has_creator: bool
) -> None:
    """Both have the batch from the lock file, or one of them created it: then its request must not take `settle_s`."""
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    options = share_a_batch(project, proxy, change)
    paid = len(project.fake.runs())
    clones = project.clone("one"), project.clone("two")
    if has_creator:
        clones = project, clones[1]
    for each in clones:
        each.apply("--max-runs", "0")
        want_another_run(each, change)
    proxy.on("POST", RUNS, meet(2, timeout_s=1 if has_creator else 4), times=2)
    ended = apply_at_once(*clones, options=(options, options))
    assert len(project.fake.runs()) == paid + 1, ended
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended
    proxy.clear()
    check_all_done(*clones)
    assert len(project.fake.runs()) == paid + 1


@pytest.mark.parametrize("at", ["POST", "GET"])
def test_creator_and_clone_that_meet_at_the_list_of_batches_pay_once(project: Project, proxy: Proxy, at: str) -> None:
    """The creator lists batches before it pays, the clone claims the run: whoever comes first."""
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    share_a_batch(project, proxy, "version")
    other = project.clone("other")
    other.apply("--max-runs", "0")
    for each in (project, other):
        want_another_run(each, "version")
    proxy.on(at, BATCHES, meet(2, timeout_s=1.5), nth=1 if at == "POST" else 5, times=4)
    ended = apply_at_once(project, other)
    assert len(project.fake.runs()) == 2, ended
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended


@pytest.mark.parametrize("change", CHANGES)
def test_fresh_clone_alone_starts_another_run_at_once(project: Project, proxy: Proxy, change: str) -> None:
    """The usual CI job. Nobody else is there, so that it waits once, and asks nobody."""
    options = share_a_batch(project, proxy, change)
    paid = len(project.fake.runs())
    for number in range(2):
        clone = project.clone(str(number))
        want_another_run(clone, change)
        outcome = clone.apply(*options)
        assert outcome.code == 0, outcome.text
        assert len(project.fake.runs()) == paid + 1


def test_state_that_created_the_batch_claims_nothing(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    want_another_run(project, "version")
    assert project.apply().code == 0
    assert len(project.fake.batches()) == 1


def die_before_it_pays(project: Project, proxy: Proxy) -> None:
    want_another_run(project, "version")
    proxy.on("POST", RUNS, answer_instead(403))
    assert project.apply().code == 4


def test_claim_whose_owner_does_not_pay_stops_others_until_told(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    die_before_it_pays(project.clone("dead"), proxy)
    other = project.clone("other")
    want_another_run(other, "version")
    outcome = other.apply()
    assert outcome.code == 7, outcome.text
    assert "--adopt" in outcome.text
    assert len(project.fake.runs()) == 1
    outcome = other.apply("--adopt")
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2


def test_claim_of_yesterday_stops_nobody(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    die_before_it_pays(project.clone("dead"), proxy)
    project.fake.clock.advance(90_000)
    other = project.clone("other")
    want_another_run(other, "version")
    outcome = other.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2


def test_claim_of_our_own_is_used_again(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    clone = project.clone("clone")
    die_before_it_pays(clone, proxy)
    assert clone.apply().code == 0
    assert len(project.fake.runs()) == len(project.fake.batches()) == 2


@pytest.mark.parametrize("how", [forward_and_drop, forward_twice, drop, answer_instead(429), answer_instead(403)])
def test_claim_whose_answer_is_lost_or_refused_is_paid_once(project: Project, proxy: Proxy, how: Act) -> None:
    share_a_batch(project, proxy, "version")
    clone = project.clone("clone")
    want_another_run(clone, "version")
    proxy.on("POST", BATCHES, how)
    outcome = clone.apply()
    assert outcome.code in (0, 4), outcome.text
    assert clone.apply().code == 0
    assert len(project.fake.runs()) == 2


# Item 4: roots


def spell(proxy: Proxy, how: str) -> str:
    return how.format(port=proxy.port)


ROOTS = [
    "http://localhost:{port}/api",
    "http://127.0.0.1:{port}/api/",
    "http://127.0.0.1:{port}/api//",
    "HTTP://127.0.0.1:{port}/api",
    "http://LOCALHOST:{port}/api",
    "http://LocalHost:{port}/api/",
    "http://127.0.0.1:0{port}/api",
    "http://127.0.0.2:{port}/api",
]


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("lost", [(), (STATE,), (STATE, LOCK)], ids=["nothing", "state", "state and lock"])
def test_root_that_is_spelled_otherwise_pays_nothing_again(
    project: Project, proxy: Proxy, root: str, lost: tuple[str, ...]
) -> None:
    """It is the same, or another that is refused; never one where all is paid again without a word."""
    project.write_files(1)
    assert project.apply().code == 0
    if lost:
        lose(project.folder, *lost)
    project.write_files(1, start=1)
    project.env["AIHUB_API_ROOT"] = spell(proxy, root)
    plan = project.run("plan")
    outcome = project.apply()
    is_refused = outcome.code in (2, 4, 7)
    check_paid_once(project.fake, 1 if is_refused else 2)
    assert outcome.code in (0, 2, 4, 7), outcome.text
    if outcome.code == 2:
        assert plan.code == 2 or "lock" in plan.text, plan.text


SPELLINGS = [
    "https://aihub.example:443/api",
    "https://AIHUB.example/api",
    "https://aihub.example/api/",
    "https://aihub.example:/api",
    "https://aihub.example//api",
    "https://aihub.example/api/./",
    "https://aihub.example./api",
    "HTTPS://AiHub.Example:0443/api//",
]


@pytest.mark.parametrize("root", SPELLINGS)
def test_root_of_any_spelling_is_one_target_or_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", "fake-test")
    monkeypatch.setenv("AIHUB_API_ROOT", "https://aihub.example/api")
    usual = open_job(project.spec_path, Options(), offline=True).goal
    monkeypatch.setenv("AIHUB_API_ROOT", root)
    try:
        other = open_job(project.spec_path, Options(), offline=True).goal
    except InputError:
        return
    assert (other.target, other.run_key) == (usual.target, usual.run_key)


def test_lock_file_of_other_targets_only_stops(project: Project, proxy: Proxy, second_fake: FakeAIHub) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    lose(project.folder, STATE)
    project.env["AIHUB_API_ROOT"] = second_fake.root
    plan, outcome = project.run("plan"), project.apply()
    assert outcome.code == 2, outcome.text
    assert plan.code == 2 or "lock" in plan.text, plan.text
    assert second_fake.batches() == []


@pytest.fixture
def second_fake() -> Iterator[FakeAIHub]:
    with FakeAIHub() as server:
        server.world.set_seed(7)  # so that its runs have other ids
        yield server


def test_batches_of_other_targets_in_the_lock_are_not_known_here(project: Project, second_fake: FakeAIHub) -> None:
    """Both services number their batches alike."""
    project.write_files(1)
    other = project.clone("other")
    other.env = project.env | {"AIHUB_API_ROOT": second_fake.root}
    for each in (project, other):
        assert each.apply().code == 0
    early = (other.folder / LOCK).read_text()
    for each in (project, other):
        each.write_files(1, start=1)
        assert each.apply().code == 0
    third = project.clone("third")
    third.env = other.env
    whole = (third.folder / LOCK).read_text() + "\n" + early[early.index("[[run]]") :]
    third.write(LOCK, whole)  # of the first service both runs, of the second one
    third.write_files(1, start=2)
    outcome = third.apply()
    check_paid_once(second_fake, 2)
    assert outcome.code == 7, outcome.text


# Item 6: back and forth


def lose_a_start_on_a_batch_that_seems_gone(project: Project, proxy: Proxy) -> None:
    """The run was started, its answer is lost, it does not show, and then neither does its batch."""
    project.write_files(1)
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, hide("runs"))
    assert project.apply().code == 7
    proxy.clear()
    project.change_spec('on_lost = "stop"', 'on_lost = "look"')


@pytest.mark.parametrize("is_deleted", [False, True])
def test_open_run_is_found_after_its_batch_was_made_anew_for_other_settings(
    project: Project, proxy: Proxy, is_deleted: bool
) -> None:
    lose_a_start_on_a_batch_that_seems_gone(project, proxy)
    first = project.fake.batches()[0]["id"]
    if is_deleted:
        assert proxy.send("DELETE", f"/v2/batches/{first}").status == 202
    else:
        proxy.always("*", f"/v2/batches/{first}(/.*)?", answer_instead(404))
        proxy.always("GET", BATCHES, hide("batches", lambda batch: batch["id"] == first))
    project.fake.clock.advance(60)
    project.change_spec("[run]", '[run]\nversion = "2"')
    outcome = project.apply()
    proxy.clear()
    project.change_spec('version = "2"', "")
    for _ in range(3):
        outcome = project.apply()
        assert set(payments(project.fake).values()) == {1}, payments(project.fake)
    assert outcome.code in (0, 7), outcome.text
    if not is_deleted:
        assert outcome.code == 0, outcome.text
    done = [entry for entry in project.lock if entry["status"] == "COMPLETE"]
    assert all(entry["batch_id"] for entry in done), done
    ran_on = {run["id"]: int(run["batch_id"]) for run in project.fake.runs()}
    assert all(entry["batch_id"] == ran_on[entry["run_id"]] for entry in done), (done, ran_on)


@pytest.mark.parametrize(
    "shown", [lambda real: real + 1000, lambda real: 0, lambda real: None], ids=["other", "0", "null"]
)
def test_exact_tag_on_whatever_batch_is_never_absent(project: Project, proxy: Proxy, shown: object) -> None:
    """The listing tells of another batch for it than the one that it was started on."""
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    number = lambda run: shown(int(run["batch_id"]))  # type: ignore[operator] # noqa: E731
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | {"batch_id": number(run)}))
    outcome = project.apply()
    check_paid_once(project.fake, 1)
    assert outcome.code in (0, 7), outcome.text
    proxy.clear()
    project.check_done(1)


def test_settings_go_back_and_forth_while_two_runs_are_open(project: Project, proxy: Proxy) -> None:
    lose_a_start_on_a_batch_that_seems_gone(project, proxy)
    project.change_spec("[run]", '[run]\nversion = "2"')
    proxy.on("POST", RUNS, forward_and_drop)
    project.apply()
    for old, new in (('version = "2"', 'version = "1"'), ('version = "1"', 'version = "2"'), ('version = "2"', "")):
        project.change_spec(old, new)
        outcome = project.apply()
        assert set(payments(project.fake).values()) == {1}
    assert outcome.code == 0, outcome.text
    assert len(payments(project.fake)) == 3


def test_lock_file_names_the_batch_of_a_run_whose_batch_is_gone(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    batch = project.fake.batches()[0]["id"]
    proxy.send("DELETE", f"/v2/batches/{batch}")
    project.fake.clock.advance(60)
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert project.apply().code == 0
    lock = {entry["run_id"]: entry["batch_id"] for entry in project.lock}
    assert lock == {run["id"]: int(run["batch_id"]) for run in project.fake.runs()}
    assert len(set(payments(project.fake).values())) == 1
