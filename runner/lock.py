"""Let one process at a time apply a spec: a kernel lock that dies with its holder, and a lease in the state."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout

from runner.errors import Interrupted, StateError
from runner.shortage import find_shortage

GLANCE_S = 0.3  # others look at the lock for a moment, see `is_locked`; that is no reason to give up
LOOK_UP_S = 0.2  # while it is waited for, we look this often whether we are asked to stop


def new_lease() -> str:
    """Make the random word by which a holder knows its own lease."""
    return secrets.token_hex(16)


def _lock_path(state_path: Path) -> Path:
    return state_path.with_name(state_path.name + ".lock")


def is_locked(state_path: Path) -> bool:
    """Tell whether a process holds the lock beside a state file, without keeping another from taking it."""
    try:
        descriptor = os.open(_lock_path(state_path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@contextmanager
def hold_lock(state_path: Path, timeout_s: float, who: Callable[[], str], stop: Event) -> Iterator[None]:
    """Hold the lock beside a state file, waiting at most `timeout_s` for it, or until `stop`.

    The lock's file is never deleted: unlinking it would let two processes hold a lock of one name.

    Raises StateError where another process holds it; `who` tells which, as far as the state knows.
    """
    lock = FileLock(_lock_path(state_path), mode=0o600, fallback_to_soft=False)
    try:
        _acquire(lock, time.monotonic() + max(timeout_s, GLANCE_S), stop)
    except Timeout as error:
        raise StateError(
            f"{state_path.name}: another apply is at work, {who() or 'holder not known'}",
            "wait for it, or give --lock-timeout 10m to wait here",
        ) from error
    except OSError as error:
        if shortage := find_shortage(error):
            raise shortage from error
        raise StateError(
            f"{state_path.name}: cannot be locked, {error.strerror or error}",
            "check the folder's permissions, or name another place with --state",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, until_s: float, stop: Event) -> None:
    while True:
        try:
            lock.acquire(timeout=min(LOOK_UP_S, max(0.0, until_s - time.monotonic())))
            return
        except Timeout:
            if stop.is_set():
                raise Interrupted("interrupted while waiting for another apply", "apply again") from None
            if time.monotonic() >= until_s:
                raise
