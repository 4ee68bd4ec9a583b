"""Many concurrent clients of a fake, each checking that it loses nothing; and a fast raw client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

HEAD = (
    "{} {} HTTP/1.1\r\nHost: fake\r\nAuthorization: Bearer fake-load\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
)
FILES = 4


@dataclass
class Tally:
    """The outcome of all requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.statuses.total()

    def expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.mistakes.append(what)


class Client:
    """One connection; a request at a time."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port = port
        self._tally = tally

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: bytes | dict[str, Any] = b"") -> Any:
        """Send a request, and return the JSON of the response, or its status if it has none."""
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._writer.write(HEAD.format(method, path, kind, len(content)).encode() + content)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        self._tally.statuses[status] += 1
        _, is_there, after = head.lower().partition(b"content-length:")
        answered = await self._reader.readexactly(int(after.split(b"\r\n", 1)[0])) if is_there else b""
        return json.loads(answered) if answered else status


async def work(client: Client, tally: Tally, number: int, shared: int, goes_on: Callable[[int], bool]) -> None:
    """Do typical work in a loop, and check that all of it is there."""
    chance, done = Random(number), 0
    while goes_on(done):
        name = f"{number}-{done}"
        batch = (await client.ask("POST", "/api/v2/batches", {"name": name}))["id"]
        sizes = {f"{name}-{index}.txt": chance.randrange(1, 60_000) for index in range(FILES)}
        for file, size in sizes.items():
            await client.ask("PUT", f"/api/v2/batches/{batch}/files/{file}", chance.randbytes(size))
        await client.ask("PUT", f"/api/v2/batches/{shared}/files/{number}", name.encode())
        nodes = (await client.ask("GET", f"/api/v2/batches/{batch}/files"))["nodes"]
        tally.expect({node["name"]: node["metadata"]["size"] for node in nodes} == sizes, f"{name}: files")
        run = (await client.ask("POST", "/api/v2/apps/runs", {"app_name": "Load", "batch_id": batch}))["id"]
        status = (await client.ask("GET", f"/api/v2/apps/runs/{run}"))["status"]
        tally.expect(status == "COMPLETE", f"{name}: {status}")
        files = (await client.ask("GET", f"/api/v2/apps/runs/{run}/results"))["files"]
        tally.expect([file["original_file_name"] for file in files] == sorted(sizes), f"{name}: results")
        listed = (await client.ask("GET", f"/api/v2/batches/{shared}/files?page_size=1000"))["nodes"]
        size = next((node["metadata"]["size"] for node in listed if node["name"] == str(number)), None)
        tally.expect(size == len(name), f"{name}: the shared batch")
        await client.ask("DELETE", f"/api/v2/apps/runs/{run}")
        await client.ask("GET", f"/api/v2/batches/{batch}")  # gone, with the run's input
        done += 1


async def rewrite(client: Client, tally: Tally, number: int, shared: int, goes_on: Callable[[int], bool]) -> None:
    """Write and read the same few files in a loop, and create nothing new."""
    chance, done = Random(number), 0
    while goes_on(done):
        sizes = {f"{number}-{index}.txt": chance.randrange(1, 20_000) for index in range(FILES)}
        for file, size in sizes.items():
            await client.ask("PUT", f"/api/v2/batches/{shared}/files/{file}", chance.randbytes(size))
        listed = (await client.ask("GET", f"/api/v2/batches/{shared}/files?page_size=1000"))["nodes"]
        found = {node["name"]: node["metadata"]["size"] for node in listed}
        tally.expect(sizes.items() <= found.items(), f"{number}-{done}: files")
        for path in (f"/api/v2/batches/{shared}", "/api/v2/batches", "/api/v2/apps/runs"):
            await client.ask("GET", path)
        done += 1


Work = Callable[[Client, Tally, int, int, Callable[[int], bool]], Awaitable[None]]


async def hammer(port: int, clients: int, goes_on: Callable[[int], bool], do: Work = work) -> Tally:
    """Run clients concurrently."""
    tally = Tally()
    async with Client(port, tally) as first:
        shared = (await first.ask("POST", "/api/v2/batches", {"name": "shared"}))["id"]

    async def one(number: int) -> None:
        async with Client(port, tally) as client:
            await do(client, tally, number, shared, goes_on)

    await asyncio.gather(*(one(number) for number in range(clients)))
    return tally


async def ask_often(port: int, clients: int, total: int) -> Tally:
    """Send one small request many times."""
    tally = Tally()

    async def one() -> None:
        async with Client(port, tally) as client:
            batch = (await client.ask("POST", "/api/v2/batches", {"name": "small"}))["id"]
            for _ in range(total // clients):
                await client.ask("GET", f"/api/v2/batches/{batch}")

    await asyncio.gather(*(one() for _ in range(clients)))
    return tally


async def hold_open(port: int, count: int) -> Tally:
    """Open many idle connections, and send a request on one more."""
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    tally = Tally()
    async with Client(port, tally) as client:
        await client.ask("GET", "/api/v2/batches")
    for _, writer in held:
        writer.close()
    return tally


@dataclass
class Server:
    """A fake in its own process."""

    process: subprocess.Popen[str]
    port: int
    ready_s: float

    @property
    def cpu_s(self) -> float:
        """Processor time so far. Contention does not count."""
        spent = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mb(self) -> float:
        """Memory in use now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Start a fake, and wait for its first answer."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "fake_aihub", "--port", "0", "--run-seconds", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        asyncio.run(hold_open(port, 0))
        try:
            yield Server(process, port, time.perf_counter() - begun)
        finally:
            process.terminate()
