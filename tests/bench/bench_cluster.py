"""Compare workers of a cluster with one process that has as many connections: `make bench CASE=cluster ROUNDS=3`.

All send the same files to a fake AI Hub in a process of its own, which answers after 50 ms. Each worker has a limit of
connections, its threads, so that connections are the limit, not a processor: the fake must be less than 60 % busy.
Workers are processes of this machine, and then hosts in network namespaces, if this machine allows them. The rate is
that of the uploads alone, as the fake saw them.

`local:2` and threads are compared with `small_server.py` and without latency, where a processor is the limit. On two
cores this proves nothing about more processors: server, coordinator and workers share them.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench_speed import SERVER, Case, as_installed, make_files

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.cluster import DaskCluster, Worker
from support.hosts import Hosts, can_make_hosts, forwarded

CONNECTIONS = 2
WORKERS = (1, 2, 4)
LATENCY_MS = 50
LATENT = Case(f"1,000 x 20 KB, {LATENCY_MS} ms", 1000, 20_000)
AT_ONCE = Case("2,000 x 100 KB, 0 ms", 2000, 100_000)
FAKE = ("-m", "fake_aihub", "--port", "0", "--quiet", "--run-seconds", "0", "--latency-ms", str(LATENCY_MS))
SPEC = """\
files = "in/*"
app_name = "Invoice Extraction"
context = "acme"
[limits]
files_per_batch = 500
parallel_uploads = {}
"""

Measured = tuple[float, float]  # files a second, and how busy the server was


class Server:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self.process, line = process, process.stdout.readline().strip()
        self.place = line.removesuffix("/api") if line.startswith("http") else f"http://127.0.0.1:{int(line)}"

    def processor_s(self) -> float:
        """Return the processor time of the process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def upload_s(self) -> float:
        """Return how long it took from the begin of the first upload to the end of the last."""
        is_fake = "fake_aihub" in self.process.args  # type: ignore[operator]
        with urllib.request.urlopen(f"{self.place}/{'_fake/journal' if is_fake else '_stats'}") as answer:
            found = json.load(answer)
        if not is_fake:
            begun_s, ended_s = found["times"]["uploads"]
            return float(ended_s - begun_s)
        uploads = [entry for entry in found["entries"] if entry["operation"] == "addFileToBatch"]
        begun_s = min(entry["begun_s"] for entry in uploads)
        return float(max(entry["begun_s"] + entry["took_s"] for entry in uploads) - begun_s)


@contextmanager
def served(*command: str) -> Iterator[Server]:
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def apply(server: Server, files: Path, connections: int, workers: int = 0, hosts: Hosts | None = None) -> Measured:
    """Apply in one process with so many connections, or with workers that have so many each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        token = {"AIHUB_API_ROOT": f"{server.place}/api", "AIHUB_API_KEY": "fake-bench"}
        environment, options = as_installed() | token, []
        if workers:
            host = hosts.gateway if hosts else "127.0.0.1"
            cluster = stack.enter_context(DaskCluster(folder / "cluster", environment, host))
            for number in range(workers):
                Worker(cluster, connections, before=hosts.inside(number) if hosts else ())
            cluster.wait_for(workers)
            options = [*cluster.options]
        return run(server, files, folder, environment, options, connections * max(1, workers))


def run(
    server: Server, files: Path, folder: Path, environment: dict[str, str], options: list[str], connections: int
) -> Measured:
    shutil.copytree(files, folder / "in", copy_function=os.link)
    (folder / "bench.toml").write_text(SPEC.format(connections))
    before_s = server.processor_s()
    command = [sys.executable, "-m", "aihub_runner", "apply", str(folder / "bench.toml"), "--yes", *options]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    used_s, took_s = server.processor_s() - before_s, server.upload_s()
    return sum(1 for _ in files.iterdir()) / took_s, used_s / took_s


def alone(files: Path, connections: int) -> Measured:
    """Measure one process."""
    with served(*FAKE) as server:
        return apply(server, files, connections)


def together(files: Path, workers: int, hosts: Hosts | None) -> Measured:
    """Measure workers, as processes or on hosts."""
    with served(*FAKE) as server, forwarded(hosts, int(server.place.rpartition(":")[2])):
        return apply(server, files, CONNECTIONS, workers, hosts)


def at_once(files: Path, *options: str) -> Measured:
    """Measure without latency, with threads or as `options` say."""
    with served(str(SERVER)) as server, tempfile.TemporaryDirectory() as folder:
        token = {"AIHUB_API_ROOT": f"{server.place}/api", "AIHUB_API_KEY": "bench"}
        return run(server, files, Path(folder), as_installed() | token, [*options], 16)


def middle(measured: list[Measured]) -> Measured:
    """Return the medians."""
    return statistics.median(one[0] for one in measured), statistics.median(one[1] for one in measured)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def compare(files: Path, hosts: Hosts | None, singles: dict[int, float], rounds: int) -> None:
    """Print the rates of 1, 2 and 4 workers."""
    single = 0.0
    for workers in WORKERS:
        rate, busy = middle([together(files, workers, hosts) for _ in range(rounds)])
        single = single or rate
        say(
            f"  {workers} {'hosts' if hosts else 'workers':8} {rate:6.0f} files/s, "
            f"{rate / (workers * single):.2f} x the sum of single ones, fake {busy:.0%} busy; "
            f"one process with {CONNECTIONS * workers:2} connections {singles[workers]:6.0f} files/s"
        )


def main(rounds: int) -> None:
    """Print the rates."""
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(LATENT, Path(folder))
        say(f"cluster. {LATENT.title}, {CONNECTIONS} connections for each worker, {rounds} rounds")
        singles = {number: middle([alone(files, CONNECTIONS * number) for _ in range(rounds)])[0] for number in WORKERS}
        compare(files, None, singles, rounds)
        if can_make_hosts():
            with Hosts(max(WORKERS)) as hosts:
                compare(files, hosts, singles, rounds)
        else:
            say("  this machine allows no network namespaces")
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(AT_ONCE, Path(folder))
        threads, _ = middle([at_once(files) for _ in range(rounds)])
        local, busy = middle([at_once(files, "--scheduler", "local:2") for _ in range(rounds)])
        say(f"  {AT_ONCE.title}: threads {threads:.0f} files/s, local:2 {local:.0f} files/s, server {busy:.0%} busy")
