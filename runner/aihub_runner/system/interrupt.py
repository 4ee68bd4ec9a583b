"""Ctrl-C and SIGTERM: at once where nothing is in flight, in order where requests are, and at once the second time.

The handler that Python calls stands in the main thread, and cannot come while that thread waits in the system. So a
thread listens, too, by a pipe that is written to as soon as the signal arrives.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from aihub_runner.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)
CLOSE_S = 0.5  # longest wait for a display to be taken away
SAID = "finishing requests in flight; press Ctrl-C again to quit now"

stop = Event()  # set at the first signal; for the threads
_SHOW_CURSOR = b"\r\x1b[?25h\n"


class _Work:
    """What a signal meets. `asked` counts signals; `say` is there while the work is ended in order."""

    asked = 0
    say: Callable[[str], None] | None = None
    close: Callable[[], None] | None = None


def listen() -> None:
    """Obey signals from now on. For the main thread of a program that is ours."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in NUMBERS:
        signal.signal(number, _handle)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def _handle(number: int, frame: object) -> None:
    """End the main thread where it stands, unless it is to end in order; nobody takes this for an error of theirs."""
    _Work.asked += 1
    if not _Work.say:
        raise KeyboardInterrupt


def _watch(reader: int) -> None:
    asked = 0
    while data := os.read(reader, 1):
        if data[0] not in NUMBERS:
            continue
        asked += 1
        if asked > 1:
            _leave()
        stop.set()
        if say := _Work.say:
            say(SAID)


def _leave() -> None:
    """Leave at once, but give the terminal back as it was: its cursor shown, and the prompt on a line of its own."""
    closing = Thread(target=_Work.close or (lambda: None), daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        os.write(sys.stderr.fileno(), b"interrupted: left at once; apply again to go on\n")
    os._exit(Interrupted.exit_code)


@contextmanager
def shown_by(close: Callable[[], None]) -> Iterator[None]:
    """Know how a display is taken away, should we have to leave at once; it is closed at the end in every case."""
    _Work.close = close
    try:
        yield
    finally:
        _Work.close = None
        close()


@contextmanager
def ended_in_order(say: Callable[[str], None]) -> Iterator[None]:
    """Let a signal only set `stop` while requests are in flight; `say` tells that it was heard.

    Raises KeyboardInterrupt where there was one before.
    """
    _Work.say = say
    try:
        if _Work.asked:
            raise KeyboardInterrupt
        yield
    finally:
        _Work.say = None
