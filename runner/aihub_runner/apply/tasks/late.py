"""Workers that may still send files although nobody waits for them any more.

A worker beyond this process may die, hang, or lose the network, and so may the process that gave it work. It sends
nothing but the planned bytes, under the planned name, and nothing at all after a while. So a batch is not run before
that, and not at all where it should hold other files by now: they go into another batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from aihub_runner.apply import events
from aihub_runner.model import Batch, Handed, Member, Shard
from aihub_runner.plan.identity import fingerprint_of

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context


class Late(Struct):
    """What was handed to workers, by batch (row). `before`: until when what earlier applies did may arrive."""

    handed: dict[int, Handed]
    before: dict[int, float]


def hand_over(context: Context, shard: Shard, batch: Batch, missing: Sequence[Member]) -> None:
    """Record, before files are handed to workers, that these may send them late."""
    fleet = context.engine.fleet
    if fleet is None or not missing:
        return
    late_s = fleet.late_s([member.size for member in missing])
    before = context.late.handed.get(batch.id)
    handed = Handed(fingerprint_of(shard), max(late_s, before.late_s if before else 0.0))
    context.state.record_handed(batch.id, handed)
    context.late.handed[batch.id] = handed


def late_until_s(context: Context, batch: int) -> float:
    """Return until when a worker may send late to a batch, by the monotonic clock; 0 where none can."""
    fleet = context.engine.fleet
    return max(context.late.before.get(batch, 0.0), fleet.late_until_s(batch) if fleet else 0.0)


def is_spoilt(context: Context, shard: Shard, batch: Batch) -> bool:
    """Whether a worker may send late what the batch must not hold any more. Then record that another one is needed."""
    handed = context.late.handed.get(batch.id)
    if handed is None or handed.fingerprint == fingerprint_of(shard) or not late_until_s(context, batch.id):
        return False
    context.reporter.emit(events.BatchSpoilt(batch.remote_id or 0))
    leave_batch(context, shard.id, batch.id)
    return True


def leave_batch(context: Context, shard: int, batch: int) -> None:
    """Record that a batch of a shard is not used any more, and forget what is known of it."""
    context.state.record_batch_gone(batch)
    forget_handed(context, batch)
    progress = context.shards[shard]  # what is known of other clones concerned that batch
    progress.elder, progress.claim = 0, None
    progress.is_found = progress.is_claimed = progress.is_settled = False


def wait_s(context: Context, batch: Batch) -> float:
    """Return how long to wait until no worker can send to a batch any more, and report a wait."""
    left_s = max(0.0, late_until_s(context, batch.id) - context.engine.clock())
    if left_s:
        context.reporter.emit(events.LateWorkersAwaited(batch.remote_id or 0, left_s))
    return left_s


def release(context: Context) -> None:
    """Record, at the end of an apply, how much longer the next one has to wait: not at all where all tasks ended."""
    with context.state.transaction():
        for batch, handed in list(context.late.handed.items()):
            left_s = late_until_s(context, batch) - context.engine.clock()
            if left_s <= 0:
                forget_handed(context, batch)
            elif left_s < handed.late_s:
                context.state.record_handed(batch, Handed(handed.fingerprint, left_s))


def forget_handed(context: Context, batch: int) -> None:
    """Record that no worker can send to a batch any more."""
    if context.late.handed.pop(batch, None):
        context.late.before.pop(batch, None)
        context.state.forget_handed(batch)
