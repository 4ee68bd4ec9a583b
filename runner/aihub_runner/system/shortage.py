"""Distinguish shortages of this machine from errors of a file, the state or the service."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from aihub_runner.errors import Shortage

_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_LACKING = _DESCRIPTORS | {errno.ENOMEM}
# Errors of a whole disk, or of the server or program behind a mount. Not every system has all of them.
_MOUNT_ERRORS = "EIO ESTALE ENODEV ENOTCONN EREMOTEIO EHOSTDOWN EHOSTUNREACH ETIMEDOUT"
DISK_ERRORS = frozenset(getattr(errno, name) for name in _MOUNT_ERRORS.split() if hasattr(errno, name))
NO_THREAD = "can't start new thread"  # how Python reports that a process may have no more threads
NO_LOCK = "can't allocate"  # how Python reports that there is no memory for a lock
RESERVE = 24  # descriptors for the state, its journal, the tables, DNS lookups, and files that libraries open
PLENTY = 1 << 20  # descriptors to assume if there is no limit


def find_shortage(error: BaseException) -> Shortage | None:
    """Return the shortage that caused an error, or one of its causes; None if there is none."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, Shortage):
            return cause
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and NO_LOCK in str(cause)):
            return _describe(errno.ENOMEM)
        if isinstance(cause, RuntimeError) and NO_THREAD in str(cause):
            return _describe(errno.EAGAIN)
        if isinstance(cause, OSError) and cause.errno in _LACKING:
            return _describe(cause.errno)
        cause = cause.__cause__ or cause.__context__ or _first_cause(cause)
    return None


def _first_cause(error: BaseException) -> BaseException | None:
    """Return a cause that is given only as an argument, as urllib3 does, or as a reason."""
    inner = [getattr(error, "reason", None), *error.args]
    return next((one for one in inner if isinstance(one, BaseException)), None)


def probe_shortage() -> Shortage | None:
    """Return a shortage of descriptors, if there is one now. Some libraries report only that opening failed."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return find_shortage(error)
    return None


@contextmanager
def explain_shortage() -> Iterator[None]:
    """Raise Shortage instead of an OSError or MemoryError that reports one."""
    try:
        yield
    except (OSError, MemoryError) as error:
        if shortage := find_shortage(error):
            raise shortage from error
        raise


def _describe(number: int) -> Shortage:
    if number == errno.EMFILE:
        what = f"too many open files, the limit is {descriptor_limit()}"
        hint = "raise the limit with `ulimit -n 1024`, or lower [limits] parallel_uploads, and apply again"
    elif number == errno.ENFILE:
        what, hint = "too many open files in the whole system", "close other programs, and apply again"
    elif number == errno.EAGAIN:
        what, hint = "too many threads", "raise the limit with `ulimit -u`, or lower [limits] parallel_uploads"
    else:
        what, hint = "not enough memory", "close other programs, and apply again"
    return Shortage(f"this machine: {what}", hint, transient=True)


def describe_too_large() -> str:
    """Say which limit on the size of files a file would exceed: that of `ulimit -f`, or the file system's."""
    limit = file_size_limit()
    if limit is None:
        return "it would exceed the largest size of a file on its file system"
    return f"it would exceed the largest size of a file, {limit:,} bytes, as `ulimit -f` says"


def file_size_limit() -> int | None:
    """Return how many bytes a file of this process may have; None without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


# Descriptors


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return PLENTY if limit == resource.RLIM_INFINITY else limit


def fit_parallel(uploads: int, requests: int, spare: int, *, upload: int, request: int) -> tuple[int, int]:
    """Reduce the parallel uploads and requests about runs to the descriptors that are left.

    `upload` and `request` are the descriptors that one of them needs. A run in progress needs none. Raises Shortage if
    there are too few for one each.
    """
    left = spare - RESERVE
    if left < upload + request:
        raise _describe(errno.EMFILE)
    fitting = min(requests, max(1, left // 2 // request))
    return min(uploads, (left - fitting * request) // upload), fitting


def spare_descriptors() -> int:
    """Return how many more descriptors this process may open."""
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 32
    return max(0, descriptor_limit() - used)
