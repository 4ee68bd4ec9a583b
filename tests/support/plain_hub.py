"""A small AI Hub of its own, by the public description alone: a second judge beside the fake, which shares no code.

It has batches, files, runs, results and deletions, keeps no promise beyond them, and does what a test tells it to.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]


@dataclass
class Stored:
    data: bytes
    time_s: int


@dataclass
class Batch:
    id: int
    name: str
    files: dict[str, Stored] = field(default_factory=dict)


@dataclass
class PlainHub:
    """The service. `odd` may answer a request in its place; `late_s` is how long a deletion takes, None for ever."""

    batches: dict[int, Batch] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    page: int = 1000
    late_s: float | None = 0.0
    odd: Callable[[str, str, dict[str, str]], Answer | None] | None = None
    now_s: int = field(default_factory=lambda: int(time.time()))
    last: int = 1000
    server: ThreadingHTTPServer | None = None

    def __enter__(self) -> PlainHub:
        hub, lock = self, threading.RLock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    status, said = hub.answer(self.command, self.path, body)
                text = b"" if said is None else said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.server
        self.server.shutdown()
        self.server.server_close()

    @property
    def root(self) -> str:
        assert self.server
        return f"http://127.0.0.1:{self.server.server_port}/api"

    def tick(self) -> int:
        """Return the next second: two changes never fall into one."""
        self.now_s += 1
        return self.now_s

    def new_id(self) -> int:
        self.last += 1
        return self.last

    def add_batch(self, name: str, **files: bytes) -> Batch:
        batch = Batch(self.new_id(), name)
        batch.files = {name: Stored(data, self.tick()) for name, data in files.items()}
        self.batches[batch.id] = batch
        return batch

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer a request. The path is taken as it came: segments of dots were resolved by the client, or not."""
        parts = urlsplit(target)
        path, query = parts.path.removeprefix("/api"), {key: one[0] for key, one in parse_qs(parts.query).items()}
        self.requests.append(f"{method} {path}")
        if self.odd and (said := self.odd(method, path, query)):
            return said
        for wanted, pattern, handle in ROUTES:
            if wanted == method and (found := re.fullmatch(pattern, path)):
                try:
                    return handle(self, [unquote(one) for one in found.groups()], query, body)
                except KeyError:
                    return 404, {"message": "not there"}
        return 404, {"message": "no such route"}

    # Handlers

    def create_batch(self, _: list[str], __: dict[str, str], body: bytes) -> Answer:
        return 200, {"id": self.add_batch(json.loads(body)["name"]).id}

    def list_batches(self, _: list[str], query: dict[str, str], __: bytes) -> Answer:
        at, most = int(query.get("offset", 0)), int(query.get("limit", 100))
        known = [*self.batches.values()][at : at + most]
        return 200, {"batches": [self.show(one) for one in known]}

    def show(self, batch: Batch) -> dict[str, Any]:
        return {"id": batch.id, "name": batch.name, "created_at_ms": self.now_s * 1000}

    def get_batch(self, found: list[str], _: dict[str, str], __: bytes) -> Answer:
        return 200, self.show(self.batches[int(found[0])])

    def delete_batch(self, found: list[str], _: dict[str, str], __: bytes) -> Answer:
        del self.batches[int(found[0])]
        self.deleted.append(found[0])
        return 202, {"job_id": "job"}

    def list_files(self, found: list[str], query: dict[str, str], _: bytes) -> Answer:
        files = sorted(self.batches[int(found[0])].files.items())
        at = int(query.get("start_token") or 0)
        end = at + min(self.page, int(query.get("page_size", 1000)))
        nodes = [
            {"name": name, "metadata": {"size": len(one.data), "modified_timestamp": one.time_s}}
            for name, one in files[at:end]
        ]
        more = end < len(files)
        return 200, {"nodes": nodes, "has_more": more, "next_page_token": str(end) if more else ""}

    def put_file(self, found: list[str], _: dict[str, str], body: bytes) -> Answer:
        self.batches[int(found[0])].files[found[1]] = Stored(body, self.tick())
        return 204, None

    def delete_file(self, found: list[str], _: dict[str, str], __: bytes) -> Answer:
        files = self.batches[int(found[0])].files
        if found[1] not in files:
            raise KeyError
        if self.late_s == 0:
            self.remove(files, found)
        elif self.late_s:
            threading.Timer(self.late_s, self.remove, (files, found)).start()
        return 202, None

    def remove(self, files: dict[str, Stored], found: list[str]) -> None:
        if files.pop(found[1], None):
            self.deleted.append("/".join(found))

    def start_run(self, _: list[str], __: dict[str, str], body: bytes) -> Answer:
        asked = json.loads(body)
        batch, start = self.batches[asked["batch_id"]], self.tick() * 10**9
        run = {"id": f"run-{self.new_id()}", "status": "COMPLETE", "start_timestamp": start, "finish_timestamp": start}
        run |= {"batch_id": batch.id, "tags": asked.get("settings", {}).get("tags") or []}
        self.runs[str(run["id"])] = {"told": run, "files": dict(batch.files)}
        return 200, run

    def list_runs(self, _: list[str], query: dict[str, str], __: bytes) -> Answer:
        told = [run["told"] for run in self.runs.values()]
        told = told[::-1] if query.get("order") == "DESCENDING" else told
        at, most = int(query.get("offset", 0)), int(query.get("limit", 100))
        return 200, {"runs": told[at : at + most]}

    def get_run(self, found: list[str], _: dict[str, str], __: bytes) -> Answer:
        return 200, self.runs[found[0]]["told"]

    def get_results(self, found: list[str], query: dict[str, str], _: bytes) -> Answer:
        run = self.runs[found[0]]
        names = sorted(run["files"])[int(query.get("file_offset", 0)) :]
        files = [{"original_file_name": name, "documents": [self.document(run["files"][name])]} for name in names]
        told = {key: run["told"][key] for key in ("id", "status")}
        return 200, {**told, "batch_id": str(run["told"]["batch_id"]), "files": files, "has_more": False}

    def document(self, file: Stored) -> dict[str, Any]:
        return {"class_name": "text", "fields": [{"field_name": "text", "value": file.data.decode(errors="replace")}]}

    def delete_run(self, found: list[str], _: dict[str, str], __: bytes) -> Answer:
        del self.runs[found[0]]
        self.deleted.append(found[0])
        return 202, {"delete_output_dir_job_id": "job", "delete_log_dir_job_id": "job"}

    def get_job(self, _: list[str], __: dict[str, str], ___: bytes) -> Answer:
        return 200, {"state": "COMPLETE"}


H = PlainHub
ROUTES: list[tuple[str, str, Callable[[PlainHub, list[str], dict[str, str], bytes], Answer]]] = [
    ("POST", "/v2/batches", H.create_batch),
    ("GET", "/v2/batches", H.list_batches),
    ("GET", r"/v2/batches/(\d+)", H.get_batch),
    ("DELETE", r"/v2/batches/(\d+)/?", H.delete_batch),
    ("GET", r"/v2/batches/(\d+)/files", H.list_files),
    ("PUT", r"/v2/batches/(\d+)/files/([^/]+)", H.put_file),
    ("DELETE", r"/v2/batches/(\d+)/files/([^/]+)", H.delete_file),
    ("POST", "/v2/apps/runs", H.start_run),
    ("GET", "/v2/apps/runs", H.list_runs),
    ("GET", "/v2/apps/runs/([^/]+)", H.get_run),
    ("DELETE", "/v2/apps/runs/([^/]+)", H.delete_run),
    ("GET", "/v2/apps/runs/([^/]+)/results", H.get_results),
    ("GET", "/v2/jobs/([^/]+)", H.get_job),
]
