"""Attacks on the promise to pay once: half-hidden entries, nonsense, work of a colleague, merged lock files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.proxy import (
    BATCH,
    BATCHES,
    FILES,
    RUN,
    RUN_LIST,
    RUNS,
    Answer,
    Call,
    Proxy,
    answer_instead,
    forward_and_drop,
    forward_then,
    hide,
    meet,
    rewrite,
    rewrite_each,
)
from support.world import bring_back, check_paid_once, keep, lose

from .conftest import Project
from .test_paid_once_together import apply_at_once

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"
DAY_MS = 86_400_000


# Times that mean something else


NONSENSE: dict[str, Callable[[int], Any]] = {
    "negative": lambda made: -made,
    "zero": lambda made: 0,
    "one": lambda made: 1,
    "huge": lambda made: 2**62,
    "larger than any number": lambda made: 2**63,
    "a word": lambda made: "now",
    "a fraction": lambda made: 1.5,
    "a flag": lambda made: True,
    "nothing": lambda made: None,
    "in seconds": lambda made: made // 1000,
    "in microseconds": lambda made: made * 1000,
    "in nanoseconds": lambda made: made * 1_000_000,
    "in two days": lambda made: made + 2 * DAY_MS,
    "in a year": lambda made: made + 400 * DAY_MS,
    "hours ahead": lambda made: made + DAY_MS // 2,
}


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("shown", ["as they are", "without tags and batch"])
def test_batch_that_says_nonsense_of_when_it_was_made_pays_once(
    project: Project, proxy: Proxy, kind: str, shown: str
) -> None:
    project.write_files(1)
    proxy.always("GET", BATCH, rewrite(lambda batch: batch | {"created_at_ms": NONSENSE[kind](batch["created_at_ms"])}))
    if shown != "as they are":
        proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | {"tags": None, "batch_id": None}))
    proxy.on("POST", RUNS, forward_and_drop)
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 1)
    assert outcome.code in (0, 7), outcome.text


# Tags that look like another one of ours


REDACTED: dict[str, Callable[[list[str]], list[str]]] = {
    "fingerprint": lambda parts: [parts[0], "***", *parts[2:]],
    "all": lambda parts: [parts[0], "***", "***", parts[3]],
    "key": lambda parts: [*parts[:2], "…", parts[3]],
    "attempt": lambda parts: [*parts[:3], "0"],
    "attempt padded": lambda parts: [*parts[:3], "01"],
    "hex in upper case": lambda parts: [parts[0], parts[1].upper(), parts[2].upper(), parts[3]],
    "fingerprint cut": lambda parts: [parts[0], parts[1][:32], *parts[2:]],
}


@pytest.mark.parametrize("kind", REDACTED)
@pytest.mark.parametrize("restored", [False, True])
def test_run_whose_tag_is_partly_hidden_is_paid_once(project: Project, proxy: Proxy, kind: str, restored: bool) -> None:
    def change(run: dict[str, Any]) -> dict[str, Any]:
        return run | {"tags": [":".join(REDACTED[kind](tag.split(":"))) for tag in run["tags"]]}

    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, project.folder / "backup", STATE, LOCK)
    project.write_files(1, start=1)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", change))
    proxy.always("GET", RUN, rewrite(change))
    if restored:
        proxy.clear()
        assert project.apply().code == 0
        bring_back(project.folder, project.folder / "backup", STATE, LOCK)
        proxy.always("GET", RUN_LIST, rewrite_each("runs", change))
    else:
        proxy.on("POST", RUNS, forward_and_drop)
    for _ in range(2):
        outcome = project.apply("--refetch")
        check_paid_once(project.fake, 2)
        assert outcome.code in (0, 7), outcome.text


ALTERED: dict[str, dict[str, Any]] = {
    "null, without a batch": {"tags": None, "batch_id": None},
    "theirs, without a batch": {"tags": ["mine"], "batch_id": None},
    "null": {"tags": None},
    "empty, batch of 0": {"tags": [], "batch_id": 0},
}


@pytest.mark.parametrize("kind", ALTERED)
@pytest.mark.slow
def test_restored_state_beside_runs_that_say_nothing_pays_once(project: Project, proxy: Proxy, kind: str) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, project.folder / "backup", STATE, LOCK)
    project.write_files(1, start=1)
    assert project.apply().code == 0
    bring_back(project.folder, project.folder / "backup", STATE, LOCK)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", lambda run: run | ALTERED[kind]))
    proxy.always("GET", RUN, rewrite(lambda run: run | ALTERED[kind]))
    for options in ((), ("--adopt",)):
        outcome = project.apply("--refetch", *options)
        check_paid_once(project.fake, 2)
        assert outcome.code == 7, outcome.text
    proxy.clear()
    project.apply("--adopt")
    project.check_done(2, refetch=True)


# A colleague did it meanwhile


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("status", [403, 409, 429])
@pytest.mark.parametrize("grouping", ["the same", "another"])
@pytest.mark.slow
def test_refused_start_that_a_colleague_paid_for_by_now_is_not_paid_again(
    project: Project, proxy: Proxy, status: int, grouping: str
) -> None:
    project.write_files(2)
    other = project.clone("other")
    proxy.on("POST", RUNS, answer_instead(status), times=40)
    project.apply("--wait-timeout", "0s")
    proxy.clear()
    if grouping == "another":
        other.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    for options in ((), ("--again",)):
        if other.apply(*options).code == 0:
            break
    check_paid_once(project.fake, 2)
    (project.folder / LOCK).write_bytes((other.folder / LOCK).read_bytes())  # pulled
    for _ in range(3):
        outcome = project.apply()
        check_paid_once(project.fake, 2)
    assert outcome.code == 0, outcome.text


@pytest.mark.parametrize("known", [True, False])
def test_two_open_intents_for_one_file_are_paid_once(project: Project, proxy: Proxy, known: bool) -> None:
    """Both clones were refused; the one pulls the other's lock file, where the units are there again."""
    project.write_files(1)
    other = project.clone("other")
    proxy.on("POST", RUNS, answer_instead(403), times=2)
    project.apply()
    assert other.apply("--again").code == 4
    proxy.clear()
    (project.folder / LOCK).write_bytes((other.folder / LOCK).read_bytes())
    if not known:
        lose(project.folder, STATE)
    for options in ((), (), ("--again",)):
        outcome = project.apply(*options)
        check_paid_once(project.fake, 1)
        if outcome.code == 0:
            break
    assert outcome.code == 0, outcome.text


