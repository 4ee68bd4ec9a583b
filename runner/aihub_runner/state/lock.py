"""Let only one process apply a spec: a kernel lock that ends with its holder, and a lease in the state."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

from aihub_runner.errors import Interrupted, StateError
from aihub_runner.system.shortage import find_shortage

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_PERMISSIONS = "check the folder's permissions, or use --state with another path"
GLANCE_S = 0.3  # `is_locked` holds the lock for a moment; wait that long before giving up
LOOK_UP_S = 0.2  # how often to check `stop` while waiting for the lock


def new_lease() -> str:
    """Return a random word that identifies a lease of ours."""
    return os.urandom(16).hex()


def _lock_path(state_path: Path) -> Path:
    return state_path.with_name(state_path.name + ".lock")


def is_locked(state_path: Path) -> bool:
    """Whether a process holds the lock beside a state file. Does not keep others from taking it."""
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
def hold_locks(paths: tuple[Path, Path, Path], timeout_s: float, who: Callable[[], str], stop: Event) -> Iterator[bool]:
    """Hold the locks of a spec and of a state, waiting at most `timeout_s` for them, or until `stop`.

    The value says whether the file system enforces the locks.

    `paths` are the spec, the state that belongs to it, and the state in use. Two applies of one spec exclude each
    other, whatever states they use; so do two with one state, whatever their specs. Raises StateError if another
    process holds a lock; `who` returns its holder, as the state records it.
    """
    spec, own, used = paths
    until_s = time.monotonic() + max(timeout_s, GLANCE_S)
    is_strong = []
    with ExitStack() as stack:
        if own.parent == used.parent or os.access(own.parent, os.W_OK):
            is_strong.append(stack.enter_context(_hold(own, until_s, who, stop)))
        else:
            stack.enter_context(_hold_file(spec, until_s, who, stop))
        if used.absolute() != own.absolute():
            is_strong.append(stack.enter_context(_hold(used, until_s, who, stop)))
        yield all(is_strong)


@contextmanager
def _hold(path: Path, until_s: float, who: Callable[[], str], stop: Event) -> Iterator[bool]:
    """Hold the lock beside a state file. Its file is never deleted, or two processes could hold one lock."""
    from filelock import FileLock, Timeout  # slow to import, and reading needs none

    lock = FileLock(_lock_path(path), mode=0o600, fallback_to_soft=False)
    try:
        _wait(lambda: lock.acquire(timeout=0), (Timeout,), until_s, stop)
    except Timeout as error:
        raise _busy(path, who) from error
    except OSError as error:
        if shortage := find_shortage(error):
            raise shortage from error
        has_none = error.errno in _NO_LOCKS
        what = "this file system has no locks" if has_none else error.strerror or error
        hint = "use --state with a path on a local disk" if has_none else _PERMISSIONS
        raise StateError(f"{path.name}: cannot be locked, {what}", hint) from error
    try:
        yield _excludes(_lock_path(path))
    finally:
        lock.release()


def _excludes(path: Path) -> bool:
    """Whether a held lock excludes a second one: some file systems grant it to everybody."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _hold_file(path: Path, until_s: float, who: Callable[[], str], stop: Event) -> Iterator[None]:
    """Lock a file itself, where its folder is read-only."""
    import fcntl

    try:
        with path.open("rb") as file:
            _wait(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), (BlockingIOError,), until_s, stop)
            yield
    except BlockingIOError as error:
        raise _busy(path, who) from error


def _busy(path: Path, who: Callable[[], str]) -> StateError:
    return StateError(
        f"{path.name}: another apply is running, {who() or 'holder unknown'}",
        "wait until it ends, or use --lock-timeout 10m",
    )


def _wait(acquire: Callable[[], object], busy: tuple[type[OSError], ...], until_s: float, stop: Event) -> None:
    while True:
        try:
            acquire()
            return
        except busy:
            if stop.wait(min(LOOK_UP_S, max(0.0, until_s - time.monotonic()))):
                raise Interrupted("interrupted while waiting for another apply", "apply again") from None
            if time.monotonic() >= until_s:
                raise
