"""Read a list of the service to its end, or say that it breaks off: an absence from it must prove something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.errors import ListingCut, ServiceError

PAGE = 100
REPEATS = 10  # pages in a row without anything new: a list that moves while it is read has fewer
READINGS = 2
NS = 1_000_000_000
# Answers that say nothing of where a page begins: who asks is not let in, or too often.
NOT_ABOUT_PAGES = frozenset({401, 403, 408, 425, 429})

# Ask for the page of runs from a second on, in an order, from an offset on.
AskRuns = Callable[[int, str, int], Sequence[RunInfo]]


def read_batches(ask: Callable[[int], Sequence[BatchInfo]]) -> list[BatchInfo]:
    """Read all batches, until a page is empty. Raises ListingCut where a page after the first is refused.

    A list of batches cannot be read in another order, nor from a time on: where it ends silently, nobody can tell.
    """
    batches: dict[int, BatchInfo] = {}
    offset, repeats = 0, 0
    while True:
        try:
            page = ask(offset)
        except ServiceError as error:
            if offset and _is_cut(error):
                raise _cut("/v2/batches", len(batches)) from error
            raise
        if not page:
            return list(batches.values())
        repeats = repeats + 1 if all(batch.id in batches for batch in page) else 0
        _check_repeats("/v2/batches", repeats)
        batches.update({batch.id: batch for batch in page})
        offset += len(page)


def read_runs(ask: AskRuns, from_s: float) -> list[RunInfo]:
    """Read all runs since a time in Unix seconds, the oldest first. Raises ListingCut where some cannot be reached.

    The newest page is asked for first: only a list that reaches those runs was read to its end. Where the service
    gives no page any more from some offset on, reading goes on from the second in which the last run began.
    """
    since = max(1, int(from_s))  # 0 might be taken for not given, and so for 24 hours ago
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
    """Read runs from a second on, as far as the service gives them, and tell whether that was all."""
    read: list[RunInfo] = []
    known, repeats = set[str](), 0
    while True:
        try:
            page = ask(since, "ASCENDING", len(read))
        except ServiceError as error:
            if read and _is_cut(error):
                return read, False
            raise
        if not page:
            return read, newest <= runs.keys()
        repeats = repeats + 1 if all(run.id in known for run in page) else 0
        _check_repeats("/v2/apps/runs", repeats)
        read += page
        known.update(run.id for run in page)
        runs.update({run.id: run for run in page})
        if newest <= runs.keys() and _is_ascending(read):
            return read, True


def _is_ascending(runs: Sequence[RunInfo]) -> bool:
    """Return whether runs surely came in the order that was asked for, so that the newest ones are the last."""
    times = [run.start_timestamp for run in runs]
    known = [time for time in times if time]
    if len(known) < len(times) or any(second < first for first, second in pairwise(known)):
        return False
    return len(runs) < 2 or known[0] < known[-1]


def _is_cut(error: ServiceError) -> bool:
    return error.status >= 400 and error.status not in NOT_ABOUT_PAGES


def _check_repeats(path: str, repeats: int) -> None:
    if repeats > REPEATS:
        raise ServiceError(f"GET {path}: the same page comes again and again", "apply again in a while")


def _cut(path: str, count: int) -> ListingCut:
    return ListingCut(f"GET {path}: the list breaks off after {count} entries", "apply again in a while")