@pytest.mark.slow
def test_clones_at_once_tell_files_of_one_name_and_content_apart(project: Project, proxy: Proxy) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    for folder in "abc":
        project.write(f"in/{folder}/same.txt", "the same everywhere")
    other = project.clone("other")
    proxy.on("POST", BATCHES, meet(2, timeout_s=3), times=6)
    ended = apply_at_once(project, other)
    assert {code for code, _ in ended} <= {0, 7}, ended
    assert len(project.fake.runs()) <= 3, ended
    proxy.clear()
    for each in (project, other):
        for options in ((), ("--adopt",), ()):
            outcome = each.apply(*options)
        assert len(project.fake.runs()) == 3, outcome.text
        assert outcome.code == 0, outcome.text


def test_twins_run_that_shows_after_our_own_start_was_refused_is_fetched(project: Project, proxy: Proxy) -> None:
    """The older batch of the other clone shows late: our own start was tried, and refused by then."""
    project.write_files(1)
    other = project.clone("other")
    proxy.on("POST", RUNS, answer_instead(400))
    assert other.apply().code == 4
    theirs = project.fake.batches()[0]["id"]
    proxy.always("GET", BATCHES, hide("batches", lambda batch: batch["id"] == theirs))
    proxy.on("POST", RUNS, answer_instead(403))
    assert project.apply().code == 4
    proxy.clear()
    proxy.on("GET", "/v2/batches/.*/files", lambda call: (other.apply(), call.forward())[1])
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 1)
    assert outcome.code in (0, 7), outcome.text
    project.apply("--adopt")
    project.check_done(1)


# Lock files


