"""What the service lists, and which of it is ours."""

from __future__ import annotations

from msgspec import Struct

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply.background import do_both, in_thread
from aihub_runner.apply.job import Job
from aihub_runner.apply.recovery import find_info
from aihub_runner.errors import ListingCut, ServiceError, UnknownOutcome
from aihub_runner.state.store import State


class Survey(Struct, frozen=True):
    """What exists on the service before paying: all batches of the workspace, and all runs."""

    batches: tuple[BatchInfo, ...]
    runs: tuple[RunInfo, ...]


def list_all(job: Job, client: AIHub) -> Survey:
    """List all batches and runs before paying, to find what another state may have paid for.

    Which of the two lists is the newer does not matter: work whose batch shows and whose run does not is looked for
    again.
    """
    try:
        batches, runs = in_thread(
            lambda: do_both(lambda: client.list_batches(job.target.workspace), lambda: client.list_runs(1))
        )
        return Survey(tuple(batches), tuple(runs))
    except ListingCut as error:
        raise UnknownOutcome(
            f"{job.spec_path.name}: cannot check what was paid before, {error.message}",
            "apply again in a while; nothing was paid",
        ) from None


def known_batches(state: State) -> set[int | str | None]:
    """Return the ids of our batches. Where an id is unknown, no run can be on the batch: return its name."""
    ours = [batch for shard in state.load_shards() for batch in shard.batches]
    return {batch.remote_id for batch in ours} | {batch.name for batch in ours if batch.remote_id is None}


def find_batch_of(client: AIHub, run_id: str) -> int:
    """Find the batch of a run from the run itself or its results; 0 where neither has it."""
    info = find_info(client, run_id)
    if info is not None and info.batch_id:
        return info.batch_id
    try:
        _, page = client.get_results(run_id, {}, 0)
    except ServiceError:
        return 0
    text = str(page.batch_id or "")
    return int(text) if text.isascii() and text.isdigit() else 0
