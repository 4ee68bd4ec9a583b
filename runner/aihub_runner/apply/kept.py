"""A batch that is kept: what it holds now, and which shard is run on it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import partial

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.errors import ServiceError
from aihub_runner.model import FOREIGN, Listed, Look
from aihub_runner.plan.planner import PAYS, Work


def look_at_batch(job: Job, client: AIHub) -> Job:
    """Return the job with what its kept batch holds now. Raises ServiceError if the batch cannot be listed."""
    if job.goal.kept != FOREIGN:
        return job
    files = in_thread(partial(list_batch, client, job.goal.batch_id))
    if files is None:
        raise ServiceError(
            f"{job.shown}: batch {job.goal.batch_id} does not exist, or this account cannot see it",
            "check id in [batch], and the context",
            status=404,
        )
    return replace(job, look=Look(job.goal.batch_id, files))


def list_batch(client: AIHub, remote_id: int) -> dict[str, Listed] | None:
    """List the files of a batch by their names (NFC); None if there is no such batch."""
    found = or_none(lambda: client.list_files(remote_id))
    if found is None:
        return None
    return {
        unicodedata.normalize("NFC", name): Listed(name, file.size, file.modified_timestamp)
        for name, file in found.items()
    }


def record_places(opened: OpenJob, work: Iterable[Work]) -> None:
    """Record, for each shard that is about to be run on the kept batch, that the batch holds it now."""
    job, state, look = opened.job, opened.state, opened.job.look
    if not job.goal.kept or look is None:
        return
    for item in work:
        if item.action not in PAYS:
            continue
        with state.transaction():
            [shard] = state.load_shards(item.shard.id)
            batch = shard.batch_in(job.goal.target)
            if batch and not (batch.kept and batch.remote_id == look.remote_id):
                state.record_batch_gone(batch.id)
                batch = None
            row = (
                batch.id if batch else state.record_kept_batch(shard.id, job.goal.target, look.remote_id, job.goal.kept)
            )
            state.record_uploads(row, ((member.name, member.digest) for member in shard.members))
            state.record_modified(row, {name: file.modified_s or 0 for name, file in look.files.items()})
