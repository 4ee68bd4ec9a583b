"""Stop an apply dead at every boundary, and its recovery at every boundary too; the third apply makes it good.

`make torture` runs it. Children are forked from a warm parent, since a start costs half a second; two work at
once. What was tried is kept in `.torture/`, so that an interrupted run goes on. Prints the figures, and exits
with 1 for a failure.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
WORKERS = 2


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


@dataclass
class Parent:
    """A warm parent in a process of its own."""

    root: str
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, __file__, "--forks"]
        environment = os.environ | {"AIHUB_API_KEY": "fake-torture", "AIHUB_API_ROOT": self.root}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def apply(self, boundary: int, folder: Path) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{boundary} {folder}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


class Torture:
    """Tries pairs of boundaries against one fake, each pair in a context of its own."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.counter = itertools.count(int(time.time() * 1000))
        self.seen: set[str] = set()
        self.failures: list[str] = []
        self.tried = self.skipped = 0
        self.lock = Lock()

    def get(self, context: str, path: str) -> Any:
        headers = {"Authorization": "Bearer fake-torture", "IB-Context": context}
        return requests.get(self.root + path, headers=headers, timeout=10).json()

    def try_pair(self, parent: Parent, first: int, second: int) -> tuple[int, int]:
        """Crash at both boundaries, unless 0, and judge; gives the exit codes of the two."""
        context = f"t{next(self.counter)}"
        folder = Path(tempfile.mkdtemp(prefix="torture-"))
        try:
            (folder / "in").mkdir()
            for number in range(FILES):
                (folder / "in" / f"{number}.txt").write_text(f"document {number}")
            (folder / "job.toml").write_text(SPEC.format(context=context))
            codes = parent.apply(first, folder), parent.apply(second, folder) if second else 0
            self.judge(parent, folder, context, f"boundaries {first}, {second}")
            return codes
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def judge(self, parent: Parent, folder: Path, context: str, where: str) -> None:
        """Go on from here, unless the same state was gone on from before, and compare with an undisturbed world."""
        mark = self.mark(folder, context)
        with self.lock:
            self.tried += 1
            if mark in self.seen:
                self.skipped += 1
                return
            self.seen.add(mark)
        code = parent.apply(0, folder)
        problems = [f"exit code {code}"] if code else []
        runs = self.get(context, "/v2/apps/runs?from_timestamp=1")["runs"]
        batches = self.get(context, "/v2/batches")["batches"]
        if len(batches) != 2 or len(runs) != 2 or len({run["batch_id"] for run in runs}) != 2:
            problems.append(f"{len(batches)} batches, {len(runs)} runs")
        lines = (folder / "results/job/documents.jsonl").read_text().splitlines()
        if len({json.loads(line)["path"] for line in lines}) != FILES:
            problems.append("documents are missing")
        if problems:
            self.failures.append(f"{where}: {', '.join(problems)}\n{(folder / 'output.txt').read_text()}")

    def mark(self, folder: Path, context: str) -> str:
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
        batches = self.get(context, "/v2/batches")["batches"]
        facts.append([batch["name"] for batch in batches])
        facts.append([len(self.get(context, f"/v2/batches/{batch['id']}/files")["nodes"]) for batch in batches])
        facts.append(sorted(run["tags"] for run in self.get(context, "/v2/apps/runs?from_timestamp=1")["runs"]))
        facts.append(sorted(p.name for p in folder.rglob("*") if p.suffix in (".jsonl", ".json") or "lock.t" in p.name))
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def main() -> int:
    """Try all single boundaries, then all pairs, and print the figures."""
    KEPT.mkdir(exist_ok=True)
    log = KEPT / "pairs.txt"
    done = set(log.read_text().splitlines()) if log.exists() else set()
    begun = time.monotonic()
    command = [sys.executable, "-m", "fake_server", "--port", "0", "--run-seconds", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        torture = Torture(server.stdout.readline().strip())
        parents = [Parent(torture.root) for _ in range(WORKERS)]
        singles = 0
        while torture.try_pair(parents[0], singles + 1, 0)[0] == CRASHED:
            singles += 1
        sys.stdout.write(f"boundaries: {singles}\n")

        def work(worker: int) -> None:
            for first in range(worker + 1, singles + 1, WORKERS):
                if str(first) in done:
                    continue
                for second in itertools.count(1):
                    if torture.try_pair(parents[worker], first, second)[1] != CRASHED:
                        break
                with torture.lock, log.open("a") as file:
                    file.write(f"{first}\n")

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, range(WORKERS)))
        for parent in parents:
            parent.process.kill()
        server.terminate()
    seconds = time.monotonic() - begun
    sys.stdout.write(
        f"pairs: {torture.tried - singles - 1}, of which {torture.skipped} reached what was tried already; "
        f"failures: {len(torture.failures)}; {seconds:.0f} s\n" + "\n".join(torture.failures)
    )
    return 1 if torture.failures else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--forks"]:
        serve_forks()
    else:
        sys.exit(main())
