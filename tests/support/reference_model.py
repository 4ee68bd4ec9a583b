"""An AI Hub in plain dictionaries: an independent model to compare the fake with.

Each operation gives the status, and what the answer says. Ids are the service's own: they are told to the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, Any]
RUN_S = 60
DAY_S = 86_400
PART_BYTES = 4
NOT_FOUND: Answer = (404, None)
REFUSED: Answer = (400, None)


@dataclass
class Batch:
    name: str
    workspace: str
    created_s: int
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)


@dataclass
class Upload:
    batch: int
    name: str
    size: int
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return -(-self.size // PART_BYTES)


@dataclass
class Run:
    source: int | str
    files: list[str]
    facts: dict[str, Any]
    started_s: int
    has_output: bool = True


@dataclass
class World:
    """Everything in one context."""

    batches: dict[int, Batch] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    tree: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    # Batches

    def create_batch(self, key: int, name: str, workspace: str, now_s: int) -> None:
        self.batches[key] = Batch(name, workspace, now_s)

    def list_batches(self, workspace: str | None, limit: int, offset: int) -> Answer:
        chosen = [key for key, batch in self.batches.items() if workspace in (None, batch.workspace)]
        return 200, chosen[offset : offset + limit]

    def get_batch(self, key: int) -> Answer:
        batch = self.batches.get(key)
        return (200, (batch.name, batch.workspace, batch.created_s)) if batch else NOT_FOUND

    def delete_batch(self, key: int) -> Answer:
        return (202, None) if self.batches.pop(key, None) else NOT_FOUND

    def put_file(self, key: int, name: str, body: bytes, now_s: int) -> Answer:
        if key not in self.batches:
            return NOT_FOUND
        self.batches[key].files[name] = (body, now_s)
        return 204, None

    def delete_file(self, key: int, name: str) -> Answer:
        if key not in self.batches or name not in self.batches[key].files:
            return NOT_FOUND
        del self.batches[key].files[name]
        return 202, None

    def list_files(self, key: int) -> Answer:
        if key not in self.batches:
            return NOT_FOUND
        return 200, [(name, len(body), at_s) for name, (body, at_s) in sorted(self.batches[key].files.items())]

    # Multipart uploads

    def put_part(self, upload: Upload | None, number: int, body: bytes) -> Answer:
        if upload is None:
            return NOT_FOUND
        expected = min(PART_BYTES, upload.size - (number - 1) * PART_BYTES)
        return (201, number) if 1 <= number <= upload.count and len(body) == expected else REFUSED

    def end_upload(self, key: str, action: str, given: list[dict[str, Any]], now_s: int) -> Answer:
        upload = self.uploads.get(key)
        if upload is None:
            return NOT_FOUND
        if action == "commit":
            wanted = [{"part_num": number, "part_id": upload.parts[number][0]} for number in sorted(upload.parts)]
            if len(wanted) != upload.count or given != wanted:
                return REFUSED
            if upload.batch not in self.batches:
                return NOT_FOUND
            body = b"".join(upload.parts[number][1] for number in sorted(upload.parts))
            self.put_file(upload.batch, upload.name, body, now_s)
        del self.uploads[key]
        return 201, None

    # Runs

    def check_run(self, source: int | str) -> tuple[int, list[str]]:
        if isinstance(source, str):
            names = [path.removeprefix(f"{source}/") for path in self.tree if path.startswith(f"{source}/")]
            return (200, sorted(names)) if names else (400 if source in self.tree else 404, [])
        if source not in self.batches:
            return 404, []
        names = sorted(self.batches[source].files)
        return 200 if names else 400, names

    def expire(self, kind: str, before_s: int) -> None:
        if kind in ("", "batches"):
            self.batches = {key: batch for key, batch in self.batches.items() if batch.created_s >= before_s}
        if kind in ("", "runs"):
            self.runs = {key: run for key, run in self.runs.items() if run.started_s >= before_s}
        for run in self.runs.values():
            run.has_output = run.has_output and not (kind == "results" and run.started_s < before_s)

    def get_run(self, key: str, now_s: int) -> Answer:
        run = self.runs.get(key)
        return (200, self.tell_run(run, now_s)) if run else NOT_FOUND

    def tell_run(self, run: Run, now_s: int) -> dict[str, Any]:
        ended_s = run.started_s + RUN_S
        is_over = now_s >= ended_s
        return {
            "status": "COMPLETE" if is_over else "RUNNING",
            "start_timestamp": run.started_s * 10**9,
            "finish_timestamp": ended_s * 10**9 if is_over else None,
            "batch_id": run.source if isinstance(run.source, int) else None,
            "input_dir": run.source if isinstance(run.source, str) else None,
            **run.facts,
        }

    def list_runs(self, status: str | None, deployment: str | None, from_s: int | None, now_s: int) -> Answer:
        since_s = now_s - DAY_S if from_s is None else from_s
        found = [(run.started_s, key) for key, run in self.runs.items() if run.started_s >= since_s]
        return 200, {
            key
            for _, key in found
            if deployment in (None, self.runs[key].facts["deployment_id"])
            and status in (None, self.tell_run(self.runs[key], now_s)["status"])
        }

    def get_results(self, key: str, now_s: int) -> Answer:
        run = self.runs.get(key)
        if run is None:
            return NOT_FOUND
        if now_s < run.started_s + RUN_S:
            return REFUSED
        return (200, run.files) if run.has_output else NOT_FOUND

    def delete_run(self, key: str, parts: set[str]) -> Answer:
        run = self.runs.get(key)
        if run is None:
            return NOT_FOUND
        if "input" in parts:
            self.batches.pop(run.source, None) if isinstance(run.source, int) else self.delete_path(run.source)
        run.has_output = run.has_output and not parts & {"output", "db_data"}
        if "db_data" in parts:
            del self.runs[key]
        return 202, {part for part in ("input", "output", "logs") if part in parts}

    def get_job(self, key: str, now_s: int) -> Answer:
        if key not in self.jobs:
            return NOT_FOUND
        return 200, "COMPLETE" if now_s > self.jobs[key] else "RUNNING"

    # Files in drives

    def write_path(self, path: str, body: bytes, *, only_new: bool) -> Answer:
        if only_new and path in self.tree:
            return 412, None
        if any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in self.tree):
            return 409, None
        self.tree[path] = body
        return (201 if only_new else 204), None

    def read_path(self, path: str, first: int | None, last: int | None) -> Answer:
        if path not in self.tree:
            return NOT_FOUND
        body = self.tree[path]
        if first is None:
            return 200, body
        part = body[first : None if last is None else last + 1]
        return (206, part) if part else (416, None)

    def head_path(self, path: str) -> Answer:
        if path in self.tree:
            return 200, len(self.tree[path])
        return (200, None) if any(other.startswith(f"{path}/") for other in self.tree) else NOT_FOUND

    def delete_path(self, path: str) -> Answer:
        self.tree = {p: body for p, body in self.tree.items() if p != path and not p.startswith(f"{path}/")}
        return 202, None

    # Secrets

    def set_secret(self, alias: str, kind: str | None, workspaces: list[str], *, is_new: bool) -> Answer:
        if is_new == (alias in self.secrets):
            return (409 if is_new else 404), None
        old_kind, old = self.secrets.get(alias, ("", []))
        allowed = [] if kind in ("ALL", "NONE") else workspaces or old
        if kind == "SOME" and not allowed:
            return REFUSED
        self.secrets[alias] = (kind or old_kind, allowed)
        return 200, None

    def delete_secret(self, alias: str) -> Answer:
        return (200, None) if self.secrets.pop(alias, None) else NOT_FOUND
