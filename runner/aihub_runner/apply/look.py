"""Check what exists already, before making another. All of it only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply.steps import (
    AwaitTwin,
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
    """Read a listing until two readings agree, the second begun when the effect of the request must show.

    They agree where nothing went missing: others may start runs all the time. Stops as soon as what is looked for was
    found; False where the readings never agree.
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

    One that holds files, or that a run was started on, is another's: nothing of ours was sent to it yet.
    """
    seen: dict[int, BatchInfo] = {}

    def read() -> Mapping[int, BatchInfo]:
        batches = client.list_batches(step.workspace)
        seen.clear()
        seen.update({b.id: b for b in batches if b.name == step.name and b.id not in step.known})
        return seen

    try:
        if not _settle(client, read, step.settled_at_s, lambda: bool(seen)):
            return Unsure("the list of batches does not come to rest")
        used = {run.batch_id for run in client.list_runs(1)} if seen else set()
    except ListingCut as error:
        return Unsure(error.message)
    found = (number for number in sorted(seen) if number not in used and not client.list_files(number))
    first = next(found, None)
    return NotThere() if first is None else BatchCreated(first)


def find_run(client: AIHub, step: FindRun) -> Outcome:
    """Find a run by its exact tag, and say where its absence proves nothing."""
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
            return Unsure("the list of runs does not come to rest")
    except ListingCut as error:
        return Unsure(error.message)
    if found := ours():
        return RunSeen(found[0], tuple(run.id for run in found[1:]))
    if step.newest and step.newest not in seen:
        return Unsure(f"run {step.newest}, which is known, is missing from the list of runs")
    doubts = (_doubt(run, step) for run in seen.values() if run.id not in step.known)
    why = next(filter(None, doubts), "")
    return Unsure(why) if why else NotThere()


def _doubt(run: RunInfo, step: FindRun) -> str:
    """Say why a run of unknown id may be the one that is looked for, although it does not carry its tag and batch."""
    if step.tag in (run.tags or ()):
        is_siblings = run.batch_id in step.siblings
        return "" if is_siblings else f"run {run.id} carries its tag, but is on batch {run.batch_id}"
    if any(parse_run_tag(tag) for tag in run.tags or ()):
        return ""  # it is another of ours
    if run.batch_id == step.remote_batch:
        return f"run {run.id} on batch {step.remote_batch} carries no tag of ours to tell it by"
    if run.batch_id is None and _is_after(run, step.created_ms):
        return f"run {run.id} names no batch and carries no tag of ours to tell it by"
    return ""


def _is_after(run: RunInfo, created_ms: int) -> bool:
    """Whether a run may have been started since a batch was made, as far as two clocks of the service agree."""
    return not run.start_timestamp or not created_ms or run.start_timestamp // 1_000_000 >= created_ms - DAY_MS


def preference(run: RunInfo) -> tuple[int, int]:
    """Order runs that carry one tag: complete ones, then those still going, the oldest first."""
    return rank_status(run.status), run.start_timestamp or 0


def await_twin(client: AIHub, step: AwaitTwin) -> Outcome:
    """Wait until the run of an older batch of our name shows; NotThere where none does in time."""
    while True:
        try:
            runs = client.list_runs(step.from_s)
        except ListingCut as error:
            return Unsure(error.message)
        found = sorted((run for run in runs if _is_twins(run, step)), key=preference)
        if found:
            return RunSeen(found[0], tuple(run.id for run in found[1:]))
        left_s = step.settled_at_s - time.monotonic()
        if left_s <= 0:
            return NotThere()
        client.pause(min(LOOK_EVERY_S, left_s))


def _is_twins(run: RunInfo, step: AwaitTwin) -> bool:
    return step.tag in (run.tags or ()) and run.batch_id in (None, step.elder)


def poll_run(client: AIHub, step: PollRun) -> Outcome:
    """Ask how a run is; it is gone only if runs can be listed and it is not among them."""
    try:
        return RunSeen(client.get_run(step.remote_id, batch_id=step.remote_batch or None, tag=step.tag))
    except ServiceError as error:
        if error.status != 404 or time.monotonic() < step.young_until_s:
            raise
        check_gone(client, step.remote_id, step.from_s, step.others)
        return Gone()


def check_gone(client: AIHub, run_id: str, from_s: float, others: Collection[str] | None) -> None:
    """Make sure that a run which answered 404 is not there any more.

    Two readings of the listing must agree on it, and each hold another run that is known: a token that may not see
    gets empty listings, too. None for `others` says that nothing depends on it. Raises ServiceError where that is not
    so.
    """
    for _ in range(2):
        listed = {run.id for run in client.list_runs(from_s)}
        if run_id in listed:
            raise ServiceError(f"run {run_id}: answered 404, but is listed", "apply again in a while", status=404)
        if others is not None and listed.isdisjoint(others):
            raise ServiceError(
                f"run {run_id}: answered 404, and no other run that is known is listed either",
                "check the context, and that the account may see its runs",
                status=404,
            )


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found on the service before paying: all batches of the workspace, and all runs."""

    batches: tuple[BatchInfo, ...]
    runs: tuple[RunInfo, ...]


def survey(client: AIHub, workspace: str) -> Survey:
    """List all batches and runs, before anything is paid, for what another state may have paid for."""
    batches = tuple(client.list_batches(workspace))
    return Survey(batches, tuple(client.list_runs(1)))
