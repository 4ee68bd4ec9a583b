"""Files elsewhere are sent ahead of the plan that pays for them: their digests are known only then."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from aihub_runner.model import Scan, Source
from aihub_runner.plan.planner import Work
from aihub_runner.state.store import State


def is_unhashed(work: Work) -> bool:
    """Whether a file of some work was not read yet, so that nobody knows whether it was paid for."""
    return any(member.is_unhashed for member in work.shard.members)


def has_unhashed(scan: Scan) -> bool:
    """Whether a file was not read yet."""
    return any(source.is_unhashed for source in scan.sources)


def recall_files(state: State) -> Scan:
    """Return the files as the last scan found them, and as they were sent, where their store cannot be asked."""
    digests = {row[0]: row[1] for row in state.load_cache()}
    members = (member for shard in state.load_shards() for member in shard.members)
    here = {one.path: one for one in members if one.path and digests.get(one.path) == one.digest}
    sources = tuple(Source(path, one.size, one.digest, one.password) for path, one in sorted(here.items()))
    return Scan(sources, (), {}, busy=tuple(state.load_matched()))


class Borrowed(Executor):
    """An executor that is used again later: it is not shut down."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit to the executor."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave it open."""
