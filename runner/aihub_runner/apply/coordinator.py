"""Work through a plan: decide what a shard needs next, submit it, and record the outcome.

All of this runs in the main thread, which never does HTTP. An intent is committed before its request is submitted,
and facts are recorded before the next decision.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aihub_runner.aihub.schemas import run_body
from aihub_runner.aihub.transport import SENT_WITHIN_S
from aihub_runner.apply.events import ExistenceChecked, Reporter, RunDropped, Tick, UploadPlanned
from aihub_runner.apply.job import Job
from aihub_runner.apply.polling import poll_delay_s
from aihub_runner.apply.pool import Done, Engine
from aihub_runner.apply.recorder import Recorder
from aihub_runner.apply.steps import (
    CheckBatch,
    CreateBatch,
    FetchResults,
    FindBatch,
    FindRun,
    PollRun,
    SendFile,
    StartRun,
    Step,
    VerifyBatch,
)
from aihub_runner.errors import ServiceError, UnknownOutcome
from aihub_runner.model import MB, REVIEW_STATUS, Batch, Run, Shard
from aihub_runner.plan.identity import batch_name, claim_stem, fingerprint_members, run_tag
from aihub_runner.plan.planner import (
    PAYS,
    Action,
    Work,
    find_attempt,
    is_paid_elsewhere,
    missing_uploads,
    next_action,
    next_before_run,
)
from aihub_runner.state.store import State
from aihub_runner.system.moment import DAY_S, Moment, is_to_come

TICK_S = 1.0
MAX_BATCHES = 2  # per shard and apply: if new batches never show in the listing, more of them do not help
BATCH, RUN = "a batch", "a run"
OTHERS = 50  # known runs, to distinguish an empty listing from one that hides runs


@dataclass(frozen=True, slots=True)
class Ground:
    """What is known of the service and of this machine before work starts.

    `batches` maps names to the ids of existing batches. `dismissed_batches` are those that the user decided to skip.
    `held` are the paths of files that may have been paid for, which is unconfirmed. `is_lock_weak` says that another
    process may hold the state, too. `blind_since_ns` is when the newest known run started (nanoseconds, as the service
    reports it) where no known run is listed any more, else 0.
    """

    batches: Mapping[str, frozenset[int]] = field(default_factory=dict)
    dismissed_batches: frozenset[int] = frozenset()
    held: frozenset[str] = frozenset()
    is_lock_weak: bool = False
    blind_since_ns: int = 0


NOTHING = Ground()


def find_step(state: State, target: str, shard: Shard, run: Run, settled_at_s: float) -> FindRun:
    """Return the step that checks whether the run of an intent exists; see `FindRun`."""
    newest = next(iter(state.list_visible(target, 1)), None)
    return FindRun(
        shard.id,
        run.id,
        run.tag,
        run.remote_batch,
        state.known_runs(),
        newest.remote_id or "" if newest else "",
        run.bound_s,
        settled_at_s,
        state.batches_of_tag(run.tag, run.id),
        next((batch.created_ms for batch in shard.batches if batch.id == run.batch), 0),
    )


class Coordinator:
    """Works on the shards of one plan."""

    def __init__(self, job: Job, state: State, engine: Engine, reporter: Reporter, ground: Ground = NOTHING) -> None:
        self.job = job
        self.state = state
        self.engine = engine
        self.reporter = reporter
        self.goal = job.goal
        self.recorder = Recorder(job, state, engine, reporter)
        self._attempts: dict[int, int] = {}
        self._waiting: deque[Work] = deque()
        self._starting: deque[int] = deque()
        self._polled: dict[int, float] = {}  # when a run was first asked for, by the engine's clock
        self._fetching: set[tuple[int, int]] = set()
        self._ground = ground
        self._stale: set[int] = set()
        self._created: Counter[int] = Counter()
        self._asked: set[tuple[str, int]] = set()  # (shard, kind) of what this process requested
        self._deadline = float("inf")

    def run(self, work: Iterable[Work]) -> None:
        """Work until nothing is left that can be done now. Raises only bugs and StateError."""
        if self.job.options.wait_timeout_s is not None:
            self._deadline = self.engine.clock() + self.job.options.wait_timeout_s
            self.recorder.deadline_s = self._deadline
        for item in work:
            self._attempts[item.shard.id] = item.attempt
            if item.is_stale:
                self._stale.add(item.shard.id)
            if item.action in PAYS:
                self._waiting.append(item)
                self._count_uploads(item.shard)
            else:
                self._advance(item.shard.id)
        while self._begin_more() or not self.engine.is_idle:
            self._take(self.engine.wait(TICK_S))
            self.reporter.emit(Tick())
            if self.engine.client.stop.is_set() or self.recorder.halted:
                self._starting.clear()
                self._waiting.clear()
                self.engine.drop_all()
            if self.engine.clock() >= self._deadline:
                self._starting.clear()  # nothing is in flight, so no room will be freed for them
                self.engine.drop_timers()

    def _count_uploads(self, shard: Shard) -> None:
        missing = missing_uploads(shard, self.goal.target)
        self.reporter.emit(UploadPlanned(len(missing), sum(member.size for member in missing)))

    def _begin_more(self) -> bool:
        """Start shards while there is room for uploads, and runs while there is room for runs."""
        if self.recorder.stopped_paying:
            self._waiting.clear()
            self._starting.clear()
        if self._waiting and self.engine.wants_uploads:
            self._advance(self._waiting.popleft().shard.id)
        if self._starting and self._has_room():
            self._advance(self._starting.popleft())
        return bool(self._waiting or self._starting)

    def _has_room(self) -> bool:
        return len(self.recorder.going) < self.job.spec.limits.parallel_runs

    def _take(self, outcomes: list[Done]) -> None:
        if not outcomes:
            return
        with self.state.transaction():
            for step, outcome in outcomes:
                self.recorder.record(step, outcome)
        self.recorder.unrecorded.clear()
        for shard_id in dict.fromkeys(step.shard for step, _ in outcomes):
            if not self.recorder.outstanding.get(shard_id):
                self._advance(shard_id)

    def _submit(self, step: Step, delay_s: float = 0.0) -> None:
        self.recorder.outstanding[step.shard] = self.recorder.outstanding.get(step.shard, 0) + 1
        if delay_s > 0:
            self.engine.submit_later(step, delay_s)
        else:
            self.engine.submit(step)

    # What a shard needs next

    def _advance(self, shard_id: int) -> None:
        recorder = self.recorder
        if shard_id in recorder.parked or self.engine.client.stop.is_set() or recorder.halted:
            return
        found = self.state.load_shards(shard_id)
        if not found:
            return
        shard, attempt = found[0], self._attempts[shard_id]
        checked, fetched = shard_id in recorder.checked, (shard_id, attempt) in self._fetching
        action = next_action(shard, self.goal, attempt, checked=checked, fetched=fetched)
        if action in PAYS and recorder.stopped_paying:
            return
        if action is not Action.NOTHING:
            self._handlers[action](self, shard)

    def _batch(self, shard: Shard) -> Batch:
        batch = shard.batch_in(self.goal.target)
        assert batch is not None
        return batch

    def _run(self, shard: Shard) -> Run:
        run = find_attempt(shard, self.goal.run_key, self._attempts[shard.id])
        assert run is not None
        return run

    def _create_batch(self, shard: Shard) -> None:
        name = self._batch_name(shard)
        self._created[shard.id] += 1
        if self._created[shard.id] > MAX_BATCHES:
            what = f"shard {shard.id}: created {MAX_BATCHES} batches, and none of them is usable"
            self.recorder.park(
                shard.id, ServiceError(what, "check the context, and whether the account can see its batches")
            )
            return
        before = self._ground.batches.get(name, frozenset()) | self._before(shard)
        now_s = self.engine.client.server_now_s()
        self._asked.add((BATCH, shard.id))
        self.state.record_batch_intent(shard.id, self.goal.target, name, now_s, before)
        batch = self._batch(self.state.load_shards(shard.id)[0])
        self._submit(CreateBatch(shard.id, batch.id, name, self.job.target.workspace))

    def _before(self, shard: Shard) -> frozenset[int]:
        """Return the ids of batches of a shard's name that existed before its intent."""
        batch = shard.batch_in(self.goal.target)
        return batch.before if batch else frozenset()

    def _batch_name(self, shard: Shard) -> str:
        batch = shard.batch_in(self.goal.target)
        if batch is not None and batch.name:
            return batch.name
        return batch_name(self.job.spec.name, shard.fingerprint or fingerprint_members(shard.members))

    def _find_batch(self, shard: Shard) -> None:
        batch = self._batch(shard)
        if batch.id in self.recorder.absent_batches:
            self.recorder.absent_batches.discard(batch.id)
            self._create_batch(shard)
            return
        known = self.state.known_batches() | batch.before
        settled_at_s = self._settled_at_s(shard.id, BATCH, batch.since)
        workspace = self.job.target.workspace
        self._submit(FindBatch(shard.id, batch.id, self._batch_name(shard), workspace, known, settled_at_s))

    def _settled_at_s(self, shard_id: int, what: str, since: Moment, newest: Moment | None = None) -> float:
        """Return when a request must be visible in a listing, by the monotonic clock, and report the check.

        The newest known run must be visible by then, too. If the state's lock may have failed, the process that sent
        the request may still be alive, and may send it as late as any request.
        """
        settle_s = self.job.spec.limits.settle_s
        late_s = SENT_WITHIN_S if self._ground.is_lock_weak and (what, shard_id) not in self._asked else 0.0
        wait_s = max(since.left_s(settle_s + late_s), newest.left_s(settle_s) if newest and newest.boot else 0.0)
        now_s = self.engine.clock()
        wait_s = max(wait_s, self.recorder.not_before_s.get(shard_id, 0.0) - now_s)
        self.reporter.emit(ExistenceChecked(what, wait_s))
        return now_s + wait_s

    def _young_until_s(self, since: Moment) -> float:
        """Return until when a 404 on something new proves nothing, by the monotonic clock."""
        return self.engine.clock() + since.left_s(self.job.spec.limits.settle_s) if since.boot else 0.0

    def _verify(self, shard: Shard) -> None:
        batch = self._batch(shard)
        assert batch.remote_id is not None
        until_s, workspace, name = self._young_until_s(batch.since), self.job.target.workspace, self._batch_name(shard)
        is_older = shard.id not in self._created
        self._submit(VerifyBatch(shard.id, batch.id, batch.remote_id, name, workspace, until_s, is_older))

    def _upload(self, shard: Shard) -> None:
        batch, limits = self._batch(shard), self.job.spec.limits
        assert batch.remote_id is not None
        missing = missing_uploads(shard, self.goal.target)
        # From here on, the bytes under these names are unknown until a response confirms them.
        self.state.record_uploads_begun(batch.id, [member.name for member in missing])
        for member in missing:
            self._submit(
                SendFile(
                    shard.id,
                    batch.id,
                    batch.remote_id,
                    self.job.target.workspace,
                    member,
                    self.job.folder / member.path,
                    int(limits.part_threshold_mb * MB),
                    self._young_until_s(batch.since),
                    shard.id not in self._created,
                )
            )

    def _check(self, shard: Shard) -> None:
        batch = self._batch(shard)
        assert batch.remote_id is not None
        sizes = {member.name: member.size for member in shard.members}
        self._submit(
            CheckBatch(
                shard.id,
                batch.id,
                batch.remote_id,
                self.job.target.workspace,
                sizes,
                self.job.spec.limits.settle_s,
                self._young_until_s(batch.since),
                frozenset(batch.uploads),
                batch.modified,
                batch.name,
                self.state.known_batches() | self._ground.dismissed_batches,
                shard.id not in self._created,
                not self.job.options.again,
                claim_stem(self._tag(shard), batch.remote_id),
            )
        )

    def _start_run(self, shard: Shard) -> None:
        if not self._has_room():
            self.recorder.checked.discard(shard.id)  # the batch may change until there is room
            self._starting.append(shard.id)
            return
        if waiting := self.recorder.clones.next_step(shard, self._batch(shard), self._tag(shard)):
            self._submit(*waiting)
            return
        batch, attempt = self._batch(shard), self._attempts[shard.id]
        if self._is_blind(batch):
            what = f"{self.job.spec_path.name}: none of the recorded runs exists on the service any more"
            self.recorder.park(
                shard.id, ServiceError(what, "check the context, and whether the account can see its runs")
            )
            return
        fingerprint, tag = shard.fingerprint or fingerprint_members(shard.members), self._tag(shard)
        intent = {
            "fingerprint": fingerprint,
            "run_key": self.goal.run_key,
            "attempt": attempt,
            "tag": tag,
            "batch": batch.id,
            "remote_batch": batch.remote_id,
            "bound_s": self._bound_s(batch),
            "intent_s": self.engine.client.server_now_s(),
        }
        self._asked.add((RUN, shard.id))
        self.state.record_run_intent(shard, intent, self.goal.settings)
        shard = self.state.load_shards(shard.id)[0]
        run = self._run(shard)
        self.recorder.checked.discard(shard.id)
        self.recorder.going.add(run.id)
        self._submit(StartRun(shard.id, run.id, self.job.spec.deployment_id or "", self._body(shard, batch, tag)))

    def _is_blind(self, batch: Batch) -> bool:
        """Whether the service hides known runs: none is listed, although the newest is younger than any retention."""
        since_ms = self._ground.blind_since_ns // 10**6
        return bool(since_ms) and batch.created_ms - since_ms < DAY_S * 1000

    def _tag(self, shard: Shard) -> str:
        fingerprint = shard.fingerprint or fingerprint_members(shard.members)
        return run_tag(fingerprint, self.goal.run_key, self._attempts[shard.id])

    def _bound_s(self, batch: Batch) -> int:
        """Return a time before any run on a batch, in Unix seconds. It relies on the service's clock only."""
        newest = next(iter(self.state.list_visible(self.goal.target, 1)), None)
        base_s = batch.created_ms // 1000 or (newest.started_ns // 10**9 if newest else 0)
        return 1 if is_to_come(base_s) else max(1, base_s - DAY_S)

    def _body(self, shard: Shard, batch: Batch, tag: str) -> dict[str, object]:
        assert batch.remote_id is not None
        values = {name: secret.reveal() for name, secret in self.job.secrets.items()}
        passwords = {member.name: values[member.password] for member in shard.members if member.password}
        hook = self.job.spec.run.webhook
        webhook = (
            {"url": hook.url, "headers": {name: values[ref.env] for name, ref in hook.headers.items()}}
            if hook
            else None
        )
        tags = [tag, *self.job.spec.run.tags]
        return run_body(self.goal.settings, batch.remote_id, tags, passwords, webhook)

    def _find_run(self, shard: Shard) -> None:
        run = self._run(shard)
        if run.id in self.recorder.absent_runs:
            self._start_absent(shard, run)
            return
        newest = next(iter(self.state.list_visible(self.goal.target, 1)), None)
        settled_at_s = self._settled_at_s(shard.id, RUN, run.since, newest.since if newest else None)
        self._submit(find_step(self.state, self.goal.target, shard, run, settled_at_s))

    def _start_absent(self, shard: Shard, run: Run) -> None:
        """Start a run that is confirmed absent, if it is still wanted and may be paid."""
        if self._ground.held & {member.path for member in shard.members}:
            what = f"shard {shard.id}: its files may already be paid for, which is unconfirmed"
            self.recorder.park(shard.id, UnknownOutcome(what, f"see `{self.job.command('resolve')}`"))
        elif shard.id in self._stale:
            self.state.record_given_up(run.id)
            self.reporter.emit(RunDropped(shard.id, is_paid=False))
        elif is_paid_elsewhere(shard, self.state.load_shards(), self.goal):
            self.state.record_given_up(run.id)
            self.reporter.emit(RunDropped(shard.id, is_paid=True))
        elif not self.recorder.stopped_paying:
            self._start_again(shard, run)

    def _start_again(self, shard: Shard, run: Run) -> None:
        """Start a run again once its batch holds the same files; on another batch it is another attempt."""
        batch = shard.batch_in(self.goal.target)
        if batch is None or batch.id != run.batch:
            self.state.record_given_up(run.id)
            self._attempts[shard.id] = run.attempt + 1
            self._advance(shard.id)
            return
        action = next_before_run(shard, self.goal.target, checked=shard.id in self.recorder.checked)
        if action is Action.START_RUN:
            self.recorder.absent_runs.discard(run.id)
        self._handlers[action](self, shard)

    def _poll(self, shard: Shard) -> None:
        run = self._run(shard)
        waits_for_person = run.status == REVIEW_STATUS
        polled = run.id in self._polled or run.id in self.recorder.started
        if waits_for_person and run.id in self._polled and not self.job.options.wait_for_review:
            return
        if polled and self.engine.clock() >= self._deadline:
            return
        delay_s = self._poll_delay_s(run.id) if polled else 0.0
        self._polled.setdefault(run.id, self.engine.clock())
        if not waits_for_person:
            self.recorder.going.add(run.id)
        assert run.remote_id is not None
        until_s, others = self._young_until_s(run.since), self._others(run)
        step = PollRun(shard.id, run.id, run.remote_id, run.bound_s, until_s, others, run.remote_batch, run.tag)
        self._submit(step, delay_s)

    def _poll_delay_s(self, run: int) -> float:
        now_s, limits = self.engine.clock(), self.job.spec.limits
        age_s = now_s - self._polled.get(run, now_s)
        between_s = limits.poll_min_s, limits.poll_max_s
        return poll_delay_s(age_s, len(self.recorder.going), between_s, self.recorder.run_times_s)

    def _others(self, run: Run) -> frozenset[str]:
        """Return known runs, other than this one, that any list of runs of the target should contain."""
        visible = self.state.list_visible(self.goal.target, OTHERS)
        return frozenset(other.remote_id for other in visible if other.remote_id and other.id != run.id)

    def _fetch(self, shard: Shard) -> None:
        run = self._run(shard)
        assert run.remote_id is not None
        names, folder = frozenset(member.name for member in shard.members), self.job.results_path
        until_s, others = self._young_until_s(run.since), self._others(run)
        self._fetching.add((shard.id, run.attempt))
        self._submit(
            FetchResults(
                shard.id,
                run.id,
                run.remote_id,
                run.bound_s,
                until_s,
                self.goal.include,
                folder,
                names,
                others,
                run.remote_batch,
                bool(run.fetched),
            )
        )

    _handlers: Mapping[Action, Callable[[Coordinator, Shard], None]] = {
        Action.CREATE_BATCH: _create_batch,
        Action.FIND_BATCH: _find_batch,
        Action.VERIFY: _verify,
        Action.UPLOAD: _upload,
        Action.CHECK: _check,
        Action.START_RUN: _start_run,
        Action.FIND_RUN: _find_run,
        Action.POLL: _poll,
        Action.FETCH: _fetch,
    }
