"""Read a list of the service to its end, or report that it is cut: absence from it must prove something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.errors import ListingCut, ServiceError

PAGE = 100
MAX_IDLE_PAGES = 10  # in a row without anything new: such a list never ends
REPEATS = 10  # pages in a row without anything new; a list that changes while being read has fewer
READINGS = 3  # from the start, if a list is cut, or entries were deleted while it was read
NS = 1_000_000_000
# Statuses that do not mean the end of a list: the client is not authorised, or is rate limited.
NOT_ABOUT_PAGES = frozenset({401, 403, 408, 425, 429})

E = TypeVar("E", BatchInfo, RunInfo)

# Return the page of runs since a second, in an order, from an offset on.
AskRuns = Callable[[int, str, int], Sequence[RunInfo]]


def read_batches(ask: Callable[[int], Sequence[BatchInfo]]) -> list[BatchInfo]:
    """Read all batches, until a page is empty. Raises ListingCut if a page after the first is refused.

    A list of batches has one order and no start time. If it is cut silently, that cannot be detected.
    """
    batches: dict[int, BatchInfo] = {}
    for _ in range(READINGS):
        batches = {}
        if _read_batches(ask, batches):
            return list(batches.values())
    raise _cut("/v2/batches", len(batches))


def _read_batches(ask: Callable[[int], Sequence[BatchInfo]], batches: dict[int, BatchInfo]) -> bool:
    """Read all batches, and return whether none may have been skipped."""
    repeats = 0
    try:
        for page in _read_pages(ask):
            repeats = repeats + 1 if all(batch.id in batches for batch in page) else 0
            _check_repeats("/v2/batches", repeats)
            batches.update({batch.id: batch for batch in page})
    except _Shifted:
        return False
    except ServiceError as error:
        if batches and _is_cut(error):
            raise _cut("/v2/batches", len(batches)) from error
        raise
    return True


class _Shifted(Exception):
    """Entries were deleted while a list was read, so that a page may begin too late."""


def _read_pages(ask: Callable[[int], Sequence[E]]) -> Iterator[Sequence[E]]:
    """Yield the new entries of each page until one is empty. Raises _Shifted.

    The last entry of a full page is asked for again with the next page, which proves that nothing between is skipped.
    """
    seen: set[object] = set()
    offset, overlap, full, last = 0, 0, PAGE, 0
    while page := ask(offset - overlap):
        if overlap and page[0].id not in seen:
            raise _Shifted
        if not overlap and 1 < last < full:  # the page before was full: the service has shorter ones
            full = last
        new = page[overlap:]
        if new:
            yield new
        seen.update(entry.id for entry in new)
        offset += len(new)
        last = len(page)
        overlap = int(last >= full)


def read_runs(ask: AskRuns, from_s: float) -> list[RunInfo]:
    """Read all runs since a time in Unix seconds, oldest first. Raises ListingCut if some cannot be reached.

    The newest page is read first: a list is complete only if it reaches those runs. Where the service returns no page
    after some offset, reading continues from the second in which the last run started.
    """
    since = max(1, int(from_s))  # 0 might count as not given, which means 24 hours ago
    runs: dict[str, RunInfo] = {}
    for _ in range(READINGS):
        runs = {}
        if _read_windows(ask, since, runs):
            return list(runs.values())
    raise _cut("/v2/apps/runs", len(runs))


def _read_windows(ask: AskRuns, since: int, runs: dict[str, RunInfo]) -> bool:
    newest = {run.id for run in ask(since, "DESCENDING", 0)}
    while newest:
        read, is_whole = _read_window(ask, since, newest, runs)
        if is_whole:
            return True
        if not _is_ascending(read):
            return False
        later = (read[-1].start_timestamp or 0) // NS if read else 0
        if later <= since:
            return False
        since = later
    return True


def _read_window(ask: AskRuns, since: int, newest: set[str], runs: dict[str, RunInfo]) -> tuple[list[RunInfo], bool]:
    """Read runs from a second on, as far as the service returns them, and return whether that was all."""
    read: list[RunInfo] = []
    known, repeats = set[str](), 0
    try:
        for page in _read_pages(lambda offset: ask(since, "ASCENDING", offset)):
            repeats = repeats + 1 if all(run.id in known for run in page) else 0
            _check_repeats("/v2/apps/runs", repeats)
            read += page
            known.update(run.id for run in page)
            runs.update({run.id: run for run in page})
            if newest <= runs.keys() and _is_ascending(read):
                return read, True
    except _Shifted:
        return [], False
    except ServiceError as error:
        if read and _is_cut(error):
            return read, False
        raise
    return read, newest <= runs.keys()


def _is_ascending(runs: Sequence[RunInfo]) -> bool:
    """Whether runs came in ascending order, so that the newest ones are last."""
    times = [run.start_timestamp for run in runs]
    known = [time for time in times if time]
    if len(known) < len(times) or any(second < first for first, second in pairwise(known)):
        return False
    return len(runs) < 2 or known[0] < known[-1]


def _is_cut(error: ServiceError) -> bool:
    return error.status >= 400 and error.status not in NOT_ABOUT_PAGES


def _check_repeats(path: str, repeats: int) -> None:
    if repeats > REPEATS:
        raise ServiceError(f"GET {path}: keeps returning the same page", "apply again in a while")


def _cut(path: str, count: int) -> ListingCut:
    return ListingCut(f"GET {path}: the list ends early, after {count} entries", "apply again in a while")
