"""Return what the machine lacks from what is wrong with a file, the state or the service."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from aihub_runner.errors import Shortage

_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_LACKING = _DESCRIPTORS | {errno.ENOMEM}
RESERVE = 24  # descriptors for the state, its journal, the tables, names that are looked up, and what libraries open
PLENTY = 1 << 20  # descriptors, where there is no limit


def find_shortage(error: BaseException) -> Shortage | None:
    """Find what the machine lacks in an error or its causes; None where that is not what went wrong."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, Shortage):
            return cause
        if isinstance(cause, MemoryError):
            return _describe(errno.ENOMEM)
        if isinstance(cause, OSError) and cause.errno in _LACKING:
            return _describe(cause.errno)
        cause = cause.__cause__ or cause.__context__ or _first_cause(cause)
    return None


def _first_cause(error: BaseException) -> BaseException | None:
    """Find a cause that is only told of as an argument, as urllib3 does, or as a reason."""
    inner = [getattr(error, "reason", None), *error.args]
    return next((one for one in inner if isinstance(one, BaseException)), None)


def probe_shortage() -> Shortage | None:
    """Find out whether descriptors are lacking now: some libraries say only that a file cannot be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return find_shortage(error)
    return None


@contextmanager
def explain_shortage() -> Iterator[None]:
    """Raise Shortage in place of an OSError that tells of one."""
    try:
        yield
    except (OSError, MemoryError) as error:
        if shortage := find_shortage(error):
            raise shortage from error
        raise


def _describe(number: int) -> Shortage:
    if number == errno.EMFILE:
        what = f"too many files are open, the limit is {descriptor_limit()}"
        hint = "raise the limit with `ulimit -n 1024`, or lower [limits] parallel_uploads, and apply again"
    elif number == errno.ENFILE:
        what, hint = "too many files are open, in the whole system", "close other programs, and apply again"
    else:
        what, hint = "there is not enough memory", "close other programs, and apply again"
    return Shortage(f"this machine: {what}", hint, transient=True)


# Descriptors


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return PLENTY if limit == resource.RLIM_INFINITY else limit


def fit_parallel(uploads: int, runs: int, spare: int, *, upload: int, run: int) -> tuple[int, int]:
    """Lower how many uploads and runs may be under way to what descriptors are left for.

    `upload` and `run` are how many one of them needs. Raises Shortage where there are too few for one of each.
    """
    left = spare - RESERVE
    if left < upload + run:
        raise _describe(errno.EMFILE)
    fitting_runs = min(runs, max(1, left // 2 // run))
    return min(uploads, (left - fitting_runs * run) // upload), fitting_runs


def spare_descriptors() -> int:
    """Return how many more descriptors this process may open."""
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 32
    return max(0, descriptor_limit() - used)
