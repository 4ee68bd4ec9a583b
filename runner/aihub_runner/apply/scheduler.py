"""Work through a plan: decide what a shard needs next, submit it, and record the outcome.

All of this runs in the main thread, which never does HTTP. An intent is committed before its request is submitted,
and facts are recorded before the next decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aihub_runner.apply.context import Context
from aihub_runner.apply.events import Tick, UploadPlanned
from aihub_runner.apply.pool import Done
from aihub_runner.apply.steps import Lost, Outcome, RunSeen, Step, Stopped
from aihub_runner.apply.tasks import batch, clones, fetch, run, upload
from aihub_runner.errors import ServiceError
from aihub_runner.model import Shard
from aihub_runner.plan.planner import PAYS, Action, Work, missing_uploads, next_action

TICK_S = 1.0

# What to do for a shard; it may return what to do instead.
TASKS: Mapping[Action, Callable[[Context, Shard], Action | None]] = {
    Action.CREATE_BATCH: batch.create,
    Action.FIND_BATCH: batch.find,
    Action.VERIFY: batch.verify,
    Action.UPLOAD: upload.upload,
    Action.CHECK: batch.check,
    Action.START_RUN: run.start,
    Action.FIND_RUN: run.find,
    Action.POLL: run.poll,
    Action.FETCH: fetch.fetch,
}
RECORDERS: Mapping[type, Callable[[Context, Any, Outcome], None]] = {
    batch.CreateBatch: batch.record_made,
    batch.FindBatch: batch.record_made,
    batch.VerifyBatch: batch.record_verified,
    upload.SendFile: upload.record_sent,
    batch.CheckBatch: batch.record_checked,
    clones.ClaimRun: clones.record_claim,
    clones.AwaitTwin: clones.record_twin,
    run.StartRun: run.record,
    run.FindRun: run.record,
    run.PollRun: run.record,
    fetch.FetchResults: fetch.record_fetched,
}


class Scheduler:
    """Works on the shards of one plan; with `sends_only`, until their files are sent."""

    def __init__(self, context: Context, *, sends_only: bool = False) -> None:
        self.context = context
        self._leaves = frozenset({Action.CHECK, Action.START_RUN} if sends_only else ())
        self._waiting: deque[Work] = deque()

    def run(self, work: Iterable[Work]) -> None:
        """Work until nothing is left that can be done now. Raises only bugs and StateError."""
        context, engine = self.context, self.context.engine
        for item in work:
            progress = context.shards[item.shard.id]
            progress.attempt, progress.is_stale = item.attempt, item.is_stale
            if item.action in PAYS:
                self._waiting.append(item)
                self._count_uploads(item.shard)
            else:
                self._advance(item.shard.id)
        while self._begin_more() or not engine.is_idle:
            self._take(engine.wait(TICK_S))
            context.reporter.emit(Tick())
            if engine.client.stop.is_set() or context.halted:
                context.starting.clear()
                self._waiting.clear()
                engine.drop_all()
            if context.job.options.no_wait and engine.is_idle and not context.has_room:
                context.starting.clear()
            if engine.clock() >= context.deadline_s:
                context.starting.clear()  # nothing is in flight, so no room will be freed for them
                engine.drop_timers()

    def _count_uploads(self, shard: Shard) -> None:
        missing = missing_uploads(shard, self.context.goal.target)
        self.context.reporter.emit(UploadPlanned(len(missing), sum(member.size for member in missing)))

    def _begin_more(self) -> bool:
        """Start shards while there is room for uploads, and runs while there is room for runs."""
        context = self.context
        if context.stopped_paying:
            self._waiting.clear()
            context.starting.clear()
        if self._waiting and context.engine.wants_uploads:
            self._advance(self._waiting.popleft().shard.id)
        if context.starting and context.has_room:
            self._advance(context.starting.popleft())
        return bool(self._waiting or context.starting)

    def _take(self, outcomes: list[Done]) -> None:
        if not outcomes:
            return
        with self.context.state.transaction():
            for step, outcome in upload.record_all_sent(self.context, outcomes):
                self._record(step, outcome)
        self.context.unrecorded.clear()
        for shard_id in dict.fromkeys(step.shard for step, _ in outcomes):
            if not self.context.shards[shard_id].outstanding:
                self._advance(shard_id)

    def _advance(self, shard_id: int) -> None:
        """Do what a shard needs next."""
        context, progress = self.context, self.context.shards[shard_id]
        if context.is_over(shard_id):
            return
        found = context.state.load_shards(shard_id)
        if not found:
            return
        fetched = progress.fetched == progress.attempt
        action: Action | None = next_action(
            found[0], context.goal, progress.attempt, checked=progress.is_checked, fetched=fetched
        )
        while action and action is not Action.NOTHING and action not in self._leaves:
            if action in PAYS and context.stopped_paying:
                return
            action = TASKS[action](context, found[0])

    def _record(self, step: Step, outcome: Outcome) -> None:
        """Record the outcome of a step. Needs an open transaction."""
        context = self.context
        context.shards[step.shard].outstanding -= 1
        if self._is_taken(step, outcome):
            if isinstance(step, batch.FindBatch | run.FindRun | clones.AwaitTwin):
                return  # by a twin with the same names and bytes; the check is repeated
            what = "the response names an id that is already recorded for another shard"
            outcome = Lost(context.now_s, ServiceError(f"{step.__class__.__name__}: {what}"))
        if isinstance(outcome, Stopped):
            context.forget_unsent(step)
        else:
            RECORDERS[type(step)](context, step, outcome)

    def _is_taken(self, step: Step, found: Outcome) -> bool:
        """Whether an id that is new to this step is already recorded for another."""
        if isinstance(found, batch.BatchCreated):
            return self.context.state.knows_batch(found.remote_id)
        is_new = isinstance(step, run.StartRun | run.FindRun | clones.AwaitTwin)
        return is_new and isinstance(found, RunSeen) and self.context.state.knows_run(found.info.id)
