"""What the coordinator makes of answers, of silence, and of workers that are gone. Only Dask is played here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.executors import dask
from aihub_runner.apply.executors.dask import Cluster, Workers
from aihub_runner.apply.executors.patience import Patience
from aihub_runner.apply.executors.wire import Answer, Place, Task, Tried, decode_task, encode_answer
from aihub_runner.apply.pool import AllTried
from aihub_runner.apply.steps import Again, Failed, Gone, LeftHere, Outcome, Stopped
from aihub_runner.apply.tasks.upload import SendFile, Sent, Unsendable
from aihub_runner.errors import ClusterLost
from aihub_runner.model import MB, Member
from aihub_runner.system.moment import awake_and_asleep_s
from support.waiting import wait_for

PLACE = Place("j", "https://hub.example/api", "acme", "", 10.0, 120.0)
WORKERS = {"tcp://a": {"nthreads": 2, "last_seen": 1.0}, "tcp://b": {"nthreads": 3, "last_seen": 1.0}}


class Asked(Executor):
    """The executor that Dask would give: keeps what it is asked."""

    def __init__(self, hand: Hand, workers: tuple[str, ...]) -> None:
        self.hand, self.workers = hand, workers

    def submit(self, function: Any, /, *args: Any, **how: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.hand.asked.append((how["key"], decode_task(args[0]), future, self.workers))
        return future


class Hand:
    """A client of Dask that a test plays."""

    status = "running"

    def __init__(self) -> None:
        self.asked: list[tuple[str, Task, Future[Any], tuple[str, ...]]] = []
        self.workers: dict[str, dict[str, Any]] = {name: dict(one) for name, one in WORKERS.items()}
        self.told: Any = None

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.told = handler

    def unsubscribe_topic(self, topic: str) -> None: ...

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {
            "workers": {
                name: one if one.get("is_silent") else {**one, "last_seen": time.time()}
                for name, one in self.workers.items()
            }
        }

    def get_executor(self, pure: bool, retries: int, workers: Any = ()) -> Asked:
        assert not pure
        return Asked(self, tuple(workers))

    def processing(self, workers: list[str]) -> dict[str, tuple[str, ...]]:
        return {worker: tuple(key for key, *_ in self.asked[:1]) for worker in workers}

    def run(self, *args: Any, **how: Any) -> None: ...

    def close(self, timeout: float) -> None: ...


@pytest.fixture
def hand() -> Hand:
    return Hand()


PATIENCE = Patience(life_s=30.0, late_s=30.0, nobody_s=1.5, stop_s=0.0)


@pytest.fixture
def cluster(hub: AIHub, hand: Hand) -> Iterator[Cluster]:
    made = Cluster(hand, "tcp://scheduler", hub, PLACE, 64, Reporter(), PATIENCE, lambda: None)  # type: ignore[arg-type]
    yield made
    made.close()


def step(number: int, size: int = 10, batch: int = 1) -> SendFile:
    return SendFile(
        batch, batch, 7, "", Member(f"{number}.txt", f"{number}.txt", size, f"sha256:{number}"), "in", 10 * MB, 0.0
    )


def reply(hand: Hand, *tried: Tried, number: int = -1, **values: Any) -> None:
    values = {"clock_s": awake_and_asleep_s()} | values
    hand.asked[number][2].set_result(encode_answer(Answer("p", "tcp://a", tried=tried, **values)))


def outcomes(ended: Future[Outcome]) -> tuple[Outcome, ...]:
    result = ended.result(timeout=20)
    assert isinstance(result, AllTried)
    return result.outcomes


def test_each_kind_of_answer_becomes_an_outcome(cluster: Cluster, hand: Hand) -> None:
    ended = cluster.send(tuple(map(step, range(7))))
    kinds = [
        Tried("sent", digest="sha256:0"),
        Tried("here", "x"),
        Tried("gone"),
        Tried("refused", "too large"),
        Tried("failed", status=401),
    ]
    reply(hand, *kinds, Tried("again", "no route"), why="fault")
    first, *_, failed, again, left = found = outcomes(ended)
    assert first == Sent("sha256:0", 10)
    assert [type(one) for one in found[1:4]] == [LeftHere, Gone, Unsendable]
    assert isinstance(failed, Failed)
    assert (type(again), type(left)) == (Again, Again)


def test_clock_of_a_process_is_learned_from_its_answers(cluster: Cluster, hand: Hand) -> None:
    begun_s = awake_and_asleep_s()
    ended = cluster.send((step(1),))
    assert hand.asked[0][1].clocks == {}
    reply(hand, why="clock", clock_s=5.0)
    assert outcomes(ended) == (Again(),)
    cluster.send((step(1),))
    task = hand.asked[1][1]
    assert begun_s - 5.0 <= task.clocks["p"] <= awake_and_asleep_s() - 5.0
    assert task.deadline_s >= begun_s + PATIENCE.life_s


def test_clock_is_never_taken_to_be_further_ahead_than_it_can_be(cluster: Cluster, hand: Hand) -> None:
    for late_s in (5.0, 1.0, 9.0):
        cluster.send((step(1),))
        reply(hand, why="clock", clock_s=awake_and_asleep_s() - late_s)
    cluster.send((step(1),))
    assert 1.0 <= hand.asked[-1][1].clocks["p"] < 2.0


def test_only_tasks_of_a_worker_that_is_gone_may_arrive_late(cluster: Cluster, hand: Hand) -> None:
    cluster.send((step(1, batch=1),))
    cluster.send((step(2, batch=2),))
    event = {"action": "remove-worker", "worker": "tcp://a", "processing-tasks": {hand.asked[0][0]}}
    hand.told((0.0, event))
    left_s = cluster.late_until_s(1) - time.monotonic()
    assert PATIENCE.life_s + PATIENCE.late_s - 5 < left_s < PATIENCE.life_s + PATIENCE.late_s + 5
    assert cluster.late_until_s(2) == 0.0


@pytest.mark.parametrize("keys", [None, 7])
def test_all_may_arrive_late_if_the_scheduler_does_not_say_which(cluster: Cluster, hand: Hand, keys: object) -> None:
    cluster.send((step(1),))
    hand.told((0.0, {"action": "remove-worker", "worker": "tcp://a", "processing-tasks": keys}))
    assert cluster.late_until_s(1)


def test_nothing_is_late_where_all_ended(cluster: Cluster, hand: Hand) -> None:
    cluster.send((step(1),))
    reply(hand, Tried("sent"))
    hand.told((0.0, {"action": "remove-worker", "worker": "tcp://a", "processing-tasks": {hand.asked[0][0]}}))
    assert cluster.late_until_s(1) == 0.0


def test_task_without_an_answer_is_given_up_after_its_deadline(hub: AIHub, hand: Hand) -> None:
    cluster = Cluster(hand, "s", hub, PLACE, 64, Reporter(), Patience(life_s=0.1, late_s=0.2), lambda: None)  # type: ignore[arg-type]
    ended = cluster.send((step(1), step(2)))
    assert outcomes(ended) == (Again(), Again())
    assert cluster.late_until_s(1)
    cluster.close()


def test_tasks_of_a_silent_worker_are_done_by_others(hub: AIHub, hand: Hand) -> None:
    hand.workers["tcp://a"]["is_silent"] = True
    patience = Patience(silent_s=0.3, nobody_s=2.0)
    cluster = Cluster(hand, "s", hub, PLACE, 64, Reporter(), patience, lambda: None)  # type: ignore[arg-type]
    first, second = cluster.send((step(1, batch=1),)), cluster.send((step(2, batch=2),))
    assert outcomes(first) == (Again(),)
    assert cluster.late_until_s(1)
    assert not second.done()
    cluster.close()


def test_lost_scheduler_ends_all_tasks_and_says_what_to_do(cluster: Cluster, hand: Hand) -> None:
    ended = cluster.send((step(1),))
    hand.asked[0][2].cancel()
    (failed,) = outcomes(ended)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ClusterLost)
    assert "without --scheduler" in failed.error.hint
    assert cluster.lost is failed.error
    assert cluster.late_until_s(1)


@pytest.mark.slow
def test_cluster_without_workers_is_lost_after_a_while(cluster: Cluster, hand: Hand) -> None:
    hand.workers.clear()
    ended = cluster.send((step(1),))
    (failed,) = outcomes(ended)
    assert isinstance(failed, Failed)
    assert "no worker" in failed.error.message


def test_job_that_stops_does_not_wait_for_workers(cluster: Cluster, hub: AIHub) -> None:
    ended = cluster.send((step(1),))
    hub.stop.set()
    assert outcomes(ended) == (Stopped(),)


def test_worker_that_refuses_ends_the_work(cluster: Cluster, hand: Hand) -> None:
    ended = cluster.send((step(1),))
    reply(hand, refusal="AIHUB_API_KEY: not set on a worker", hint="set it")
    (failed,) = outcomes(ended)
    assert isinstance(failed, Failed)
    assert "tcp://a: AIHUB_API_KEY: not set" in failed.error.message


def test_file_that_every_worker_fails_with_fails_in_the_end(cluster: Cluster, hand: Hand) -> None:
    kinds = []
    for _ in range(dask.MOST_TRIES):
        ended = cluster.send((step(1),))
        hand.asked[-1][2].set_exception(OSError("killed"))
        kinds.append(type(outcomes(ended)[0]))
    assert kinds == [Again] * (dask.MOST_TRIES - 1) + [Failed]


def test_refusal_for_now_lets_all_rest_and_halves_the_tasks(cluster: Cluster, hand: Hand, hub: AIHub) -> None:
    ended = [cluster.send((step(number),)) for number in range(4)]
    reply(hand, why="pressed", wait_s=60.0, pressure="slow", status=429, number=0)
    assert outcomes(ended[0]) == (Again(),)
    assert cluster.rests
    assert hub.rests
    assert cluster.limit < 4


def test_worker_that_cannot_reach_the_service_gets_no_tasks_for_a_while(cluster: Cluster, hand: Hand) -> None:
    cluster.send((step(1),))
    assert hand.asked[0][3] == ()
    reply(hand, Tried("again", "no route"), why="fault")
    cluster.send((step(1),))
    assert hand.asked[1][3] == ("tcp://b",)
    assert cluster.limit == 3


def test_files_are_sent_from_here_if_no_worker_can_in_time(cluster: Cluster, hand: Hand) -> None:
    ended = cluster.send((step(1), step(2)))
    reply(hand, why="late")
    assert [type(one) for one in outcomes(ended)] == [LeftHere, Again]


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([1] * 1000, [dask.FILES_PER_TASK] * 3),
        ([1] * 10, [2, 1, 1]),
        ([20 * MB, 1, *[1] * 400], [1, dask.FILES_PER_TASK]),
        ([*[3 * MB] * 100], [2, 2]),
    ],
)
def test_tasks_are_sized_by_count_and_bytes(cluster: Cluster, sizes: list[int], taken: list[int]) -> None:
    wait_for(lambda: cluster.limit == 5)
    waiting = deque(step(number, size) for number, size in enumerate(sizes))
    assert [len(cluster.take(waiting)) for _ in taken] == taken


def test_silent_workers_get_no_tasks() -> None:
    workers = Workers()
    workers.update({"a": {"nthreads": 1, "last_seen": 5.0}, "b": {"nthreads": 1, "last_seen": 5.0}}, 100.0)
    workers.update({"a": {"nthreads": 1, "last_seen": 9.0}, "b": {"nthreads": 1, "last_seen": 5.0}}, 115.0)
    assert workers.healthy(119.0, 20.0) == ["a", "b"]
    assert workers.healthy(121.0, 20.0) == ["a"]
    workers.update({"b": {"nthreads": 1, "last_seen": 12.0, "status": "closing_gracefully"}}, 122.0)
    assert workers.healthy(122.0, 20.0) == []


def test_life_of_a_task_bounds_what_may_arrive_late(cluster: Cluster) -> None:
    for sizes in ([10] * 1000, [50 * MB, 1], [9 * MB] * 3):
        longest_s = max(cluster.life_s(size) for size in (*sizes, min(sum(sizes), dask.BYTES_PER_TASK)))
        assert cluster.late_s(sizes) >= longest_s + PATIENCE.late_s
