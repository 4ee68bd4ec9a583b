"""What runs in a worker of a cluster: send files, each only as planned and before the deadline.

A worker reads its token from its own environment, `.env` or secrets folder. It sends the token only to its own root:
a task that names another one is refused.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
import uuid
from contextlib import closing

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.session import Session, open_session
from aihub_runner.aihub.transport import PRESSED
from aihub_runner.apply.executors.wire import (
    Answer,
    Place,
    Repeated,
    Task,
    Tried,
    begin_here,
    decode_task,
    encode_answer,
)
from aihub_runner.apply.pool import do_step
from aihub_runner.apply.steps import Failed, Gone, LeftHere, Outcome, Stopped
from aihub_runner.apply.tasks.upload import PARTS_AT_ONCE, Sent, Unsendable
from aihub_runner.errors import InputError, RunnerError, ServiceError, Shortage
from aihub_runner.settings import identify_root, load_settings
from aihub_runner.system.moment import awake_and_asleep_s

PROCESS = uuid.uuid4().hex  # another one after each start: a clock is known for one process only
CONNECT_S = 5.0
UNACKNOWLEDGED_MS = 20_000  # data that the service does not acknowledge is dropped: it must not arrive any later
MOST_REPEATED = 20

_of_thread = threading.local()
_rest_until_s = 0.0  # by the monotonic clock


class Deadline(threading.Event):
    """An event that is set once a time has passed, by a clock that counts while the machine sleeps."""

    until_s = 0.0

    def is_set(self) -> bool:
        """Whether the time has passed."""
        return awake_and_asleep_s() >= self.until_s

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until then, or for some seconds, and return whether the time has passed."""
        left_s = max(0.0, self.until_s - awake_and_asleep_s())
        super().wait(left_s if timeout is None else min(timeout, left_s))
        return self.is_set()


def be_loaded() -> None:
    """Do nothing. A worker that can call this has this program."""


def rest(seconds: float) -> None:
    """Begin no file for some seconds: the service asked another worker to wait."""
    global _rest_until_s
    _rest_until_s = max(_rest_until_s, time.monotonic() + seconds)


def send_files(data: bytes) -> bytes:
    """Do a task, and return an answer. Raises nothing: a traceback may show what must not leave this process."""
    try:
        answer = _do(decode_task(data))
    except RunnerError as error:
        answer = _answer(refusal=error.message, hint=error.hint)
    except Exception as error:
        answer = _answer(refusal=f"a worker failed, {type(error).__name__}", hint="report this as a bug")
    return encode_answer(answer)


def _answer(**values: object) -> Answer:
    return Answer(PROCESS, _find_address(), awake_and_asleep_s(), **values)  # type: ignore[arg-type]


def _find_address() -> str:
    """Return the address of this worker in its cluster, or its host."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            return str(get_worker().address)
        except ValueError:
            pass
    return socket.gethostname()


def _do(task: Task) -> Answer:
    offset_s = task.clocks.get(PROCESS)
    if offset_s is None:
        return _answer(why="clock")
    client, deadline = _client_for(task.place)
    deadline.until_s = task.deadline_s - offset_s
    repeated: list[Repeated] = []

    def note(error: ServiceError | Shortage, wait_s: float) -> None:
        if len(repeated) < MOST_REPEATED:
            repeated.append(Repeated(error.message, getattr(error, "status", 0), wait_s))

    client.on_retry = note
    tried: list[Tried] = []
    for step in task.steps:
        if time.monotonic() < _rest_until_s:
            return _answer(tried=tuple(tried), why="rest", repeated=tuple(repeated))
        outcome = Stopped() if deadline.is_set() else do_step(client, begin_here(step))
        error = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(outcome, Stopped) or (error and deadline.is_set()):
            return _answer(tried=tuple(tried), why="late", repeated=tuple(repeated))
        if isinstance(error, ServiceError) and error.status in PRESSED:
            wait_s, why = error.retry_after_s, error.message
            return _answer(
                tried=tuple(tried),
                why="pressed",
                wait_s=wait_s,
                pressure=why,
                status=error.status,
                repeated=tuple(repeated),
            )
        tried.append(_as_value(outcome))
        if tried[-1].kind == "again":
            return _answer(tried=tuple(tried), why="fault", repeated=tuple(repeated))
    return _answer(tried=tuple(tried), repeated=tuple(repeated))


def _as_value(outcome: Outcome) -> Tried:
    match outcome:
        case Sent(digest, _, stat):
            return Tried("sent", digest=digest, stat=stat)
        case LeftHere(why):
            return Tried("here", why)
        case Gone():
            return Tried("gone")
        case Unsendable(_, detail):
            return Tried("refused", detail)
        case Failed(ServiceError() as error):
            kind = "again" if error.transient else "failed"
            return Tried(kind, error.message, error.hint, error.status, error.transient)
        case Failed(error):
            return Tried("again", error.message, error.hint)
        case _:
            return Tried("failed", f"unexpected {type(outcome).__name__}")


def _client_for(place: Place) -> tuple[AIHub, Deadline]:
    """Return the client of this thread, whose connections it uses again for the next task of the same job."""
    kept: tuple[Place, AIHub, Deadline] | None = getattr(_of_thread, "kept", None)
    if kept and kept[0] == place:
        return kept[1:]
    _of_thread.kept = None
    if kept:
        with closing(kept[1]):
            pass
    deadline = Deadline()
    client = AIHub(_connect(place), deadline, _open_session)
    client.is_patient = False
    _of_thread.kept = (place, client, deadline)
    return client, deadline


def _connect(place: Place) -> Connection:
    settings = load_settings(place.target)
    if settings.api_key is None:
        raise InputError(f"{settings.key_name}: not set on a worker", "set it where the worker starts, as for runner")
    if identify_root(settings.api_root) != identify_root(place.root):
        raise InputError(
            f"a worker has the root {settings.api_root}, and this apply has {place.root}",
            "set the same AIHUB_API_ROOT where the worker starts",
        )
    return Connection(
        settings.api_root,
        settings.api_key,
        place.context,
        min(CONNECT_S, place.connect_timeout_s),
        place.read_timeout_s,
        pool_size=PARTS_AT_ONCE + 1,
        settings=settings,
    )


def _open_session(connection: Connection) -> Session:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return open_session(connection, [] if option is None else [(socket.IPPROTO_TCP, option, UNACKNOWLEDGED_MS)])
