"""The question on a terminal."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from aihub_runner.cli.output import ask


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Make a terminal the standard input, and return its other side."""
    main, other = pty.openpty()
    with os.fdopen(other) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield main
    os.close(main)


@pytest.mark.parametrize(("typed", "agreed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\x04", False)])
def test_only_yes_is_a_yes(terminal: int, typed: str, agreed: bool) -> None:
    os.write(terminal, typed.encode())
    assert ask("Go on?") is agreed


@pytest.mark.timeout(20)
def test_signal_that_does_not_wake_the_read_ends_the_question(
    terminal: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    flush = sys.stderr.flush
    monkeypatch.setattr(sys.stderr, "flush", lambda: (flush(), asked.set()))

    def interrupt() -> None:
        asked.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # to this thread: the main one stays where it is

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ask("Go on?")
    thread.join()
