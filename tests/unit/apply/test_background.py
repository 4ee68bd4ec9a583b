"""Two things at once, none of which goes on unseen."""

from __future__ import annotations

from threading import Barrier, Event

import pytest

from aihub_runner.apply.background import do_both
from aihub_runner.errors import ServiceError


def test_both_are_done_at_once() -> None:
    barrier = Barrier(2)
    assert set(do_both(lambda: barrier.wait(10), lambda: barrier.wait(10))) == {0, 1}


def test_error_of_either_is_raised_after_both_have_ended() -> None:
    begun, ended = Event(), Event()

    def fail() -> None:
        begun.wait(10)
        raise ServiceError("first")

    def go_on() -> None:
        begun.set()
        ended.set()
        raise ServiceError("second")

    with pytest.raises(ServiceError, match="first"):
        do_both(fail, go_on)
    assert ended.is_set()
    with pytest.raises(ServiceError, match="second"):
        do_both(lambda: 1, go_on)
