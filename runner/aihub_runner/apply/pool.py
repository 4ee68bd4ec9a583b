"""Do steps in threads, and pass their outcomes to the main thread, which alone decides and records.

`executor` does what may be repeated, and may be an engine beyond this machine. The other pools are always in this
process: they send the requests that create something, and check what those may have created. Runs have threads of
their own, one for each run that may be in flight, so that none waits in a queue after its intent was recorded.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Protocol

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.factory import ClientFactory
from aihub_runner.apply.climb import Climb, start_with
from aihub_runner.apply.steps import Again, Declined, Failed, LeftHere, Lost, Outcome, Step, Stopped
from aihub_runner.apply.tasks import batch, clones, fetch, run, upload
from aihub_runner.apply.tasks.batch import CreateBatch
from aihub_runner.apply.tasks.run import StartRun
from aihub_runner.apply.tasks.upload import IN_MEMORY_BYTES, SendFile
from aihub_runner.errors import AnswerLost, Interrupted, Refused, RunnerError, ServiceError, Shortage
from aihub_runner.system.shortage import find_shortage

LOOKING_THREADS = 4
YOUNG_WAIT_S = 0.5
AHEAD_S = 1.0  # a batch is created while files for so long wait: its requests and the commits take a while
GATHER_S = 0.25  # outcomes of uploads that come within this time are recorded together
WORK_BYTES = 1 << 18  # to find how many uploads at once pay, these count as much as a request
GROUP_S, MOST_IN_GROUP = 0.004, 16  # as many small files as take this long are one task: a task costs time, too

# If the machine lacks something: how often in a row to try a step, and how often more for each step in flight.
TRIES_SHORT = 8
TRIES_SHORT_BESIDE = 5
SHORT_WAIT_S = 0.5

Done = tuple[Step, Outcome]


WORKERS: dict[type, Callable[..., Outcome]] = {
    CreateBatch: batch.create_batch,
    batch.FindBatch: batch.find_batch,
    batch.VerifyBatch: batch.verify_batch,
    SendFile: upload.send_file,
    batch.CheckBatch: batch.check_batch,
    StartRun: run.start_run,
    run.FindRun: run.find_run,
    clones.ClaimRun: clones.claim_run,
    clones.AwaitTwin: clones.await_twin,
    run.PollRun: run.poll_run,
    fetch.FetchResults: fetch.fetch_results,
}
ELSEWHERE: dict[type, Callable[..., Outcome]] = {upload.SendPlanned: upload.send_planned}
LOOKING = (CreateBatch, batch.FindBatch, run.FindRun, clones.ClaimRun, clones.AwaitTwin)


class SendFiles(Step, frozen=True):
    """Send small files one after another."""

    steps: tuple[SendFile, ...]


class AllTried(Outcome, frozen=True):
    """What came of each of several files."""

    outcomes: tuple[Outcome, ...]


class Fleet(Protocol):
    """Workers beyond this process that send files. `lost` says why they cannot any more.

    `limit` is how many tasks they may have at once, `wanted` how many files should wait for them. While it `rests`,
    nothing is handed out.
    """

    @property
    def lost(self) -> ServiceError | None: ...

    @property
    def limit(self) -> int: ...

    @property
    def wanted(self) -> int: ...

    @property
    def rests(self) -> bool: ...

    def take(self, waiting: deque[SendFile]) -> tuple[SendFile, ...]:
        """Take files for one task."""

    def send(self, steps: tuple[SendFile, ...]) -> Future[Outcome]:
        """Hand out a task. Its outcomes may also be `Again` and `LeftHere`."""

    def late_s(self, sizes: Sequence[int]) -> float:
        """Return how many seconds after they were handed out anything of these files may arrive."""

    def late_until_s(self, batch: int) -> float:
        """Return until when a worker may send late to a batch (row), by the monotonic clock; 0 where none may."""

    def close(self) -> None:
        """Leave the workers."""


def do_step_here(open_client: Callable[[], AIHub], step: Step) -> Outcome:
    """Do a step with the client of this process, which may be another than the scheduler's."""
    client = open_client()
    if isinstance(step, SendFiles):
        return AllTried(tuple(do_step(client, one) for one in step.steps))
    return do_step(client, step)


def do_step(client: AIHub, step: Step) -> Outcome:
    """Do a step and return its outcome. Retry a 404 on something new."""
    try:
        return _work_on(client, step)
    except Interrupted:
        return Stopped()
    except AnswerLost as error:
        return Lost(client.server_now_s(), error)
    except Refused as error:
        return Declined(error)
    except Shortage as error:
        return _short(client, step, error)
    except RunnerError as error:
        return Failed(error)
    except (OSError, MemoryError, RuntimeError) as error:
        if shortage := find_shortage(error):
            return _short(client, step, shortage)
        raise


