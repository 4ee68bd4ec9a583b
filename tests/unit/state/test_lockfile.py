"""The lock file: its content for each run, which entries stay, and which text is rejected."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aihub_runner.errors import InputError
from aihub_runner.model import Batch, Member, Run, Shard
from aihub_runner.state.lockfile import HEADER, Entry, load_lockfile, render_lockfile, shard_entries, update_lockfile
from aihub_runner.state.lockfile import _read_plainly as read_plainly

FINGERPRINT, KEY = "a" * 64, "0123456789abcdef"
STARTED = Run(1, 1, KEY, 1, "tag", 1, 5.0, "r", "", "RUNNING", "", 1, 0, {})
OPEN = replace(STARTED, remote_id=None, status="")


def entry(run_id: str = "r", **given: Any) -> Entry:
    facts: dict[str, Any] = {"fingerprint": FINGERPRINT, "target": "t", "run_key": KEY, "batch_id": 7, "attempt": 1}
    return Entry(**(facts | {"run_id": run_id, "status": "COMPLETE"} | given))


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (STARTED, "RUNNING"),
        (replace(STARTED, status=""), "RUNNING"),
        (replace(STARTED, status="COMPLETE"), "COMPLETE"),
        (replace(STARTED, status="FAILED"), "FAILED"),
        (replace(STARTED, is_gone=True), "GONE"),
        (replace(STARTED, is_gone=True, status="COMPLETE"), "COMPLETE"),  # its results were fetched
        (replace(STARTED, is_deleted=True, status="COMPLETE"), "COMPLETE"),  # that is not confirmed
        (replace(STARTED, is_gone=True, is_deleted=True, status="COMPLETE"), "DELETED"),
        (replace(STARTED, is_gone=True, is_deleted=True, status="FAILED"), "DELETED FAILED"),
        (OPEN, "UNKNOWN"),
        (replace(OPEN, refused="402 no units"), "REFUSED"),
        (replace(OPEN, is_given_up=True), "RESUBMITTED"),
    ],
)
def test_entry_tells_the_last_word_about_a_run(run: Run, status: str) -> None:
    batch = Batch(1, "t", "name", 0.0, 7, {})
    shard = Shard(1, FINGERPRINT, (Member("a", "in/a", 1, "sha256:a"),), (batch,), (run,))
    [made] = shard_entries(shard, "app", {run.id: 3})
    assert (made.status, made.run_id, made.batch_id, made.target) == (status, run.remote_id or "", 7, "t")
    assert (made.files, made.documents) == (1, 3)
    assert "in/a" not in render_lockfile([made])


@pytest.mark.parametrize(
    ("when", "seconds"), [("1970-01-02T00:00:01Z", 86_401.0), ("", 0.0), ("yesterday", 0.0), ("1970-01-02", 0.0)]
)
def test_entry_tells_when_its_run_ended_as_far_as_it_can_be_read(when: str, seconds: float) -> None:
    assert entry(when=when).when_s == seconds


@pytest.mark.parametrize(
    ("status", "is_deleted", "last"),
    [("DELETED", True, "COMPLETE"), ("DELETED FAILED", True, "FAILED"), ("FAILED", False, "FAILED"), ("", False, "")],
)
def test_entry_of_a_deleted_run_keeps_its_last_status(status: str, is_deleted: bool, last: str) -> None:
    made = entry(status=status)
    assert (made.is_deleted, made.last_status) == (is_deleted, last)


def test_text_is_the_same_for_entries_in_any_order(tmp_path: Path) -> None:
    entries = [entry("a"), entry("b", attempt=2), entry("c", batch_id=8), entry("d", when="2026-01-01T00:00:00Z")]
    [text] = {render_lockfile(ordered) for ordered in itertools.permutations(entries)}
    path = tmp_path / "job.lock.toml"
    path.write_text(text)
    assert sorted(found.run_id for found in load_lockfile(path)) == ["a", "b", "c", "d"]


RUNNING = entry(status="RUNNING")
UNKNOWN = entry("", status="UNKNOWN")


@pytest.mark.parametrize(
    ("before", "ours", "dismissed", "after"),
    [
        pytest.param([], [], [], None, id="nothing"),
        pytest.param([], [RUNNING], [], [RUNNING], id="a first run"),
        pytest.param([RUNNING], [entry()], [], [entry()], id="the run has ended"),
        pytest.param([entry(batch_id=0)], [entry()], [], [entry()], id="its batch is known now"),
        pytest.param([entry("colleague's", batch_id=9)], [entry()], [], ["r", "colleague's"], id="another batch"),
        pytest.param([entry()], [], [], [entry()], id="a fresh state knows nothing yet"),
        pytest.param([UNKNOWN], [entry()], [], [entry()], id="an unknown run is found"),
        pytest.param([entry()], [UNKNOWN], [], ["", "r"], id="a complete run stays beside our unknown one"),
        pytest.param([entry("failed", status="FAILED")], [entry()], [], [entry()], id="ours is the better twin"),
        pytest.param([entry("theirs")], [entry()], [], [entry()], id="both twins are complete"),
        pytest.param([entry(), entry("x", batch_id=9)], [], ["x"], [entry()], id="one was dismissed by its run"),
        pytest.param([UNKNOWN, entry("x", batch_id=9)], [], [UNKNOWN.tag], ["x"], id="one was dismissed by its tag"),
    ],
)
def test_entries_that_the_state_does_not_know_stay(
    tmp_path: Path, before: list[Entry], ours: list[Entry], dismissed: list[str], after: list[Entry | str] | None
) -> None:
    path = tmp_path / "job.lock.toml"
    if before:
        path.write_text(render_lockfile(before))
    update_lockfile(path, ours, dismissed)
    if after is None:
        assert not path.exists()
    else:
        found = load_lockfile(path)
        ids = sorted(made if isinstance(made, str) else made.run_id for made in after)
        assert sorted(made.run_id for made in found) == ids
        assert all(made in found for made in after if isinstance(made, Entry))


def test_lock_file_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "job.lock.toml"
    update_lockfile(path, [entry()])
    inode = path.stat().st_ino
    update_lockfile(path, [entry()])
    assert path.stat().st_ino == inode  # a file that is replaced has a new one


GOOD = render_lockfile([entry()])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("format = 1", "format = 2"), "has format 2"),
        (GOOD.replace("format = 1\n", ""), "is damaged, format is missing or wrong"),
        ("", "is damaged, format is missing or wrong"),
        ("<<<<<<< ours\n" + GOOD, "is damaged"),
        (GOOD.replace("attempt = 1", "attempt = 0"), "is damaged"),
        (GOOD.replace("batch_id = 7", "batch_id = -7"), "is damaged"),
        (GOOD.replace("batch_id = 7", f"batch_id = {2**63}"), "is damaged"),
        (GOOD.replace('run_key = "', 'run_kye = "'), "is damaged"),
        (GOOD + "extra = 1\n", "is damaged"),
        ("\0", "is damaged"),
    ],
)
def test_lock_file_that_cannot_be_trusted_is_refused_and_left_alone(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "job.lock.toml"
    path.write_text(text)
    for act in (lambda: load_lockfile(path), lambda: update_lockfile(path, [entry()])):
        with pytest.raises(InputError, match=says):
            act()
    assert path.read_text() == text


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n\t\r\x7f='), max_size=8)


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2**63 - 1)), min_size=1, max_size=3))
def test_text_is_plain_toml(facts: list[tuple[str, str, int]]) -> None:
    entries = [entry(str(number), app=app, status=status, files=n) for number, (app, status, n) in enumerate(facts)]
    text = render_lockfile(entries)
    tables = [{key: fact for key, fact in vars(one).items() if fact != ""} for one in entries]
    assert sorted(tomllib.loads(text)["run"], key=str) == sorted(tables, key=str)
    assert text == HEADER + tomli_w.dumps(tomllib.loads(text))


LINES = st.sampled_from(
    [
        'app = "a"',
        "files = 1",
        "files = 01",
        "files = -1",
        "files = 1_0",
        "[[run]]",
        "",
        "# x",
        "app = 'a'",
        'app = """',
        "run = 1",
    ]
)


@settings(max_examples=300)
@example([], ["[[run]]"])
@example(["run = 1", ""], ["[[run]]", "files = 1"])
@given(st.lists(LINES, max_size=3), st.lists(LINES, max_size=6))
@pytest.mark.slow
def test_text_that_anyone_edited_is_read_as_toml(top: list[str], lines: list[str]) -> None:
    text = HEADER + "\n".join(["format = 1", *top, "", "[[run]]", 'app = "b"', *lines, ""])
    plain = read_plainly(text)
    assert plain is None or plain == tomllib.loads(text)
