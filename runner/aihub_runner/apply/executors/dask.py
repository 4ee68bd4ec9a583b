"""Send files through the workers of a Dask cluster. What cannot be repeated stays in this process.

Dask may do a task twice, late, or never. So a task names the bytes that may be sent, and a deadline by the clock of
this process: `awake_and_asleep_s`. A worker knows how far its own clock is from ours by an earlier answer: we read our
clock after it read its own, so ours was at most that far ahead. No clock has to be right, and no delay of a message
makes a deadline later. A first task for a process only asks for its clock.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from distributed import Client
from msgspec import Struct

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.transport import MAX_PATIENCE_S
from aihub_runner.apply.events import Reporter, WorkerCannotRead
from aihub_runner.apply.executors.pace import ClusterPace
from aihub_runner.apply.executors.patience import Patience
from aihub_runner.apply.executors.wire import Answer, Place, Tried, decode_answer, encode_task
from aihub_runner.apply.executors.worker import rest, send_files
from aihub_runner.apply.pool import AllTried
from aihub_runner.apply.steps import Again, Failed, Gone, LeftHere, Outcome, Stopped
from aihub_runner.apply.tasks.upload import SendFile, Sent, Unsendable
from aihub_runner.errors import ClusterLost, ServiceError
from aihub_runner.model import MB
from aihub_runner.system.moment import awake_and_asleep_s
from aihub_runner.text.escape import clean_text

FILES_PER_TASK, FILES_UNDER_PRESSURE = 32, 4
BYTES_PER_TASK = 8 * MB
BYTES_PER_S = MB // 4  # a task may take this long for its bytes, besides `life_s`
MOST_TRIES = 4  # of one file, where workers fail or die
CHECK_S = 0.2
DRIFT = 0.01  # by how much clocks may run apart
AVOID_S = 30.0  # how long a worker that cannot reach the service gets no tasks, if others can


class Flight:
    """A task that was handed out. `ended` is what came of it, for whoever waits."""

    def __init__(self, key: str, steps: tuple[SendFile, ...], deadline_s: float) -> None:
        self.key, self.steps, self.deadline_s = key, steps, deadline_s
        self.ended: Future[Outcome] = Future()
        self.asked: Future[bytes] | None = None


class Workers(Struct):
    """What is known of the workers: threads of each, and when (monotonic) each was last seen to be alive."""

    threads: dict[str, int] = {}
    seen: dict[str, tuple[float, float]] = {}
    avoided: dict[str, float] = {}

    def update(self, found: Mapping[str, Mapping[str, Any]], now_s: float) -> None:
        """Take over what the scheduler says."""
        usable = {name: one for name, one in found.items() if one.get("status", "running") in ("running", "paused")}
        self.threads = {name: int(one["nthreads"]) for name, one in usable.items()}
        before = self.seen
        self.seen = {}
        for name, one in usable.items():
            said_s = float(one.get("last_seen") or 0.0)
            kept = before.get(name)
            self.seen[name] = kept if kept and kept[0] == said_s else (said_s, now_s)

    def silent(self, now_s: float, silent_s: float) -> list[str]:
        """Return the workers that were not heard of for a while."""
        return [name for name, (_, seen_s) in self.seen.items() if now_s - seen_s >= silent_s]

    def healthy(self, now_s: float, silent_s: float) -> list[str]:
        """Return the workers to give tasks to, in order."""
        alive = [name for name, (_, seen_s) in sorted(self.seen.items()) if now_s - seen_s < silent_s]
        return [name for name in alive if self.avoided.get(name, 0.0) <= now_s] or alive


class Cluster:
    """Hands out files to send, and collects what came of them. Made by `connect`.

    `submit`ted tasks end in the threads of Dask, and `take` and `send` are called by the main thread.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        hub: AIHub,
        place: Place,
        most: int,
        reporter: Reporter,
        patience: Patience,
        close: Callable[[], None],
    ) -> None:
        self.name, self.patience = name, patience
        self._client, self._hub, self._place, self._close = client, hub, place, close
        self._pace, self._reporter = ClusterPace(most), reporter
        self._misreading: set[str] = set()
        self._workers = Workers()
        self._clocks: dict[str, tuple[float, float]] = {}
        self._executors: dict[tuple[str, ...], Any] = {}
        self._flights: dict[str, Flight] = {}
        self._tries: Counter[tuple[int, str]] = Counter()
        self._late_until_s: dict[int, float] = {}
        self._lock = threading.RLock()
        self._news, self._is_closed = threading.Event(), threading.Event()
        self._heard_s = self._staffed_s = time.monotonic()
        self._stopped_s: float | None = None
        self._lost: ClusterLost | None = None
        client.subscribe_topic("all", self._note_event)
        self._ask_for_workers()
        for run in (self._watch_workers, self._watch_flights):
            threading.Thread(target=run, name=run.__name__, daemon=True).start()

    @property
    def lost(self) -> ServiceError | None:
        """Why the cluster can do nothing more, if so."""
        return self._lost

    # How much may be in flight

    @property
    def limit(self) -> int:
        """How many tasks may be in flight now: at most one for each thread of a worker that is well."""
        with self._lock:
            return min(self._pace.limit, sum(self._workers.threads.get(name, 0) for name in self._healthy()))

    @property
    def wanted(self) -> int:
        """How many files should wait, so that no worker has to."""
        return max(1, self.limit) * FILES_PER_TASK

    @property
    def rests(self) -> bool:
        """Whether the service asked any process of this job to wait."""
        with self._lock:
            return self._pace.rests or self._hub.rests

    @property
    def size(self) -> tuple[int, int]:
        """How many workers there are, and how many threads they have."""
        with self._lock:
            return len(self._workers.threads), sum(self._workers.threads.values())

    def _healthy(self) -> list[str]:
        return self._workers.healthy(time.monotonic(), self.patience.silent_s)

    # Handing out

    def take(self, waiting: deque[SendFile]) -> tuple[SendFile, ...]:
        """Take files for a task: up to so many, and so many bytes; a large file alone. No thread is left without."""
        with self._lock:
            most = FILES_UNDER_PRESSURE if self._pace.is_pressed else FILES_PER_TASK
        most = max(1, min(most, len(waiting) // max(1, self.limit)))
        taken = [waiting.popleft()]
        size = taken[0].member.size
        while waiting and len(taken) < most and size + waiting[0].member.size <= BYTES_PER_TASK:
            taken.append(waiting.popleft())
            size += taken[-1].member.size
        return tuple(taken)

    def life_s(self, size: int) -> float:
        """Return how many seconds after it was handed out a task with so many bytes may still begin to send."""
        return self.patience.life_s + size / BYTES_PER_S

    def late_s(self, sizes: Sequence[int]) -> float:
        """Return how many seconds after they are handed out anything of these files may arrive."""
        life_s = self.life_s(max([min(BYTES_PER_TASK, sum(sizes)), *sizes]))
        return life_s * (1 + DRIFT) + self.patience.late_s

    def late_until_s(self, batch: int) -> float:
        """Return until when a worker may send late to a batch (row), by the monotonic clock; 0 where none may."""
        with self._lock:
            return self._late_until_s.get(batch, 0.0)

    def send(self, steps: tuple[SendFile, ...]) -> Future[Outcome]:
        """Hand out files as one task, and return what will come of them."""
        deadline_s = awake_and_asleep_s() + self.life_s(sum(step.member.size for step in steps))
        flight = Flight(f"aihub-send-{uuid.uuid4().hex}", steps, deadline_s)
        with self._lock:
            clocks = {process: offset_s for process, (offset_s, _) in self._clocks.items()}
            data = encode_task(self._place, deadline_s, clocks, steps, time.monotonic())
            self._flights[flight.key] = flight
            executor = self._executor()
        try:
            flight.asked = executor.submit(send_files, data, key=flight.key)
        except Exception as error:  # the client is closed, or the scheduler is gone
            self._lose(f"cannot hand out a task, {type(error).__name__}")
            return flight.ended
        flight.asked.add_done_callback(lambda done: self._land(flight, done))
        return flight.ended

    def _executor(self) -> Any:
        """Return an executor for the workers that are well; for all of them where all are, now or later."""
        healthy = tuple(self._healthy())
        workers = healthy if len(healthy) < len(self._workers.threads) else ()
        if workers not in self._executors:
            only = {"workers": list(workers)} if workers else {}
            self._executors[workers] = self._client.get_executor(pure=False, retries=0, **only)
        return self._executors[workers]

    # What came of it

    def _land(self, flight: Flight, done: Future[bytes]) -> None:
        """Turn the answer of a worker into outcomes. Called in a thread of Dask."""
        if done.cancelled():
            self._lose("lost the connection", unless_ended=flight)
            return
        error = done.exception()
        if isinstance(error, ImportError):
            self._refuse(f"a worker cannot load aihub-runner, {clean_text(str(error))}")
            return
        if error is not None:  # a worker died again and again, or Dask itself failed
            self._end(flight, lambda: self._again(flight.steps, f"the worker failed, {type(error).__name__}"))
            return
        try:
            answer = decode_answer(done.result())
        except ServiceError as refused:
            self._refuse(refused.message, refused.hint)
            return
        if answer.refusal:
            self._refuse(f"{answer.worker}: {answer.refusal}", answer.hint)
            return
        self._learn_clock(answer)
        for one in answer.repeated:
            self._hub.on_retry(ServiceError(one.message, status=one.status), one.wait_s)
        self._end(flight, lambda: self._outcomes(flight, answer))

    def _learn_clock(self, answer: Answer) -> None:
        """Keep how far ahead our clock can be: the least of the last minute, since clocks may run apart."""
        now_s = awake_and_asleep_s()
        offset_s = now_s - answer.clock_s
        with self._lock:
            kept = self._clocks.get(answer.process)
            if kept is None or offset_s <= kept[0] or now_s - kept[1] > 60.0:
                self._clocks[answer.process] = offset_s, now_s

    def _outcomes(self, flight: Flight, answer: Answer) -> list[Outcome]:
        """Return the outcome of each step, in order."""
        found = [self._outcome(step, one) for step, one in zip(flight.steps, answer.tried, strict=False)]
        left = flight.steps[len(found) :]
        self._report_misread(flight, found, answer.worker)
        with self._lock:
            if any(isinstance(one, Sent) for one in found):
                self._pace.succeed()
            if answer.why == "fault":
                self._workers.avoided[answer.worker] = time.monotonic() + AVOID_S
        if answer.why == "pressed" and left:
            return [*found, *self._under_pressure(left, answer)]
        if answer.why == "late" and not found:  # it cannot be sent in time: we have all the time
            return [LeftHere("a worker cannot send it in time"), *(Again() for _ in left[1:])]
        return [*found, *(Again() for _ in left)]

    def _report_misread(self, flight: Flight, found: Sequence[Outcome], worker: str) -> None:
        """Report a file that a worker cannot read, once for each worker: many of them make the cluster useless."""
        for step, outcome in zip(flight.steps, found, strict=False):
            if isinstance(outcome, LeftHere) and worker not in self._misreading:
                self._misreading.add(worker)
                self._reporter.emit(WorkerCannotRead(clean_text(worker), step.member.path, clean_text(outcome.why)))

    def _under_pressure(self, left: Sequence[SendFile], answer: Answer) -> list[Outcome]:
        with self._lock:
            took_s, wait_s = self._pace.press(len(self._flights), answer.wait_s)
        self._hub.slow_down(answer.wait_s)
        if wait_s:
            threading.Thread(target=self._let_rest, args=(wait_s,), name="rest", daemon=True).start()
        error = ServiceError(answer.pressure, "apply again later", status=answer.status, transient=True)
        self._hub.on_retry(error, answer.wait_s or 1.0)
        first: Outcome = Again()
        if took_s > MAX_PATIENCE_S:
            first = Failed(error)
        elif answer.status != 429:
            first = self._again(left[:1], answer.pressure, error)[0]
        return [first, *(Again() for _ in left[1:])]

    def _let_rest(self, seconds: float) -> None:
        """Let the workers rest that are in the middle of a task."""
        with suppress(Exception):  # those that do not hear of it are refused by the service
            self._client.run(rest, seconds, on_error="ignore")

    def _outcome(self, step: SendFile, tried: Tried) -> Outcome:
        error = ServiceError(tried.detail, tried.hint, status=tried.status, transient=tried.is_transient)
        match tried.kind:
            case "sent":
                return Sent(tried.digest, step.member.size, tried.stat)
            case "here":
                return LeftHere(tried.detail)
            case "gone":
                return Gone()
            case "refused":
                return Unsendable("refused", tried.detail)
            case "again":
                return self._again((step,), tried.detail, error)[0]
            case _:
                return Failed(error)

    def _again(self, steps: Sequence[SendFile], why: str, error: ServiceError | None = None) -> list[Outcome]:
        """Return that steps are done again, or failed where they were tried often enough."""
        outcomes: list[Outcome] = []
        with self._lock:
            for step in steps:
                self._tries[step.batch, step.member.name] += 1
                enough = self._tries[step.batch, step.member.name] >= MOST_TRIES
                failed = error or ServiceError(f"{step.member.path}: {why}", "look at the logs of the workers")
                outcomes.append(Failed(failed) if enough else Again())
        return outcomes

    def _end(self, flight: Flight, outcomes: Callable[[], Sequence[Outcome]]) -> None:
        """End a task once, whoever comes first."""
        with self._lock:
            if self._flights.pop(flight.key, None) is None:
                return
        flight.ended.set_result(AllTried(tuple(outcomes())))

    def _give_up(self, flight: Flight, outcome: Outcome) -> None:
        """End a task of which nobody knows what became: until its deadline, and a little longer, it may be at work."""
        with self._lock:
            if self._flights.pop(flight.key, None) is None:
                return
            self._doubt(flight)
        if flight.asked is not None and self._lost is None:  # it waits for the scheduler
            threading.Thread(target=flight.asked.cancel, name="cancel", daemon=True).start()
        flight.ended.set_result(AllTried((outcome,) * len(flight.steps)))

    def _doubt(self, flight: Flight) -> None:
        left_s = max(0.0, flight.deadline_s - awake_and_asleep_s())
        until_s = time.monotonic() + left_s * (1 + DRIFT) + self.patience.late_s
        with self._lock:
            for step in flight.steps:
                self._late_until_s[step.batch] = max(self._late_until_s.get(step.batch, 0.0), until_s)

    # What becomes of the cluster

    def _note_event(self, event: tuple[float, Any]) -> None:
        """Note that a worker is gone: what it was doing may be done twice, and late.

        The scheduler reports this before it reports that another worker did a task again.
        """
        message = event[1]
        if not isinstance(message, dict) or message.get("action") not in ("add-worker", "remove-worker"):
            return
        self._news.set()
        if message["action"] == "add-worker":
            return
        keys = message.get("processing-tasks")
        with self._lock:
            keys = keys if isinstance(keys, list | tuple | set | frozenset | dict) else self._flights
            flights = [one for one in self._flights.values() if one.key in keys]
        for flight in flights:
            self._doubt(flight)

    def _watch_workers(self) -> None:
        """Ask for the workers once a second, and as soon as one comes or goes."""
        while not self._is_closed.is_set():
            self._news.clear()
            with suppress(Exception):  # the scheduler is gone, which `_watch_flights` finds out
                self._ask_for_workers()
            self._news.wait(min(1.0, self.patience.nobody_s / 4))

    def _ask_for_workers(self) -> None:
        found = self._client.scheduler_info(n_workers=-1)["workers"]
        with self._lock:
            self._heard_s = time.monotonic()
            self._workers.update(found, self._heard_s)
            silent = self._workers.silent(self._heard_s, self.patience.silent_s)
        if silent and self._flights:
            self._take_from(silent)

    def _take_from(self, silent: list[str]) -> None:
        """Abandon the tasks of silent workers. Others do them."""
        keys = {key for keys in self._client.processing(silent).values() for key in keys}
        with self._lock:
            flights = [flight for flight in self._flights.values() if flight.key in keys]
        for flight in flights:
            self._give_up(flight, Again())

    def _watch_flights(self) -> None:
        """End tasks whose deadline has passed, and find out whether the cluster is lost."""
        while not self._is_closed.wait(CHECK_S):
            now_s = time.monotonic()
            with self._lock:
                flights = list(self._flights.values())
                if self.limit:
                    self._staffed_s = now_s
                is_silent = now_s - self._heard_s > self.patience.nobody_s
                is_alone = now_s - self._staffed_s > self.patience.nobody_s
            if self._client.status not in ("running", "connecting") or is_silent:
                self._lose("does not answer")
            elif self._client.status == "connecting":
                self._lose("lost the connection")
            elif is_alone:
                self._lose("has no worker that answers; their logs may say why")
            self._watch_stop(flights, now_s)
            for flight in flights:
                if awake_and_asleep_s() > flight.deadline_s + min(5.0, self.patience.late_s):
                    self._give_up(flight, Again())

    def _watch_stop(self, flights: Sequence[Flight], now_s: float) -> None:
        if not self._hub.stop.is_set():
            return
        self._stopped_s = self._stopped_s or now_s
        if now_s - self._stopped_s > self.patience.stop_s:
            for flight in flights:
                self._give_up(flight, Stopped())

    def _lose(self, why: str, unless_ended: Flight | None = None) -> None:
        """End everything: the scheduler is gone."""
        with self._lock:
            is_ended = unless_ended is not None and unless_ended.key not in self._flights
            if is_ended or self._is_closed.is_set():
                return
            hint = "start the cluster and apply again, or apply without --scheduler"
            self._lost = self._lost or ClusterLost(f"{self.name}: {why}", hint)
            flights = list(self._flights.values())
        for flight in flights:
            self._give_up(flight, Failed(self._lost))

    def _refuse(self, why: str, hint: str = "install aihub-runner[dask] where the workers run") -> None:
        """End everything: a worker is set up wrongly, and would take all tasks."""
        with self._lock:
            self._lost = self._lost or ClusterLost(f"{self.name}: {why}", hint)
        self._lose(why)

    def close(self) -> None:
        """Leave the cluster, and end it if it is ours."""
        self._is_closed.set()
        self._news.set()
        with self._lock:
            flights = list(self._flights.values())
        for flight in flights:
            self._give_up(flight, Stopped())
        with suppress(Exception):
            self._client.unsubscribe_topic("all")
            self._client.close(timeout=2)
        with suppress(Exception):
            self._close()
