"""What travels between the coordinator and the workers of a cluster: plain values, as bytes.

No code, no client and no token travels. Times of a task are by the coordinator's clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from msgspec import DecodeError, Struct, ValidationError, msgpack, structs

from aihub_runner.apply.tasks.upload import SendFile, SendPlanned
from aihub_runner.errors import ServiceError
from aihub_runner.model import Stat
from aihub_runner.spec.urls import is_url
from aihub_runner.version import VERSION


class Place(Struct, frozen=True):
    """Where files are sent. Workers have a token for the root of their own; `target` says how its variable is named.

    `job` tells one apply from another.
    """

    job: str
    root: str
    context: str
    target: str
    connect_timeout_s: float
    read_timeout_s: float


class Task(Struct, frozen=True):
    """Files to send before `deadline_s`.

    `clocks` maps each process that may do it to seconds: its clock and these together are never behind the clock of the
    coordinator. A process that is not among them sends nothing. `steps` hold in `young_until_s` how many seconds a 404
    proves nothing.
    """

    place: Place
    deadline_s: float
    clocks: Mapping[str, float]
    steps: tuple[SendPlanned, ...]


class Tried(Struct, frozen=True):
    """What came of one file: `kind` is `sent`, `here`, `again`, `gone`, `refused` or `failed`; `detail` says why.

    `digest` and `stat` are those of a file that was sent; see `Sent`.
    """

    kind: str
    detail: str = ""
    hint: str = ""
    status: int = 0
    is_transient: bool = False
    digest: str = ""
    stat: Stat | None = None


class Repeated(Struct, frozen=True):
    """A request that a worker repeated after a wait."""

    message: str
    status: int
    wait_s: float


class Answer(Struct, frozen=True):
    """What a worker did: what came of the first files of a task. The others were not begun.

    `why` says why not: `clock`, its clock is not known; `late`, the deadline passed; `pressed`, the service asked to
    wait `wait_s`; `rest`, it asked another worker to; `fault`, the last file may be sent by another worker. `refusal`
    and `hint` say why the worker does nothing at all. `clock_s` is its clock at the end.
    """

    process: str
    worker: str
    clock_s: float
    tried: tuple[Tried, ...] = ()
    why: str = ""
    wait_s: float | None = None
    pressure: str = ""
    status: int = 0
    repeated: tuple[Repeated, ...] = ()
    refusal: str = ""
    hint: str = ""


class _Envelope(Struct, frozen=True):
    version: str
    task: bytes


def encode_task(
    place: Place, deadline_s: float, clocks: Mapping[str, float], steps: Sequence[SendFile], now_s: float
) -> bytes:
    """Return a task as bytes. `now_s` is the monotonic time."""
    task = Task(place, deadline_s, clocks, tuple(_as_planned(step, now_s) for step in steps))
    return msgpack.encode(_Envelope(VERSION, msgpack.encode(task)))


def _as_planned(step: SendFile, now_s: float) -> SendPlanned:
    """Return a step for another process: with an absolute path, and without what only concerns us."""
    values = structs.asdict(step)
    values["path"] = step.path if is_url(step.path) else os.path.abspath(step.path)
    values["member"] = structs.replace(step.member, password="")
    values["young_until_s"] = max(0.0, step.young_until_s - now_s)
    return SendPlanned(**values)


def decode_task(data: bytes) -> Task:
    """Return a task. Raises ServiceError if another version of this program wrote it."""
    try:
        envelope = msgpack.decode(data, type=_Envelope)
        if envelope.version == VERSION:
            return msgpack.decode(envelope.task, type=Task)
        other = f"version {envelope.version} sends tasks, and a worker has {VERSION}"
    except (DecodeError, ValidationError):
        other = "a worker cannot read a task"
    raise ServiceError(f"aihub-runner: {other}", "install the same version on the workers")


def begin_here(step: SendPlanned) -> SendPlanned:
    """Return a step of a task with times by the clock of this process."""
    return structs.replace(step, young_until_s=time.monotonic() + step.young_until_s)


def encode_answer(answer: Answer) -> bytes:
    """Return an answer as bytes."""
    return msgpack.encode(answer)


def decode_answer(data: bytes) -> Answer:
    """Return an answer. Raises ServiceError if it cannot be read."""
    try:
        return msgpack.decode(data, type=Answer)
    except (DecodeError, ValidationError, TypeError):
        raise ServiceError(
            "a worker of the cluster answers what cannot be read", "install the same version on the workers"
        ) from None
