"""Handle Ctrl-C, SIGTERM and a closed terminal: exit at once if nothing is in flight, else in order.

The second signal ends the process at once.

Python runs its signal handler in the main thread, and not while that thread waits in a system call. So a second
thread listens on a pipe, which Python writes to as soon as a signal arrives.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from aihub_runner.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLOSE_S = 0.5  # longest wait for a display to close

stop = Event()  # set at the first signal, for the threads to see
_SHOW_CURSOR = b"\r\x1b[?25h\n"
_LEFT = b"interrupted: quit at once; requests in flight may have arrived; apply again, which checks before it pays\n"


class _Work:
    """What a signal acts on. `asked` counts signals. `notify` is set while work has to end in order."""

    asked = 0
    notify: Callable[[], None] | None = None
    close: Callable[[], None] | None = None


def listen() -> None:
    """Handle signals from now on. Call it in the main thread of our own program only.

    Signals that are ignored stay so: `nohup` ignores SIGHUP, and shells ignore SIGINT for programs in the background.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()


def _handle(number: int, frame: object) -> None:
    """Interrupt the main thread, unless work has to end in order. No `except Exception` catches KeyboardInterrupt."""
    _Work.asked += 1
    if not _Work.notify:
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
        if notify := _Work.notify:
            notify()


def _leave() -> None:
    """Exit at once, but restore the terminal: show the cursor, and end the line."""
    closing = Thread(target=_Work.close or (lambda: None), daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
        os.write(sys.stderr.fileno(), _LEFT)
    os._exit(Interrupted.exit_code)


@contextmanager
def shown_by(close: Callable[[], None]) -> Iterator[None]:
    """Close a display at the end, and also when a signal forces an exit at once."""
    _Work.close = close
    try:
        yield
    finally:
        _Work.close = None
        close()


@contextmanager
def ended_in_order(notify: Callable[[], None]) -> Iterator[None]:
    """While requests are in flight, let a signal only set `stop`. `notify` shows that it was received.

    May be nested. Raises KeyboardInterrupt if a signal came before.
    """
    outer, _Work.notify = _Work.notify, notify
    try:
        if _Work.asked:
            raise KeyboardInterrupt
        yield
    finally:
        _Work.notify = outer
