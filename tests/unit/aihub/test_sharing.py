"""A list is read once for all who ask at the same time, and never shows what was there before somebody asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from aihub_runner.aihub.sharing import Sharing

LONG_S = 30


class Asked:
    """Readings under a test's control: each begins with the number of those before, and ends when it is told to."""

    def __init__(self) -> None:
        self.sharing = Sharing[int]()
        self.begun: list[Future[list[int]]] = []
        self.changed = threading.Condition()

    def __call__(self) -> list[int]:
        end = Future[list[int]]()
        with self.changed:
            self.begun.append(end)
            self.changed.notify_all()
        return end.result(LONG_S)

    def wait(self, readings: int) -> None:
        """Wait until so many readings began."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= readings, LONG_S)


@contextmanager
def readers(number: int) -> Iterator[Callable[[Asked], Future[list[int]]]]:
    with ThreadPoolExecutor(number) as pool:
        yield lambda asked: pool.submit(asked.sharing.read, "list", asked)


def wait_for_waiters(asked: Asked, number: int) -> None:
    """Wait until so many threads wait for a reading."""
    for _ in range(1_000_000):
        with asked.sharing._changed:
            if len(asked.sharing._changed._waiters) >= number:  # type: ignore[attr-defined]
                return
    pytest.fail("nobody waits")


def test_who_asks_while_a_list_is_read_waits_for_the_next_one_and_shares_it() -> None:
    asked = Asked()
    with readers(3) as read:
        first = read(asked)
        asked.wait(1)
        others = [read(asked), read(asked)]
        wait_for_waiters(asked, 2)
        asked.begun[0].set_result([1])
        assert first.result(LONG_S) == [1]
        asked.wait(2)
        asked.begun[1].set_result([1, 2])
        assert [other.result(LONG_S) for other in others] == [[1, 2], [1, 2]]
    assert len(asked.begun) == 2


def test_failure_is_that_of_the_reader_alone_and_the_next_one_tries() -> None:
    asked = Asked()
    with readers(2) as read:
        first = read(asked)
        asked.wait(1)
        other = read(asked)
        wait_for_waiters(asked, 1)
        asked.begun[0].set_exception(OSError("cut"))
        with pytest.raises(OSError, match="cut"):
            first.result(LONG_S)
        asked.wait(2)
        asked.begun[1].set_result([2])
        assert other.result(LONG_S) == [2]


def test_one_after_the_other_each_reads_anew_and_may_change_what_it_got() -> None:
    sharing, readings = Sharing[int](), iter(([1], [2], [3]))
    first = sharing.read("a", lambda: next(readings))
    first.append(9)
    assert [sharing.read("a", lambda: next(readings)), sharing.read("b", lambda: next(readings))] == [[2], [3]]
