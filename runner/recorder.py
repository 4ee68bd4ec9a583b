"""Turn outcomes into recorded facts, and remember for this apply what is not a fact: what to leave alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from runner.disks import disk_error, find_mount
from runner.engine import Engine
from runner.errors import RunnerError, ServiceError, StateError, UnknownOutcome
from runner.events import Counts, Reporter
from runner.job import Job
from runner.model import GONE, REVIEW_STATUS, SetAside
from runner.pages import lost_error
from runner.shown import are, count
from runner.state import State
from runner.steps import (
    BatchCreated,
    CheckBatch,
    Checked,
    CreateBatch,
    Failed,
    Fetched,
    FetchResults,
    FindBatch,
    FindRun,
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
)
from runner.wire import RunInfo, clean_text

MAX_CHECKS = 3
MAX_STARTS = 3
MAX_TROUBLED_SHARDS = 3
CONCERNS_ONE = frozenset({400, 409, 413, 415, 422})  # a refusal that another shard need not meet


class Recorder:
    """Records what came of steps.

    `parked` holds the shards that are left alone for the rest of this apply; `checked` those whose batch was just
    found right; `absent_…` rows of what was looked for and surely is not there; `going` the runs under way;
    `unrecorded` those started of which nothing is committed yet.
    """

    def __init__(self, job: Job, state: State, engine: Engine, reporter: Reporter, counts: Counts) -> None:
        self.job, self.state, self.engine, self.reporter, self.counts = job, state, engine, reporter, counts
        self.errors: list[RunnerError] = []
        self.parked: set[int] = set()
        self.checked: set[int] = set()
        self.absent_batches: set[int] = set()
        self.absent_runs: set[int] = set()
        self.started: set[int] = set()
        self.going: set[int] = set()
        self.outstanding: dict[int, int] = {}
        self.aside: dict[str, SetAside] = {}
        self.changed: dict[str, tuple[int, str]] = {}
        self.halted = False
        self.stopped_paying = False
        self._statuses: dict[int, str] = {}
        self.unrecorded: list[RunInfo] = []
        self._checks: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._troubled: set[int] = set()
        self._bad_disks: set[int] = set()

    def record(self, step: Step, outcome: Outcome) -> None:
        """Record what came of a step; inside a transaction."""
        self.outstanding[step.shard] -= 1
        # What a twin with the same names and bytes has taken by now is looked for again.
        if not (isinstance(step, FindBatch | FindRun) and self._is_taken(outcome)):
            self._record(step, outcome)

    def _record(self, step: Step, outcome: Outcome) -> None:
        match step, outcome:
            case _, Stopped():
                self._forget_unsent(step)
            case ((CreateBatch() | FindBatch()), BatchCreated(remote_id)):
                self.state.record_batch(step.batch, remote_id)
                self._say_batch(step, remote_id)
            case CreateBatch(), Lost(at_s, error):
                self.state.record_batch_lost(step.batch, at_s)
                self._count_lost(step, error)
            case FindBatch(), NotThere():
                self.absent_batches.add(step.batch)
            case FindBatch(), Unsure(why):
                self._park(step.shard, ServiceError(f"its batch cannot be looked for, {why}", "apply again"))
            case SendFile(), _:
                self._record_sent(step, outcome)
            case CheckBatch(), _:
                self._record_checked(step, outcome)
            case ((StartRun() | FindRun() | PollRun() | FetchResults()), _):
                self._record_run(step, outcome)
            case _, _:
                self._record_failed(step, outcome)

    def _is_taken(self, found: Outcome) -> bool:
        shards = self.state.load_shards()
        if isinstance(found, BatchCreated):
            return any(batch.remote_id == found.remote_id for shard in shards for batch in shard.batches)
        if isinstance(found, RunSeen):
            return any(run.remote_id == found.info.id for shard in shards for run in shard.runs)
        return False

    def _say_batch(self, step: CreateBatch | FindBatch, remote_id: int) -> None:
        made = isinstance(step, CreateBatch)
        self.counts.batches_made += made
        self.reporter.say(f"batch {remote_id} {'created' if made else 'found and taken up'}")

    def _count_lost(self, step: CreateBatch | StartRun, error: RunnerError) -> None:
        """Look after a lost answer, but do not go round for ever."""
        self.reporter.say(f"the answer was lost: {error.message}")
        self._lost[step.shard] = self._lost.get(step.shard, 0) + 1
        if self._lost[step.shard] > MAX_STARTS:
            self._park(step.shard, error)

    def _now_s(self) -> float:
        return self.engine.client.server_now_s()

    # Files

    def _record_sent(self, step: SendFile, outcome: Outcome) -> None:
        match outcome:
            case Sent(digest, size):
                self._accept_digest(step, digest, size)
                self.state.record_upload(step.batch, step.member.name, digest)
                self.state.record_sent(step.batch, self._now_s())
                self.counts.files_sent += 1
                self.counts.bytes_sent += size
            case Unsendable("disk", detail):
                self._record_unreadable(step, detail)
            case Unsendable(reason, detail):
                self._set_aside(step, reason, detail)
            case Gone():
                self._forget_batch(step)
            case _:
                self._record_failed(step, outcome)

    def _accept_digest(self, step: SendFile, digest: str, size: int) -> None:
        """Take what was sent for the member, where the file changed since it was scanned."""
        if digest == step.member.digest:
            return
        shard = self.state.load_shards(step.shard)[0]
        if shard.is_closed:
            self._park(step.shard, ServiceError(f"{step.member.path}: changed while it was sent again", "apply again"))
            return
        self.reporter.say(f"{step.member.path}: changed since it was scanned; sent as it is now")
        self.changed[step.member.path] = (size, digest)
        changed = replace(step.member, digest=digest, size=size)
        members = [changed if member.name == changed.name else member for member in shard.members]
        self.state.record_members(step.shard, members)

    def _record_unreadable(self, step: SendFile, detail: str) -> None:
        """Set one file aside that its disk does not give; with a second one, it is the disk that fails."""
        mount = find_mount(str(step.path))
        if mount in self._bad_disks:
            self._record_failed(step, Failed(disk_error(step.member.path, detail)))
        else:
            self._bad_disks.add(mount)
            self._set_aside(step, "unreadable", detail)

    def _set_aside(self, step: SendFile, reason: str, detail: str) -> None:
        member = step.member
        shard = self.state.load_shards(step.shard)[0]
        if reason == "refused":
            self.state.record_refused(member.path, member.identity, clean_text(detail))
        if shard.is_closed:
            self._park(step.shard, ServiceError(f"{member.path}: cannot be sent again, {detail}", "apply again"))
            return
        self.reporter.say(f"{member.path}: set aside, {reason}: {detail}")
        self.aside[member.path] = SetAside(member.path, reason, clean_text(detail))
        rest = [other for other in shard.members if other.name != member.name]
        self.state.record_members(step.shard, rest)
        self.counts.files_to_send -= 1
        self.counts.bytes_to_send -= member.size
        if not rest:
            self.state.forget_shard(step.shard)

    def _forget_batch(self, step: SendFile | CheckBatch) -> None:
        self.reporter.say(f"batch {step.remote_id} is not on the server any more; its files are sent again")
        self._drop_uploads(step.shard)
        self.state.forget_batch(step.batch)

    def _drop_uploads(self, shard: int) -> None:
        self.outstanding[shard] -= self.engine.drop_uploads(shard)

    def _record_checked(self, step: CheckBatch, outcome: Outcome) -> None:
        match outcome:
            case Checked(missing) if not missing:
                self.checked.add(step.shard)
            case Checked(missing):
                self._checks[step.shard] = self._checks.get(step.shard, 0) + 1
                self.state.forget_uploads(step.batch, missing)
                if self._checks[step.shard] >= MAX_CHECKS:
                    what = (
                        f"batch {step.remote_id}: {count(len(missing), 'file')} {are(len(missing))} not listed as sent"
                    )
                    self._park(step.shard, ServiceError(f"{what}, {missing[0]!r}", "apply again"))
                else:
                    self.reporter.say(
                        f"batch {step.remote_id}: {count(len(missing), 'file')} {are(len(missing))} sent again"
                    )
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
                self.counts.runs_fetched += 1
                self.reporter.say(f"run {step.remote_id}: results of {count(len(answers), 'file')} fetched")
            case _, _:
                self.going.discard(step.run)
                self._record_failed(step, outcome)

    def _record_found(self, step: Step, info: RunInfo, twins: tuple[str, ...]) -> None:
        assert not isinstance(step, (CreateBatch, FindBatch, SendFile, CheckBatch))
        if isinstance(step, StartRun):
            self.counts.runs_started += 1
            self._troubled.clear()
            self.started.add(step.run)
            self.unrecorded.append(info)
        if twins:
            self.reporter.say(f"run {info.id} is taken up; {', '.join(twins)} carry the same tag")
        self.record_seen(step.run, info)

    def _record_gone(self, step: PollRun | FetchResults) -> None:
        """Take a run for failed that is gone before any of its results were fetched; any other stays done."""
        shard = self.state.load_shards(step.shard)[0]
        run = next(run for run in shard.runs if run.id == step.run)
        if run.fetched:
            self.state.record_gone(run.id)
            self._park(step.shard, lost_error(run))
        else:
            self.record_seen(step.run, RunInfo(id=step.remote_id, status="FAILED", msg=GONE))

    def _record_absent(self, step: FindRun, outcome: NotThere | Unsure) -> None:
        """Let a run be started again that surely was not, and leave the decision to a person where that is not sure."""
        if isinstance(outcome, Unsure):
            self._park_unknown(step, outcome.why)
        elif self.job.spec.run.on_lost == "stop":
            self._park_unknown(step, 'it was not found, and the spec says on_lost = "stop"')
        else:
            self.absent_runs.add(step.run)

    def record_seen(self, run: int, info: RunInfo) -> None:
        """Record what the service says of a run."""
        message = clean_text(info.msg or "")
        self.state.record_run(
            run, info.id, info.status, message, (info.start_timestamp or 0, info.finish_timestamp or 0)
        )
        before = self._statuses.get(run)
        if before != info.status:
            self._statuses[run] = info.status
            self.counts.runs.update({info.status: 1} | ({before: -1} if before else {}))
            self.reporter.say(f"run {info.id}: {clean_text(info.status)}" + (f", {message}" if message else ""))
        if info.status in ("COMPLETE", "FAILED", "CANCELLED", REVIEW_STATUS):
            self.going.discard(run)

    def _park_unknown(self, step: FindRun, why: str) -> None:
        self.state.record_run_unknown(step.run, why)
        message = f"shard {step.shard}: it is not known whether its run was started, {why}"
        self._park(step.shard, UnknownOutcome(message, f"see `{self.job.command('resolve')}`"))

    def describe_open(self) -> list[str]:
        """Say what is open or was not recorded, where the state cannot be written any more."""
        lines = [f"run {info.id} was started, and is not recorded" for info in self.unrecorded]
        with suppress(StateError):
            for shard in self.state.load_shards():
                places = {batch.id: batch.remote_id for batch in shard.batches}
                lines += [
                    f"a run on batch {places[run.batch]} with tag {run.tag} may have been started; "
                    "the next apply looks for it"
                    for run in shard.runs
                    if run.is_open
                ]
        return lines

    # Failures

    def _park(self, shard: int, error: RunnerError) -> None:
        self.parked.add(shard)
        self.errors.append(error)
        self.reporter.say(error.message)

    def _record_failed(self, step: Step, outcome: Outcome) -> None:
        error = outcome.error if isinstance(outcome, Failed) else ServiceError(f"{step}: unexpected {outcome}")
        if isinstance(error, StateError):  # the disk is full: record what is under way, and begin nothing more
            self.halted = True
        if step.shard not in self.parked:
            self._park(step.shard, error)
        self._drop_uploads(step.shard)
        self._forget_unsent(step)
        self._consider_halting(step, error)

    def _forget_unsent(self, step: Step) -> None:
        """Forget the intent of a request that surely created nothing: it was refused, or never sent."""
        if isinstance(step, CreateBatch):
            self.state.forget_batch(step.batch)
        if isinstance(step, StartRun):
            self.state.forget_run_intent(step.run)

    def _consider_halting(self, step: Step, error: RunnerError) -> None:
        """Stop everything where the account is refused, and paying where the service refuses that or is in trouble."""
        status = error.status if isinstance(error, ServiceError) else 0
        creates = isinstance(step, (CreateBatch, StartRun))
        if status not in CONCERNS_ONE:  # else the same few would keep all others from ever being done
            self._troubled.add(step.shard)
        if status == 401 or (status == 403 and not creates):
            self.halted = True
        concerns_all = creates and status not in CONCERNS_ONE
        if concerns_all or len(self._troubled) >= MAX_TROUBLED_SHARDS:
            self.stopped_paying = True
            self.engine.drop_uploads()
