"""Render the results of many files in two processes. The second one only helps: what it fails to do is done here."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

MANY = 2000  # files; for fewer, a second process is not worth its start
_FILES_AT_ONCE, _DOCUMENTS_AT_ONCE = 50, 100  # most of a task, and when it is large enough
_AHEAD = 3  # tasks for the helper, so that it need not wait for the next one
_PIPE_BYTES = 1 << 20  # room for what a task yields, so that the helper can go on before it is read
_MOST_AHEAD = 8  # tasks whose results are in memory
# An answer is read at once after its size. After each read, the thread waits for the main one, which renders.
_SIZE_BYTES = 8

Located = Any  # where the results of a file are, with the number of its documents; None for a file without rows
Render = Callable[[Sequence[Located]], list[Any]]  # returns what is rendered of each file


def render_many(make: Callable[[], Render], places: Iterable[Located], number: int) -> Generator[Any]:
    """Yield what is rendered of each file, in order. `make` is called in both processes, and must be picklable."""
    tasks = _split(places)
    render = make()
    if number < MANY or (os.cpu_count() or 1) < 2:
        for task in tasks:
            yield from render(task)
        return
    with closing(_Helper(make)) as helper:
        yield from _share(tasks, render, helper)


def _split(places: Iterable[Located]) -> Iterator[list[Located]]:
    task, documents = list[Located](), 0
    for place in places:
        task.append(place)
        documents += place.documents if place else 0
        if documents >= _DOCUMENTS_AT_ONCE or len(task) == _FILES_AT_ONCE:
            yield task
            task, documents = [], 0
    if task:
        yield task


def _share(tasks: Iterable[list[Located]], render: Render, helper: _Helper) -> Iterator[Any]:
    begun: deque[tuple[list[Located], Future[list[Any] | None]]] = deque()
    for task in tasks:
        begun.append((task, helper.take(task) or _done(render(task))))
        while begun and (begun[0][1].done() or len(begun) > _MOST_AHEAD):
            yield from _finish(*begun.popleft(), render)
    while begun:
        yield from _finish(*begun.popleft(), render)


def _finish(task: list[Located], outcome: Future[list[Any] | None], render: Render) -> list[Any]:
    """Return what is rendered of a task. If the helper failed, render it here, which raises what is wrong."""
    found = outcome.result()
    return render(task) if found is None else found


def _done(found: list[Any]) -> Future[list[Any] | None]:
    outcome: Future[list[Any] | None] = Future()
    outcome.set_result(found)
    return outcome


class _Helper:
    """A second process. It gets no secrets, and ends by itself when this one is gone."""

    def __init__(self, make: Callable[[], Render]) -> None:
        self._thread = ThreadPoolExecutor(1, "helper")  # reads what the process renders, in order
        self._waiting: deque[Future[list[Any] | None]] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-P", "-m", __name__]  # -P: no modules from the current folder
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")}
        with suppress(OSError, ValueError):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
            self._send(make)
            if self._process.stdout and hasattr(fcntl, "F_SETPIPE_SZ"):  # it may be refused, last as it is
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def take(self, task: list[Located]) -> Future[list[Any] | None] | None:
        """Render a task in the other process, unless it has enough to do or is gone. None stands for a failure."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if len(self._waiting) >= _AHEAD or not self._send(task):
            return None
        self._waiting.append(self._thread.submit(self._receive))
        return self._waiting[-1]

    def _receive(self) -> list[Any] | None:
        process = self._process
        try:
            if process and process.stdout:
                size = int.from_bytes(process.stdout.read(_SIZE_BYTES), "big")
                return pickle.loads(process.stdout.read(size))  # type: ignore[no-any-return]
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            self._process = None
            _end(process)
        return None

    def _send(self, value: object) -> bool:
        """Send something to the process, if it still runs."""
        process = self._process
        try:
            if process and process.stdin:
                pickle.dump(value, process.stdin, pickle.HIGHEST_PROTOCOL)
                process.stdin.flush()
                return True
        except (OSError, ValueError):  # also closed meanwhile
            self._process = None
            _end(process)
        return False

    def close(self) -> None:
        """End the other process."""
        process, self._process = self._process, None
        _end(process)
        self._thread.shutdown()


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()


def main() -> None:
    """Render tasks from standard input until its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides what an interrupt ends
    tasks, answers = sys.stdin.buffer, sys.stdout.buffer
    render: Render = pickle.load(tasks)()
    while True:
        try:
            task = pickle.load(tasks)
        except EOFError:
            return
        found: list[Any] | None = None
        with suppress(Exception):  # the other process finds the same mistake, and reports it
            found = render(task)
        answer = pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
        answers.write(len(answer).to_bytes(_SIZE_BYTES, "big") + answer)
        answers.flush()


if __name__ == "__main__":
    main()
