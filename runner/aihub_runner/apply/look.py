"""Check what exists already before creating anything. All of it only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply.steps import (
    BatchCreated,
    FindBatch,
    FindRun,
    Gone,
    NotThere,
    Outcome,
    PollRun,
    RunSeen,
    Unsure,
)
from aihub_runner.errors import ListingCut, ServiceError
from aihub_runner.model import rank_status
from aihub_runner.plan.identity import parse_run_tag

READINGS = 20
LOOK_EVERY_S = 1.0
DAY_MS = 86_400_000

T = TypeVar("T")


def _settle(
    client: AIHub, read: Callable[[], Mapping[T, object]], settled_at_s: float, found: Callable[[], bool]
) -> bool:
    """Read a listing until two readings agree, the second started when the effect of the request must show.

    They agree if nothing disappeared; others may start runs at any time. Stops as soon as the target is found. Returns
    False where the readings never agree.
    """
    first = set(read())
    if found():
        return True
    client.pause(settled_at_s - time.monotonic())
    for _ in range(READINGS):
        second = set(read())
        if found() or second >= first:
            return True
        first = second
        client.pause(LOOK_EVERY_S)
    return False


def find_batch(client: AIHub, step: FindBatch) -> Outcome:
    """Find a batch by its exact name; the oldest, where there are several.

    A batch that holds files, or that has a run, belongs to somebody else: we have sent nothing to ours yet.
    """
    seen: dict[int, BatchInfo] = {}

    def read() -> Mapping[int, BatchInfo]:
        batches = client.list_batches(step.workspace)
        seen.clear()
        seen.update({b.id: b for b in batches if b.name == step.name and b.id not in step.known})
        return seen

    try:
        if not _settle(client, read, step.settled_at_s, lambda: bool(seen)):
            return Unsure("the list of batches keeps changing")
        used = {run.batch_id for run in client.list_runs(1)} if seen else set()
    except ListingCut as error:
        return Unsure(error.message)
    found = (number for number in sorted(seen) if number not in used and not client.list_files(number))
    first = next(found, None)
    return NotThere() if first is None else BatchCreated(first)


def find_run(client: AIHub, step: FindRun) -> Outcome:
    """Find a run by its exact tag, and return Unsure where its absence proves nothing."""
    seen: dict[str, RunInfo] = {}

    def read() -> Mapping[str, RunInfo]:
        runs = client.list_runs(step.from_s)
        seen.clear()
        seen.update({run.id: run for run in runs})
        return seen

    def ours() -> list[RunInfo]:
        tagged = (run for run in seen.values() if step.tag in (run.tags or ()) and run.id not in step.known)
        return sorted((run for run in tagged if run.batch_id in (None, step.remote_batch)), key=preference)

    try:
        if not _settle(client, read, step.settled_at_s, lambda: bool(ours())):
            return Unsure("the list of runs keeps changing")
        if not ours() and step.from_s > 1:  # two clocks of the service may differ by more than anybody thinks
            seen.update({run.id: run for run in client.list_runs(1)})
    except ListingCut as error:
        return Unsure(error.message)
    if found := ours():
        return RunSeen(found[0], tuple(run.id for run in found[1:]))
    if step.newest and step.newest not in seen:
        return Unsure(f"known run {step.newest} is missing from the list of runs")
    doubts = (_doubt(run, step) for run in seen.values() if run.id not in step.known)
    why = next(filter(None, doubts), "")
    return Unsure(why) if why else NotThere()


def _doubt(run: RunInfo, step: FindRun) -> str:
    """Return why an unrecorded run may be the wanted one although tag or batch differ; empty where it cannot be."""
    if step.tag in (run.tags or ()):
        is_siblings = run.batch_id in step.siblings
        return "" if is_siblings else f"run {run.id} has the same tag, but is on batch {run.batch_id}"
    if any(parse_run_tag(tag) for tag in run.tags or ()):
        return ""  # it is another of ours
    if run.batch_id == step.remote_batch:
        return f"run {run.id} on batch {step.remote_batch} has no tag of ours to identify it"
    if run.batch_id is None and _is_after(run, step.created_ms):
        return f"run {run.id} has neither a batch nor a tag of ours to identify it"
    return ""


def _is_after(run: RunInfo, created_ms: int) -> bool:
    """Whether a run may have started after a batch was created, as far as two clocks of the service agree."""
    return not run.start_timestamp or not created_ms or run.start_timestamp // 1_000_000 >= created_ms - DAY_MS


def preference(run: RunInfo) -> tuple[int, int]:
    """Return a sort key for runs with the same tag: complete runs first, then those in progress, the oldest first."""
    return rank_status(run.status), run.start_timestamp or 0


def poll_run(client: AIHub, step: PollRun) -> Outcome:
    """Get the status of a run. It is gone only if runs can be listed and it is not among them."""
    try:
        return RunSeen(client.get_run(step.remote_id, batch_id=step.remote_batch or None, tag=step.tag))
    except ServiceError as error:
        if error.status != 404 or time.monotonic() < step.young_until_s:
            raise
        check_gone(client, step.remote_id, step.from_s, step.others)
        return Gone()


def check_gone(client: AIHub, run_id: str, from_s: float, others: Collection[str] | None) -> None:
    """Check that a run which returned 404 does not exist any more.

    Two listings must agree, and each must hold another known run: an account that may not see runs gets empty listings,
    too. None for `others` says that nothing depends on the answer. Raises ServiceError where the check fails.
    """
    for _ in range(2):
        listed = {run.id for run in client.list_runs(from_s)}
        if run_id in listed:
            raise ServiceError(f"run {run_id}: returned 404, but is listed", "apply again in a while", status=404)
        if others is not None and listed.isdisjoint(others):
            raise ServiceError(
                f"run {run_id}: returned 404, and no other known run is listed either",
                "check the context, and whether the account can see its runs",
                status=404,
            )


@dataclass(frozen=True, slots=True)
class Survey:
    """What exists on the service before paying: all batches of the workspace, and all runs."""

    batches: tuple[BatchInfo, ...]
    runs: tuple[RunInfo, ...]


def survey(client: AIHub, workspace: str) -> Survey:
    """List all batches and runs before paying, to find what another state may have paid for."""
    batches = tuple(client.list_batches(workspace))
    return Survey(batches, tuple(client.list_runs(1)))
