"""Turn outcomes into recorded facts, and remember for this apply which shards to skip."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aihub_runner.aihub.schemas import RunInfo, clean_text
from aihub_runner.aihub.transport import MAX_PATIENCE_S, MAX_WAIT_S
from aihub_runner.apply import events
from aihub_runner.apply.clones import Clones
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.pool import Engine
from aihub_runner.apply.steps import (
    AwaitTwin,
    BatchCreated,
    CheckBatch,
    Checked,
    Claimed,
    ClaimRun,
    CreateBatch,
    Declined,
    Failed,
    Fetched,
    FetchResults,
    FindBatch,
    FindRun,
    Foreign,
    Gone,
    Lost,
    NotThere,
    Outcome,
    PollRun,
    RunSeen,
    SendFile,
    Sent,
    StartRun,
    Step,
    Stopped,
    Unsendable,
    Unsure,
    Verified,
    VerifyBatch,
)
from aihub_runner.errors import RunnerError, ServiceError, StateError, UnknownOutcome
from aihub_runner.model import FINAL_STATUSES, REVIEW_STATUS, Batch, SkippedFile
from aihub_runner.plan.identity import parse_run_tag
from aihub_runner.results.reader import lost_error
from aihub_runner.sources.disks import disk_error, find_mount
from aihub_runner.state.store import State
from aihub_runner.text.shown import are, count

NS = 1_000_000_000
RUN_TIMES = 10  # of this app, to expect the end of the next run
MAX_CHECKS = 3
MAX_STARTS = 3
MAX_PATIENCE = 20  # temporary refusals of one shard
MAX_YOUNG = 2  # a check follows each, as long as a batch may take to show
REFUSED_FOR_NOW = frozenset({425, 429})
YOUNG_S = 10.0  # a new batch may be a 404 at first; so is an app that does not exist, which must be reported soon
MAX_TROUBLED_SHARDS = 3
CONCERNS_ONE = frozenset({400, 409, 413, 415, 422})  # refusals that concern one shard only


class Recorder:
    """Records the outcomes of steps.

    `parked` holds the shards to skip for the rest of this apply. `checked` holds those whose batch was just found
    right. `absent_…` holds rows that are confirmed absent. `clones` decides which of several clones pays.
    `not_before_s` says when to ask again after a temporary refusal. `going` holds the runs in flight. `unrecorded`
    holds started runs that are not committed yet.
    """

    def __init__(self, job: Job, state: State, engine: Engine, reporter: Reporter) -> None:
        self.job, self.state, self.engine, self.reporter = job, state, engine, reporter
        self.errors: list[RunnerError] = []
        self.parked: set[int] = set()
        self.checked: set[int] = set()
        self.absent_batches: set[int] = set()
        self.absent_runs: set[int] = set()
        self.started: set[int] = set()
        self._created: set[int] = set()
        self.going: set[int] = set()
        self.clones = Clones(job, state, engine.clock, reporter)
        self.not_before_s: dict[int, float] = {}
        self.outstanding: dict[int, int] = {}
        self.aside: dict[str, SkippedFile] = {}
        self.changed: dict[str, tuple[int, str]] = {}
        self.halted = False
        self.stopped_paying = False
        self._statuses: dict[int, str] = {}
        self.run_times_s: deque[float] = deque(maxlen=RUN_TIMES)
        self.unrecorded: list[RunInfo] = []
        self._checks: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._refused: dict[int, int] = {}
        self._first_refused_s: dict[int, float] = {}
        self.deadline_s = float("inf")  # of `--wait-timeout`
        self._troubled: set[int] = set()
        self._bad_disks: set[int] = set()

    def record(self, step: Step, outcome: Outcome) -> None:
        """Record the outcome of a step. Needs an open transaction."""
        self.outstanding[step.shard] -= 1
        if self._is_taken(step, outcome):
            if isinstance(step, FindBatch | FindRun):
                return  # by a twin with the same names and bytes; the check is repeated
            what = "the response names an id that is already recorded for another shard"
            outcome = Lost(self._now_s(), ServiceError(f"{step.__class__.__name__}: {what}"))
        self._record(step, outcome)

    def _record(self, step: Step, outcome: Outcome) -> None:
        match step, outcome:
            case _, Stopped():
                self._forget_unsent(step)
            case ((CreateBatch() | StartRun()), Declined(error)):
                self._record_declined(step, error)
            case ((CreateBatch() | FindBatch()), _):
                self._record_batch(step, outcome)
            case _, _:
                self._handlers[type(step)](self, step, outcome)

    def _record_batch(self, step: CreateBatch | FindBatch, outcome: Outcome) -> None:
        match step, outcome:
            case _, BatchCreated(remote_id):
                self.state.record_batch(step.batch, remote_id)
                if isinstance(step, CreateBatch):
                    self._created.add(step.batch)
                else:
                    self.clones.found.add(step.shard)
            case CreateBatch(), Lost(at_s, error):
                self.state.record_batch_lost(step.batch, at_s)
                self._count_lost(step, error)
            case FindBatch(), NotThere():
                self.absent_batches.add(step.batch)
            case FindBatch(), Unsure(why):
                self.park(
                    step.shard,
                    ServiceError(f"shard {step.shard}: cannot check whether its batch exists, {why}", "apply again"),
                )
            case _, _:
                self._record_failed(step, outcome)

    def _is_taken(self, step: Step, found: Outcome) -> bool:
        """Whether an id that is new to this step is already recorded for another."""
        if isinstance(found, BatchCreated):
            return found.remote_id in self.state.known_batches()
        is_new = isinstance(step, StartRun | FindRun)
        return is_new and isinstance(found, RunSeen) and found.info.id in self.state.known_runs()

    def _record_verified(self, step: VerifyBatch, outcome: Outcome) -> None:
        match outcome:
            case Verified(created_ms):
                self.state.record_batch_verified(step.batch, created_ms)
                self.reporter.emit(events.BatchCreated(step.remote_id, is_found=step.batch not in self._created))
            case Foreign(why):
                self.state.record_batch_foreign(self._batch(step), self._now_s())
                what = (
                    f"POST /v2/batches: the response names batch {step.remote_id}, which is not the one created, {why}"
                )
                self._count_lost(
                    step, ServiceError(what, "check whether a proxy or gateway answers in place of the service")
                )
            case Gone():
                self._forget_batch(step)
            case _:
                self._record_failed(step, outcome)

    def _batch(self, step: VerifyBatch | AwaitTwin) -> Batch:
        [shard] = self.state.load_shards(step.shard)
        return next(batch for batch in shard.batches if batch.id == step.batch)

    def _record_declined(self, step: CreateBatch | StartRun, error: ServiceError) -> None:
        """Keep the intent of a refused request: a gateway may have refused it and delivered it all the same.

        The request is repeated only after a check, and in this apply only if the refusal may be temporary.
        """
        if isinstance(step, StartRun):
            self.going.discard(step.run)
            self.state.record_run_refused(step.run, str(error.status))
        else:
            self.state.record_batch_lost(step.batch, self._now_s())
        self._refused[step.shard] = self._refused.get(step.shard, 0) + 1
        if self._may_pass(step, error) and self._has_patience(step, error.retry_after_s or 0.0):
            self.not_before_s[step.shard] = self.engine.clock() + (error.retry_after_s or 0.0)
            self.reporter.emit(events.RefusedForNow(error.message))
        else:
            self._leave(step, error)

    def _has_patience(self, step: CreateBatch | StartRun, wait_s: float) -> bool:
        """Return whether to wait that long for another attempt; a gateway may ask for any time, again and again."""
        now_s = self.engine.clock()
        first_s = self._first_refused_s.setdefault(step.shard, now_s)
        until_s = min(first_s + MAX_PATIENCE_S, max(self.deadline_s, now_s + MAX_WAIT_S))
        return self._refused[step.shard] <= MAX_PATIENCE and now_s + wait_s <= until_s

    def _may_pass(self, step: CreateBatch | StartRun, error: ServiceError) -> bool:
        if error.status in REFUSED_FOR_NOW:
            return True
        if error.status != 404 or isinstance(step, CreateBatch) or self._refused[step.shard] > MAX_YOUNG:
            return False
        [shard] = self.state.load_shards(step.shard)
        batch = next(
            batch for run in shard.runs for batch in shard.batches if (run.id, batch.id) == (step.run, run.batch)
        )
        return bool(batch.since.boot) and batch.since.left_s(YOUNG_S) > 0

    def _count_lost(self, step: CreateBatch | VerifyBatch | StartRun, error: RunnerError) -> None:
        """Check what exists after a lost response, at most MAX_STARTS times."""
        self.reporter.emit(events.ResponseLost(error.message))
        self._lost[step.shard] = self._lost.get(step.shard, 0) + 1
        if self._lost[step.shard] > MAX_STARTS:
            self.park(step.shard, error)

    def _now_s(self) -> float:
        return self.engine.client.server_now_s()

    # Files

    def _record_sent(self, step: SendFile, outcome: Outcome) -> None:
        match outcome:
            case Sent(digest, size):
                self._accept_digest(step, digest, size)
                self.state.record_upload(step.batch, step.member.name, digest)
                self.state.record_sent(step.batch, self._now_s())
                self.reporter.emit(events.FileUploaded(step.member.path, size))
            case Unsendable("disk", detail):
                self._record_unreadable(step, detail)
            case Unsendable(reason, detail):
                self._skip(step, reason, detail)
            case Gone():
                self._forget_batch(step)
            case _:
                self._record_failed(step, outcome)

    def _accept_digest(self, step: SendFile, digest: str, size: int) -> None:
        """Accept the digest of what was sent for a member, where the file changed since the scan."""
        if digest == step.member.digest:
            return
        shard = self.state.load_shards(step.shard)[0]
        if shard.is_closed:
            self.park(step.shard, ServiceError(f"{step.member.path}: changed while being sent again", "apply again"))
            return
        self.reporter.emit(events.FileChanged(step.member.path))
        self.changed[step.member.path] = (size, digest)
        changed = replace(step.member, digest=digest, size=size)
        members = [changed if member.name == changed.name else member for member in shard.members]
        self.state.record_members(step.shard, members)

    def _record_unreadable(self, step: SendFile, detail: str) -> None:
        """Skip one file that its disk cannot read. At a second one on that disk, report the disk as failing."""
        mount = find_mount(str(step.path))
        if mount in self._bad_disks:
            self._record_failed(step, Failed(disk_error(step.member.path, detail)))
        else:
            self._bad_disks.add(mount)
            self._skip(step, "unreadable", detail)

    def _skip(self, step: SendFile, reason: str, detail: str) -> None:
        member = step.member
        shard = self.state.load_shards(step.shard)[0]
        if reason == "refused":
            self.state.record_refused(member.path, member.identity, clean_text(detail))
        if shard.is_closed:
            self.park(step.shard, ServiceError(f"{member.path}: cannot be sent again, {detail}", "apply again"))
            return
        self.reporter.emit(events.FileSkipped(member.path, member.size, reason, detail))
        self.aside[member.path] = SkippedFile(member.path, reason, clean_text(detail))
        rest = [other for other in shard.members if other.name != member.name]
        self.state.record_members(step.shard, rest)
        if not rest:
            self.state.forget_shard(step.shard)

    def _forget_batch(self, step: SendFile | CheckBatch | VerifyBatch) -> None:
        self.reporter.emit(events.BatchGone(step.remote_id))
        self._drop_uploads(step.shard)
        self.state.record_batch_gone(step.batch)

    def _drop_uploads(self, shard: int) -> None:
        self.outstanding[shard] -= self.engine.drop_uploads(shard)

    def _record_checked(self, step: CheckBatch, outcome: Outcome) -> None:
        match outcome:
            case Checked(missing, modified, elders, is_claimed) if not missing:
                self.checked.add(step.shard)
                self.state.record_modified(step.batch, modified)
                self.clones.record_checked(step.shard, elders, is_claimed)
            case Checked(missing):
                self._checks[step.shard] = self._checks.get(step.shard, 0) + 1
                self.state.forget_uploads(step.batch, missing)
                if self._checks[step.shard] >= MAX_CHECKS:
                    what = (
                        f"batch {step.remote_id}: {count(len(missing), 'file')} {are(len(missing))} not listed as sent"
                    )
                    self.park(step.shard, ServiceError(f"{what}, {missing[0]!r}", "apply again"))
                else:
                    self.reporter.emit(events.FilesMissing(step.remote_id, len(missing)))
            case Gone():
                self._forget_batch(step)
            case _:
                self._record_failed(step, outcome)

    # Runs

    def _record_run(self, step: StartRun | FindRun | PollRun | FetchResults, outcome: Outcome) -> None:
        match step, outcome:
            case _, RunSeen(info, twins):
                self._record_found(step, info, twins)
            case StartRun(), Lost(at_s, error):
                self.going.discard(step.run)
                self.state.record_run_lost(step.run, at_s)
                self._count_lost(step, error)
            case FindRun(), NotThere() | Unsure():
                self._record_absent(step, outcome)
            case ((PollRun() | FetchResults()), Gone()):
                self._record_gone(step)
            case FetchResults(), Fetched(pages, answers):
                self.state.record_fetch(step.run, step.include, pages, answers, self._now_s())
                self.reporter.emit(events.ResultsFetched(step.remote_id, len(answers)))
            case _, _:
                self.going.discard(step.run)
                self._record_failed(step, outcome)

    def _record_found(
        self, step: StartRun | FindRun | PollRun | FetchResults, info: RunInfo, twins: tuple[str, ...]
    ) -> None:
        if isinstance(step, StartRun):
            self.reporter.emit(events.RunStarted(info.id))
            self._troubled.clear()
            self.started.add(step.run)
            self.unrecorded.append(info)
        if twins:
            self.reporter.emit(events.RunPaidTwice(info.id, twins))
        self.record_seen(step.run, info)

    def _record_claim(self, step: ClaimRun, outcome: Outcome) -> None:
        if isinstance(outcome, Claimed):
            self.clones.claims[step.shard] = outcome.elder
        else:
            self._record_failed(step, outcome)

    def _record_twin(self, step: AwaitTwin, outcome: Outcome) -> None:
        """Import the run of another clone; where none shows, let the user decide."""
        match outcome:
            case RunSeen(info, twins):
                batch, [shard] = self._batch(step), self.state.load_shards(step.shard)
                elder, row = info.batch_id or step.elder, batch.id
                if elder != batch.remote_id:
                    self.state.record_batch_gone(batch.id)
                    row = self.state.record_imported_batch(shard.id, batch.target, elder)
                    for member in shard.members:
                        self.state.record_upload(row, member.name, member.digest)
                fingerprint, key, attempt = parse_run_tag(step.tag) or ("", "", 0)
                self.state.close_shard(shard.id, fingerprint)
                taken = replace(batch, id=row, remote_id=elder)
                run = self.state.record_imported_run(shard.id, taken, (key, attempt, step.tag), info.id)
                self.reporter.emit(events.RunImported(info.id, elder, is_clones=True))
                if twins:
                    self.reporter.emit(events.RunPaidTwice(info.id, twins))
                self.record_seen(run, info)
            case NotThere() if step.may_take_over:
                self.clones.settled.add(step.shard)
                self.checked.discard(step.shard)  # the batch may have changed meanwhile
                if self.job.options.adopt:
                    self.reporter.emit(events.BatchTakenOver(step.elder))
            case NotThere() | Unsure():
                self.park(step.shard, self.clones.explain(step, outcome))
            case _:
                self._record_failed(step, outcome)

    def _record_gone(self, step: PollRun | FetchResults) -> None:
        """Record that a run is gone. If none of its results were fetched, it has failed."""
        self.state.record_run_gone(step.run)
        self.going.discard(step.run)
        shard = self.state.load_shards(step.shard)[0]
        run = next(run for run in shard.runs if run.id == step.run)
        if run.fetched:
            self.park(step.shard, lost_error(run, self.job.goal))
        else:
            self.reporter.emit(events.RunGone(step.remote_id))

    def _record_absent(self, step: FindRun, outcome: NotThere | Unsure) -> None:
        """Allow a run that is confirmed absent to be started again; else let the user decide."""
        if isinstance(outcome, Unsure):
            self._park_unknown(step, outcome.why)
        elif self.job.spec.run.on_lost == "stop" and self._is_lost(step):
            self._park_unknown(step, 'not found, and the spec says on_lost = "stop"')
        else:
            self.absent_runs.add(step.run)

    def _is_lost(self, step: FindRun) -> bool:
        """Whether no response came at all. A refused request is repeated once it is confirmed absent."""
        [shard] = self.state.load_shards(step.shard)
        return not any(run.id == step.run and run.refused for run in shard.runs)

    def record_seen(self, run: int, info: RunInfo) -> None:
        """Record what the service reports about a run."""
        message = clean_text(info.msg or "")
        self.state.record_run(
            run, info.id, info.status, message, (info.start_timestamp or 0, info.finish_timestamp or 0)
        )
        before = self._statuses.get(run)
        if before != info.status:
            self._statuses[run] = info.status
            self.reporter.emit(events.RunStatus(info.id, clean_text(info.status), message, clean_text(before or "")))
        if info.status in FINAL_STATUSES | {REVIEW_STATUS}:
            self.going.discard(run)
            if info.start_timestamp and info.finish_timestamp:
                self.run_times_s.append((info.finish_timestamp - info.start_timestamp) / NS)

    def _park_unknown(self, step: FindRun, why: str) -> None:
        self.state.record_run_unknown(step.run, why)
        message = f"shard {step.shard}: unconfirmed whether its run was started, {why}"
        self.park(step.shard, UnknownOutcome(message, f"see `{self.job.command('resolve')}`"))

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
        self.parked.add(shard)
        self.errors.append(error)
        self.reporter.emit(events.Problem(error.message))

    def _record_failed(self, step: Step, outcome: Outcome) -> None:
        error = outcome.error if isinstance(outcome, Failed) else ServiceError(f"{step}: unexpected {outcome}")
        if isinstance(error, StateError):  # the disk is full: record what is in flight, and start nothing more
            self.halted = True
        self._forget_unsent(step)
        self._leave(step, error)

    def _leave(self, step: Step, error: RunnerError) -> None:
        """Skip a shard for the rest of this apply, and perhaps others with it."""
        if step.shard not in self.parked:
            self.park(step.shard, error)
        self._drop_uploads(step.shard)
        self._consider_halting(step, error)

    def _forget_unsent(self, step: Step) -> None:
        """Forget the intent of a request that never left this machine."""
        if isinstance(step, CreateBatch):
            self.state.forget_batch_intent(step.batch)
        if isinstance(step, StartRun):
            self.state.forget_run_intent(step.run)

    def _consider_halting(self, step: Step, error: RunnerError) -> None:
        """Halt where the account is refused. Stop paying where the service refuses that or has trouble."""
        status = error.status if isinstance(error, ServiceError) else 0
        creates = isinstance(step, (CreateBatch, StartRun))
        if status not in CONCERNS_ONE:  # else the same few shards would block all others for ever
            self._troubled.add(step.shard)
        if status == 401 or (status == 403 and not creates):
            self.halted = True
        concerns_all = creates and status not in CONCERNS_ONE
        if concerns_all or len(self._troubled) >= MAX_TROUBLED_SHARDS:
            self.stopped_paying = True
            self.engine.drop_uploads()

    _handlers: Mapping[type, Callable[[Recorder, Any, Outcome], None]] = {
        VerifyBatch: _record_verified,
        SendFile: _record_sent,
        CheckBatch: _record_checked,
        ClaimRun: _record_claim,
        AwaitTwin: _record_twin,
        StartRun: _record_run,
        FindRun: _record_run,
        PollRun: _record_run,
        FetchResults: _record_run,
    }
