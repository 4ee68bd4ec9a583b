"""A worker sends the planned bytes before the deadline, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from aihub_runner.apply.executors import worker
from aihub_runner.apply.executors.wire import Answer, Place, decode_answer, encode_task
from aihub_runner.apply.tasks.upload import IN_MEMORY_BYTES, SendFile
from aihub_runner.model import MB, Member
from aihub_runner.system.moment import awake_and_asleep_s
from fake_aihub import FakeAIHub

TOKEN = "fake-of-the-worker"
THRESHOLD = MB


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAIHub]:
    with FakeAIHub(part_size=MB // 2) as made:
        monkeypatch.setenv("AIHUB_API_KEY", TOKEN)
        monkeypatch.setenv("AIHUB_API_ROOT", made.root)
        yield made


def place_of(fake: FakeAIHub) -> Place:
    return Place("job of a test", fake.root, "acme", "", 5.0, 10.0)


def do(
    fake: FakeAIHub, *steps: SendFile, left_s: float = 30.0, ahead_s: float = 0.0, process: str = worker.PROCESS
) -> Answer:
    """Do a task whose deadline is in `left_s` seconds, by a clock that is ahead of ours by `ahead_s`."""
    deadline_s = awake_and_asleep_s() + ahead_s + left_s
    data = encode_task(place_of(fake), deadline_s, {process: ahead_s}, steps, 0.0)
    return decode_answer(worker.send_files(data))


def make_batch(fake: FakeAIHub) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}", "IB-Context": "acme"}
    return int(requests.post(f"{fake.root}/v2/batches", json={"name": "b"}, headers=headers).json()["id"])


def step_for(batch: int, path: Path, planned: bytes | None = None) -> SendFile:
    data = path.read_bytes() if planned is None else planned
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    return SendFile(1, 1, batch, "", Member(path.name, path.name, len(data), digest), str(path), THRESHOLD, 0.0)


def write(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(b"x" * size)
    return path


SIZES = [10, IN_MEMORY_BYTES + 1, THRESHOLD + 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ahead_s", [5000.0, -5000.0])
def test_worker_sends_what_was_planned(fake: FakeAIHub, tmp_path: Path, size: int, ahead_s: float) -> None:
    batch = make_batch(fake)
    step = step_for(batch, write(tmp_path, "a.txt", size))
    assert [one.kind for one in do(fake, step, ahead_s=ahead_s).tried] == ["sent"]
    assert fake.files(batch) == {"a.txt": step.member.digest.removeprefix("sha256:")}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("changed", ["same size", "longer", "gone"])
def test_worker_puts_nothing_else_into_the_batch(fake: FakeAIHub, tmp_path: Path, size: int, changed: str) -> None:
    batch = make_batch(fake)
    path = write(tmp_path, "a.txt", size)
    step = step_for(batch, path, b"y" * size if changed == "same size" else b"x" * (size - 1))
    if changed == "gone":
        path.unlink()
    assert [one.kind for one in do(fake, step).tried] == ["here"]
    assert fake.files(batch) == {}


@pytest.mark.parametrize("left_s", [0.0, -1.0])
@pytest.mark.parametrize("ahead_s", [3000.0, -3000.0])
def test_worker_sends_nothing_after_the_deadline(
    fake: FakeAIHub, tmp_path: Path, left_s: float, ahead_s: float
) -> None:
    batch = make_batch(fake)
    answer = do(fake, step_for(batch, write(tmp_path, "a.txt", 10)), left_s=left_s, ahead_s=ahead_s)
    assert (answer.why, answer.tried) == ("late", ())
    assert fake.files(batch) == {}


def test_process_whose_clock_is_not_known_sends_nothing(fake: FakeAIHub, tmp_path: Path) -> None:
    batch = make_batch(fake)
    answer = do(fake, step_for(batch, write(tmp_path, "a.txt", 10)), process="another")
    assert (answer.why, answer.process) == ("clock", worker.PROCESS)
    assert fake.files(batch) == {}


@pytest.mark.slow
def test_deadline_ends_a_body_in_the_middle(fake: FakeAIHub, tmp_path: Path) -> None:
    batch = make_batch(fake)
    fake.faults.add(operation="addFileToBatch", do="stall", seconds=1.5)
    answer = do(fake, step_for(batch, write(tmp_path, "a.txt", IN_MEMORY_BYTES + 1)), left_s=0.3)
    assert (answer.why, answer.tried) == ("late", ())


def test_worker_leaves_a_refusal_for_now_to_the_coordinator(fake: FakeAIHub, tmp_path: Path) -> None:
    batch = make_batch(fake)
    fake.faults.add(
        operation="addFileToBatch",
        nth=2,
        do="status",
        status=429,
        headers={"Retry-After": "7"},
        body='{"message": "no"}',
    )
    steps = [step_for(batch, write(tmp_path, f"{name}.txt", 10)) for name in "abc"]
    answer = do(fake, *steps)
    assert (answer.why, answer.wait_s, len(answer.tried)) == ("pressed", 7.0, 1)
    assert set(fake.files(batch)) == {"a.txt"}


def test_worker_rests_as_long_as_any_refusal_asks_and_begins_no_file(
    fake: FakeAIHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(fake)
    monkeypatch.setattr(worker, "_rest_until_s", 0.0)
    worker.rest(60.0)
    worker.rest(0.0)
    answer = do(fake, step_for(batch, write(tmp_path, "a.txt", 10)))
    assert (answer.why, answer.tried) == ("rest", ())
    assert fake.files(batch) == {}


def test_worker_never_sends_its_token_to_another_root(
    fake: FakeAIHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIHUB_API_ROOT", "https://hub.example/api")
    answer = decode_answer(
        worker.send_files(
            encode_task(
                Place("other", fake.root, "acme", "", 5.0, 10.0),
                awake_and_asleep_s() + 30,
                {worker.PROCESS: 0.0},
                [step_for(7, write(tmp_path, "a.txt", 10))],
                0.0,
            )
        )
    )
    assert "https://hub.example/api" in answer.refusal
    assert fake.journal == []


def test_what_a_worker_cannot_do_is_an_answer_and_no_traceback() -> None:
    answer = decode_answer(worker.send_files(b"nonsense"))
    assert answer.refusal
    assert answer.hint
