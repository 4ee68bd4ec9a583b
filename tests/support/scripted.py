"""An apply in which only the workers are fake: a script answers each step at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply.context import Context, Ground
from aihub_runner.apply.events import Event, Reporter
from aihub_runner.apply.job import Job, Options, open_job
from aihub_runner.apply.pool import AllTried, Engine, SendFiles
from aihub_runner.apply.scheduler import Scheduler
from aihub_runner.apply.steps import Declined, Failed, Gone, Lost, NotThere, Outcome, RunSeen, Step, Stopped
from aihub_runner.apply.tasks.batch import BatchCreated, CheckBatch, CreateBatch, FindBatch, Verified, VerifyBatch
from aihub_runner.apply.tasks.clones import AwaitTwin, Checked, Claimed, ClaimRun
from aihub_runner.apply.tasks.fetch import Fetched, FetchResults
from aihub_runner.apply.tasks.run import FindRun, PollRun, StartRun
from aihub_runner.apply.tasks.upload import SendFile, Sent
from aihub_runner.errors import ServiceError
from aihub_runner.model import Member, Shard
from aihub_runner.plan.planner import Work, next_action
from aihub_runner.state.store import State

SPEC = 'name = "job"\nfiles = "in/*"\napp_name = "A"\n'
FIRST_BATCH = 100
SHORT: Mapping[type[Step], str] = {
    CreateBatch: "create",
    FindBatch: "find batch",
    VerifyBatch: "verify",
    SendFile: "send",
    CheckBatch: "check",
    ClaimRun: "claim",
    AwaitTwin: "await",
    StartRun: "START",
    FindRun: "find run",
    PollRun: "poll",
    FetchResults: "fetch",
}

ERROR = ServiceError("no answer")
LOST, FAILED = Lost(0.0, ERROR), Failed(ERROR)
# The steps of a shard of two files if nothing goes wrong.
SENT = ["verify", "send", "send", "check"]
READY = ["create", *SENT]
DONE = ["START", "fetch"]

Answer = Outcome | Callable[[Any], Outcome]
Script = Mapping[Any, Sequence[Answer]]  # by kind of step

# The answers if nothing goes wrong, by step, number of batches, and number of runs.
GOOD: Mapping[type[Step], Callable[[Any, int, int], Outcome]] = {
    CreateBatch: lambda _, batches, __: BatchCreated(FIRST_BATCH + batches),
    FindBatch: lambda *_: NotThere(),
    VerifyBatch: lambda *_: Verified(1_000),
    SendFile: lambda step, *_: Sent(step.member.digest, step.member.size),
    CheckBatch: lambda *_: Checked(()),
    ClaimRun: lambda *_: Claimed(0),
    AwaitTwin: lambda *_: NotThere(),
    StartRun: lambda _, __, runs: seen(f"r{runs}"),
    FindRun: lambda *_: NotThere(),
    PollRun: lambda step, *_: seen(step.remote_id),
    FetchResults: lambda *_: Fetched((), ()),
}


class AtOnce(Executor):
    """Answers steps without doing them, in the thread that submits."""

    def __init__(self, answer: Callable[[Any], Outcome]) -> None:
        self.answer = answer
        self.steps: list[Step] = []

    def submit(self, _do: Any, _client: Any, step: Step, /) -> Future[Outcome]:  # type: ignore[override]
        """Answer a step, or several uploads that are one task."""
        steps = step.steps if isinstance(step, SendFiles) else (step,)
        self.steps += steps
        done: Future[Outcome] = Future()
        outcomes = tuple(map(self.answer, steps))
        done.set_result(AllTried(outcomes) if isinstance(step, SendFiles) else outcomes[0])
        return done


class Clock:
    """A manual clock, which also advances by `tick_s` each time it is read."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.now_s, self._tick_s = 0.0, tick_s

    def __call__(self) -> float:
        self.now_s += self._tick_s
        return self.now_s


def seen(run_id: str, status: str = "COMPLETE", **facts: Any) -> RunSeen:
    """Return the service's record of a run."""
    return RunSeen(RunInfo(id=run_id, status=status, **facts))


def refused(status: int, wait_s: float | None = None) -> Declined:
    """Return the outcome of a request that the service refused."""
    return Declined(ServiceError("refused", status=status, retry_after_s=wait_s))


def stopping(hub: AIHub, outcome: Outcome) -> Answer:
    """Return a response that arrives after Ctrl-C."""

    def answer(step: object) -> Outcome:
        hub.stop.set()
        return outcome

    return answer


