"""Compare workers of a cluster with one process that has as many connections: `make bench CASE=cluster ROUNDS=3`.

Each worker has a limit of connections, its threads. All work on the same files against `small_server.py`, which answers
after 50 ms, so that connections are the limit, not a processor. `local:2` and threads are compared without latency,
where a processor is. On two cores this proves nothing about more processors: server, coordinator and workers share
them. The rate is that of the uploads alone, as the server saw them.
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
from contextlib import ExitStack
from pathlib import Path

from bench_speed import SERVER, Case, as_installed, make_files

sys.path.insert(0, str(Path(__file__).parents[1]))

CONNECTIONS = 8
LATENT = Case("1,600 x 20 KB, 50 ms", 1600, 20_000, 0.05)
AT_ONCE = Case("2,000 x 100 KB, 0 ms", 2000, 100_000)
SPEC = """\
files = "in/*"
app_name = "Bench"
context = "acme"
[limits]
files_per_batch = 500
parallel_uploads = {}
"""


def processor_s(process: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(case: Case, files: Path, workers: int, connections: int, local: int = 0) -> tuple[float, float]:
    """Apply with workers of so many connections each, or one process; return files/s and how busy the server was."""
    from support.cluster import DaskCluster

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(SERVER), f"--latency-s={case.latency_s}"], stdout=subprocess.PIPE, text=True
            )
        )
        stack.callback(server.terminate)
        assert server.stdout
        place = f"http://127.0.0.1:{int(server.stdout.readline())}"
        environment = as_installed() | {"AIHUB_API_ROOT": f"{place}/api", "AIHUB_API_KEY": "bench"}
        options = ["--scheduler", f"local:{local}"] if local else []
        if workers:
            cluster = stack.enter_context(DaskCluster(folder / "cluster", environment))
            cluster.start(workers, threads=connections)
            options = [*cluster.options]
        shutil.copytree(files, folder / "in", copy_function=os.link)
        (folder / "bench.toml").write_text(SPEC.format(connections * max(1, workers)))
        command = [sys.executable, "-m", "aihub_runner", "apply", str(folder / "bench.toml"), "--yes", *options]
        before_s = processor_s(server.pid)
        subprocess.run(command, env=environment, check=True, capture_output=True)
        used_s = processor_s(server.pid) - before_s
        with urllib.request.urlopen(f"{place}/_stats") as answer:
            begun_s, ended_s = json.load(answer)["times"]["uploads"]
    return case.files / (ended_s - begun_s), used_s / (ended_s - begun_s)


def main(rounds: int) -> None:
    """Print the rates."""
    say = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(LATENT, Path(folder))
        say(f"cluster. {LATENT.title}, {CONNECTIONS} connections for each worker\n")
        single = 0.0
        for workers in (1, 2, 4):
            rate, busy = middle([measure(LATENT, files, workers, CONNECTIONS) for _ in range(rounds)])
            alone, _ = middle([measure(LATENT, files, 0, CONNECTIONS * workers) for _ in range(rounds)])
            single = single or rate
            say(
                f"  {workers} workers  {rate:6.0f} files/s, {rate / (workers * single):.2f} x the sum of single ones, "
                f"server {busy:.0%} busy; one process with {CONNECTIONS * workers} connections {alone:6.0f} files/s\n"
            )
            sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(AT_ONCE, Path(folder))
        threads, _ = middle([measure(AT_ONCE, files, 0, 16) for _ in range(rounds)])
        local, busy = middle([measure(AT_ONCE, files, 0, 16, local=2) for _ in range(rounds)])
        say(f"  {AT_ONCE.title}: threads {threads:.0f} files/s, local:2 {local:.0f} files/s, server {busy:.0%} busy\n")


def middle(measured: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians."""
    return statistics.median(one[0] for one in measured), statistics.median(one[1] for one in measured)
