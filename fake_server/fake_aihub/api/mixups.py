"""The fault `another`: responses about a different run or batch than requested."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request

from fake_aihub.api.service import Service
from fake_aihub.controls.faults import knobs_of
from fake_aihub.world.entities import Batch, Run

Thing = TypeVar("Thing", Batch, Run)
# Used if a context has no other run or batch.
NO_BATCH = 1
NO_RUN = "ffffffff-ffff-4fff-afff-ffffffffffff"


def meant_run(service: Service, request: Request, run: Run) -> Run:
    """Return the run to respond with: this one, or by fault the one of id `name` or the newest other one."""
    return _meant(request, service.world.runs, run, str, NO_RUN)


def meant_batch(service: Service, request: Request, batch: Batch) -> Batch:
    """Return the batch to respond with: this one, or by fault the one of id `name` or the newest other one."""
    return _meant(request, service.world.batches, batch, int, NO_BATCH)


def _meant(request: Request, known: dict[Any, Thing], thing: Thing, kind: type, none: object) -> Thing:
    for fault in knobs_of(request.scope, "another"):
        others: list[Any] = [key for key, other in known.items() if other.context == thing.context and key != thing.id]
        key = kind(fault.name) if fault.name else [none, *others][-1]
        # If `name` does not exist, return a copy with that id.
        return known.get(key) or replace(thing, id=key)
    return thing
