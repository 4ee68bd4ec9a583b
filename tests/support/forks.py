"""Commands of the runner that crash at a boundary, forked from a warm parent: starting takes longer than an apply."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

OUTPUT = "output.txt"
EVERY = -1  # in place of a boundary: freeze at each
FROZEN = "frozen"
TIMEOUT_S = 300  # then the system ends a command with a signal, which is no exit code of ours


class Forks:
    """A warm parent in its own process, which has imported the runner. `stop` ends it."""

    def __init__(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")}
        self._parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def run(self, boundary: int, folder: Path, env: Mapping[str, str | None], *arguments: str) -> int:
        """Run a command there, crash it at a boundary, and return its exit code; 0 is no boundary.

        What it prints is in `output.txt` afterwards.
        """
        given = {name: value for name, value in env.items() if value is not None}
        order = {"boundary": boundary, "folder": str(folder), "env": given, "arguments": arguments}
        return int(self._ask(json.dumps(order)))

    def run_frozen(self, look: Callable[[], None], folder: Path, env: Mapping[str, str], *arguments: str) -> int:
        """Run a command there to its end, call `look` while it is frozen at each boundary, and return its exit code."""
        order = {"boundary": EVERY, "folder": str(folder), "env": dict(env), "arguments": arguments}
        answer = self._ask(json.dumps(order))
        while answer == FROZEN:
            look()
            answer = self._ask("go on")
        return int(answer)

    def _ask(self, line: str) -> str:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(line + "\n")
        self._parent.stdin.flush()
        return self._parent.stdout.readline().strip()

    def stop(self) -> None:
        """End the parent."""
        self._parent.kill()
        self._parent.communicate()


def serve() -> None:
    """Be the warm parent: for each line of standard input, fork a command, and print its exit code."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    # All that a command imports late is here before the first fork.
    import aihub_runner.apply.run
    import aihub_runner.cli.planning  # noqa: F401
    from support import crash

    gc.freeze()  # else each child copies the pages of all objects when it first collects
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(TIMEOUT_S)
            os.environ.update(order["env"])
            os.chdir(order["folder"])
            sink = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            crash.run(order["boundary"], *order["arguments"])
        _, status = os.waitpid(child, os.WUNTRACED)
        while os.WIFSTOPPED(status):
            answer(FROZEN)
            sys.stdin.readline()
            os.kill(child, signal.SIGCONT)
            _, status = os.waitpid(child, os.WUNTRACED)
        answer(os.waitstatus_to_exitcode(status))


def answer(word: object) -> None:
    """Handle a line of standard input."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
