"""Altered tags, responses about something else, empty ids: a creation counts only if it is about our request."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from support.proxy import (
    BATCHES,
    FILE,
    FILES,
    RUN,
    RUN_LIST,
    RUNS,
    Act,
    Answer,
    Call,
    Proxy,
    answer_instead,
    drop,
    forward_and_drop,
    hide,
    rewrite,
    rewrite_each,
)
from support.world import check_paid_once

from .conftest import Project

pytestmark = pytest.mark.matrix

Change = Callable[[dict[str, Any]], dict[str, Any]]

# Tags


def tags(change: Callable[[list[str]], list[str] | None], **more: Any) -> Change:
    return lambda run: run | {"tags": change(list(run["tags"] or []))} | more


ALTERED: dict[str, Change] = {
    "cut at 64": tags(lambda all: [tag[:64] for tag in all]),
    "cut at 90": tags(lambda all: [tag[:90] for tag in all]),
    "cut at 12": tags(lambda all: [tag[:12] for tag in all]),
    "ours dropped, the user's kept": tags(lambda all: all[1:]),
    "dashes for colons": tags(lambda all: [tag.replace(":", "-") for tag in all]),
    "joined by a comma": tags(lambda all: [",".join(all)]),
    "joined by a blank": tags(lambda all: [" ".join(all)]),
    "upper case": tags(lambda all: [tag.upper() for tag in all]),
    "blanks around": tags(lambda all: [f" {tag} " for tag in all]),
    "quoted": tags(lambda all: [f'"{tag}"' for tag in all]),
    "split at colons": tags(lambda all: [part for tag in all for part in tag.split(":")]),
    "without digits": tags(lambda all: ["".join(c for c in tag if not c.isdigit()) for tag in all]),
    "an empty list": tags(lambda all: []),
    "null": tags(lambda all: None),
    "null, without a batch": tags(lambda all: None, batch_id=None),
    "an empty list, without a batch": tags(lambda all: [], batch_id=None),
    "cut, without a batch": tags(lambda all: [tag[:64] for tag in all], batch_id=None),
    "the user's, without a batch": tags(lambda all: all[1:], batch_id=None),
    "as they are, without a batch": tags(lambda all: all, batch_id=None),
}


@pytest.mark.parametrize("kind", ALTERED)
@pytest.mark.parametrize("user_tags", ["", 'tags = ["mine"]'])
def test_lost_run_whose_tags_are_altered_is_paid_once(
    project: Project, proxy: Proxy, kind: str, user_tags: str
) -> None:
    project.write_files(1)
    project.change_spec("[limits]", f"[run]\n{user_tags}\n[limits]")
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", ALTERED[kind]))
    proxy.always("GET", RUN, rewrite(ALTERED[kind]))
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 1)
        assert outcome.code in (0, 7), outcome.text
    proxy.clear()
    project.check_done(1)


@pytest.mark.parametrize("kind", ["cut at 64", "null", "null, without a batch", "dashes for colons"])
def test_lost_run_whose_tags_are_altered_and_whose_state_is_gone_is_paid_once(
    project: Project, proxy: Proxy, kind: str
) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    for name in ("job.state.db", "job.lock.toml"):
        (project.folder / name).unlink()
    proxy.always("GET", RUN_LIST, rewrite_each("runs", ALTERED[kind]))
    proxy.always("GET", RUN, rewrite(ALTERED[kind]))
    for option in ((), ("--adopt",), ()):
        outcome = project.apply(*option)
        check_paid_once(project.fake, 1)
        assert outcome.code == 7, outcome.text


def somebody_elses(batch_id: int | None, **more: Any) -> dict[str, Any]:
    started = 1_000_000_000 * 1_000_000_000
    return {"id": "others-run", "status": "COMPLETE", "start_timestamp": started, "batch_id": batch_id, **more}


@pytest.mark.parametrize(
    "other",
    [
        somebody_elses(77, tags=["theirs"]),
        somebody_elses(77, tags=None),
        somebody_elses(None, tags=None, start_timestamp=1_000_000_000),  # of long before our batch was made
    ],
)
def test_runs_of_others_make_nothing_unsure(project: Project, proxy: Proxy, other: dict[str, Any]) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, drop)
    proxy.always("GET", RUN_LIST, once_more(other))
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)


def once_more(entry: dict[str, Any]) -> Act:
    """Put an entry before the others, on the first page."""

    def act(call: Call) -> Answer:
        answer = call.forward()
        first = call.query.get("offset", ["0"]) == ["0"]
        return answer.with_json({"runs": [entry, *answer.json["runs"]]}) if first else answer

    return act


# A creating POST is answered about something else


def colleagues_batch(proxy: Proxy, name: str = "theirs", files: int = 1) -> int:
    made = int(proxy.send("POST", BATCHES, {"name": name}).json["id"])
    for number in range(files):
        proxy.send("PUT", f"/v2/batches/{made}/files/theirs-{number}.txt", b"of a colleague")
    return made


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("files", [0, 1])
@pytest.mark.parametrize("name", ["theirs", "job", "job-" + 64 * "0"])
def test_batch_answered_with_a_colleagues_is_left_alone(
    project: Project, proxy: Proxy, delivered: bool, files: int, name: str
) -> None:
    theirs = colleagues_batch(proxy, name, files)
    before = project.fake.files(theirs)
    project.write_files(2)

    def act(call: Call) -> Answer:
        answer = call.forward() if delivered else Answer(200)
        return answer.with_json({"id": theirs})

    proxy.on("POST", BATCHES, act)
    project.apply()
    assert project.fake.files(theirs) == before
    assert all(int(run["batch_id"]) != theirs for run in project.fake.runs())
    proxy.clear()
    project.check_done(2)
    assert project.fake.files(theirs) == before
    assert project.fake.ledger["deletions"] == {}


@pytest.mark.parametrize("is_done", [True, False])
def test_batch_answered_with_an_earlier_one_of_our_own_is_not_used_twice(
    project: Project, proxy: Proxy, is_done: bool
) -> None:
    project.write_files(1)
    if not is_done:
        proxy.on("POST", RUNS, answer_instead(400))
    project.apply()
    first = project.fake.batches()[0]["id"]
    before = project.fake.files(first)
    project.write_files(2, start=1)
    proxy.on("POST", BATCHES, rewrite(lambda answer: {"id": first}), times=3)
    project.apply()
    assert project.fake.files(first).items() >= before.items()
    proxy.clear()
    project.check_done(3)


@pytest.mark.parametrize("early", [True, False])
def test_file_that_somebody_put_into_our_batch_is_not_deleted(project: Project, proxy: Proxy, early: bool) -> None:
    project.write_files(2)

    def put(call: Call) -> Answer:
        if not early and not proxy.count("PUT", FILE):
            return call.forward()
        proxy.send("PUT", f"{call.path}/theirs.txt", b"of a colleague")
        return call.forward()

    proxy.always("GET", FILES, put)
    outcome = project.apply()
    assert project.fake.ledger["deletions"] == {}
    assert "theirs.txt" in project.fake.files(project.fake.batches()[-1]["id"])
    assert outcome.code != 0, outcome.text


def test_file_that_we_sent_ourselves_and_that_went_is_deleted(project: Project, proxy: Proxy) -> None:
    project.write_files(2)
    proxy.on("GET", FILES, answer_instead(400))
    assert project.apply().code == 4
    (project.folder / "in/00001.txt").unlink()
    project.check_done(1)


OTHERS_RUN: dict[str, Change] = {
    "another's run": lambda run: run | {"id": "others-run", "batch_id": 77, "tags": ["theirs"]},
    "another's tag": lambda run: run | {"tags": ["aihub-runner:" + 64 * "0" + ":" + 16 * "0" + ":1"]},
    "another's batch": lambda run: run | {"batch_id": 77},
    "another attempt": lambda run: run | {"tags": [tag[:-1] + "9" for tag in run["tags"]]},
    "an empty id": lambda run: run | {"id": "", "status": ""},
    "only empty": lambda run: {"id": "", "status": ""},
    "a null id": lambda run: run | {"id": None},
    "a number for an id": lambda run: run | {"id": 12},
    "no id": lambda run: {key: value for key, value in run.items() if key != "id"},
    "an id of blanks": lambda run: run | {"id": "  "},
    "nothing": lambda run: {},
    "in an envelope": lambda run: {"data": run},
    "a list": lambda run: {"runs": [run]},
}


@pytest.mark.parametrize("kind", OTHERS_RUN)
def test_start_answered_about_something_else_is_paid_once(project: Project, proxy: Proxy, kind: str) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, rewrite(OTHERS_RUN[kind]))
    project.apply()
    check_paid_once(project.fake, 1)
    project.check_done(1)
    assert [line["run_id"] for line in project.documents] == [project.fake.runs()[0]["id"]]


def test_start_answered_with_an_earlier_answer_of_our_own_is_paid_once(project: Project, proxy: Proxy) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 1")
    project.write_files(3)
    answers: list[Answer] = []

    def replay(call: Call) -> Answer:
        answers.append(call.forward())
        return answers[0]

    proxy.on("POST", RUNS, replay, times=3)
    project.apply()
    check_paid_once(project.fake)
    project.check_done(3)
    ran = {run["id"]: int(run["batch_id"]) for run in project.fake.runs()}
    for line in project.documents:
        assert line["path"].removeprefix("in/") in project.fake.files(ran[line["run_id"]])


@pytest.mark.parametrize("missing", ["tags", "batch_id"])
@pytest.mark.parametrize("value", ["null", "absent"])
def test_start_whose_answer_says_less_is_believed(project: Project, proxy: Proxy, missing: str, value: str) -> None:
    def less(run: dict[str, Any]) -> dict[str, Any]:
        rest = {key: kept for key, kept in run.items() if key != missing}
        return rest | {missing: None} if value == "null" else rest

    project.write_files(1)
    proxy.on("POST", RUNS, rewrite(less))
    proxy.always("GET", RUN, rewrite(less))
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)


# Empty ids


@pytest.mark.parametrize("made", [0, -1, "", "0", None, True, [], {}, 1.5, "x", 10**30])
def test_batch_without_an_id_that_is_one_is_made_good(project: Project, proxy: Proxy, made: object) -> None:
    project.write_files(1)
    proxy.on("POST", BATCHES, rewrite(lambda answer: {"id": made}))
    project.apply()
    project.check_done(1)


def test_empty_id_that_was_recorded_counts_as_open(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    db = sqlite3.connect(project.folder / "job.state.db")
    db.execute("UPDATE runs SET remote_id = '', status = ''")
    db.commit()
    db.close()
    (project.folder / "job.lock.toml").unlink()
    project.check_done(1)


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("kind", ["an empty id", "only empty", "another's run"])
@pytest.mark.slow
def test_entry_without_an_id_in_a_listing_is_nobodys(project: Project, proxy: Proxy, kind: str) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, forward_and_drop)
    proxy.on("GET", RUN_LIST, rewrite_each("runs", OTHERS_RUN[kind]), times=4)
    outcome = project.apply()
    check_paid_once(project.fake, 1)
    assert outcome.code in (0, 4, 7), outcome.text
    proxy.clear()
    project.check_done(1)


# A twin's batch


@pytest.mark.parametrize("change", ["removed", "changed", "as it is"])
@pytest.mark.parametrize("delivered", [True, False])
def test_batch_of_a_twin_is_not_taken_for_ours(project: Project, proxy: Proxy, change: str, delivered: bool) -> None:
    """Two states, one name: the other has its batch and its files, and has not come to pay for them yet."""
    project.write_files(2)
    other = project.clone("other")
    proxy.on("POST", RUNS, answer_instead(400))
    assert other.apply().code == 4
    theirs = project.fake.batches()[0]["id"]
    before = project.fake.files(theirs)
    proxy.on("POST", BATCHES, forward_and_drop if delivered else drop)
    proxy.on("POST", RUNS, answer_instead(400))
    project.apply()
    if change == "removed":
        (project.folder / "in/00001.txt").unlink()
    elif change == "changed":
        project.write("in/00001.txt", "changed in this clone")
    for _ in range(2):
        project.apply()
    assert project.fake.ledger["deletions"] == {}
    assert project.fake.files(theirs) == before
    check_paid_once(project.fake)


@pytest.mark.parametrize("files", [1, 2])
def test_start_answered_with_an_id_that_does_not_exist_is_made_good(project: Project, proxy: Proxy, files: int) -> None:
    """The list shows the run under its own id, by its tag: what is printed imports it, and pays nothing."""
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(files)
    proxy.on("POST", RUNS, rewrite(lambda answer: answer | {"id": "no-such-run"}))
    outcome = project.apply()
    assert (outcome.code, "to run them again, which is paid, pass --retry-failed" in outcome.out) == (3, True)
    assert "is not recorded here and was paid for too" in outcome.out
    outcome = project.apply("--retry-failed")
    assert "matches this work; imported" in outcome.err
    assert project.apply().code == 0
    check_paid_once(project.fake, files)
    assert len(project.documents) == files


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.slow
def test_start_answered_for_nothing_can_be_paid_for_by_command(project: Project, proxy: Proxy, is_listed: bool) -> None:
    """No run was started. Where the list shows no other run either, it proves nothing, so that a person decides."""
    project.write_files(1)
    if is_listed:
        assert project.apply().code == 0
        project.write_files(1, start=1)
    proxy.on("POST", RUNS, answer_instead(200, {"id": "no-such-run", "status": "RUNNING"}))
    outcome = project.apply()
    assert outcome.code == (3 if is_listed else 4), outcome.text
    if not is_listed:
        assert "decide with `runner resolve`" in outcome.err
        asked = project.run("resolve")
        assert (asked.code, "run no-such-run on batch 1001: returned 404" in asked.out) == (7, True)
        told = project.run("resolve", "--resubmit")
        assert (told.code, "will be paid for with --retry-failed" in told.out) == (0, True)
        assert project.run("resolve").out == "nothing is unconfirmed\n"
        outcome = project.apply()
    assert (outcome.code, "pass --retry-failed" in outcome.out) == (3, True), outcome.text
    assert project.apply("--retry-failed").code == 0
    assert project.apply().code == 0
    check_paid_once(project.fake, 1 + is_listed)


def test_run_of_a_wrong_id_that_shows_meanwhile_is_not_given_up(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, rewrite(lambda answer: answer | {"id": "no-such-run"}))
    proxy.always("GET", RUN_LIST, hide("runs"))
    assert project.apply().code == 4
    proxy.clear()
    told = project.run("resolve", "--resubmit")
    assert (told.code, "a run with the tag of run no-such-run exists" in told.err) == (2, True), told.text
    assert project.apply().code == 3
    assert project.apply("--retry-failed").code == 0
    check_paid_once(project.fake, 1)
