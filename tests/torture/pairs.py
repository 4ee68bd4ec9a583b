"""Crash an apply at every boundary, and its recovery at every boundary, too; the third apply completes.

`make torture` runs it. Children are forked from a warm parent, since a start costs half a second; one works per core.
What was tried is kept in `.torture/`, for the code as it is, so that an interrupted run goes on. A pair that reaches
facts, on both sides, from which another one has gone on already is skipped, and counted; so are all pairs of a first
boundary that leaves the same facts as an earlier one. Prints the figures, and exits with 1 for a failure.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from support.trial import Trial, Worker

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".torture"
CODE = ("runner/**/*.py", "runner/**/*.sql", "fake_server/**/*.py", "tests/torture/*", "tests/support/*")
WORKERS = os.cpu_count() or 2


class Log:
    """What was tried with the current code: a line for each first boundary."""

    def __init__(self) -> None:
        KEPT.mkdir(exist_ok=True)
        code = hashlib.sha256()
        paths = [path for glob in CODE for path in ROOT.glob(glob)]
        for path in sorted(paths):
            code.update(path.read_bytes() if path.is_file() else b"")
        self.path = KEPT / f"pairs-{code.hexdigest()[:12]}.jsonl"
        self.lines = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def add(self, **line: Any) -> None:
        """Store the outcome of a first boundary and all its pairs."""
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class Torture:
    """Tries boundaries and pairs of them, each in its own context."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.lock = Lock()
        self.contexts = itertools.count(int(time.time() * 1000))
        self.seen: set[str] = set()
        self.firsts: dict[str, int] = {}
        self.undisturbed: list[dict[str, Any]] = []

    def trial(self, worker: Worker) -> Trial:
        """Make a trial in a new context."""
        return Trial(worker, f"t{next(self.contexts)}")

    def find_boundaries(self, worker: Worker) -> int:
        """Apply undisturbed, keep its results, and count the boundaries. Those that leave equal facts are recorded."""
        trial = self.trial(worker)
        code, marks = trial.trace()
        assert code == 0, trial.output
        self.undisturbed = trial.documents
        trial.close()
        for first, mark in enumerate(marks, 1):
            self.firsts.setdefault(mark, first)
        self.seen.update(self.firsts)  # each of them is gone on from by itself
        return len(marks)

    def try_first(self, worker: Worker, first: int) -> None:
        """Crash at a boundary and recover; then crash the recovery at each of its boundaries, and recover from there.

        The recovery is traced first, so that only the boundaries that leave new facts cost an apply of their own.
        """
        begun = time.monotonic()
        trial = self.trial(worker)
        trial.apply(first)
        trial.mark()  # and requests in flight on the other side are over
        trial.keep()
        failures = [self._judge(trial, first, 0)]
        trial.go_back()
        _, marks = trial.trace()
        new = [second for second, mark in enumerate(marks, 1) if self._is_new(mark)]
        for second in new:
            trial.go_back()
            trial.apply(second)
            trial.mark()
            failures.append(self._judge(trial, first, second))
        trial.close()
        failures = [failure for failure in failures if failure]
        seconds = round(time.monotonic() - begun, 1)
        pairs = len(marks)
        with self.lock:
            self.log.add(first=first, pairs=pairs, skipped=pairs - len(new), failures=failures, seconds=seconds)

    def _judge(self, trial: Trial, first: int, second: int) -> str:
        failure = trial.judge(self.undisturbed)
        return f"boundaries {first}, {second}: {failure}\n{trial.output}" if failure else ""

    def _is_new(self, mark: str) -> bool:
        with self.lock:
            is_new = mark not in self.seen
            self.seen.add(mark)
            return is_new


def main() -> int:
    """Try all boundaries and all pairs, and print the figures."""
    log = Log()
    torture = Torture(log)
    workers = [Worker() for _ in range(WORKERS)]
    try:
        boundaries = torture.find_boundaries(workers[0])
        alike = boundaries - len(torture.firsts)
        sys.stdout.write(f"boundaries: {boundaries}, of which {alike} leave the facts of an earlier one\n")
        sys.stdout.flush()
        tried = {line["first"] for line in log.lines}
        todo = iter([first for first in torture.firsts.values() if first not in tried])

        def work(worker: Worker) -> None:
            while True:
                with torture.lock:
                    first = next(todo, None)
                if first is None:
                    return
                torture.try_first(worker, first)

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, workers))
    finally:
        for worker in workers:
            worker.stop()
    return tell(log)


def tell(log: Log) -> int:
    """Print the figures and each failure, and return the exit code."""
    sums = {key: sum(line[key] for line in log.lines) for key in ("pairs", "skipped", "seconds")}
    failures = [failure for line in log.lines for failure in line["failures"]]
    sys.stdout.write(
        f"pairs: {sums['pairs']}, of which {sums['skipped']} reached facts that were gone on from already; "
        f"failures: {len(failures)}; {sums['seconds'] / WORKERS:.0f} s\n" + "\n".join(failures)
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
