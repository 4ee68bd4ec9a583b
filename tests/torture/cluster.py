"""60 batches through a cluster whose workers are killed, hang and are cut off; scheduler and coordinator die, too.

`make torture` runs it. Each worker is a host of its own, in a network namespace, where this machine allows it;
otherwise all are processes of this machine, and nobody is cut off. Prints the figures, and exits with 1 for a failure.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from urllib.parse import urlsplit

from fake_aihub import FakeAIHub
from support.cluster import DaskCluster, Worker
from support.hosts import Hosts, can_make_hosts, forwarded
from support.waiting import wait_for
from support.world import check_paid_once

BATCHES, FILES_PER_BATCH, WORKERS = 60, 20, 3
FILES = BATCHES * FILES_PER_BATCH
TOKEN = "fake-torture-0123456789"
SPEC = f"""\
name = "job"
files = "in/*.txt"
app_name = "Invoice Extraction"
context = "acme"
[limits]
files_per_batch = {FILES_PER_BATCH}
parallel_uploads = 6
settle_s = 1
"""


class Torture:
    """A job, its cluster, and how far it has come."""

    def __init__(self, folder: Path, fake: FakeAIHub, hosts: Hosts | None) -> None:
        self.folder, self.fake, self.hosts = folder, fake, hosts
        self.port = urlsplit(fake.root).port or 0
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_")}
        self.env |= {"AIHUB_API_KEY": TOKEN, "AIHUB_API_ROOT": fake.root}
        self.begun_s = time.monotonic()
        self.exits: list[int] = []
        (folder / "in").mkdir()
        for number in range(FILES):
            (folder / "in" / f"{number:05}.txt").write_text(f"document number {number}")
        (folder / "job.toml").write_text(SPEC)
        self.cluster = DaskCluster(folder / "cluster", self.env, hosts.gateway if hosts else "127.0.0.1")

    def add_worker(self, number: int) -> Worker:
        return Worker(self.cluster, threads=2, before=self.hosts.inside(number) if self.hosts else ())

    def sent(self) -> int:
        return sum(len(self.fake.files(batch["id"])) for batch in self.fake.batches())

    def start(self, *options: str) -> subprocess.Popen[str]:
        log = (self.folder / f"apply-{len(self.exits)}.log").open("w")
        command = [sys.executable, "-m", "aihub_runner", "apply", "job.toml", "--yes", *options]
        return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log, text=True)

    def wait_for_files(self, process: subprocess.Popen[str], number: int) -> None:
        wait_for(lambda: self.sent() >= number or process.poll() is not None, at_most_s=120)

    def end(self, process: subprocess.Popen[str], what: str) -> int:
        code = process.wait(timeout=200)
        self.exits.append(code)
        took_s, runs = time.monotonic() - self.begun_s, len(self.fake.runs())
        say(f"{took_s:5.0f} s  {what}: exit {code}, {self.sent()} files sent, {runs} runs")
        check_paid_once_quietly(self.fake)
        return code

    def try_workers(self) -> None:
        """Kill a worker before the first file and one between files, let one hang; then the scheduler dies."""
        workers = [self.add_worker(number) for number in range(WORKERS)]
        self.cluster.wait_for(WORKERS)
        process = self.start(*self.cluster.options)
        wait_for(lambda: self.fake.batches() or process.poll() is not None, at_most_s=60)
        workers[0].kill()
        self.wait_for_files(process, FILES // 10)
        workers[1].kill()
        workers += [self.add_worker(0), self.add_worker(1)]
        self.wait_for_files(process, FILES // 4)
        workers[2].signal(signal.SIGSTOP)
        self.wait_for_files(process, FILES // 3)
        self.cluster.stop_scheduler()
        assert self.end(process, "workers killed and stopped, then the scheduler killed") == 4
        workers[2].signal(signal.SIGCONT)
        for worker in workers:
            worker.kill()

    def try_coordinator(self) -> None:
        """Start the scheduler again; kill the coordinator while files are sent."""
        self.cluster.start_scheduler()
        for number in range(WORKERS):
            self.add_worker(number)
        self.cluster.wait_for(WORKERS)
        process = self.start(*self.cluster.options)
        self.wait_for_files(process, FILES * 6 // 10)
        process.kill()
        self.end(process, "scheduler started again, then the coordinator killed")

    def try_partition(self) -> None:
        """Cut a worker off while it sends, and let it back; the rest completes."""
        process = self.start(*self.cluster.options)
        log = self.folder / f"apply-{len(self.exits)}.log"
        wait_for(lambda: "a lost worker may still send" in log.read_text() or process.poll() is not None, 120)
        process.kill()
        self.end(process, "the coordinator killed while it waited for what workers may send late")
        process = self.start(*self.cluster.options)
        self.wait_for_files(process, FILES * 9 // 10)
        if self.hosts:
            self.hosts.cut(0)
            time.sleep(20)
            self.hosts.join(0)
        assert self.end(process, "a worker cut off for 20 s" if self.hosts else "undisturbed") == 0

    def check(self) -> None:
        """Check what was paid, what is on disk, and that nobody saw the token."""
        process = self.start()
        assert self.end(process, "once more, without a cluster") == 0
        check_paid_once_quietly(self.fake, FILES)
        lines = (self.folder / "results" / "job" / "documents.jsonl").read_text().splitlines()
        assert {json.loads(line)["path"] for line in lines} == {f"in/{number:05}.txt" for number in range(FILES)}
        for log in [*self.folder.glob("*.log"), *self.cluster.folder.glob("*.log")]:
            assert TOKEN not in log.read_text(errors="replace"), log


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check_paid_once_quietly(fake: FakeAIHub, files: int | None = None) -> None:
    """Check what was paid, and say nothing of it unless it is wrong."""
    with redirect_stdout(io.StringIO()):
        check_paid_once(fake, files)


def main() -> int:
    hosts = Hosts(WORKERS) if can_make_hosts() else None
    where = "hosts in network namespaces" if hosts else "processes; this machine allows no network namespaces"
    say(f"{BATCHES} batches of {FILES_PER_BATCH} files, {WORKERS} workers as {where}")
    with ExitStack() as stack:
        if hosts:
            stack.enter_context(hosts)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fake = stack.enter_context(FakeAIHub(latency_ms=50, run_seconds=0.2))
        stack.enter_context(forwarded(hosts, urlsplit(fake.root).port or 0))
        torture = Torture(folder, fake, hosts)
        stack.enter_context(torture.cluster)
        phases: list[Callable[[], None]] = [
            torture.try_workers,
            torture.try_coordinator,
            torture.try_partition,
            torture.check,
        ]
        try:
            for phase in phases:
                phase()
        except BaseException:
            for log in sorted(folder.glob("apply-*.log")):
                say("\n".join([f"--- {log.name}", *log.read_text().splitlines()[-12:]]))
            raise
        runs, batches = len(fake.runs()), len(fake.batches())
        say(f"{runs} runs on {batches} batches, each of {FILES} files paid once, all results there")
        return int(runs != BATCHES)


if __name__ == "__main__":
    sys.exit(main())
