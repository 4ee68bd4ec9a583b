"""Measure jobs with nothing or little to do: cases E (with F and G), I and M of `bench_speed.py`.

The files are sent once. Then commands take turns with a bare program that walks the folder with `os.scandir`, asks for
the stat of each file, and reads as many rows as there are files from the state.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench_speed import SPEC, Case, as_installed, make_files, serving

BARE = """
import os, sqlite3
with os.scandir("in") as entries:
    found = [os.stat(entry.path).st_size for entry in entries]
rows = sqlite3.connect("bench.state.db").execute("SELECT * FROM scanned").fetchall()
"""
FILES = {"E": 100_000, "I": 1_000_000, "M": 1}
RUNNER = [sys.executable, "-m", "aihub_runner"]
SETTLE_S = 2.5  # a file that is younger may change again under the same stat
COMMANDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "large": {
        "bare": [sys.executable, "-c", BARE],
        "apply": [*RUNNER, "apply", "bench.toml", "--yes"],
        "plan": [*RUNNER, "plan", "bench.toml"],
        "status": [*RUNNER, "status", "bench.toml"],
    },
    "small": {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import click": [sys.executable, "-c", "import click"],
        "--version": [*RUNNER, "--version"],
        "validate": [*RUNNER, "validate", "bench.toml"],
        "plan": [*RUNNER, "plan", "bench.toml"],
        "apply": [*RUNNER, "apply", "bench.toml", "--yes"],
    },
}
Cost = tuple[float, float, float]  # seconds, seconds of processor time, megabytes


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command, and return what it took."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        if process.returncode:
            output.seek(0)
            raise SystemExit(output.read().decode()[-2000:])
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def render(name: str, costs: Sequence[Cost], bare: Sequence[Cost]) -> str:
    """Return the row of a command: its ratios are those of medians of processor time and of seconds."""
    seconds, cpu_s, memory = ([cost[i] for cost in costs] for i in range(3))
    than_bare = statistics.median(cpu_s) / statistics.median(cost[1] for cost in bare)
    longer = statistics.median(seconds) / statistics.median(cost[0] for cost in bare)
    return (
        f"  {than_bare:6.2f} x CPU  {longer:6.2f} x s  {name:14}  CPU {statistics.median(cpu_s):6.3f} s "
        f"({min(cpu_s):.3f}-{max(cpu_s):.3f})  {statistics.median(seconds):6.2f} s  {max(memory):4.0f} MB"
    )


def run_case(name: str, rounds: int) -> list[str]:
    """Measure a case, and return rows of the table."""
    case = Case(f"{FILES[name]:,} x 1 KB, nothing changed", FILES[name], 1000, run_s=1.0)
    commands = COMMANDS["small" if name == "M" else "large"]
    costs: dict[str, list[Cost]] = {command: [] for command in commands}
    changed: list[Cost] = []
    with serving(case) as place, tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        environment = as_installed() | {"AIHUB_API_ROOT": f"{place}/api", "AIHUB_API_KEY": "bench"}
        make_files(case, folder)
        (folder / "bench.toml").write_text(SPEC)
        for _ in range(2):
            time.sleep(SETTLE_S)
            run(commands["apply"], folder, environment)
        for _ in range(rounds):
            for command, words in commands.items():
                costs[command].append(run(words, folder, environment))
        for number in range(rounds if name != "M" else 0):
            (folder / "in" / f"{number:06}.txt").write_text(f"changed {number}")
            time.sleep(SETTLE_S)
            changed.append(run(commands["apply"], folder, environment))
    bare = next(iter(costs.values()))
    rows = [render(command, taken, bare) for command, taken in costs.items()]
    rows += [render("one changed", changed, bare)] if changed else []
    return [f"{name}. {case.title}", *rows]
