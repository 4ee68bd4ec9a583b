"""Bring a plan to its end: decide what a shard needs next, have it done, record what came of it.

All of this runs in the main thread, which never does HTTP. An intent is committed before its request is handed out;
facts are recorded before the next thing is decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from runner.engine import Done, Engine
from runner.events import Counts, Reporter
from runner.fingerprint import batch_name, fingerprint_members, run_tag
from runner.job import Job
from runner.model import MB, REVIEW_STATUS, Batch, Run, Shard
from runner.plan import PAYS, Need, Work, find_attempt, missing_uploads, next_need
from runner.recorder import Recorder
from runner.state import State
from runner.steps import (
    CheckBatch,
    CreateBatch,
    FetchResults,
    FindBatch,
    FindRun,
    PollRun,
    SendFile,
    StartRun,
    Step,
)
from runner.transport import SENT_WITHIN_S
from runner.wire import run_body

TICK_S = 1.0
HOUR_S = 3600.0
POLL_GROWTH = 1.5
DATE_STEP_S = 1.0  # a `Date` header has whole seconds: what we hold for the service's time may be that much early
YOUNG_S = 10.0  # an app that is not there is a 404, too, and is told of sooner than a batch has to show


class Coordinator:
    """Works on the shards of one plan."""

    def __init__(self, job: Job, state: State, engine: Engine, reporter: Reporter) -> None:
        self.job = job
        self.state = state
        self.engine = engine
        self.reporter = reporter
        self.want = job.want()
        self.counts = Counts()
        self.recorder = Recorder(job, state, engine, reporter, self.counts)
        self._attempts: dict[int, int] = {}
        self._waiting: deque[Work] = deque()
        self._starting: deque[int] = deque()
        self._polled: dict[int, float] = {}
        self._fetching: set[tuple[int, int]] = set()
        self._stale: set[int] = set()
        self._deadline = float("inf")

    def run(self, work: Iterable[Work]) -> None:
        """Work until nothing is left that can be done now; raises only what is a bug, or the state's errors."""
        if self.job.options.wait_timeout_s is not None:
            self._deadline = self.engine.clock() + self.job.options.wait_timeout_s
        for item in work:
            self._attempts[item.shard.id] = item.attempt
            if item.is_stale:
                self._stale.add(item.shard.id)
            if item.need in PAYS:
                self._waiting.append(item)
                self._count_uploads(item.shard)
            else:
                self._advance(item.shard.id)
        while self._begin_more() or not self.engine.is_idle:
            self._take(self.engine.wait(TICK_S))
            self.reporter.show(self.counts)
            if self.engine.client.stop.is_set() or self.recorder.halted:
                self._starting.clear()
                self._waiting.clear()
                self.engine.drop_all()
            if self.engine.clock() >= self._deadline:
                self._starting.clear()  # there may never be room for them, since nobody waits for the others
                self.engine.drop_timers()

    def _count_uploads(self, shard: Shard) -> None:
        missing = missing_uploads(shard, self.want.target)
        self.counts.files_to_send += len(missing)
        self.counts.bytes_to_send += sum(member.size for member in missing)

    def _begin_more(self) -> bool:
        """Begin shards while there is room for more uploads, and runs while there is room for more of them."""
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
        need = next_need(shard, self.want, attempt, checked=checked, fetched=fetched)
        if need in PAYS and recorder.stopped_paying:
            return
        if need is not Need.NOTHING:
            self._handlers[need](self, shard)

    def _batch(self, shard: Shard) -> Batch:
        batch = shard.batch_in(self.want.target)
        assert batch is not None
        return batch

    def _run(self, shard: Shard) -> Run:
        run = find_attempt(shard, self.want.run_key, self._attempts[shard.id])
        assert run is not None
        return run

    def _create_batch(self, shard: Shard) -> None:
        name = self._batch_name(shard)
        self.state.record_batch_intent(shard.id, self.want.target, name, self.engine.client.server_now_s())
        batch = self._batch(self.state.load_shards(shard.id)[0])
        self._submit(CreateBatch(shard.id, batch.id, name, self.job.target.workspace))

    def _batch_name(self, shard: Shard) -> str:
        batch = shard.batch_in(self.want.target)
        if batch is not None and batch.name:
            return batch.name
        return batch_name(self.job.spec.name, shard.fingerprint or fingerprint_members(shard.members))

    def _find_batch(self, shard: Shard) -> None:
        batch = self._batch(shard)
        if batch.id in self.recorder.absent_batches:
            self.recorder.absent_batches.discard(batch.id)
            self._create_batch(shard)
            return
        known = frozenset(b.remote_id for s in self.state.load_shards() for b in s.batches if b.remote_id)
        settle_s, workspace = self.job.spec.limits.settle_s, self.job.target.workspace
        sent_by_s = self._sent_by_s("a batch", batch.intent_s, batch.lost_s)
        self._submit(FindBatch(shard.id, batch.id, self._batch_name(shard), workspace, known, sent_by_s, settle_s))

    def _sent_by_s(self, what: str, intent_s: float, lost_s: float) -> float:
        """Tell by when a request was surely sent, whose answer was lost, or whose sender died; and say what we do."""
        sent_by_s = (lost_s or intent_s + SENT_WITHIN_S) + DATE_STEP_S
        now_s = self.engine.client.server_now_s()
        wait_s = min(sent_by_s, now_s) + self.job.spec.limits.settle_s - now_s
        self.reporter.say(f"looking for {what}, which may have been made" + f" (up to {wait_s:.0f} s)" * (wait_s >= 1))
        return sent_by_s

    def _upload(self, shard: Shard) -> None:
        batch, limits = self._batch(shard), self.job.spec.limits
        assert batch.remote_id is not None
        missing = missing_uploads(shard, self.want.target)
        # From here on it is not known which bytes lie under these names, until an answer says so.
        self.state.forget_uploads(batch.id, [member.name for member in missing if member.name in batch.uploads])
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
                    batch.intent_s + limits.settle_s,
                )
            )

    def _check(self, shard: Shard) -> None:
        batch = self._batch(shard)
        assert batch.remote_id is not None
        sizes = {member.name: member.size for member in shard.members}
        settle_s, workspace = self.job.spec.limits.settle_s, self.job.target.workspace
        young_until_s = batch.intent_s + settle_s
        self._submit(CheckBatch(shard.id, batch.id, batch.remote_id, workspace, sizes, settle_s, young_until_s))

    def _start_run(self, shard: Shard) -> None:
        if not self._has_room():
            self._starting.append(shard.id)
            return
        batch, attempt = self._batch(shard), self._attempts[shard.id]
        fingerprint = shard.fingerprint or fingerprint_members(shard.members)
        tag = run_tag(fingerprint, self.want.run_key, attempt)
        intent = {
            "fingerprint": fingerprint,
            "run_key": self.want.run_key,
            "attempt": attempt,
            "tag": tag,
            "batch": batch.id,
            "intent_s": self.engine.client.server_now_s(),
        }
        self.state.record_run_intent(shard, intent, self.want.settings)
        shard = self.state.load_shards(shard.id)[0]
        run = self._run(shard)
        self.recorder.checked.discard(shard.id)
        self.recorder.going.add(run.id)
        now_s, settle_s = self.engine.client.server_now_s(), self.job.spec.limits.settle_s
        young_until_s = min(batch.intent_s + settle_s, now_s + YOUNG_S)
        body = self._body(shard, batch, tag)
        self._submit(StartRun(shard.id, run.id, self.job.spec.deployment_id or "", body, young_until_s))

    def _body(self, shard: Shard, batch: Batch, tag: str) -> dict[str, object]:
        assert batch.remote_id is not None
        secrets = {name: secret.get_secret_value() for name, secret in self.job.secrets.items()}
        passwords = {member.name: secrets[member.password] for member in shard.members if member.password}
        hook = self.job.spec.run.webhook
        webhook = (
            {"url": hook.url, "headers": {name: secrets[ref.env] for name, ref in hook.headers.items()}}
            if hook
            else None
        )
        tags = [tag, *self.job.spec.run.tags]
        return run_body(self.want.settings, batch.remote_id, tags, passwords, webhook)

    def _find_run(self, shard: Shard) -> None:
        run, batch = self._run(shard), self._batch(shard)
        if run.id in self.recorder.absent_runs:
            self._start_absent(shard, run)
            return
        shards = self.state.load_shards()
        known = frozenset(r.remote_id for s in shards for r in s.runs if r.remote_id)
        newest = self._newest_visible(shards)
        from_s = min(run.intent_s, newest.started_ns / 1e9 if newest else run.intent_s) - HOUR_S
        sent_by_s, settle_s = self._sent_by_s("a run", run.intent_s, run.lost_s), self.job.spec.limits.settle_s
        sent_by_s = max(sent_by_s, newest.started_ns / 1e9 if newest else 0.0)  # that one must show, too
        newest_id, remote_batch = newest.remote_id or "" if newest else "", batch.remote_id or 0
        self._submit(FindRun(shard.id, run.id, run.tag, remote_batch, known, newest_id, from_s, sent_by_s, settle_s))

    def _start_absent(self, shard: Shard, run: Run) -> None:
        """Start a run that surely was not started before, if it is still wanted and may be paid."""
        if shard.id in self._stale:
            self.state.record_given_up(run.id)
            self.reporter.say(f"shard {shard.id}: no run was started, and its files have changed; apply again")
        elif not self.recorder.stopped_paying:
            self.recorder.absent_runs.discard(run.id)
            self._start_run(shard)

    def _newest_visible(self, shards: Iterable[Shard]) -> Run | None:
        """Find the newest run that any list of runs of today's target must hold."""
        visible = [
            run
            for shard in shards
            for run in shard.runs
            if run.remote_id and not run.is_gone and self._is_of_target(shard, run)
        ]
        return max(visible, key=lambda run: run.started_ns, default=None)

    def _is_of_target(self, shard: Shard, run: Run) -> bool:
        return any(batch.id == run.batch and batch.target == self.want.target for batch in shard.batches)

    def _poll(self, shard: Shard) -> None:
        run, limits = self._run(shard), self.job.spec.limits
        waits_for_person = run.status == REVIEW_STATUS
        polled = run.id in self._polled or run.id in self.recorder.started
        if waits_for_person and run.id in self._polled and not self.job.options.wait_for_review:
            return
        if polled and self.engine.clock() >= self._deadline:
            return
        delay_s = self._polled.get(run.id, limits.poll_min_s) if polled else 0.0
        self._polled[run.id] = min(limits.poll_max_s, max(limits.poll_min_s, delay_s * POLL_GROWTH))
        if not waits_for_person:
            self.recorder.going.add(run.id)
        young_until_s = run.intent_s + limits.settle_s
        assert run.remote_id is not None
        self._submit(PollRun(shard.id, run.id, run.remote_id, self._since_s(run), young_until_s), delay_s)

    def _since_s(self, run: Run) -> float:
        """Tell a time that is surely before a run began."""
        return (run.started_ns / 1e9 or run.intent_s) - HOUR_S

    def _fetch(self, shard: Shard) -> None:
        run = self._run(shard)
        assert run.remote_id is not None
        names, folder = frozenset(member.name for member in shard.members), self.job.results_path
        since_s, young_until_s = self._since_s(run), run.intent_s + self.job.spec.limits.settle_s
        self._fetching.add((shard.id, run.attempt))
        self._submit(
            FetchResults(shard.id, run.id, run.remote_id, since_s, young_until_s, self.want.include, folder, names)
        )

    _handlers: Mapping[Need, Callable[[Coordinator, Shard], None]] = {
        Need.CREATE_BATCH: _create_batch,
        Need.FIND_BATCH: _find_batch,
        Need.UPLOAD: _upload,
        Need.CHECK: _check,
        Need.START_RUN: _start_run,
        Need.FIND_RUN: _find_run,
        Need.POLL: _poll,
        Need.FETCH: _fetch,
    }
