"""One trial: a fake, a warm parent that forks applies, a folder, and the final verdict."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import requests

from support.forks import OUTPUT, Forks

SPEC = """\
name = "job"
files = "in/*"
app_name = "A"
context = "{context}"
[limits]
files_per_batch = 3
parallel_uploads = 1
parallel_runs = 1
poll_min_s = 0.01
poll_max_s = 0.05
"""
FILES = 6
MEMORY = Path("/dev/shm")  # the folders of trials: a disk would wait for each commit
# Ids and times: only whether they are known counts.
VOLATILE = re.compile(r"remote_id|remote_batch|before|inode|since_mono|\w+_[nm]?s")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")  # of a run or target, which hold the context
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
BATCH = re.compile(r"batch_id = \d+")
PROCESS = re.compile(r"\.\d+\.tmp")


class Worker:
    """A fake, and a warm parent that forks applies against it, each in its own process."""

    def __init__(self) -> None:
        serve = [sys.executable, "-m", "fake_aihub", "--port", "0", "--run-seconds", "0"]
        self.server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout
        self.root = self.server.stdout.readline().strip()
        self.forks = Forks()
        self.http = requests.Session()
        self.http.headers["Authorization"] = "Bearer fake-torture"

    def apply(self, boundary: int, folder: Path) -> int:
        """Apply the spec there, crash at a boundary, and return the exit code; 0 is no boundary."""
        return self.forks.run(boundary, folder, self._env, "apply", "job.toml")

    def apply_frozen(self, look: Callable[[], None], folder: Path) -> int:
        """Apply the spec there, call `look` at each boundary, and return the exit code."""
        return self.forks.run_frozen(look, folder, self._env, "apply", "job.toml")

    @property
    def _env(self) -> dict[str, str]:
        return {"AIHUB_API_KEY": "fake-torture", "AIHUB_API_ROOT": self.root}

    def get(self, context: str, path: str) -> Any:
        """Send a request to the API in a context."""
        return self.http.get(self.root + path, headers={"IB-Context": context}, timeout=10).json()

    def control(self, method: str, path: str, **given: str) -> Any:
        """Send a request to the controls of the fake."""
        answer = self.http.request(method, self.root.removesuffix("/api") + path, json=given, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def stop(self) -> None:
        """End both processes."""
        self.forks.stop()
        self.server.kill()


class Trial:
    """A spec and six documents in their own folder and context. `close` removes the folder."""

    def __init__(self, worker: Worker, context: str) -> None:
        self.worker, self.context = worker, context
        self.folder = Path(tempfile.mkdtemp(prefix="torture-", dir=MEMORY if MEMORY.is_dir() else None))
        (self.folder / "in").mkdir()
        for number in range(FILES):
            (self.folder / "in" / f"{number}.txt").write_text(f"document {number}")
        (self.folder / "job.toml").write_text(SPEC.format(context=context))

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._kept, ignore_errors=True)

    def keep(self) -> None:
        """Save all facts on both sides."""
        self.worker.control("POST", "/_fake/checkpoint", name="kept")
        shutil.copytree(self.folder, self._kept, ignore=shutil.ignore_patterns("in", "job.toml"))

    def go_back(self) -> None:
        """Restore all facts on both sides. The documents stay as they are, with their inodes."""
        self.worker.control("POST", "/_fake/rewind", name="kept")
        for path in self.folder.glob("*"):
            if path.is_dir() and path.name != "in":
                shutil.rmtree(path)
            elif path.name not in ("in", "job.toml"):
                path.unlink()
        shutil.copytree(self._kept, self.folder, dirs_exist_ok=True)

    @property
    def _kept(self) -> Path:
        return self.folder.with_suffix(".kept")

    def apply(self, boundary: int = 0) -> int:
        """Apply, crash at a boundary, and return the exit code."""
        return self.worker.apply(boundary, self.folder)

    def trace(self) -> tuple[int, list[str]]:
        """Apply to the end, and return the exit code, and the facts on both sides at each boundary, as by `mark`."""
        marks: list[str] = []
        code = self.worker.apply_frozen(lambda: marks.append(self.mark()), self.folder)
        return code, marks

    @property
    def output(self) -> str:
        """What the last apply printed."""
        return (self.folder / OUTPUT).read_text()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The results, without what differs each time."""
        path = self.folder / "results/job/documents.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [{key: value for key, value in json.loads(line).items() if key != "run_id"} for line in lines]

    # What the other side knows

    def _server_facts(self) -> list[object]:
        batches = self.worker.get(self.context, "/v2/batches")["batches"]
        order = {batch["id"]: index for index, batch in enumerate(batches)}
        runs = self.worker.get(self.context, "/v2/apps/runs?from_timestamp=1&order=ASCENDING")["runs"]
        ledger = self.worker.control("GET", "/_fake/ledger")
        uploads = {key.partition("/"): set(digests) for key, digests in ledger["digests"].items()}
        return [
            [batch["name"] for batch in batches],
            sorted((order[int(b)], name, sorted(d)) for (b, _, name), d in uploads.items() if int(b) in order),
            [ledger["runs"].get(str(batch)) for batch in order],
            [(order.get(run["batch_id"]), run["tags"], run["status"]) for run in runs],
        ]

    def mark(self) -> str:
        """Return the facts on both sides, without ids, times, and what contains them."""
        files = sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
        lock = self.folder / "job.lock.toml"
        text = repr([*_rows(self.folder / "job.state.db"), *self._server_facts(), files, self.documents])
        text += lock.read_text() if lock.exists() else ""
        for pattern in (UUID, KEY, TIME, BATCH, PROCESS):
            text = pattern.sub("*", text)
        return hashlib.sha256(text.replace(self.context, "*").encode()).hexdigest()

    def judge(self, undisturbed: list[dict[str, Any]]) -> str:
        """Continue from here to the end, compare with an undisturbed apply, and apply once more."""
        code = self.apply()
        problems = [f"exit code {code}"] if code else []
        names, uploads, runs, listed = self._server_facts()
        if len(names) != 2 or runs != [1, 1] or len(listed) != 2:  # type: ignore[arg-type]
            problems.append(f"batches {names}, runs of each {runs}, listed {listed}")
        if len(uploads) != FILES or any(len(digests) != 1 for *_, digests in uploads):  # type: ignore
            problems.append(f"uploads {uploads}")
        if self.documents != undisturbed:
            problems.append(f"results {self.documents}")
        self.worker.control("DELETE", "/_fake/journal")
        code = self.apply()
        entries = self.worker.control("GET", "/_fake/journal")["entries"]
        sent = [entry["operation"] for entry in entries if entry["method"] != "GET"]
        if code or sent:
            problems.append(f"applied once more: exit code {code}, sent {sent}")
        return ", ".join(problems)


def _rows(path: Path) -> Iterator[object]:
    """Read all rows of a state from a copy: opening the file itself would already repair it after a crash."""
    if not path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in (path.name, f"{path.name}-journal"):
            if path.with_name(name).exists():
                shutil.copy(path.with_name(name), folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as db:
            db.row_factory = sqlite3.Row
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
                rows = [_masked(table, dict(row)) for row in db.execute(f"SELECT * FROM {table}")]
                yield table, sorted(rows, key=repr)


def _masked(table: str, row: dict[str, Any]) -> dict[str, Any]:
    if table == "job":
        return {name: value not in ("", 0) for name, value in row.items()}
    if table == "pages":  # they hold the run's id and times
        del row["digest"]
    return {name: bool(value) if VOLATILE.fullmatch(name) else value for name, value in row.items()}
