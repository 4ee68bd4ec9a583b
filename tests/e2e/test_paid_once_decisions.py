"""Your decisions: `--adopt` never pays for what may be paid, `--resubmit` checks first, `--again` pays once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.proxy import (
    BATCHES,
    FILES,
    RESULTS,
    RUN,
    RUN_LIST,
    RUNS,
    Act,
    Answer,
    Call,
    Proxy,
    after,
    answer_instead,
    before,
    drop,
    forward_and_drop,
    forward_then,
    hide,
    rewrite,
    rewrite_each,
)
from support.world import bring_back, check_paid_once, keep, lose, payments

from .conftest import Project

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"


def no_tags(run: dict[str, Any]) -> dict[str, Any]:
    return run | {"tags": None}


# --adopt


@pytest.mark.parametrize(
    "shown",
    [
        {RUN_LIST: rewrite_each("runs", no_tags), RUN: rewrite(no_tags)},
        {RUN_LIST: answer_instead(403)},
        {RUN_LIST: rewrite_each("runs", lambda run: run | {"tags": ["mine"], "batch_id": None})},
        {RUN_LIST: rewrite_each("runs", lambda run: run | {"tags": [tag[:64] for tag in run["tags"]]})},
    ],
    ids=["no tags", "no list", "no batches", "cut tags"],
)
def test_adopting_pays_nothing_for_files_of_a_batch_whose_runs_cannot_be_told(
    project: Project, proxy: Proxy, shown: dict[str, Act]
) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    lose(project.folder, STATE, LOCK)
    for path, act in shown.items():
        proxy.always("GET", path, act)
    for options in (("--adopt",), (), ("--adopt",)):
        outcome = project.apply(*options)
        check_paid_once(project.fake, 2)
        assert outcome.code in (4, 7), outcome.text
    proxy.clear()
    assert project.apply("--adopt").code == 0
    check_paid_once(project.fake, 2)


@pytest.mark.parametrize("change", ["one is new", "one was changed", "one is gone", "another limit"])
def test_adopting_pays_nothing_for_files_that_fit_a_strangers_batch(project: Project, change: str) -> None:
    project.write_files(3)
    assert project.apply().code == 0
    lose(project.folder, STATE, LOCK)
    match change:
        case "one is new":
            project.write_files(1, start=3)
        case "one was changed":
            project.write("in/00000.txt", "changed meanwhile")
        case "one is gone":
            (project.folder / "in/00000.txt").unlink()
        case "another limit":
            project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    for _ in range(2):
        outcome = project.apply("--adopt")
        check_paid_once(project.fake)
    assert outcome.code in (0, 7), outcome.text


@pytest.mark.slow
def test_adopting_pays_for_files_of_batches_that_carry_no_run(project: Project, proxy: Proxy) -> None:
    """Another client sent them and never started a run, and the service shows that."""
    project.write_files(1)
    other = project.clone("other")
    proxy.on("POST", RUNS, answer_instead(400))
    assert other.apply().code == 4
    for options in ((), ("--adopt",), ()):
        outcome = project.apply(*options)
        if outcome.code == 0:
            break
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)


# --resubmit


def die_at_the_start(project: Project, proxy: Proxy, *, delivered: bool = True) -> None:
    """Leave the state of a process that died when it had started a run, or was about to."""
    place = project.folder / "backup"
    hook = after if delivered else before
    proxy.on("POST", RUNS, hook(lambda: keep(project.folder, place, STATE, LOCK), Call.forward if delivered else drop))
    proxy.on("GET", RUN_LIST, Call.forward)
    project.apply()
    bring_back(project.folder, place, STATE, LOCK)


@pytest.mark.parametrize("times", [1, 2])
def test_intent_that_nobody_looked_for_is_not_given_up(project: Project, proxy: Proxy, times: int) -> None:
    project.write_files(1)
    die_at_the_start(project, proxy)
    for _ in range(times):
        project.run("resolve", "--resubmit")
    project.check_done(1)


@pytest.mark.parametrize("status", [303, 404, 409, 429])
def test_refused_intent_is_not_given_up_unlooked(project: Project, proxy: Proxy, status: int) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_then(status))
    project.apply()
    project.run("resolve", "--resubmit")
    project.check_done(1)


def leave_unknown(project: Project, proxy: Proxy) -> str:
    """A run was started, its response was lost, and it is not listed."""
    project.write_files(1)
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, hide("runs"))
    assert project.apply().code == 7
    proxy.clear()
    return str(project.fake.runs()[0]["id"])


def test_unknown_run_that_shows_by_now_is_not_given_up(project: Project, proxy: Proxy) -> None:
    run = leave_unknown(project, proxy)
    outcome = project.run("resolve", "--resubmit")
    assert run in outcome.text
    project.check_done(1)


def test_run_that_shows_after_it_was_given_up_is_found_before_the_next_attempt(project: Project, proxy: Proxy) -> None:
    leave_unknown(project, proxy)
    proxy.always("GET", RUN_LIST, hide("runs"))
    project.run("resolve", "--resubmit")
    proxy.clear()
    project.check_done(1)


def test_run_that_never_shows_is_paid_again_when_a_person_says_so(project: Project, proxy: Proxy) -> None:
    leave_unknown(project, proxy)
    proxy.always("GET", RUN_LIST, hide("runs", lambda run: run["tags"][0].endswith(":1")))
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 2


def test_second_attempt_that_is_lost_after_the_first_shows_pays_nothing_more(project: Project, proxy: Proxy) -> None:
    """The first was given up; the second is lost, too, and then both show."""
    leave_unknown(project, proxy)
    proxy.always("GET", RUN_LIST, hide("runs"))
    project.run("resolve", "--resubmit")
    proxy.on("POST", RUNS, forward_and_drop)
    assert project.apply().code == 7
    paid = len(project.fake.runs())
    proxy.clear()
    project.run("resolve", "--resubmit")
    for _ in range(2):
        outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == paid == 2


@pytest.mark.parametrize("delivered", [True, False])
def test_again_that_was_interrupted_is_finished_by_the_next_one(
    project: Project, proxy: Proxy, delivered: bool
) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    place = project.folder / "backup"
    hook = after if delivered else before
    proxy.on("POST", RUNS, hook(lambda: keep(project.folder, place, STATE, LOCK), Call.forward if delivered else drop))
    project.apply("--again")
    if not delivered:
        newest = project.fake.runs()[1:]
        assert len(newest) == 1  # found to be lost, and started in the same apply
    bring_back(project.folder, place, STATE, LOCK)
    outcome = project.apply("--again")
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2
    outcome = project.apply("--again")
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_again_that_died_half_way_pays_only_what_is_left(project: Project, proxy: Proxy, nth: int) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 1")
    project.write_files(3)
    assert project.apply().code == 0
    place = project.folder / "backup"
    proxy.on("POST", RUNS, answer_instead(401), nth=nth + 1, times=9)
    proxy.on("POST", RUNS, before(lambda: keep(project.folder, place, STATE, LOCK)), nth=nth)
    project.apply("--again")
    assert len(project.fake.runs()) == 3 + nth
    proxy.clear()
    bring_back(project.folder, place, STATE, LOCK)
    assert project.apply("--again").code == 0
    assert len(project.fake.runs()) == 6


def test_again_whose_answer_is_lost_and_unknown_is_not_paid_three_times(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    assert project.apply().code == 0
    first = project.fake.runs()[0]["id"]
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, hide("runs", lambda run: run["id"] != first))
    assert project.apply("--again").code == 7
    assert project.apply("--again").code == 7
    assert project.apply().code in (0, 7)
    proxy.clear()
    assert project.apply("--again").code == 0
    assert len(project.fake.runs()) == 2


# resolve --adopt RUN


def start_by_hand(proxy: Proxy, batch: int, **settings: Any) -> str:
    body = {"app_name": "Invoice Extraction", "owner": "instabase", "batch_id": batch, "settings": settings}
    return str(proxy.send("POST", RUN_LIST, body).json["id"])


FOREIGN_TAGS: dict[str, Callable[[str], str]] = {
    "somebody's": lambda tag: "theirs",
    "of other files": lambda tag: f"aihub-runner:{64 * '0'}:{tag[-18:]}",
    "of other settings": lambda tag: f"{tag[:-18]}{16 * '0'}:1",
    "of another attempt": lambda tag: f"{tag[:-1]}2",
}


@pytest.mark.parametrize("kind", FOREIGN_TAGS)
@pytest.mark.parametrize("where", ["our batch", "another batch"])
def test_run_that_does_not_carry_our_tag_is_not_adopted(project: Project, proxy: Proxy, kind: str, where: str) -> None:
    run = leave_unknown(project, proxy)
    tag = FOREIGN_TAGS[kind](project.fake.world.runs[run].request["settings"]["tags"][0])
    batch = project.fake.batches()[0]["id"]
    if where == "another batch":
        batch = int(proxy.send("POST", BATCHES, {"name": "theirs"}).json["id"])
        proxy.send("PUT", f"/v2/batches/{batch}/files/theirs.txt", b"of a colleague")
    if (kind, where) == ("somebody's", "our batch"):
        return  # it may be ours, with the tag dropped on the way: that is what a person decides
    other = start_by_hand(proxy, batch, tags=[tag])
    outcome = project.run("resolve", "--adopt", other)
    assert outcome.code != 0, outcome.text
    assert project.run("resolve", "--adopt", run).code == 0
    project.apply()
    assert [line["run_id"] for line in project.documents] == [run]


def test_run_of_other_files_with_our_tag_is_not_adopted(project: Project, proxy: Proxy) -> None:
    """On another person's batch, whose files have other names; the run does not name its batch."""
    leave_unknown(project, proxy)
    tag = next(iter(project.fake.world.runs.values())).request["settings"]["tags"][0]
    batch = int(proxy.send("POST", BATCHES, {"name": "theirs"}).json["id"])
    proxy.send("PUT", f"/v2/batches/{batch}/files/theirs.txt", b"of a colleague")
    other = start_by_hand(proxy, batch, tags=[tag])
    proxy.always("GET", RUN, rewrite(lambda run: run | {"batch_id": None}))
    outcome = project.run("resolve", "--adopt", other)
    assert outcome.code != 0, outcome.text


