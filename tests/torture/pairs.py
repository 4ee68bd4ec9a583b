"""Stop an apply dead at every boundary, and its recovery at every boundary too; the third apply makes it good.

`make torture` runs it. Children are forked from a warm parent, since a start costs half a second; one
works per core. What was tried is kept in `.torture/`, for the code as it is, so that an interrupted run goes on.
Prints the figures, and exits with 1 for a failure.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import requests

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".torture"
SPEC = """\
name = "job"
files = "in/*"
app_name = "A"
context = "{context}"
[limits]
files_per_batch = 3
parallel_uploads = 1
parallel_runs = 1
settle_s = 0.05
poll_min_s = 0.01
poll_max_s = 0.05
"""
CRASHED = 137
FILES = 6
WORKERS = os.cpu_count() or 2


def serve_forks() -> None:
    """The warm parent: for each line `N folder` on standard input, fork an apply that stops at N, and tell its exit."""
    sys.path.insert(0, str(Path(__file__).parent))
    import crash

    import runner.apply
    import runner.inspection  # noqa: F401
    from runner import cli

    for line in sys.stdin:
        boundary, folder = line.split(maxsplit=1)
        child = os.fork()
        if child == 0:
            os.chdir(folder.strip())
            sink = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            crash.instrument(int(boundary))
            sys.argv = ["runner", "apply", "job.toml"]
            try:
                cli.main()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a pair: the exit codes at the boundaries, and whatever was wrong afterwards."""

    codes: tuple[int, int]
    skipped: bool = False
    failure: str = ""


