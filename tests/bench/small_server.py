"""A small, fast AI Hub for benchmarks in its own process, with optional latency and limits.

It shares no code with the fake. `GET /_stats` reports when uploads, runs and results began and ended.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import defaultdict, deque
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE, PART = 100, 10 * 1024 * 1024
HEAD = "HTTP/1.1 {} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"


class Hub:
    """The state of the server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.ids = itertools.count(1)
        self.names: dict[int, str] = {}
        self.files: dict[int, dict[str, int]] = defaultdict(dict)
        self.sessions: dict[str, tuple[int, str, int]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.times: dict[str, list[float]] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.sent: deque[float] = deque()
        self.busy = self.most = 0
        self.line_free_s = 0.0

    def note(self, what: str) -> None:
        now = time.monotonic()
        self.times.setdefault(what, [now, now])[1] = now
        self.counts[what] += 1

    def is_over_limit(self) -> bool:
        """Whether more requests came within a second than are allowed."""
        now = time.monotonic()
        while self.sent and self.sent[0] < now - 1:
            self.sent.popleft()
        if self.options.per_second and len(self.sent) >= self.options.per_second:
            return True
        self.sent.append(now)
        return False

    def delay_s(self) -> float:
        """Return how long a request takes: longer than the latency where more are in flight than can be served."""
        waits: float = self.options.latency_s
        return waits * max(1.0, self.busy / self.options.capacity) ** 2 if self.options.capacity else waits

    async def receive(self, size: int) -> None:
        """Take as long as the line needs for so many bytes, beside what others send over it."""
        if self.options.bytes_per_s:
            now = time.monotonic()
            self.line_free_s = max(now, self.line_free_s) + size / self.options.bytes_per_s
            await asyncio.sleep(self.line_free_s - now)

    def run_of(self, run: dict[str, Any]) -> dict[str, Any]:
        ends = run["_ends"]
        if time.monotonic() >= ends and run["status"] == "RUNNING":
            run |= {"status": "COMPLETE", "finish_timestamp": time.time_ns()}
            self.times.setdefault("run ends", [ends, ends])[1] = ends
        return {key: value for key, value in run.items() if key[0] != "_"}

    def answer(self, method: str, target: str, size: int, body: bytes) -> Any:
        """Return the JSON of the response to a request, or None for an empty one."""
        url = urlsplit(target)
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = url.path.removeprefix("/api/v2/").split("/")
        if parts[0] == "batches":
            return self.batches(method, parts[1:], asked, size, body)
        if url.path == "/_stats":
            return {"times": self.times, "counts": self.counts, "most": self.most}
        return self.apps(method, parts[1:], asked, body)

    def batches(self, method: str, parts: list[str], asked: dict[str, str], size: int, body: bytes) -> Any:
        match method, parts:
            case "PUT", [batch, "files", name]:
                self.files[int(batch)][unquote(name)] = size
                self.note("uploads")
            case "POST", []:
                number = next(self.ids)
                self.names[number] = json.loads(body)["name"]
                return {"id": number}
            case "GET", []:
                offset = int(asked.get("offset", 0))
                ids = list(self.names)[offset : offset + int(asked.get("limit", 100))]
                return {"batches": [{"id": number, "name": self.names[number]} for number in ids]}
            case "GET", [batch]:
                return {"id": int(batch), "name": self.names[int(batch)]}
            case "GET", [batch, "files"]:
                return self.list_files(self.files[int(batch)], asked)
            case "POST", ["multipart-upload"]:
                content, session = json.loads(body), f"s{next(self.ids)}"
                self.sessions[session] = (content["batch_id"], content["filename"], content["file_size"])
                return {"session_id": session, "part_size": PART}
            case "PUT", ["multipart-upload", "sessions", _, "parts", number]:
                self.note("parts")
                return {"part_id": number, "part_num": int(number)}
            case "POST", ["multipart-upload", "sessions", session]:
                number, name, length = self.sessions.pop(session)
                self.files[number][name] = length
                self.note("uploads")
        return None

    def list_files(self, files: dict[str, int], asked: dict[str, str]) -> Any:
        first, limit = int(asked.get("start_token", 0)), int(asked.get("page_size", 100))
        nodes = [
            {"name": name, "metadata": {"size": size}} for name, size in list(files.items())[first : first + limit]
        ]
        more = first + limit < len(files)
        return {"nodes": nodes, "has_more": more} | ({"next_page_token": str(first + limit)} if more else {})

    def apps(self, method: str, parts: list[str], asked: dict[str, str], body: bytes) -> Any:
        match method, parts:
            case "POST", ["runs"]:
                content, name = json.loads(body), f"run-{next(self.ids)}"
                self.note("runs")
                self.runs[name] = {
                    "id": name,
                    "status": "RUNNING",
                    "batch_id": content["batch_id"],
                    "tags": (content.get("settings") or {}).get("tags", []),
                    "start_timestamp": time.time_ns(),
                    "_ends": time.monotonic() + self.options.run_s,
                }
                return self.run_of(self.runs[name])
            case "GET", ["runs"]:
                self.note("listings")
                offset = int(asked.get("offset", 0))
                runs = [self.run_of(run) for run in self.runs.values()]
                runs = runs[::-1] if asked.get("order") == "DESCENDING" else runs
                return {"runs": runs[offset : offset + int(asked.get("limit", 100))]}
            case "GET", ["runs", name]:
                self.note("polls")
                run = self.run_of(self.runs[name])
                if run["status"] == "COMPLETE":
                    self.note("ends seen")
                return run
            case "GET", ["runs", name, "results"]:
                self.note("results")
                return self.results(self.runs[name], int(asked.get("file_offset", 0)))
        return None

    def results(self, run: dict[str, Any], offset: int) -> Any:
        names = list(self.files[run["batch_id"]])
        fields = [{"field_name": "total", "value": "12.50", "type": "TEXT"}]
        files = [
            {"original_file_name": name, "documents": [{"class_name": "Invoice", "fields": fields}]}
            for name in names[offset : offset + PAGE]
        ]
        return {"batch_id": str(run["batch_id"]), "files": files, "has_more": offset + PAGE < len(names)}


async def serve(hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            _, has_length, after = head.lower().partition("content-length:")
            size = int(after.split("\r\n", 1)[0]) if has_length else 0
            body = await read_body(hub, reader, size, keep=method == "POST")
            writer.write(await respond(hub, method, target, size, body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def read_body(hub: Hub, reader: asyncio.StreamReader, size: int, *, keep: bool) -> bytes:
    """Read a body, and discard that of a file."""
    if keep:
        return await reader.readexactly(size)
    while size:
        chunk = await reader.read(min(size, 1 << 20))
        if not chunk:
            raise ConnectionError
        size -= len(chunk)
        await hub.receive(len(chunk))
    return b""


async def respond(hub: Hub, method: str, target: str, size: int, body: bytes) -> bytes:
    """Return the whole response, after the latency."""
    if target != "/_stats" and hub.is_over_limit():
        hub.counts["refused"] += 1
        return HEAD.format(429, 2, "Retry-After: 1\r\n").encode() + b"{}"
    hub.busy += 1
    hub.most = max(hub.most, hub.busy)
    if method == "PUT":
        hub.times.setdefault("uploads", [time.monotonic()] * 2)
    if hub.options.latency_s and target != "/_stats":
        await asyncio.sleep(hub.delay_s())
    hub.busy -= 1
    content = hub.answer(method, target, size, body)
    data = json.dumps(content).encode() if content is not None else b""
    return HEAD.format(200, len(data), "").encode() + data


async def main() -> None:
    """Serve until killed. The first line of the output is the port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--run-s", type=float, default=0.0)
    parser.add_argument("--per-second", type=int, default=0, help="refuse more requests than this with a 429")
    parser.add_argument("--capacity", type=int, default=0, help="more requests in flight than this take longer")
    parser.add_argument("--bytes-per-s", type=float, default=0, help="of the line, for all uploads together")
    hub = Hub(parser.parse_args())

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(hub, reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
