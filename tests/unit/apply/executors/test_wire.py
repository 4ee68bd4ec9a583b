from __future__ import annotations

import os

import msgspec
import pytest
from msgspec import structs

from aihub_runner.apply.executors.wire import (
    Answer,
    Place,
    Tried,
    begin_here,
    decode_answer,
    decode_task,
    encode_answer,
    encode_task,
)
from aihub_runner.apply.tasks.upload import SendFile, SendPlanned
from aihub_runner.errors import ServiceError
from aihub_runner.model import Member

PLACE = Place("j", "https://hub.example/api", "acme", "", 10.0, 120.0)
MEMBER = Member("a.txt", "in/ä.txt", 1, "sha256:a", "AIHUB_SECRET_PDF")
STEP = SendFile(1, 2, 7, "w", MEMBER, "in/ä.txt", 10**6, 105.0, True)


def test_task_travels_with_absolute_paths_and_without_names_of_secrets() -> None:
    task = decode_task(encode_task(PLACE, 12.5, {"p": 1.25}, [STEP], 100.0))
    assert (task.place, task.deadline_s, task.clocks) == (PLACE, 12.5, {"p": 1.25})
    (step,) = task.steps
    assert type(step) is SendPlanned
    assert step.path == os.path.abspath("in/ä.txt")
    assert step.member == structs.replace(MEMBER, password="")
    assert (step.batch, step.remote_id, step.workspace, step.is_older) == (2, 7, "w", True)
    assert step.young_until_s == 5.0


def test_path_elsewhere_stays_as_it_is() -> None:
    step = structs.replace(STEP, path="s3://bucket/a.txt")
    assert decode_task(encode_task(PLACE, 1.0, {}, [step], 0.0)).steps[0].path == "s3://bucket/a.txt"


def test_times_are_by_the_clock_of_the_worker() -> None:
    task = decode_task(encode_task(PLACE, 1.0, {}, [structs.replace(STEP, young_until_s=0.0)], 100.0))
    assert task.steps[0].young_until_s == 0.0
    before_s = begin_here(task.steps[0]).young_until_s
    assert begin_here(structs.replace(task.steps[0], young_until_s=50.0)).young_until_s - before_s >= 50.0


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode({"version": "0", "task": b""})])
def test_task_of_another_version_is_refused(data: bytes) -> None:
    with pytest.raises(ServiceError) as raised:
        decode_task(data)
    assert "same version" in raised.value.hint


def test_answer_travels_and_anything_else_is_refused() -> None:
    answer = Answer("p", "tcp://w", 5.0, (Tried("sent"), Tried("again", "no", status=502)), "fault")
    assert decode_answer(encode_answer(answer)) == answer
    for data in (b"nonsense", "text", None):
        with pytest.raises(ServiceError):
            decode_answer(data)  # type: ignore[arg-type]