# Listings that are cut


def cut_at(offset: int, beyond: Act) -> Act:
    return lambda call: beyond(call) if int(call.query.get("offset", ["0"])[0]) >= offset else call.forward()


@pytest.mark.parametrize("status", [400, 404, 413, 416, 422, 500])
def test_listing_that_is_refused_after_a_full_page_proves_nothing(
    project: Project, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("aihub_runner.aihub.client.PAGE", 3)
    project.write_files(1)

    def start_others(call: Call) -> Answer:
        batch = int(proxy.send("POST", BATCHES, {"name": "theirs"}).json["id"])
        proxy.send("PUT", f"/v2/batches/{batch}/files/theirs.txt", b"of a colleague")
        project.fake.clock.advance(1 - project.fake.clock.now_s() % 1)  # all in one second: from there, a list goes on
        for _ in range(4):
            start_by_hand(proxy, batch)
        return call.forward()

    proxy.on("POST", RUNS, lambda call: forward_and_drop(call) if start_others(call) is None else None)
    proxy.always("GET", RUN_LIST, cut_at(3, answer_instead(status)))
    for _ in range(2):
        outcome = project.apply()
        ours = [run for run in project.fake.world.runs.values() if run.files[0].name != "theirs.txt"]
        assert len(ours) == 1, outcome.text
        assert outcome.code in (4, 7), outcome.text
    proxy.clear()
    assert project.apply().code == 0
    assert len([run for run in project.fake.world.runs.values() if run.files[0].name != "theirs.txt"]) == 1


def test_listing_that_lacks_the_newest_run_that_we_know_proves_nothing(project: Project, proxy: Proxy) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 1")
    project.write_files(2)
    proxy.on("POST", RUNS, forward_and_drop, nth=2)
    proxy.always("GET", RUN_LIST, hide("runs"))
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 2)
        assert outcome.code == 7, outcome.text
    proxy.clear()
    project.check_done(2)


def test_ordinary_apply_asks_little(project: Project, proxy: Proxy) -> None:
    """Four lists, of two pages each: of batches and runs before, of batches before the run, of runs at the end.

    And seven requests: create the batch, read it and its files before the first upload, send the file, list the files,
    start the run, fetch its results.
    """
    project.write_files(1)
    assert project.apply().code == 0
    project.write_files(1, start=1)
    before_it = len(proxy.calls)
    assert project.apply().code == 0
    asked = proxy.calls[before_it:]
    assert len(asked) == 4 * 2 + 7, asked
    assert payments(project.fake)
    assert proxy.count("GET", FILES)
    assert proxy.count("GET", RESULTS)
