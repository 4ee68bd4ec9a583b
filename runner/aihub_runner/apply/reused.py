"""Runs that carry an id which the state has for another run: a service that was restored gives ids again.

Such a run is paid for, and cannot be recorded: ids never change, and its results would mix with those of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.errors import UnknownOutcome

if TYPE_CHECKING:  # a worker in another process loads no state
    from aihub_runner.apply.job import Job
    from aihub_runner.state.store import State


def describe_reused(run: RunInfo, tag: str, remote_batch: int) -> str:
    """Say that a run under a recorded id is the one with this tag on this batch; empty if it is not."""
    is_it = tag in (run.tags or ()) and run.batch_id == remote_batch
    return f"run {run.id} has its tag, but this id is already recorded for another run" if is_it else ""


def check_reused(job: Job, state: State, planned: Iterable[RunInfo]) -> None:
    """Raise UnknownOutcome if a run of planned work has an id that is recorded for another run.

    A tag that is recorded is no matter: either it is that run's own, or a person or a check has decided about it.
    """
    known = state.known_runs()
    suspects = [run for run in planned if run.id in known]
    recorded = {run.tag for shard in state.load_shards() for run in shard.runs} if suspects else set()
    reused = next((run for run in suspects if recorded.isdisjoint(run.tags or ())), None)
    if reused is not None:
        raise UnknownOutcome(
            f"{job.spec_path.name}: run {reused.id} on batch {reused.batch_id} has the tag of work about to be paid, "
            "but this id is already recorded for another run",
            "the service gave an id twice, as after a restored backup; to pay for these files again, use "
            f"`{job.command('apply')} --again --only FILES`",
        )
