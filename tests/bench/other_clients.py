"""The clients that the runner is compared with: the vendor's SDK, and a minimal loop.

`other_clients.py sdk|bare|hash ROOT FOLDER THREADS POLL_S`. None records or checks anything. Only `hash` computes
digests, as the runner must: before it creates the batch, and of the bytes that it sends.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

BATCH = 1000


class Sdk:
    """The vendor's SDK."""

    def __init__(self, root: str) -> None:
        from aihub import AIHub

        self.client = AIHub(api_key="bench", ib_context="acme", api_root=root)

    def create(self, name: str) -> int:
        return int(self.client.batches.create(name=name).id)

    def put(self, batch: int, path: Path) -> None:
        with path.open("rb") as file:
            self.client.batches.add_file(batch, file_name=path.name, file=file)

    def start(self, batch: int) -> str:
        return str(self.client.apps.runs.create(batch_id=batch, app_name="Bench").id)

    def is_running(self, run: str) -> bool:
        return bool(self.client.apps.runs.status(run).status == "RUNNING")

    def page(self, run: str, offset: int) -> int:
        page = self.client.apps.runs.results(run, file_offset=offset)
        return len(page.files) if page.has_more else 0


class Bare:
    """One connection a thread, and nothing but the requests."""

    def __init__(self, root: str) -> None:
        self.place = urlsplit(root).netloc
        self.own = threading.local()

    def ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        connection = getattr(self.own, "connection", None)
        if connection is None:
            connection = self.own.connection = http.client.HTTPConnection(self.place)
        connection.request(method, f"/api/v2/{path}", body, {"Authorization": "Bearer bench"})
        answered = connection.getresponse().read()
        return dict(json.loads(answered)) if answered else {}

    def create(self, name: str) -> int:
        return int(str(self.ask("POST", "batches", json.dumps({"name": name}).encode())["id"]))

    def put(self, batch: int, path: Path) -> None:
        self.ask("PUT", f"batches/{batch}/files/{path.name}", path.read_bytes())

    def start(self, batch: int) -> str:
        return str(self.ask("POST", "apps/runs", json.dumps({"batch_id": batch}).encode())["id"])

    def is_running(self, run: str) -> bool:
        return self.ask("GET", f"apps/runs/{run}")["status"] == "RUNNING"

    def page(self, run: str, offset: int) -> int:
        page = self.ask("GET", f"apps/runs/{run}/results?file_offset={offset}")
        files = page["files"]
        return len(files) if page["has_more"] and isinstance(files, list) else 0


class Hashing(Bare):
    """The same, and each file is hashed twice: in `THREADS` threads before everything else, and as it is sent."""

    def put(self, batch: int, path: Path) -> None:
        content = path.read_bytes()
        self.ask("PUT", f"batches/{batch}/files/{path.name}", content)
        hashlib.sha256(content).digest()


def digest(path: Path) -> bytes:
    """Hash a file, in little memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def work(client: Sdk | Bare, files: list[Path], threads: int, poll_s: float) -> None:
    """Upload the files of each batch, run it, wait and read all pages, one batch after another."""

    def do(put: Callable[[Path], None], group: list[Path]) -> None:
        if threads == 1:
            for path in group:
                put(path)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(put, group))

    for first in range(0, len(files), BATCH):
        batch = client.create(f"bench-{first}")
        do(lambda path, batch=batch: client.put(batch, path), files[first : first + BATCH])  # type: ignore[misc]
        run = client.start(batch)
        while client.is_running(run):
            time.sleep(poll_s)
        offset = 0
        while more := client.page(run, offset):
            offset += more


def main() -> None:
    kind, root, folder, threads, poll_s = sys.argv[1:]
    client = Sdk(root) if kind == "sdk" else Hashing(root) if kind == "hash" else Bare(root)
    files = sorted(Path(folder).iterdir())
    if kind == "hash":
        with ThreadPoolExecutor(int(threads)) as pool:
            list(pool.map(digest, files))
    work(client, files, int(threads), float(poll_s))


if __name__ == "__main__":
    main()
