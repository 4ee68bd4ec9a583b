"""Commands of the runner in their own processes, forked from a warm parent: imports take longer than an apply."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Self


class Started:
    """A process that `Starts` started, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, status: int, stdout: IO[str] | None = None, stderr: IO[str] | None = None) -> None:
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None
        self.stdout, self.stderr = stdout, stderr

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code. Raises TimeoutExpired."""
        code = self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("runner", timeout or 0)
        return code

    def _ended_within(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read all that it prints until it ends. Raises TimeoutExpired."""
        assert self.stdout
        assert self.stderr
        with ThreadPoolExecutor(2) as pool:
            out, err = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                self.wait(timeout)
                return out.result(), err.result()
            except BaseException:
                self.kill()  # else the threads would read for ever
                raise

    def send_signal(self, number: int) -> None:
        """Send a signal if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now, and its parent was told before we were
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it if it still runs."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()


class Starts:
    """A warm parent in its own process, which has imported the runner. `stop` ends it."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        with other:
            env = {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")}
            command = [sys.executable, __file__, str(other.fileno())]
            self._parent = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, env=env)

    def start(self, folder: Path, env: Mapping[str, str], arguments: Sequence[str]) -> Started:
        """Start a command there, whose output is read from pipes."""
        with Path(os.devnull).open() as nothing:
            (out, to_out), (err, to_err) = os.pipe(), os.pipe()
            status = self._ask([nothing.fileno(), to_out, to_err], folder, env, arguments)
        for end in (to_out, to_err):
            os.close(end)
        return Started(status, os.fdopen(out), os.fdopen(err))

    def start_on(self, terminal: int, folder: Path, env: Mapping[str, str], arguments: Sequence[str]) -> Started:
        """Start a command there in its own session, on a terminal."""
        return Started(self._ask([terminal] * 3, folder, env, arguments))

    def _ask(self, streams: list[int], folder: Path, env: Mapping[str, str], arguments: Sequence[str]) -> int:
        status, to_status = os.pipe()
        order = json.dumps({"folder": str(folder), "env": dict(env), "arguments": arguments}).encode()
        socket.send_fds(self._socket, [b"%9d" % len(order)], [*streams, to_status])
        self._socket.sendall(order)
        os.close(to_status)
        return status

    def stop(self) -> None:
        """End the parent."""
        self._socket.close()
        self._parent.wait()


def serve(orders: socket.socket) -> None:
    """Be the warm parent: for each order, fork a process that forks the command, and reports its id and exit code."""
    # All that a command imports late is here before the first fork.
    import aihub_runner.apply.run
    import aihub_runner.cli.apply
    import aihub_runner.cli.main  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()  # else each child copies the pages of all objects when it first collects
    while True:
        head, descriptors, *_ = socket.recv_fds(orders, 9, 4)
        if not head:
            return
        order = json.loads(orders.recv(int(head), socket.MSG_WAITALL))
        if os.fork() == 0:
            orders.close()
            watch(order, *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def watch(order: dict[str, object], stdin: int, stdout: int, stderr: int, status: int) -> None:
    """Fork the command, and report its end. Returns in the command, too, when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        os.close(status)
        become(order, stdin, stdout, stderr)
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    os.write(status, b"%d\n" % child)
    _, ended = os.waitpid(child, 0)
    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended))
    os._exit(0)


def become(order: dict[str, object], *streams: int) -> None:
    """Run as the command, and end like any program, with Python's own shutdown."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    if os.isatty(0):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(order["env"])  # type: ignore[call-overload]
    os.chdir(str(order["folder"]))
    sys.argv = ["runner", *order["arguments"]]  # type: ignore[misc]
    from aihub_runner.cli.main import main

    main()
    sys.exit()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
