"""Compare the runner with the vendor's SDK and with a bare loop, side by side: `make bench CASE=A ROUNDS=5`.

All work on the same files against the same kind of server, `small_server.py`, each time a new one in a process of its
own. The clients take turns in each round. The table shows ratios first: those of medians, and of nothing else.
`bench_nothing.py` has the cases with nothing to do: E, I (a million files: hours on a busy machine) and M;
`bench_cluster.py` has the case `cluster`.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SERVER, OTHER = HERE / "small_server.py", HERE / "other_clients.py"
SPEC = 'files = "in/*"\napp_name = "Bench"\ncontext = "acme"\n'
RUNNER = "runner"
POLL_S = {"sdk": 5.0, "bare": 0.5, "hash": 0.5}  # the vendor's guide asks every 5 s; the others are to be a floor


@dataclass(frozen=True)
class Case:
    """Files, a server, and the clients: their kind, their threads, and their polling interval in seconds.

    `only` names a phase of the job, as the server saw it, to compare.
    """

    title: str
    files: int
    size: int
    latency_s: float = 0.0
    run_s: float = 0.0
    others: tuple[str, ...] = ()
    only: str = ""
    limits: tuple[str, ...] = ()


CASES = {
    "A": Case(
        "1,000 x 100 KB, 50 ms, run of 3 s", 1000, 100_000, 0.05, 3, ("sdk 1", "sdk 32", "sdk 32 0.5", "bare 32"),
    ),
    "B": Case("10,000 x 20 KB in 10 batches, 50 ms, runs of 10 s", 10_000, 20_000, 0.05, 10),
    "C": Case("8 x 48 MB, 0 ms", 8, 48 << 20, others=("sdk 8", "bare 8", "hash 8")),
    "P": Case("32 x 48 MB, 0 ms", 32, 48 << 20),
    "Q": Case(
        "8 x 48 MB over a line of 1 Gbit/s", 8, 48 << 20, others=("sdk 8", "bare 8"), limits=("--bytes-per-s", "125e6"),
    ),
    "D": Case(
        "uploads alone, 1,000 x 100 KB, 0 ms", 1000, 100_000, others=("sdk 1", "sdk 8", "sdk 32", "bare 8"),
        only="uploads",
    ),
    "H": Case("100,000 x 1 KB, first apply, 0 ms", 100_000, 1000),
    "J": Case("one file, run of 3 s", 1, 1000, 0.0, 3, ("sdk 1",)),
    "K": Case("pages of results of 10,000 files in one run, 50 ms", 10_000, 1000, 0.05, 0, only="results"),
    "R": Case("300 x 1 KB, the server allows 15 requests/s", 300, 1000, limits=("--per-second", "15")),
    "S": Case("2,000 x 1 KB, 50 ms, slower with more than 20 at once", 2000, 1000, 0.05, limits=("--capacity", "20")),
}  # fmt: skip


@dataclass
class Taken:
    """The cost of one client: seconds, seconds of processor time, megabytes, and what the server saw."""

    seconds: float
    cpu_s: float
    memory_mb: float
    stats: dict[str, Any] = field(default_factory=dict)

    def phase_s(self, name: str) -> float:
        begun, ended = self.stats["times"].get(name, (0.0, 0.0))
        return float(ended - begun)


@contextmanager
def serving(case: Case) -> Iterator[str]:
    """Start a server, and return its address."""
    command = [sys.executable, str(SERVER), f"--latency-s={case.latency_s}", f"--run-s={case.run_s}", *case.limits]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def measure(case: Case, client: str, files: Path) -> Taken:
    """Run the whole job with one client against a new server."""
    with serving(case) as place, tempfile.TemporaryDirectory() as folder:
        environment = as_installed() | {"AIHUB_API_ROOT": f"{place}/api", "AIHUB_API_KEY": "bench"}
        kind, *how = client.split()
        if kind != RUNNER:
            threads, poll_s = [*how, str(POLL_S[kind])][:2]
            command = [sys.executable, str(OTHER), kind, f"{place}/api", str(files), threads, poll_s]
        else:
            shutil.copytree(files, Path(folder, "in"), copy_function=os.link)
            per_batch = f"\n[limits]\nfiles_per_batch = {max(1000, case.files)}\n" if case.only == "results" else ""
            Path(folder, "bench.toml").write_text(SPEC + per_batch)
            command = [sys.executable, "-m", "aihub_runner", "apply", str(Path(folder, "bench.toml")), "--yes"]
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - begun
            if process.returncode:
                output.seek(0)
                raise SystemExit(f"{client}: exit code {process.returncode}\n{output.read().decode()[-2000:]}")
        with urllib.request.urlopen(f"{place}/_stats") as answer:
            stats = json.load(answer)
    return Taken(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, stats)


def as_installed() -> dict[str, str]:
    """Return this environment, for a package that is compiled as `pip` compiles what it installs."""
    import aihub_runner

    compileall.compile_dir(Path(aihub_runner.__file__).parent, quiet=1)
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def make_files(case: Case, folder: Path) -> Path:
    """Make files that differ from each other, with little memory: the peak of a child counts that of its parent."""
    place = folder / "in"
    place.mkdir()
    block = os.urandom(min(case.size, 1 << 20))
    for number in range(case.files):
        with (place / f"{number:06}.txt").open("wb") as file:
            file.write(f"{number:06}\n".encode())
            for begun in range(7, case.size, len(block)):
                file.write(block[: case.size - begun])
    return place


def run_case(name: str, rounds: int) -> list[str]:
    """Measure a case in alternating rounds, and return rows of the table."""
    case = CASES[name]
    clients = [RUNNER, *case.others]
    taken: dict[str, list[Taken]] = {client: [] for client in clients}
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(case, Path(folder))
        for number in range(rounds):
            for client in clients if number % 2 == 0 else clients[::-1]:
                taken[client].append(measure(case, client, files))
    return [f"{name}. {case.title}", *(render(case, client, taken) for client in clients)]


def render(case: Case, client: str, taken: dict[str, list[Taken]]) -> str:
    """Return the row of a client; its ratio says how many times as long as the runner it takes."""

    def middle(who: str) -> float:
        return statistics.median(spans(who))

    def spans(who: str) -> list[float]:
        return [each.phase_s(case.only) if case.only else each.seconds for each in taken[who]]

    own = taken[client]
    counts = own[-1].stats["counts"]
    times = own[-1].stats["times"]
    late = times["ends seen"][0] - times["run ends"][0] if "ends seen" in times else 0.0
    phases = f"uploads {statistics.median(each.phase_s('uploads') for each in own):.2f} s, end seen {late:.2f} s late"
    phases += f", results {own[-1].phase_s('results'):.2f} s, polls {counts.get('polls', 0)}"
    phases += f", at most {own[-1].stats['most']} at once, refused {counts.get('refused', 0)}"
    return (
        f"  {middle(client) / middle(RUNNER):6.2f} x  {client:10}  {middle(client):7.2f} s "
        f"({min(spans(client)):.2f}-{max(spans(client)):.2f})  CPU {statistics.median(e.cpu_s for e in own):6.2f} s  "
        f"{max(each.memory_mb for each in own):4.0f} MB  {phases}"
    )


def main() -> None:
    """Measure the cases that are named, or all."""
    wanted, rounds = sys.argv[1:2] or [""], int((sys.argv[2:3] or ["5"])[0])
    os.nice(5)
    sys.stdout.write(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {rounds} rounds, medians (spread)\n"
    )
    if wanted[0] == "cluster":
        import bench_cluster

        bench_cluster.main(rounds)
        return
    import bench_nothing  # which imports this module

    for name in wanted[0] or [*CASES, *bench_nothing.FILES]:
        measured = bench_nothing.run_case if name in bench_nothing.FILES else run_case
        for row in measured(name, rounds):
            sys.stdout.write(row + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
