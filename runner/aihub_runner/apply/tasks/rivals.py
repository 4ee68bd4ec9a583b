"""Batches of other clients that may be about to run the same files in another group, as with another `--only`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING

from msgspec import Struct

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import BatchInfo
from aihub_runner.apply.steps import Outcome
from aihub_runner.model import Batch, Shard

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context

READINGS = 2


class Own(Struct, frozen=True):
    """Our batch: its id, its name and workspace, its files with their sizes, and the run key.

    `spec_name` begins the names of all batches of the job. `known` and `names` are batches that need no look: those
    of this state and those whose files were compared before, by id, and those created since, by name: `names` grows.
    `others` need a look although they have our name: they were run with other content, which may share files with ours.
    With `takes_over`, only runs of others matter.
    """

    remote_id: int
    name: str
    workspace: str
    sizes: Mapping[str, int]
    spec_name: str
    run_key: str
    known: frozenset[int]
    names: Set[str]
    takes_over: bool = False
    others: frozenset[int] = frozenset()


class Rival(Outcome, frozen=True):
    """Another client's batch holds one of the files, and may be run first, or was."""

    remote_id: int
    name: str


def describe_own(context: Context, shard: Shard, batch: Batch) -> Own | None:
    """Return our batch as `find_rival` needs it; None where no other client matters."""
    job, options = context.job, context.job.options
    if batch.kept or options.again or job.is_fake or not batch.name or batch.remote_id is None or job.goal.input:
        return None
    sizes = {member.name: member.size for member in shard.sendable}
    return Own(
        batch.remote_id,
        batch.name,
        job.target.workspace,
        sizes,
        job.spec.name,
        context.goal.run_key,
        context.compared_batches,
        context.names,
        options.adopt,
        context.shards[shard.id].others,
    )


def find_rival(client: AIHub, own: Own, batches: Iterable[BatchInfo], settle_s: float) -> Rival | None:
    """Find another client's batch that holds one of our files, and was run with our run key, or is older than ours.

    An older one that was not run may still be filled, so it is read again after `settle_s`.
    """
    rivals = _list_rivals(own, batches)
    for reading in range(READINGS):
        if not rivals:
            return None
        runs = client.list_runs(1)
        ran = {run.batch_id for run in runs}
        paid = {run.batch_id for run in runs if any(key == own.run_key for _, key, _ in run.our_tags)}
        for rival in rivals:
            is_first = rival.id < own.remote_id and rival.id not in ran and not own.takes_over
            if (is_first or rival.id in paid) and (name := _find_common(client, rival.id, own.sizes)):
                return Rival(rival.id, name)
        if reading or not any(rival.id < own.remote_id and rival.id not in ran for rival in rivals):
            return None
        client.pause(settle_s)
        rivals = _list_rivals(own, client.list_batches(own.workspace))
    return None


def _list_rivals(own: Own, batches: Iterable[BatchInfo]) -> list[BatchInfo]:
    of_job = re.compile(re.escape(own.spec_name) + "-[0-9a-f]{64}")
    return [
        batch
        for batch in batches
        if batch.id not in own.known and batch.id != own.remote_id and of_job.fullmatch(batch.name)
        if batch.id in own.others or (batch.name != own.name and batch.name not in own.names)
    ]


def _find_common(client: AIHub, batch_id: int, sizes: Mapping[str, int]) -> str:
    """Return a file of ours that a batch holds, by name and size; empty if it holds none, or is gone."""
    files = or_none(lambda: client.list_files(batch_id)) or {}
    held = {unicodedata.normalize("NFC", name): file.size for name, file in files.items()}
    return next((name for name, size in sizes.items() if held.get(name) == size), "")
