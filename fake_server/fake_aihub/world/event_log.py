"""Event sourcing: every change is an event, and the state is the result of all events so far.

With a folder, each event is a line in `events.jsonl`, written before it takes effect. After a kill, the world is in
the state of the last complete line.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TextIO, TypeVar

from fake_aihub.files import open_regular
from fake_aihub.redact import redact_body
from fake_aihub.world.clock import Clock

# Bytes are found by digest, and unreferenced bytes do no harm.
TIMES: Mapping[str, Callable[[Clock], float]] = {
    "now_s": Clock.now_s,
    "now_ms": lambda clock: clock.now_ns() // 1_000_000,
    "now_ns": Clock.now_ns,
}
EVENTS: dict[str, Callable[..., Any]] = {}
Given = ParamSpec("Given")
Result = TypeVar("Result")
NOT_STATE = ("clock", "blobs", "_log", "_lock")


class FolderInUseError(ValueError):
    """Another fake uses this folder."""


def lock_folder(folder: Path) -> Any:
    """Lock a folder for one fake until release or process exit. Raises FolderInUseError."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock", timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUseError(f"{folder}: in use by another fake AI Hub; stop it or choose another folder") from None
    except NotImplementedError:
        return None  # a file system without locks
    return lock


def event(what: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Make a method an event: a call is recorded, then applied. A parameter `now_…` gets the clock's time."""

    def mark(apply: Callable[Given, Result]) -> Callable[Given, Result]:
        names = list(signature(apply).parameters)
        clocks = [(name, TIMES[name]) for name in names if name in TIMES]
        EVENTS[what] = apply

        @wraps(apply)
        def happen(*args: Given.args, **facts: Given.kwargs) -> Result:
            world: Any = args[0]
            times = {name: read(world.clock) for name, read in clocks}
            given = dict(zip(names[1:], args[1:], strict=False))
            result: Result = world.record(what, times | given | facts)
            return result

        return happen

    return mark


class History:
    """The events of a world, and the ids that are derived from them."""

    _lock: Any = None

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self.clock = clock
        self.seed = 0
        self._counter = 0
        self._log: TextIO | None = None
        if folder is not None:
            log = folder / "events.jsonl"
            for facts in _read_events(log):
                EVENTS[facts.pop("what")](self, **facts)
            self._log = log.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the event log and release the folder."""
        if self._log is not None:
            self._log.close()
        if self._lock is not None:
            self._lock.release()

    @event("seed")
    def set_seed(self, seed: int) -> None:
        """Set the seed for future ids. Existing ids do not change."""
        self.seed = seed

    def snapshot(self) -> tuple[bytes, int]:
        """Return the whole state and the length of its event log."""
        state = {name: value for name, value in vars(self).items() if name not in NOT_STATE}
        return pickle.dumps(state, pickle.HIGHEST_PROTOCOL), self._log_bytes()

    def restore(self, state: bytes, log_bytes: int) -> None:
        """Restore a state and truncate the log to its length."""
        vars(self).update(pickle.loads(state))
        if self._log is not None:
            os.truncate(self._log.fileno(), log_bytes)

    def _log_bytes(self) -> int:
        return 0 if self._log is None else os.fstat(self._log.fileno()).st_size

    def record(self, what: str, facts: dict[str, Any]) -> Any:
        """Record an event, then apply it."""
        if self._log is not None:
            kept = facts | {"request": redact_body("", facts["request"])} if "request" in facts else facts
            self._log.write(json.dumps({"what": what, **kept}) + "\n")
            self._log.flush()
        return EVENTS[what](self, **facts)

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    def _make_id(self, kind: str) -> str:
        """Return an id that looks like a UUID. The same seed and history give the same id."""
        seeded = f"{self.seed}:{kind}" if self.seed else kind
        text = hashlib.sha256(f"{seeded}:{self._next()}".encode()).hexdigest()
        return "-".join((text[:8], text[8:12], "4" + text[13:16], "a" + text[17:20], text[20:32]))


def _read_events(log: Path) -> Iterator[dict[str, Any]]:
    """Read the complete lines of a log and truncate a partial line that a kill left behind."""
    if not log.exists():
        return
    whole = 0
    with open(open_regular(log), "rb") as lines:  # noqa: PTH123
        for line in lines:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield json.loads(line)
    with log.open("rb+") as file:
        file.truncate(whole)