class Worker:
    """A fake, and a warm parent of the applies against it, each in a process of its own."""

    def __init__(self) -> None:
        serve = [sys.executable, "-m", "fake_server", "--port", "0", "--run-seconds", "0"]
        self.server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout
        self.root = self.server.stdout.readline().strip()
        environment = os.environ | {"AIHUB_API_KEY": "fake-torture", "AIHUB_API_ROOT": self.root}
        fork = [sys.executable, __file__, "--forks"]
        self.parent = subprocess.Popen(fork, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def apply(self, boundary: int, folder: Path) -> int:
        """Apply the spec there, and stop at a boundary; 0 is none. Gives the exit code."""
        assert self.parent.stdin
        assert self.parent.stdout
        self.parent.stdin.write(f"{boundary} {folder}\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def get(self, context: str, path: str) -> Any:
        """Ask the API in a context."""
        headers = {"Authorization": "Bearer fake-torture", "IB-Context": context}
        return requests.get(self.root + path, headers=headers, timeout=10).json()

    def list_requests(self) -> list[dict[str, Any]]:
        """List what was sent since `forget_requests`."""
        entries: list[dict[str, Any]] = requests.get(self._journal, timeout=10).json()["entries"]
        return entries

    def forget_requests(self) -> None:
        """Empty the fake's journal."""
        requests.delete(self._journal, timeout=10)

    @property
    def _journal(self) -> str:
        return self.root.removesuffix("/api") + "/_fake/journal"

    def stop(self) -> None:
        """End both processes."""
        self.parent.kill()
        self.server.kill()


def judge(worker: Worker, folder: Path, context: str) -> list[str]:
    """Go on from here without any other help, compare with an undisturbed world, and apply once more."""
    code = worker.apply(0, folder)
    problems = [f"exit code {code}"] if code else []
    runs = worker.get(context, "/v2/apps/runs?from_timestamp=1")["runs"]
    batches = worker.get(context, "/v2/batches")["batches"]
    if len(batches) != 2 or len(runs) != 2 or len({run["batch_id"] for run in runs}) != 2:
        problems.append(f"{len(batches)} batches, {len(runs)} runs")
    results = folder / "results/job/documents.jsonl"
    lines = results.read_text().splitlines() if results.exists() else []
    if len({json.loads(line)["path"] for line in lines}) != FILES:
        problems.append("documents are missing")
    worker.forget_requests()
    code = worker.apply(0, folder)
    sent = [entry["operation"] for entry in worker.list_requests() if entry["method"] != "GET"]
    if code or sent:
        problems.append(f"applied once more: exit code {code}, sent {sent}")
    return problems


class Torture:
    """Tries pairs of boundaries, each in a context of its own; a worker is a fake and a warm parent."""

    def __init__(self) -> None:
        self.counter = itertools.count(int(time.time() * 1000))
        self.seen: set[str] = set()
        self.lock = Lock()

    def try_pair(self, worker: Worker, first: int, second: int) -> Trial:
        """Crash at both boundaries, unless 0, and judge."""
        context = f"t{next(self.counter)}"
        folder = Path(tempfile.mkdtemp(prefix="torture-"))
        try:
            (folder / "in").mkdir()
            for number in range(FILES):
                (folder / "in" / f"{number}.txt").write_text(f"document {number}")
            (folder / "job.toml").write_text(SPEC.format(context=context))
            codes = worker.apply(first, folder), worker.apply(second, folder) if second else 0
            if not self.is_new(self.mark(worker, folder, context)):
                return Trial(codes, skipped=True)
            problems = judge(worker, folder, context)
            where = f"boundaries {first}, {second}: {', '.join(problems)}\n"
            return Trial(codes, failure=where + (folder / "output.txt").read_text() if problems else "")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def is_new(self, mark: str) -> bool:
        """Tell whether nothing has gone on from these facts before."""
        with self.lock:
            is_new = mark not in self.seen
            self.seen.add(mark)
            return is_new

    def mark(self, worker: Worker, folder: Path, context: str) -> str:
        """Tell the facts on both sides, but for ids, times and whatever else is another one each time."""
        facts: list[object] = []
        state = folder / "job.state.db"
        if state.exists():
            with sqlite3.connect(state) as db:
                for what in (
                    "key FROM meta ORDER BY key",
                    "id, fingerprint FROM shards ORDER BY id",
                    "shard, name, digest FROM members ORDER BY shard, name",
                    "shard, name, remote_id IS NULL, lost_s IS NULL FROM batches ORDER BY shard",
                    "batch, name, digest FROM uploads ORDER BY batch, name",
                    "shard, attempt, tag, remote_id IS NULL, lost_s IS NULL, status FROM runs ORDER BY id",
                    "run, include FROM fetches ORDER BY run",
                ):
                    facts.append(db.execute(f"SELECT {what}").fetchall())
        batches = worker.get(context, "/v2/batches")["batches"]
        facts.append([batch["name"] for batch in batches])
        facts.append([len(worker.get(context, f"/v2/batches/{batch['id']}/files")["nodes"]) for batch in batches])
        facts.append(sorted(run["tags"] for run in worker.get(context, "/v2/apps/runs?from_timestamp=1")["runs"]))
        facts.append(sorted(p.name for p in folder.rglob("*") if p.suffix in (".jsonl", ".json") or "lock.t" in p.name))
        return hashlib.sha256(repr(facts).encode()).hexdigest()


class Log:
    """What was tried with the code as it is, kept in a file so that an interrupted run goes on."""

    def __init__(self) -> None:
        KEPT.mkdir(exist_ok=True)
        code = hashlib.sha256()
        for path in sorted(ROOT.glob("runner/*.*")):
            code.update(path.read_bytes())
        self.path = KEPT / f"pairs-{code.hexdigest()[:12]}.jsonl"
        self.lines = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def add(self, first: int, trials: list[Trial], seconds: float) -> None:
        """Keep what came of all pairs with this first boundary."""
        line = {
            "first": first,
            "pairs": len(trials),
            "skipped": sum(trial.skipped for trial in trials),
            "failures": [trial.failure for trial in trials if trial.failure],
            "seconds": round(seconds, 1),
        }
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def try_all_with(torture: Torture, worker: Worker, first: int) -> list[Trial]:
    """Try a first boundary with every second one, until the second is past the end."""
    trials = []
    for second in itertools.count(1):
        trials.append(torture.try_pair(worker, first, second))
        if trials[-1].codes[1] != CRASHED:
            return trials
    raise AssertionError


def main() -> int:
    """Try all single boundaries, then all pairs, and print the figures."""
    log = Log()
    torture = Torture()
    workers = [Worker() for _ in range(WORKERS)]
    firsts = list(iter_singles(torture, workers[0], log))
    sys.stdout.write(f"boundaries: {len(firsts)}\n")
    sys.stdout.flush()

    def work(worker: Worker) -> None:
        while True:
            with torture.lock:
                first = next(todo, None)
            if first is None:
                return
            begun = time.monotonic()
            trials = try_all_with(torture, worker, first)
            with torture.lock:
                log.add(first, trials, time.monotonic() - begun)

    todo = iter(set(firsts) - {line["first"] for line in log.lines})
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, workers))
    finally:
        for worker in workers:
            worker.stop()
    return tell(log)


def iter_singles(torture: Torture, worker: Worker, log: Log) -> Iterator[int]:
    """Try one boundary after another, and give those that exist."""
    for first in itertools.count(1):
        begun = time.monotonic()
        trial = torture.try_pair(worker, first, 0)
        if trial.failure:
            log.add(0, [trial], time.monotonic() - begun)
        if trial.codes[0] != CRASHED:
            return
        yield first


def tell(log: Log) -> int:
    """Print the figures and each failure; gives the exit code."""
    sums = {key: sum(line[key] for line in log.lines) for key in ("pairs", "skipped", "seconds")}
    failures = [failure for line in log.lines for failure in line["failures"]]
    sys.stdout.write(
        f"pairs: {sums['pairs']}, of which {sums['skipped']} reached what was gone on from already; "
        f"failures: {len(failures)}; {sums['seconds'] / WORKERS:.0f} s\n" + "\n".join(failures)
    )
    return 1 if failures else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--forks"]:
        serve_forks()
    else:
        sys.exit(main())