class _Service:
    """Answers the first steps of each kind by the script, and the later ones as if nothing went wrong."""

    def __init__(self, script: Script, folder: Path) -> None:
        self._left = {kind: list(answers) for kind, answers in script.items()}
        self._state = folder / "job.state.db"
        self._batches = self._runs = 0
        self._unsettled: set[str] = set()  # batches and tags that may exist already

    def add(self, kind: type[Step], answers: Sequence[Answer]) -> None:
        """Answer the next steps of a kind like this."""
        self._left.setdefault(kind, []).extend(answers)

    def answer(self, step: Step) -> Outcome:
        """Answer a step. The intent of a creating step must be committed by now, and its object must not exist yet."""
        self._check_intent(step)
        address = f"batch of shard {step.shard}"
        if isinstance(step, StartRun):
            address = str(step.body["settings"]["tags"][0])
        elif isinstance(step, FindRun):
            address = step.tag
        outcome = self._find_answer(step)
        if isinstance(step, CreateBatch | StartRun):
            assert address not in self._unsettled, f"{step} without a look"
            if not isinstance(outcome, Stopped | Failed):
                self._unsettled.add(address)
        elif isinstance(outcome, NotThere | Gone):
            self._unsettled.discard(address)
        return outcome

    def _find_answer(self, step: Step) -> Outcome:
        if left := self._left.get(type(step)):
            answer = left.pop(0)
            return answer if isinstance(answer, Outcome) else answer(step)
        if isinstance(step, CreateBatch):
            self._batches += 1
        if isinstance(step, StartRun):
            self._runs += 1
        return GOOD[type(step)](step, self._batches, self._runs)

    def _check_intent(self, step: Step) -> None:
        """Check in the file, as the next process would, that a creating request has an open intent."""
        state = State(self._state, write=False)
        shards = state.load_shards(step.shard)
        state.close()
        if isinstance(step, CreateBatch):
            assert [batch.remote_id for batch in shards[0].batches if batch.id == step.batch] == [None]
        if isinstance(step, StartRun):
            [run] = [run for run in shards[0].runs if run.id == step.run]
            assert run.is_open
            assert shards[0].is_closed
            assert run.tag in step.body["settings"]["tags"]


class Trial:
    """An apply in its own folder, answered by a script."""

    def __init__(self, hub: AIHub, folder: Path, script: Script, spec: str = "", **given: Any) -> None:
        (folder / "job.aihub.toml").write_text(SPEC + spec)
        self.job: Job = open_job(folder / "job.aihub.toml", Options(**given), offline=True)
        self.state = State(folder / "job.state.db")
        self.state.record_lease("lease", "root")
        self._service = _Service(script, folder)
        self.asked = AtOnce(self._service.answer)
        self.clock = Clock(tick_s=1.0)
        self.ground = Ground()
        self._hub = hub

    def add(self, *members: Member) -> int:
        """Record an open shard."""
        return self.state.record_shard(members)

    def script(self, kind: type[Step], *answers: Answer) -> None:
        """Answer the next steps of a kind like this."""
        self._service.add(kind, answers)

    def open_context(self) -> Context:
        """Start another apply with the recorded state."""
        engine = Engine(self._hub, 4, 2, self.asked, self.clock)
        engine._looking = engine._paying = self.asked  # type: ignore[assignment]
        self.events: list[Event] = []
        return Context(self.job, self.state, engine, Reporter(self.events.append), self.ground)

    def apply(self, *, attempt: int = 1, only: int = 0, is_stale: bool = False) -> Context:
        """Work on all recorded shards, or on one, and return the final context."""
        context = self.open_context()
        shards = [shard for shard in self.state.load_shards() if only in (0, shard.id)]
        Scheduler(context).run(
            [Work(shard, attempt, next_action(shard, context.goal, attempt), "", is_stale) for shard in shards]
        )
        return context

    @property
    def shard(self) -> Shard:
        """The only shard."""
        [shard] = self.state.load_shards()
        return shard

    @property
    def steps(self) -> list[str]:
        """The requests so far, abbreviated; paid ones are in capitals."""
        return [SHORT[type(step)] for step in self.asked.steps]


def member(name: str, content: str = "") -> Member:
    """Return a file of a shard."""
    return Member(name, f"in/{name}", 1, f"sha256:{content or name}")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of this machine out of a job."""
    monkeypatch.setenv("AIHUB_API_KEY", "t0ken")
    monkeypatch.setenv("AIHUB_API_ROOT", "https://hub.example/api")


@pytest.fixture
def begin(hub: AIHub, outside: None, tmp_path: Path) -> Callable[..., Trial]:
    """Return a function that makes a trial from a script and a spec."""

    def begin(script: Script, spec: str = "", **given: object) -> Trial:
        return Trial(hub, tmp_path, script, spec, **given)

    return begin
