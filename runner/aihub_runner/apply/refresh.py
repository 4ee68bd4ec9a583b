"""Ask the service, on request, whether the recorded batches and runs are still there. Nothing is paid because of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from msgspec.structs import astuple

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.apply import events
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.model import Batch, Run, Shard
from aihub_runner.plan.deletion import BATCH, RUN
from aihub_runner.report.summary import Drift

LOOKS = 8  # things that are asked for in parallel
GONE = "GONE"
HIDDEN = "missing from the list, but there when asked for by its id"
UNSURE = "not found, but no other recorded one is listed either: check the context, and what the account can see"

Id = TypeVar("Id", int, str)


def find_drift(job: Job, shards: Sequence[Shard], client: AIHub) -> list[Drift]:
    """Compare the recorded batches and runs with those on the service. Reads only; raises ServiceError.

    One is gone only if two lists agree, each shows another recorded one, and it returned 404.
    """
    settle_s, target = job.spec.limits.settle_s, job.goal.target
    every = [batch for shard in shards for batch in shard.batches if batch.target == target]
    rows = {batch.id for batch in every}
    batches = [batch for batch in every if batch.remote_id and not batch.is_gone]
    runs = [run for shard in shards for run in shard.runs if run.batch in rows and run.remote_id]
    runs = [run for run in runs if not run.is_gone and not run.is_deleted]
    return [*_find_batches(job, client, batches, settle_s), *_find_runs(client, runs, settle_s)]


def _find_batches(job: Job, client: AIHub, batches: Sequence[Batch], settle_s: float) -> list[Drift]:
    """Compare batches. One that was created a moment ago may not be listed yet."""
    known = {batch.remote_id or 0: batch for batch in batches}
    young = {id for id, batch in known.items() if batch.since.boot and batch.since.left_s(settle_s)}

    def read() -> Mapping[int, str]:
        return {batch.id: "" for batch in client.list_batches(job.target.workspace)}

    missing = _find_missing(known, young, read, lambda id: or_none(partial(client.get_batch, id)))
    return [Drift(BATCH, str(id), "there", found) for id, found in missing.items()]


def _find_runs(client: AIHub, runs: Sequence[Run], settle_s: float) -> list[Drift]:
    known = {run.remote_id or "": run for run in runs}
    young = {id for id, run in known.items() if run.since.boot and run.since.left_s(settle_s)}
    bound_s = min((run.bound_s for run in runs), default=1)
    listed: dict[str, str] = {}

    def read() -> Mapping[str, str]:
        listed.update((run.id, run.status) for run in client.list_runs(bound_s))
        return dict(listed)

    missing = _find_missing(known, young, read, lambda id: or_none(partial(client.get_run, id)))
    changed = {id: listed[id] for id, run in known.items() if listed.get(id, run.status) != run.status}
    return [
        Drift(RUN, id, known[id].status or "started", found)
        for id, found in sorted((missing | changed).items(), key=lambda one: known[one[0]].id)
    ]


def _find_missing(
    known: Collection[Id], young: Collection[Id], read: Callable[[], Mapping[Id, str]], get: Callable[[Id], object]
) -> dict[Id, str]:
    """Return what is to be said of each known one that a list does not show, and another list neither."""
    if not known:
        return {}
    first = read()
    if all(id in first for id in known):
        return {}
    second = read()
    missing = [id for id in known if id not in first and id not in second and id not in young]
    others = set(known) - set(missing)
    is_proven = not others.isdisjoint(first) and not others.isdisjoint(second)
    with ThreadPoolExecutor(LOOKS) as pool:
        there = list(pool.map(get, missing))
    absent = GONE if is_proven else UNSURE
    return {id: absent if found is None else HIDDEN for id, found in zip(missing, there, strict=True)}


def refresh(opened: OpenJob) -> None:
    """Show what is not as it is recorded, and record what is gone.

    A run that is gone before its results were fetched has failed, and is paid again only with `--retry-failed`. The
    files of a batch that is gone are sent again where they are still needed, which is free. A kept batch has its own
    rules, and is only shown.
    """
    job, state = opened.job, opened.state
    opened.reporter.emit(events.RefreshStarted())
    shards = state.load_shards()
    rows = {(BATCH, str(batch.remote_id)): batch.id for shard in shards for batch in shard.batches if not batch.kept}
    rows |= {(RUN, run.remote_id or ""): run.id for shard in shards for run in shard.runs}
    drifts = in_thread(lambda: find_drift(job, shards, opened.client))
    with state.transaction():
        for drift in drifts:
            opened.reporter.emit(events.Drifted(*astuple(drift)))
            if drift.found == GONE and (drift.kind, drift.id) in rows:
                record = state.record_batch_gone if drift.kind == BATCH else state.record_run_gone
                record(rows[drift.kind, drift.id])
