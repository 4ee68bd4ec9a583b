"""Look for what may have been made already, before making another. All of it only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from runner.api import AIHub
from runner.errors import ServiceError
from runner.model import FINAL_STATUSES
from runner.steps import BatchCreated, FindBatch, FindRun, Gone, NotThere, Outcome, PollRun, RunSeen, Unsure
from runner.wire import BatchInfo, RunInfo

READINGS = 20

T = TypeVar("T")


def _settle(
    client: AIHub, read: Callable[[], Mapping[T, object]], step: FindBatch | FindRun, found: Callable[[], bool]
) -> bool:
    """Read a listing until two readings agree, the second begun when the effect of the request must show.

    They agree where nothing went missing: others may start runs all the time. Stops as soon as what is looked for was
    found; False where the readings never agree.
    """
    first = set(read())
    if found():
        return True
    now_s = client.server_now_s()
    client.pause(min(step.sent_by_s, now_s) + step.settle_s - now_s)
    for _ in range(READINGS):
        second = set(read())
        if found() or second >= first:
            return True
        first = second
        client.pause(1.0)
    return False


def find_batch(client: AIHub, step: FindBatch) -> Outcome:
    """Find a batch by its exact name; the oldest, where there are several."""
    seen: dict[int, BatchInfo] = {}

    def read() -> Mapping[int, BatchInfo]:
        batches = client.list_batches(step.workspace)
        seen.clear()
        seen.update({b.id: b for b in batches if b.name == step.name and b.id not in step.known})
        return seen

    if not _settle(client, read, step, lambda: bool(seen)):
        return Unsure("the list of batches does not come to rest")
    return BatchCreated(min(seen)) if seen else NotThere()


def find_run(client: AIHub, step: FindRun) -> Outcome:
    """Find a run by its exact tag, and say where its absence proves nothing."""
    seen: dict[str, RunInfo] = {}

    def read() -> Mapping[str, RunInfo]:
        runs = client.list_runs(step.from_s)
        seen.clear()
        seen.update({run.id: run for run in runs})
        return seen

    def ours() -> list[RunInfo]:
        return sorted((run for run in seen.values() if _is_sought(run, step)), key=_preference)

    if not _settle(client, read, step, lambda: bool(ours())):
        return Unsure("the list of runs does not come to rest")
    if found := ours():
        return RunSeen(found[0], tuple(run.id for run in found[1:]))
    if step.newest and step.newest not in seen:
        return Unsure(f"run {step.newest}, which is known, is missing from the list of runs")
    for run in seen.values():
        if run.batch_id == step.remote_batch and run.id not in step.known and not run.tags:
            return Unsure(f"run {run.id} on batch {step.remote_batch} carries no tags to tell it by")
    return NotThere()


def _is_sought(run: RunInfo, step: FindRun) -> bool:
    """Tell a run by its tag; shards with the same names and bytes share one, and differ in their batches."""
    is_on_batch = not step.remote_batch or run.batch_id in (None, step.remote_batch)
    return step.tag in (run.tags or ()) and run.id not in step.known and is_on_batch


def _preference(run: RunInfo) -> tuple[int, int]:
    """Order runs that carry one tag: complete ones, then those still going, the oldest first."""
    rank = 0 if run.status == "COMPLETE" else 2 if run.status in FINAL_STATUSES else 1
    return rank, run.start_timestamp or 0


def poll_run(client: AIHub, step: PollRun) -> Outcome:
    """Ask how a run is; it is gone only if runs can be listed and it is not among them."""
    try:
        return RunSeen(client.get_run(step.remote_id))
    except ServiceError as error:
        young = client.server_now_s() < step.young_until_s
        if error.status != 404 or young or not is_run_gone(client, step.remote_id, step.from_s):
            raise
        return Gone()


def is_run_gone(client: AIHub, run_id: str, from_s: float) -> bool:
    """Tell whether runs can be listed, and this one is not among those since a time before it began."""
    return all(run.id != run_id for run in client.list_runs(from_s))


@dataclass(frozen=True, slots=True)
class Survey:
    """What of a spec was found on the server: its batches by name, and all runs that carry one of our tags."""

    batches: tuple[BatchInfo, ...]
    runs: tuple[RunInfo, ...]


def survey(client: AIHub, is_ours: Callable[[str], bool], is_tag: Callable[[str], bool], workspace: str) -> Survey:
    """Look once, before a new state pays for anything, for what an earlier state may have paid for."""
    batches = tuple(batch for batch in client.list_batches(workspace) if is_ours(batch.name))
    runs = tuple(run for run in client.list_runs(0) if any(is_tag(tag) for tag in run.tags or ()))
    return Survey(batches, runs)
