"""All remote state. What happens is an event; the state is what the events so far make of it.

With a folder the events are kept in `events.jsonl`, a line each, written before they count: after a kill the world is
as its last whole line left it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_server.blobs import Blobs
from fake_server.clock import Clock


class ApiError(Exception):
    """The service's refusal: a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class File:
    """A file in a batch; times in Unix seconds."""

    name: str
    digest: str
    size: int
    modified_s: int


@dataclass(slots=True)
class Batch:
    """A batch, with its files by name."""

    id: int
    context: str
    name: str
    workspace: str
    owner: str
    created_ms: int
    updated_ms: int
    files: dict[str, File] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """A multipart upload under way; `parts` maps numbers to (part id, digest, size)."""

    id: str
    context: str
    batch_id: int
    name: str
    size: int
    part_size: int
    parts: dict[int, tuple[str, str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """A run on the files as they were when it started; `script` says how it goes, if not by itself."""

    id: str
    context: str
    batch_id: int
    started_ns: int
    request: dict[str, Any]
    files: list[File]
    script: dict[str, Any]


@dataclass(slots=True)
class Job:
    """An asynchronous deletion."""

    id: str
    context: str
    started_s: float


class World:
    """Everything that the fake knows. One thread, that of the event loop, changes it."""

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self.clock = clock
        self.blobs = Blobs(folder / "blobs" if folder else None)
        self.batches: dict[int, Batch] = {}
        self.sessions: dict[str, Session] = {}
        self.runs: dict[str, Run] = {}
        self.jobs: dict[str, Job] = {}
        self.ledger: dict[str, Counter[str]] = {
            kind: Counter() for kind in ("batches", "uploads", "runs", "tags", "deletions")
        }
        self.upload_digests: dict[str, list[str]] = {}
        self.next_runs: list[dict[str, Any]] = []
        self.units_left: int | None = None
        self._counter = 0
        self._log = None
        if folder is not None:
            log = folder / "events.jsonl"
            for event in _read_events(log):
                self._take(event)
            self._log = log.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the log of events."""
        if self._log is not None:
            self._log.close()

    def _happen(self, what: str, **facts: Any) -> Any:
        """Let something happen: write it down, then make it so."""
        event = {"what": what, **facts}
        if self._log is not None:
            self._log.write(json.dumps(event) + "\n")
            self._log.flush()
        return self._take(event)

    def _take(self, event: dict[str, Any]) -> Any:
        facts = {key: value for key, value in event.items() if key != "what"}
        return getattr(self, f"_on_{event['what']}")(**facts)

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    def _make_id(self, kind: str) -> str:
        """Make an id that looks like a UUID, and is the same for the same history."""
        text = hashlib.sha256(f"{kind}:{self._next()}".encode()).hexdigest()
        return "-".join((text[:8], text[8:12], "4" + text[13:16], "a" + text[17:20], text[20:32]))

    # Batches

    def create_batch(self, context: str, name: str, workspace: str, owner: str) -> Batch:
        """Create a batch."""
        now_ms = self.clock.now_ns() // 1_000_000
        batch: Batch = self._happen(
            "batch", context=context, name=name, workspace=workspace, owner=owner, now_ms=now_ms
        )
        return batch

    def _on_batch(self, context: str, name: str, workspace: str, owner: str, now_ms: int) -> Batch:
        batch = Batch(1000 + self._next(), context, name, workspace, owner, now_ms, now_ms)
        self.batches[batch.id] = batch
        self.ledger["batches"][f"{context}/{name}"] += 1
        return batch

    def get_batch(self, context: str, batch_id: int) -> Batch:
        """Get a batch; raises ApiError 404 where this context has none."""
        batch = self.batches.get(batch_id)
        if batch is None or batch.context != context:
            raise ApiError(404, f"Batch with ID {batch_id} does not exist.")
        return batch

    def delete_batch(self, batch: Batch) -> Job:
        """Delete a batch, and give the job that does it."""
        self._happen("batch_gone", batch_id=batch.id)
        return self.start_job(batch.context)

    def _on_batch_gone(self, batch_id: int) -> None:
        self.batches.pop(batch_id, None)
        self.ledger["deletions"][f"batch {batch_id}"] += 1

    def start_job(self, context: str) -> Job:
        """Start a deletion, which is over a moment later."""
        job: Job = self._happen("job", context=context, now_s=self.clock.now_s())
        return job

    def _on_job(self, context: str, now_s: float) -> Job:
        job = Job(self._make_id("job"), context, now_s)
        self.jobs[job.id] = job
        return job

    # Files

    def put_file(self, batch: Batch, name: str, digest: str, size: int) -> None:
        """Put a file into a batch, over one of that name."""
        self._happen("file", batch_id=batch.id, name=name, digest=digest, size=size, now_s=self.clock.now_s())

    def _on_file(self, batch_id: int, name: str, digest: str, size: int, now_s: float) -> None:
        batch = self.batches[batch_id]
        batch.files[name] = File(name, digest, size, int(now_s))
        batch.updated_ms = int(now_s * 1000)
        key = f"{batch_id}/{name}"
        self.ledger["uploads"][key] += 1
        self.upload_digests.setdefault(key, []).append(digest)

    def delete_file(self, batch: Batch, name: str) -> None:
        """Delete a file of a batch."""
        if name not in batch.files:
            raise ApiError(404, f"File {name} does not exist in batch {batch.id}.")
        self._happen("file_gone", batch_id=batch.id, name=name)

    def _on_file_gone(self, batch_id: int, name: str) -> None:
        self.batches[batch_id].files.pop(name, None)
        self.ledger["deletions"][f"{batch_id}/{name}"] += 1

    # Multipart uploads

    def open_session(self, batch: Batch, name: str, size: int, part_size: int) -> Session:
        """Start a multipart upload."""
        session: Session = self._happen(
            "session", context=batch.context, batch_id=batch.id, name=name, size=size, part_size=part_size
        )
        return session

    def _on_session(self, **facts: Any) -> Session:
        session = Session(self._make_id("session"), **facts)
        self.sessions[session.id] = session
        return session

    def put_part(self, session: Session, number: int, digest: str, size: int) -> str:
        """Keep a part, over one of that number, and give its id."""
        part_id: str = self._happen("part", session_id=session.id, number=number, digest=digest, size=size)
        return part_id

    def _on_part(self, session_id: str, number: int, digest: str, size: int) -> str:
        part_id = f"part-{number}-{digest[:16]}"
        self.sessions[session_id].parts[number] = (part_id, digest, size)
        return part_id

    def end_session(self, session: Session) -> None:
        """Forget a multipart upload, which was committed or aborted."""
        self._happen("session_end", session_id=session.id)

    def _on_session_end(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)

    # Runs

    def start_run(self, batch: Batch, request: dict[str, Any]) -> Run:
        """Start a run; raises ApiError 403 where no units are left."""
        if self.units_left == 0:
            raise ApiError(403, "Not enough consumption units.")
        script = self._next_script()
        now_ns = self.clock.now_ns()
        if self.units_left is not None:
            self.units_left -= 1
        run: Run = self._happen("run", batch_id=batch.id, request=request, now_ns=now_ns, script=script)
        return run

    def _next_script(self) -> dict[str, Any]:
        if not self.next_runs:
            return {}
        script = self.next_runs[0]
        script["times"] = script.get("times", 1) - 1
        if script["times"] <= 0:
            self.next_runs.pop(0)
        return {key: value for key, value in script.items() if key != "times"}

    def _on_run(self, batch_id: int, request: dict[str, Any], now_ns: int, script: dict[str, Any]) -> Run:
        batch = self.batches[batch_id]
        run = Run(self._make_id("run"), batch.context, batch_id, now_ns, request, list(batch.files.values()), script)
        self.runs[run.id] = run
        self.ledger["runs"][str(batch_id)] += 1
        for tag in (request.get("settings") or {}).get("tags") or []:
            self.ledger["tags"][tag] += 1
        return run

    def get_run(self, context: str, run_id: str) -> Run:
        """Get a run; raises ApiError 404 where this context has none."""
        run = self.runs.get(run_id)
        if run is None or run.context != context:
            raise ApiError(404, f"Run {run_id} does not exist.")
        return run

    def set_run(self, run_id: str, script: dict[str, Any]) -> None:
        """Say how a run goes from here: its status, and the message."""
        self._happen("run_set", run_id=run_id, script={"set_ns": self.clock.now_ns(), **script})

    def _on_run_set(self, run_id: str, script: dict[str, Any]) -> None:
        self.runs[run_id].script = script

    def delete_run(self, run: Run) -> None:
        """Delete a run."""
        self._happen("run_gone", run_id=run.id)

    def _on_run_gone(self, run_id: str) -> None:
        self.runs.pop(run_id, None)
        self.ledger["deletions"][f"run {run_id}"] += 1


def _read_events(log: Path) -> Iterator[dict[str, Any]]:
    """Read the whole lines of a log, and cut off what a kill left of another."""
    if not log.exists():
        return
    whole = 0
    with log.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield json.loads(line)
    with log.open("rb+") as file:
        file.truncate(whole)
