"""Measure the fake under load: start-up, small requests, 32 clients for two minutes, 10,000 connections.

Run by `make bench`; with a number, each of the two long parts takes so many seconds. Prints figures; exits 1 where
a request failed, something was lost, or memory grows though nothing new is made. Rates are per second of the server's
processor time too, which says what one core does even where others use the machine.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import tempfile
import time

from load import Tally, Work, ask_often, hammer, hold_open, rewrite, serving, work

CLIENTS, SMALL, CONNECTIONS, STARTS = 32, 20_000, 10_000, 5
FLAT_MB = 3  # in the second half: what the allocator is good for


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure_start() -> None:
    times, spent, sizes = [], [], []
    for _ in range(STARTS):
        with serving() as server:
            times.append(server.ready_s)
            spent.append(server.cpu_s)
            sizes.append(server.rss_mb)
    say(
        f"start to first answer: {statistics.median(times):.2f} s, {statistics.median(spent):.2f} s of one core; "
        f"{max(sizes):.0f} MB"
    )


def measure_small() -> Tally:
    with serving() as server:
        begun, cpu = time.perf_counter(), server.cpu_s
        tally = asyncio.run(ask_often(server.port, CLIENTS, SMALL))
        took, spent = time.perf_counter() - begun, server.cpu_s - cpu
        say(f"small requests: {tally.requests / took:.0f}/s, {tally.requests / spent:.0f} per second of one core")
    return tally


def measure_load(seconds: float, what: str, do: Work) -> tuple[Tally, float]:
    """Run clients, and return by how many MB memory grew in the second half, when the journal is full."""
    sizes: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder, serving("--data-dir", folder) as server:
        begun, cpu = time.perf_counter(), server.cpu_s

        def goes_on(_: int) -> bool:
            now = time.perf_counter() - begun
            if now > len(sizes) * seconds / 10:
                sizes.append((now, server.rss_mb))
            return now < seconds

        tally = asyncio.run(hammer(server.port, CLIENTS, goes_on, do))
        took, spent = time.perf_counter() - begun, server.cpu_s - cpu
        rates = f"{tally.requests / took:.0f}/s, {tally.requests / spent:.0f} per second of one core"
        say(f"{CLIENTS} clients {what} for {took:.0f} s: {tally.requests} requests, {rates}; {dict(tally.statuses)}")
        say("memory: " + ", ".join(f"{size:.0f} MB at {now:.0f} s" for now, size in sizes))
    return tally, sizes[-1][1] - sizes[len(sizes) // 2][1]


def measure_memory(seconds: float) -> list[Tally]:
    """Measure that memory stays flat if nothing new is created, and how it grows with new names in the ledger."""
    names, grown_by_names = measure_load(seconds, "making new batches, files and runs", work)
    same, grown = measure_load(seconds, "writing the same files over and over", rewrite)
    say(f"memory grew in the second half by {grown_by_names:.1f} MB with new names, by {grown:.1f} MB with the same")
    same.expect(grown < FLAT_MB, f"memory grows by {grown:.1f} MB though nothing new is made")
    return [names, same]


def measure_connections() -> Tally:
    with serving() as server:
        begun = time.perf_counter()
        tally = asyncio.run(hold_open(server.port, CONNECTIONS))
        say(f"{CONNECTIONS} connections held open in {time.perf_counter() - begun:.1f} s; {server.rss_mb:.0f} MB")
    return tally


def main() -> int:
    """Measure everything, and return whether anything failed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measure_start()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    tallies = [measure_small(), *measure_memory(seconds), measure_connections()]
    wrong = [mistake for tally in tallies for mistake in tally.mistakes]
    failed = sum(count for tally in tallies for status, count in tally.statuses.items() if status >= 500)
    say(f"failed requests: {failed}; lost updates and other mistakes: {len(wrong)} {wrong[:3]}")
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
