"""Let one process at a time apply a spec: a kernel lock that dies with its holder, and a lease in the state."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from runner.errors import StateError


def new_lease() -> str:
    """Make the random word by which a holder knows its own lease."""
    return secrets.token_hex(16)


@contextmanager
def hold_lock(state_path: Path, timeout_s: float, who: Callable[[], str]) -> Iterator[None]:
    """Hold the lock beside a state file, waiting at most `timeout_s` for it.

    The lock's file is never deleted: unlinking it would let two processes hold a lock of one name.

    Raises StateError where another process holds it; `who` tells which, as far as the state knows.
    """
    lock = FileLock(state_path.with_name(state_path.name + ".lock"), mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise StateError(
            f"{state_path.name}: another apply is at work, {who() or 'holder not known'}",
            "wait for it, or give --lock-timeout 10m to wait here",
        ) from error
    except OSError as error:
        raise StateError(
            f"{state_path.name}: cannot be locked, {error.strerror or error}",
            "check the folder's permissions, or name another place with --state",
        ) from error
    try:
        yield
    finally:
        lock.release()