def _work_on(client: AIHub, step: Step) -> Outcome:
    while True:
        try:
            with client.working_for(step.shard):
                return (WORKERS.get(type(step)) or ELSEWHERE[type(step)])(client, step)
        except ServiceError as error:
            creates = isinstance(error, Refused | AnswerLost)
            if creates or error.status != 404 or time.monotonic() >= getattr(step, "young_until_s", 0.0):
                raise
            client.pause(YOUNG_WAIT_S)


def _short(client: AIHub, step: Step, error: Shortage) -> Outcome:
    """Return the outcome of a step that this machine could not finish.

    Memory may run out while the response is read: a request that creates counts as sent.
    """
    return Lost(client.server_now_s(), error) if isinstance(step, CreateBatch | StartRun) else Failed(error)


class Engine:
    """Keep steps running: uploads a few at a time, everything else at once or when it is due.

    `upload_s` is the time spent on uploads so far. With a `fleet`, files are sent by its workers.
    """

    fleet: Fleet | None = None

    def __init__(
        self,
        client: AIHub,
        parallel_uploads: int,
        parallel_runs: int,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        parallel_starts: int = 0,
    ) -> None:
        self.client = client
        self._open_client = ClientFactory(client.connection, client)
        self.clock = clock
        self._executor = executor or ThreadPoolExecutor(parallel_uploads + parallel_runs, "work")
        self._looking = ThreadPoolExecutor(LOOKING_THREADS + parallel_runs, "look")
        self._paying = ThreadPoolExecutor(max(parallel_runs, parallel_starts), "pay")
        self._climb = Climb(parallel_uploads, clock, start_with(client.fastest_s))
        self._uploads: deque[SendFile] = deque()
        self._uploading = 0
        self._uploading_since = 0.0
        self.upload_s = 0.0
        self._file_s = GROUP_S  # how long a small file takes
        self._in_flight = 0
        self._done: SimpleQueue[tuple[Step, float | None, Future[Outcome]]] = SimpleQueue()
        self._timers: list[tuple[float, int, Step]] = []
        self._counter = itertools.count()
        self._short = 0  # outcomes in a row that failed for a lack of resources
        self._resume_s = 0.0
        self._late: Shortage | None = None  # to raise once the outcomes that came before it are recorded

    @property
    def wants_uploads(self) -> bool:
        """Whether the upload threads will soon run out of work."""
        if self.fleet:
            return len(self._uploads) < self.fleet.wanted
        return len(self._uploads) < max(self._climb.most, AHEAD_S * self._climb.limit / self._file_s)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight or due."""
        return not (self._in_flight or self._uploads or self._timers)

    def submit(self, step: Step) -> None:
        """Do a step as soon as a thread is free."""
        if isinstance(step, SendFile):
            self._uploads.append(step)
        else:
            self._start(step)

    def submit_later(self, step: Step, delay_s: float) -> None:
        """Do a step after a delay."""
        heapq.heappush(self._timers, (self.clock() + delay_s, next(self._counter), step))

    def drop_uploads(self, shard: int | None = None) -> int:
        """Drop the uploads that have not started, of one shard or of all, and return their number."""
        kept = deque(step for step in self._uploads if shard is not None and step.shard != shard)
        dropped, self._uploads = len(self._uploads) - len(kept), kept
        return dropped

    def drop_timers(self, kind: type[Step] = Step) -> None:
        """Drop the steps that are due later, perhaps only those of a kind."""
        self._timers = [timer for timer in self._timers if not isinstance(timer[2], kind)]
        heapq.heapify(self._timers)

    def drop_all(self) -> None:
        """Drop every step that has not started."""
        self.drop_uploads()
        self.drop_timers()

    def _start(self, step: Step, begun_s: float | None = None) -> None:
        """Start a step. `begun_s` is given for those that count as uploads in flight."""
        self._in_flight += 1
        try:
            if self.fleet and isinstance(step, SendFiles):
                future = self.fleet.send(step.steps)
            else:
                future = self._pool(step).submit(do_step_here, self._open_client, step)
        except RuntimeError as error:  # the step may be queued all the same, and must end this apply
            raise find_shortage(error) or error from None
        future.add_done_callback(lambda done: self._done.put((step, begun_s, done)))

    def _pool(self, step: Step) -> Executor:
        if isinstance(step, StartRun):
            return self._paying
        return self._looking if isinstance(step, LOOKING) else self._executor

    def _start_due(self) -> None:
        while self._uploads and self._may_upload():
            if not self._uploading:
                self._uploading_since = self.clock()
            self._uploading += 1
            self._start(self._take_uploads(), self.clock())
        while self._timers and self._timers[0][0] <= self.clock():
            self._start(heapq.heappop(self._timers)[2])

    def _may_upload(self) -> bool:
        if self.fleet:
            return not self.fleet.lost and not self.fleet.rests and self._uploading < self.fleet.limit
        return self._uploading < self._climb.limit and self.clock() >= self._resume_s

    def _take_uploads(self) -> SendFile | SendFiles:
        """Take the next file to send, or several small ones, as long as no thread is left without."""
        if self.fleet:
            steps = self.fleet.take(self._uploads)
            return SendFiles(steps[0].shard, steps)
        fair = len(self._uploads) // self._climb.limit
        most = min(MOST_IN_GROUP, fair, int(GROUP_S / self._file_s))
        taken = [self._uploads.popleft()]
        while len(taken) < most and max(taken[-1].member.size, self._uploads[0].member.size) <= IN_MEMORY_BYTES:
            taken.append(self._uploads.popleft())
        return taken[0] if len(taken) == 1 else SendFiles(taken[0].shard, tuple(taken))

    def wait(self, at_most_s: float) -> list[Done]:
        """Start what is due, wait for outcomes, and return them all; none after `at_most_s`.

        Where only uploads have ended and others are in flight, wait a moment for theirs.
        """
        if self._late:
            raise self._late
        self._start_unless_stopped()
        if self._timers and not self.client.stop.is_set():
            at_most_s = min(at_most_s, max(0.0, self._timers[0][0] - self.clock()))
        outcomes: list[Done] = self._fail_waiting()
        until_s = self.clock() + (0.0 if outcomes else at_most_s)
        gathers = False
        try:
            while True:
                step, begun_s, future = self._done.get(timeout=max(0.0, until_s - self.clock()))
                outcomes += self._finish(step, begun_s, future)
                try:
                    self._start_unless_stopped()
                except Shortage as error:
                    self._late = error
                    return outcomes
                if not isinstance(step, SendFile | SendFiles) or not self._uploading:
                    until_s = 0.0
                elif not gathers:
                    until_s, gathers = self.clock() + GATHER_S, True
        except Empty:
            return outcomes

    def _start_unless_stopped(self) -> None:
        if not self.client.stop.is_set():
            self._start_due()

    def _fail_waiting(self) -> list[Done]:
        """Fail the uploads that wait for workers that are lost."""
        if not (self.fleet and self.fleet.lost):
            return []
        failed = [(step, Failed(self.fleet.lost)) for step in self._uploads]
        self._uploads.clear()
        return list[Done](failed)

    def _finish(self, step: Step, begun_s: float | None, future: Future[Outcome]) -> list[Done]:
        self._in_flight -= 1
        if begun_s is not None and isinstance(step, SendFile | SendFiles):
            self._count_uploads(step.steps if isinstance(step, SendFiles) else (step,), begun_s)
        outcome = future.result()
        if isinstance(step, SendFiles) and isinstance(outcome, AllTried):
            return [done for pair in zip(step.steps, outcome.outcomes, strict=True) for done in self._keep(*pair)]
        return self._keep(step, outcome)

    def _count_uploads(self, steps: Sequence[SendFile], begun_s: float) -> None:
        now_s = self.clock()
        self.upload_s += now_s - self._uploading_since
        self._uploading_since = now_s
        size = sum(step.member.size for step in steps)
        self._climb.finish(len(steps) + size / WORK_BYTES, self._uploading)
        self._uploading -= 1
        if size <= IN_MEMORY_BYTES * len(steps):
            self._file_s += (max(1e-6, (now_s - begun_s) / len(steps)) - self._file_s) / 4

    def _keep(self, step: Step, outcome: Outcome) -> list[Done]:
        """Return a step with its outcome, or repeat it where this machine lacked something, or a worker elsewhere."""
        if isinstance(outcome, Again | LeftHere) and isinstance(step, SendFile):
            return self._repeat_elsewhere(step, outcome)
        if not (isinstance(outcome, Failed) and isinstance(outcome.error, Shortage) and outcome.error.transient):
            self._short = 0
        elif self._may_repeat(step):
            self._repeat_with_fewer(step)
            return []
        return [(step, outcome)]

    def _repeat_elsewhere(self, step: SendFile, outcome: Outcome) -> list[Done]:
        if self.client.stop.is_set():
            return [(step, Stopped())]
        if isinstance(outcome, LeftHere):
            self._start(step)
        else:
            self._uploads.appendleft(step)
        return []

    def _may_repeat(self, step: Step) -> bool:
        """Whether to retry a step that failed for a lack of resources: with fewer in flight it may work."""
        self._short += 1
        tries = TRIES_SHORT + self._in_flight * TRIES_SHORT_BESIDE
        return self._short <= tries and not isinstance(step, CreateBatch | StartRun) and not self.client.stop.is_set()

    def _repeat_with_fewer(self, step: Step) -> None:
        if isinstance(step, SendFile):
            self._climb.lower(min(self._climb.limit, self._uploading))
            self._resume_s = self.clock() + SHORT_WAIT_S
            self._uploads.appendleft(step)
        else:
            self.submit_later(step, SHORT_WAIT_S)

    def close(self) -> None:
        """Wait for what is in flight, and end the threads."""
        if self.fleet:
            self.fleet.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._looking.shutdown(wait=True, cancel_futures=True)
        self._paying.shutdown(wait=True, cancel_futures=True)
