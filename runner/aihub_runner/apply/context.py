"""What the tasks of one apply share: the job, its state, the threads, and the progress so far."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.aihub.transport import MAX_PATIENCE_S, MAX_WAIT_S, SENT_WITHIN_S
from aihub_runner.apply import events
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.shard_progress import ShardProgress
from aihub_runner.apply.steps import Failed, Outcome, Step
from aihub_runner.apply.tasks.batch import CheckBatch, CreateBatch
from aihub_runner.apply.tasks.late import Late
from aihub_runner.apply.tasks.run import StartRun
from aihub_runner.errors import ClusterLost, RunnerError, ServiceError, StateError
from aihub_runner.model import FINAL_STATUSES, REVIEW_STATUS, Batch, Run, Shard, SkippedFile
from aihub_runner.plan.identity import fingerprint_of, run_tag
from aihub_runner.plan.planner import find_attempt
from aihub_runner.state.store import State
from aihub_runner.system.moment import Moment
from aihub_runner.text.escape import clean_text

if TYPE_CHECKING:
    from aihub_runner.apply.pool import Engine

MAX_STARTS = 3
MAX_PATIENCE = 20  # temporary refusals of one shard
MAX_TROUBLED_SHARDS = 3
CONCERNS_ONE = frozenset({400, 409, 413, 415, 422})  # refusals that concern one shard only
NS = 1_000_000_000
RUN_TIMES = 10  # of this app, to expect the end of the next run
OTHERS_S = 1.0  # how long to use them
OTHERS = 50  # known runs, to distinguish an empty listing from one that hides runs


class Ground(Struct, frozen=True):
    """What is known of the service and of this machine before work starts.

    `batches` maps names to the ids of existing batches. `dismissed_batches` are those that the user decided to skip.
    `held` are the paths of files that may have been paid for, which is unconfirmed. `is_lock_weak` says that another
    process may hold the state, too. `blind_since_ns` is when the newest known run started (nanoseconds, as the service
    reports it) where no known run is listed any more, else 0. `run_batches` are batches that had a run.
    """

    batches: Mapping[str, frozenset[int]] = {}
    dismissed_batches: frozenset[int] = frozenset()
    held: frozenset[str] = frozenset()
    is_lock_weak: bool = False
    blind_since_ns: int = 0
    run_batches: frozenset[int] = frozenset()


class Context:
    """What the tasks share.

    `going` holds the runs in flight (rows), `started` those that this apply started, and `unrecorded` those of them
    that are not committed yet. `names` are those of the batches that this apply created. `starting` holds the shards
    that wait for room for a run. `skipped` and `changed` say what was found out about files while they were sent,
    `hashed` has the digests of files elsewhere.
    """

    def __init__(self, job: Job, state: State, engine: Engine, reporter: Reporter, ground: Ground) -> None:
        self.job, self.state, self.engine, self.reporter, self.ground = job, state, engine, reporter, ground
        self.goal = job.goal
        self.shards: defaultdict[int, ShardProgress] = defaultdict(ShardProgress)
        self.errors: list[RunnerError] = []
        self.starting: deque[int] = deque()
        self.going: set[int] = set()
        self.started: set[int] = set()
        self.unrecorded: list[RunInfo] = []
        self.names: set[str] = set()
        self.skipped: dict[str, SkippedFile] = {}
        self.changed: dict[str, tuple[int, str]] = {}
        self.hashed: dict[str, str] = {}
        self.bad_disks: set[int] = set()
        self.halted = False
        self.stopped_paying = False
        wait_s = job.options.wait_timeout_s
        self.deadline_s = float("inf") if wait_s is None else engine.clock() + wait_s
        self.run_times_s: deque[float] = deque(maxlen=RUN_TIMES)
        self.seen: dict[int, RunInfo] = {}
        self._others = frozenset[str]()
        self._others_until_s = 0.0
        self._begun_s = engine.clock()
        self._troubled: set[int] = set()

    def is_over(self, shard: int) -> bool:
        """Whether this apply does nothing more for a shard."""
        return self.shards[shard].is_parked or self.engine.client.stop.is_set() or self.halted

    @cached_property
    def late(self) -> Late:
        """Which batches workers beyond this process may still send files to."""
        handed = self.state.load_handed()
        return Late(handed, {batch: self._begun_s + one.late_s for batch, one in handed.items()})

    @cached_property
    def compared_batches(self) -> frozenset[int]:
        """The batches of this state at the start, and those of others whose files were compared before."""
        state, ground = self.state, self.ground
        return state.known_batches() | state.load_left() | ground.dismissed_batches | ground.run_batches

    @property
    def may_wait(self) -> bool:
        """Whether to wait for runs."""
        return not self.job.options.no_wait and self.engine.clock() < self.deadline_s

    @property
    def has_room(self) -> bool:
        """Whether another run may be started now."""
        return len(self.going) < self.job.spec.limits.parallel_runs

    @property
    def settle_s(self) -> float:
        """Within how many seconds a listing shows what was created."""
        return self.job.spec.limits.settle_s

    @property
    def now_s(self) -> float:
        """The service's time, for display."""
        return self.engine.client.server_now_s()

    def submit(self, step: Step, delay_s: float = 0.0) -> None:
        """Do a step in a thread, perhaps later."""
        self.shards[step.shard].outstanding += 1
        if delay_s > 0:
            self.engine.submit_later(step, delay_s)
        else:
            self.engine.submit(step)

    # Facts

    def load(self, shard_id: int) -> Shard:
        """Load a shard with its recorded facts."""
        return self.state.load_shards(shard_id)[0]

    def batch_of(self, shard: Shard) -> Batch:
        """Return the batch in use."""
        batch = shard.batch_in(self.goal.target)
        assert batch is not None
        return batch

    def remote_batch_of(self, shard: Shard) -> tuple[Batch, int]:
        """Return the batch in use, and its id on the service."""
        batch = self.batch_of(shard)
        assert batch.remote_id is not None
        return batch, batch.remote_id

    def run_of(self, shard: Shard) -> Run:
        """Return the run of the current attempt."""
        run = find_attempt(shard, self.goal.run_key, self.shards[shard.id].attempt)
        assert run is not None
        return run

    def tag_of(self, shard: Shard) -> str:
        """Return the tag of the current attempt."""
        return run_tag(fingerprint_of(shard), self.goal.run_key, self.shards[shard.id].attempt)

    def others(self, run: Run) -> frozenset[str]:
        """Return known runs, other than this one, that any list of runs of the target should contain."""
        now_s = self.engine.clock()
        if now_s >= self._others_until_s:  # to find them takes longer with each run
            visible = self.state.list_visible(self.goal.target, OTHERS)
            self._others = frozenset(other.remote_id for other in visible if other.remote_id)
            self._others_until_s = now_s + OTHERS_S
        return self._others - {run.remote_id}

    # Times

    def settled_at_s(
        self, shard_id: int, what: str, since: Moment, *, has_asked: bool, newest: Moment | None = None
    ) -> float:
        """Return when a request must be visible in a listing, by the monotonic clock, and report the check.

        The newest known run must be visible by then, too. If the state's lock may have failed, the process that sent
        the request may still be alive, and may send it as late as any request.
        """
        late_s = SENT_WITHIN_S if self.ground.is_lock_weak and not has_asked else 0.0
        wait_s = since.left_s(self.settle_s + late_s)
        wait_s = max(wait_s, newest.left_s(self.settle_s) if newest and newest.boot else 0.0)
        now_s = self.engine.clock()
        wait_s = max(wait_s, self.shards[shard_id].not_before_s - now_s)
        self.reporter.emit(events.ExistenceChecked(what, wait_s))
        return now_s + wait_s

    def young_until_s(self, since: Moment) -> float:
        """Return until when a 404 on something new proves nothing, by the monotonic clock."""
        return self.engine.clock() + since.left_s(self.settle_s) if since.boot else 0.0

    # Runs

    def record_seen(self, run: int, info: RunInfo, twins: tuple[str, ...] = ()) -> None:
        """Record what the service reports about a run; `twins` carry the same tag."""
        if twins:
            self.reporter.emit(events.RunPaidTwice(info.id, twins))
        self.state.record_run(run, *info.facts)
        before = self.seen[run].status if run in self.seen else ""
        self.seen[run] = info
        if before != info.status:
            self.reporter.emit(
                events.RunStatus(info.id, clean_text(info.status), clean_text(info.msg or ""), clean_text(before))
            )
        if info.status in FINAL_STATUSES | {REVIEW_STATUS}:
            self.going.discard(run)
            if info.start_timestamp and info.finish_timestamp:
                self.run_times_s.append((info.finish_timestamp - info.start_timestamp) / NS)

    def report_open(self) -> None:
        """Report what is open or not recorded, for when the state cannot be written."""
        for info in self.unrecorded:
            self.reporter.emit(events.RunUnrecorded(info.id))
        with suppress(StateError):
            for shard in self.state.load_shards():
                places = {batch.id: batch.remote_id for batch in shard.batches}
                for run in (run for run in shard.runs if run.is_open):
                    self.reporter.emit(events.RunUnconfirmed(places[run.batch], run.tag))

    # Failures

    def park(self, shard: int, error: RunnerError) -> None:
        """Skip a shard for the rest of this apply, and report why."""
        self.shards[shard].is_parked = True
        is_said = isinstance(error, ClusterLost) and any(isinstance(one, ClusterLost) for one in self.errors)
        self.errors.append(error)
        if not is_said:
            self.reporter.emit(events.Problem(error.message))

    def record_failed(self, step: Step, outcome: Outcome) -> None:
        """Skip a shard whose step failed, or had an outcome that no such step has."""
        error = outcome.error if isinstance(outcome, Failed) else ServiceError(f"{step}: unexpected {outcome}")
        if isinstance(error, StateError):  # the disk is full: record what is in flight, and start nothing more
            self.halted = True
        self.forget_unsent(step)
        self.leave(step, error)

    def leave(self, step: Step, error: RunnerError) -> None:
        """Skip a shard for the rest of this apply, and perhaps others with it."""
        if not self.shards[step.shard].is_parked:
            self.park(step.shard, error)
        self.drop_uploads(step.shard)
        self._consider_halting(step, error)

    def forget_unsent(self, step: Step) -> None:
        """Forget the intent of a request that never left this machine."""
        if isinstance(step, CreateBatch):
            self.state.forget_batch_intent(step.batch)
        if isinstance(step, StartRun):
            self.state.forget_run_intent(step.run)

    def drop_uploads(self, shard: int) -> None:
        """Drop the uploads of a shard that have not started."""
        self.shards[shard].outstanding -= self.engine.drop_uploads(shard)

    def clear_trouble(self) -> None:
        """Forget which shards had trouble: the service works."""
        self._troubled.clear()

    def _consider_halting(self, step: Step, error: RunnerError) -> None:
        """Halt where the account is refused. Stop paying where the service refuses that or has trouble."""
        status = error.status if isinstance(error, ServiceError) else 0
        creates = isinstance(step, (CreateBatch, StartRun))
        if status not in CONCERNS_ONE:  # else the same few shards would block all others for ever
            self._troubled.add(step.shard)
        if isinstance(error, ClusterLost):
            self.stopped_paying = True
            self.engine.drop_uploads()
            self.engine.drop_timers(CheckBatch)  # those that wait for late workers: no run follows
        if status == 401 or (status == 403 and not creates):
            self.halted = True
        concerns_all = creates and status not in CONCERNS_ONE
        if concerns_all or len(self._troubled) >= MAX_TROUBLED_SHARDS:
            self.stopped_paying = True
            self.engine.drop_uploads()

    def count_lost(self, step: Step, error: RunnerError) -> None:
        """Check what exists after a lost response, at most MAX_STARTS times."""
        self.reporter.emit(events.ResponseLost(error.message))
        progress = self.shards[step.shard]
        progress.lost += 1
        if progress.lost > MAX_STARTS:
            self.park(step.shard, error)

    def wait_or_leave(self, step: CreateBatch | StartRun, error: ServiceError, *, may_pass: bool) -> None:
        """Check again after a refusal that may pass; else skip the shard. The intent stays in any case.

        A gateway may have refused a request and delivered it all the same, so it is repeated only after a check.
        """
        wait_s = error.retry_after_s or 0.0
        if may_pass and self._has_patience(self.shards[step.shard], wait_s):
            self.shards[step.shard].not_before_s = self.engine.clock() + wait_s
            self.reporter.emit(events.RefusedForNow(error.message))
        else:
            self.leave(step, error)

    def _has_patience(self, progress: ShardProgress, wait_s: float) -> bool:
        """Return whether to wait that long for another attempt; a gateway may ask for any time, again and again."""
        now_s = self.engine.clock()
        progress.first_refused_s = progress.first_refused_s or now_s
        until_s = min(progress.first_refused_s + MAX_PATIENCE_S, max(self.deadline_s, now_s + MAX_WAIT_S))
        return progress.refused <= MAX_PATIENCE and now_s + wait_s <= until_s
