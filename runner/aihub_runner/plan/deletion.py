"""Plan what may be deleted on the service. Pure: no disk, no network, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from aihub_runner.model import FOREIGN, Batch, Goal, Run, Shard

BATCH, RUN = "batch", "run"
UNCONFIRMED = "the start of a run on it is unconfirmed"
UNFETCHED = "has results that are not fetched"
INPUT = frozenset({"input"})  # all that a batch has
OUTPUT = frozenset({"db_data", "output"})
LOGS = frozenset({"logs"})

Deleted = Mapping[tuple[str, str], frozenset[str]]  # parts, by kind and id


class Item(Struct, frozen=True):
    """A batch or a run to delete on the service, by its id there; `left` says why it is not deleted.

    `name` is the recorded name of the batch (empty if another state created it), or the tag of the run. `paths` are
    the files in it. `was_gone` says that the service did not have it when last asked, `loses` that results are deleted
    that are not on disk here.
    """

    kind: str
    remote_id: str
    name: str
    parts: frozenset[str]
    paths: tuple[str, ...]
    status: str = ""
    left: str = ""
    was_gone: bool = False
    loses: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it on the service."""
        return self.kind, self.remote_id


class Wish(Struct, frozen=True):
    """What to delete, of what was done for a goal.

    `deleted` are the parts that are confirmed as deleted, `begun` what was asked for without a confirmation.
    `unanswered` are the rows of runs with files that have no answer. `parts` are what `[cleanup]` deletes.
    """

    goal: Goal
    deleted: Deleted = {}
    begun: Collection[tuple[str, str]] = ()
    keep_results: bool = False
    discard: bool = False
    parts: frozenset[str] = INPUT | OUTPUT | LOGS
    unanswered: Collection[int] = ()


def plan_destroy(shards: Iterable[Shard], wish: Wish) -> list[Item]:
    """Return every batch and run of the goal's target, batches first, with why one is left."""
    items = [item for shard in shards for batch in _batches(shard, wish) for item in _destroy(shard, batch, wish)]
    return _still_there(items, wish)


def _destroy(shard: Shard, batch: Batch, wish: Wish) -> Iterator[Item]:
    runs = [run for run in shard.runs if run.batch == batch.id]
    why = "" if batch.remote_id else "it is unconfirmed whether it was created"
    reasons = (_keeps_batch(run, wish) for run in runs)
    if _is_ours(batch):
        yield _batch_item(shard, batch, why or next(filter(None, reasons), ""), wish)
    for run in runs:
        if run.remote_id and (run.is_deleted or not run.is_gone) and not wish.keep_results:
            yield _run_item(
                shard,
                run,
                OUTPUT | LOGS,
                keeps_run(run, wish.goal, discards=wish.discard),
                loses=is_unfetched(run, wish.goal),
            )


def plan_cleanup(shards: Iterable[Shard], wish: Wish) -> list[Item]:
    """Return what `[cleanup]` deletes: of batches whose runs are all final, answered, and on disk as asked for."""
    items, busy = [], set[str]()
    for shard in shards:
        for batch in _batches(shard, wish):
            runs = [run for run in shard.runs if run.batch == batch.id and not run.is_given_up]
            today = [run for run in runs if run.run_key == wish.goal.run_key]
            newest = max(today, key=lambda run: run.attempt, default=None)
            if not all(_is_settled(run, wish) for run in runs):
                busy.add(str(batch.remote_id))
                continue
            if newest is None or newest.status != "COMPLETE":
                continue
            if wish.parts & INPUT and batch.remote_id and not batch.kept:
                items.append(_batch_item(shard, batch, "", wish))
            parts = wish.parts - INPUT
            done = [run for run in today if run.status == "COMPLETE" and (run.is_deleted or not run.is_gone)]
            items += [_run_item(shard, run, parts, "") for run in done if parts]
    items = [item for item in items if item.kind == RUN or item.remote_id not in busy]
    return [item for item in _still_there(items, wish) if not item.was_gone]


def _is_settled(run: Run, wish: Wish) -> bool:
    """Whether nothing of a run's results can be missing here, now or later."""
    if run.is_open or not run.is_final or run.id in wish.unanswered:
        return False
    return run.status != "COMPLETE" or run.is_gone or not is_unfetched(run, wish.goal)


def is_unfetched(run: Run, goal: Goal) -> bool:
    """Whether a run has results on the service that are not on disk here, in the form that is asked for."""
    if run.status != "COMPLETE" or run.is_gone:
        return False
    return goal.lacks(run) if run.run_key == goal.run_key else not run.fetched or run.id in goal.damaged


def _batches(shard: Shard, wish: Wish) -> list[Batch]:
    return [batch for batch in shard.batches if batch.target == wish.goal.target]


def _is_ours(batch: Batch) -> bool:
    """Whether we made a batch, so that its files are ours to delete."""
    return batch.kept != FOREIGN


def _batch_item(shard: Shard, batch: Batch, left: str, wish: Wish) -> Item:
    remote_id = "" if batch.remote_id is None else str(batch.remote_id)
    was_gone = batch.is_gone and (BATCH, remote_id) not in wish.begun
    paths = tuple(member.path or member.name for member in shard.members if member.name in batch.uploads)
    return Item(BATCH, remote_id, batch.name, INPUT, paths, left=left, was_gone=was_gone)


def _run_item(shard: Shard, run: Run, parts: frozenset[str], left: str, *, loses: bool = False) -> Item:
    assert run.remote_id
    return Item(
        *(RUN, run.remote_id, run.tag, parts),
        tuple(member.path or member.name for member in shard.members),
        run.status,
        left=left,
        loses=loses,
    )


def _keeps_batch(run: Run, wish: Wish) -> str:
    """Return why the batch of a run is left; empty if the run does not keep it."""
    if run.is_open:
        return UNCONFIRMED
    why = keeps_run(run, wish.goal, discards=wish.discard)
    return f"run {run.remote_id} {why}" if why else ""


def keeps_run(run: Run, goal: Goal, *, discards: bool = False) -> str:
    """Return why a run is left; empty if it may be deleted."""
    if not run.is_final and not run.is_gone:
        return f"is {run.status or 'started'}"
    if is_unfetched(run, goal) and not discards:
        return UNFETCHED
    return ""


def _still_there(items: Iterable[Item], wish: Wish) -> list[Item]:
    """Return the items with parts that are not deleted yet, each once, batches first."""
    ordered = sorted(items, key=lambda item: bool(item.left))  # if two shards share a batch, one may need it
    once = {item.key if item.remote_id else (item.kind, item.name): item for item in ordered}
    left = [item for item in once.values() if not item.parts <= wish.deleted.get(item.key, frozenset())]
    return sorted(left, key=lambda item: item.kind)
