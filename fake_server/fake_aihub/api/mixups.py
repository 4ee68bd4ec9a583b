"""The fault `another`: responses about a different run or batch than requested."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from fake_aihub.api.service import Service
from fake_aihub.controls.faults import knobs_of
from fake_aihub.world.entities import Batch, Run

# Used if a context has no other run or batch.
NO_BATCH = 1
NO_RUN = "ffffffff-ffff-4fff-afff-ffffffffffff"


def meant_run(service: Service, request: Request, run: Run) -> Run:
    """Return the run to respond with: this one, or by fault the one of id `name` or the newest other one."""
    for fault in knobs_of(request.scope, "another"):
        runs = service.world.runs
        others = [key for key, other in runs.items() if other.context == run.context and key != run.id]
        key = fault.name or (others[-1] if others else NO_RUN)
        # If `name` does not exist, return a copy of this run with that id.
        return runs.get(key) or replace(run, id=key)
    return run


def meant_batch(service: Service, request: Request, batch: Batch) -> Batch:
    """Return the batch to respond with: this one, or by fault the one of id `name` or the newest other one."""
    for fault in knobs_of(request.scope, "another"):
        batches = service.world.batches
        others = [key for key, other in batches.items() if other.context == batch.context and key != batch.id]
        key = int(fault.name) if fault.name else others[-1] if others else NO_BATCH
        return batches.get(key) or replace(batch, id=key)
    return batch
