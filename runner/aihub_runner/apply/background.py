"""Do something in a thread of its own: the main thread must stay free for Ctrl-C, and requests need not queue."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def begin(act: Callable[[], T]) -> Future[T]:
    """Start something in a thread that does not keep the process alive, and return its result to come."""
    result = Future[T]()

    def work() -> None:
        try:
            result.set_result(act())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=work, daemon=True).start()
    return result


def in_thread(act: Callable[[], T]) -> T:
    """Run HTTP outside the main thread, which must stay free for Ctrl-C. After Ctrl-C nobody waits for it."""
    return begin(act).result()


def do_both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Do two independent things at once, and return both results. Raises what `first` raises, else what `second` does.

    Neither goes on after this has returned.
    """
    later = begin(second)
    try:
        result = first()
    finally:
        wait([later])
    return result, later.result()