@pytest.mark.parametrize("known", [0, 1])
@pytest.mark.parametrize("end", ["CANCELLED", "FAILED"])
def test_fresh_clone_prefers_the_complete_one_of_twins_in_the_lock_file(
    project: Project, proxy: Proxy, known: int, end: str
) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, lambda call: (call.forward(), call.forward())[known])
    project.apply()
    runs = [run["id"] for run in project.fake.runs()]
    project.fake.set_run(runs[1 - known], status=end)
    lose(project.folder, STATE, LOCK)
    project.apply("--adopt")
    text = (project.folder / LOCK).read_text()
    other = project.clone("other")
    if runs[1 - known] not in text:
        head, entry = text.split("[[run]]", 1)
        twin = entry.replace(runs[known], runs[1 - known]).replace("COMPLETE", end)
        (other.folder / LOCK).write_text(f"{head}[[run]]{entry}\n[[run]]{twin}")
    outcome = other.apply()
    assert outcome.code == 0, outcome.text
    other.apply("--retry-failed")
    assert len(project.fake.runs()) == 2
    assert {line["run_id"] for line in other.documents} == {runs[known]}


@pytest.mark.parametrize("how", ["conflict", "run = 5", "garbage", "twice", "huge attempt", "negative batch", "bytes"])
def test_lock_file_that_was_merged_badly_pays_nothing_again(project: Project, how: str) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    lose(project.folder, STATE)
    path = project.folder / LOCK
    text = path.read_text()
    head, entry = text.split("[[run]]", 1)
    texts = {
        "conflict": f"{head}<<<<<<< HEAD\n[[run]]{entry}=======\n>>>>>>> theirs\n",
        "run = 5": "format = 1\nrun = 5\n",
        "garbage": "\0\0",
        "twice": f"{head}[[run]]{entry}\n[[run]]{entry}",
        "huge attempt": text.replace("attempt = 1", f"attempt = {2**70}"),
        "negative batch": text.replace("batch_id = ", "batch_id = -"),
        "bytes": text,
    }
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") if how == "bytes" else texts[how].encode())
    outcome = project.apply()
    assert outcome.code == (0 if how == "twice" else outcome.code), outcome.text
    assert outcome.code in (0, 2, 7), outcome.text
    check_paid_once(project.fake, 1)


def test_lock_file_that_is_damaged_while_it_is_paid_does_not_end_in_nothing_was_sent(
    project: Project, proxy: Proxy
) -> None:
    project.write_files(1)

    def damage(call: Call) -> Answer:
        project.write(LOCK, "<<<<<<< HEAD\n")
        return call.forward()

    proxy.on("POST", RUNS, damage)
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert len(project.documents) == 1
    (project.folder / LOCK).unlink()
    project.check_done(1)


# Answers to a start that are odd


@pytest.mark.parametrize(
    "location", ["http://[bad", "//[", "\xff\xfe", "http://\x80", "ftp://x", "", "http://a:99999/", "/\u20ac"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_start_redirected_to_nowhere_is_paid_once(project: Project, proxy: Proxy, location: str, status: int) -> None:
    project.write_files(1)
    where = location.encode().decode("latin-1")
    proxy.on("POST", RUNS, forward_then(status, Location=where))
    outcome = project.apply()
    assert outcome.code in (0, 4, 7), outcome.text
    project.check_done(1)


@pytest.mark.parametrize("wait", ["1e9", "nan", "-5", "inf", "Fri, 31 Dec 9999 23:59:59 GMT", "soon", "3600"])
def test_service_that_wants_patience_without_end_does_not_hold_us(project: Project, proxy: Proxy, wait: str) -> None:
    project.write_files(1)
    proxy.on("POST", RUNS, answer_instead(429, **{"Retry_After": wait}), times=3)
    process = project.start("apply", "job.toml", "--wait-timeout", "1s")
    try:
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode in (0, 4, 6)
    check_paid_once(project.fake)


# Ids that come again


@pytest.mark.parametrize("change", ["removed", "as it is"])
def test_batch_whose_id_is_another_ones_by_now_is_left_alone(project: Project, proxy: Proxy, change: str) -> None:
    """Our open batch was deleted, and the service gave its id to a colleague's, who has a file of the same name."""
    project.write_files(2)
    proxy.on("GET", FILES, answer_instead(401), nth=2)
    project.apply()
    ours = project.fake.batches()[0]["id"]
    world = project.fake.world
    assert len(project.fake.files(ours)) == 2
    batch = world.batches[ours]
    batch.name = "a colleague's"
    if change == "removed":
        (project.folder / "in/00001.txt").unlink()
    before = project.fake.files(ours)
    for _ in range(2):
        outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.files(ours) == before
    assert all(run.request["batch_id"] != ours for run in world.runs.values())
    assert project.fake.ledger["deletions"] == {}
