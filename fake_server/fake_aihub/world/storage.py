"""The stored part of the world: batches, multipart uploads, files in drives, and deletion jobs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from fake_aihub.world.blobs import Blobs
from fake_aihub.world.clock import Clock
from fake_aihub.world.entities import ApiError, Batch, File, Job, Session
from fake_aihub.world.event_log import History, event, lock_folder

BATCH_PATH = re.compile(r"/fake/batches/([0-9]{1,18})/([^/]+)")

MAX_JOBS = 10_000
MAX_DIGESTS = 20


class Storage(History):
    """Batches and files. `blobs` holds their contents; `trees` maps each context's paths to its files."""

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        # Lock before reading anything: another running fake may use the folder.
        self._lock = lock_folder(folder) if folder else None
        self.blobs = Blobs(folder / "blobs" if folder else None)
        self.batches: dict[int, Batch] = {}
        self.sessions: dict[str, Session] = {}
        self.trees: dict[str, dict[str, File]] = {}
        self.jobs: dict[str, Job] = {}
        kinds = ("batches", "uploads", "runs", "tags", "deletions")
        self.ledger: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
        self.upload_digests: dict[str, list[str]] = {}
        super().__init__(clock, folder)

    # Batches

    @event("batch")
    def create_batch(self, context: str, name: str, workspace: str, owner: str, now_ms: int = 0) -> Batch:
        """Create a batch."""
        batch = Batch(1000 + self._next(), context, name, workspace, owner, now_ms, now_ms)
        self.batches[batch.id] = batch
        self.ledger["batches"][f"{context}/{name}"] += 1
        return batch

    def get_batch(self, context: str, batch_id: int) -> Batch:
        """Return a batch. Raises ApiError 404 if it does not exist in this context."""
        batch = self.batches.get(batch_id)
        if batch is None or batch.context != context:
            raise ApiError(404, f"Batch with ID {batch_id} does not exist.")
        return batch

    def delete_batch(self, batch: Batch) -> Job:
        """Delete a batch and return the deletion job."""
        self._remove_batch(batch.id)
        return self.start_job(batch.context)

    @event("batch_gone")
    def _remove_batch(self, batch_id: int) -> None:
        self.batches.pop(batch_id, None)
        self.ledger["deletions"][f"batch {batch_id}"] += 1

    @event("job")
    def start_job(self, context: str, now_s: float = 0.0) -> Job:
        """Start a deletion job, which completes a moment later."""
        job = Job(self._make_id("job"), context, now_s)
        self.jobs[job.id] = job
        if len(self.jobs) > MAX_JOBS:
            del self.jobs[next(iter(self.jobs))]  # completed long ago
        return job

    # Files

    @event("file")
    def put_file(self, batch_id: int, name: str, digest: str, size: int, now_s: float = 0.0) -> None:
        """Add a file to a batch, or overwrite the file of that name."""
        batch = self.batches[batch_id]
        batch.files[name] = File(name, digest, size, int(now_s))
        batch.updated_ms = int(now_s * 1000)
        self._count_upload(f"{batch_id}/{name}", digest)

    def _count_upload(self, key: str, digest: str) -> None:
        """Count a side effect in the ledger. Only the last digests of each file are kept, to bound memory."""
        self.ledger["uploads"][key] += 1
        digests = self.upload_digests.setdefault(key, [])
        digests.append(digest)
        del digests[:-MAX_DIGESTS]

    def delete_file(self, batch: Batch, name: str) -> None:
        """Delete a file of a batch."""
        if name not in batch.files:
            raise ApiError(404, f"File {name} does not exist in batch {batch.id}.")
        self._remove_file(batch.id, name)

    @event("file_gone")
    def _remove_file(self, batch_id: int, name: str) -> None:
        self.batches[batch_id].files.pop(name, None)
        self.ledger["deletions"][f"{batch_id}/{name}"] += 1

    # Multipart uploads

    @event("session")
    def open_session(self, **facts: Any) -> Session:
        """Start a multipart upload."""
        session = Session(self._make_id("session"), **facts)
        self.sessions[session.id] = session
        return session

    @event("part")
    def put_part(self, session_id: str, number: int, digest: str, size: int) -> str:
        """Store a part, or overwrite the part of that number, and return its id."""
        part_id = f"part-{number}-{digest[:16]}"
        self.sessions[session_id].parts[number] = (part_id, digest, size)
        return part_id

    @event("session_end")
    def end_session(self, session_id: str) -> None:
        """Remove a multipart upload after its commit or abort."""
        self.sessions.pop(session_id, None)

    # Files in drives

    def get_node(self, context: str, path: str) -> File | None:
        """Return the file at a path, or None for a folder. Raises ApiError 404 if neither exists."""
        file = self.trees.get(context, {}).get(path) or self._find_in_batch(context, path)
        if file is None and not self.list_tree(context, path):
            raise ApiError(404, "No file or folder was found at this path.")
        return file

    def _find_in_batch(self, context: str, path: str) -> File | None:
        """Return the file of a batch at its full path, as listings and results show it, or None."""
        match = BATCH_PATH.fullmatch(path)
        batch = self.batches.get(int(match[1])) if match else None
        return batch.files.get(match[2]) if match and batch and batch.context == context else None

    def list_tree(self, context: str, folder: str) -> list[str]:
        """List the paths of all files below a folder, sorted by name."""
        return sorted(path for path in self.trees.get(context, {}) if path.startswith(f"{folder}/"))

    def write_node(self, context: str, path: str, digest: str, size: int) -> None:
        """Write a file, or overwrite the one at that path. Raises ApiError 409 if a file or folder is in the way."""
        tree = self.trees.get(context, {})
        above = path
        while above := above.rpartition("/")[0]:
            if above in tree:
                raise ApiError(409, "A parent folder of this path is a file.")
        if path not in tree and self.list_tree(context, path):
            raise ApiError(409, "A folder exists at this path.")
        self._put_node(context, path, digest, size)

    @event("node")
    def _put_node(self, context: str, path: str, digest: str, size: int, now_s: float = 0.0) -> None:
        file = File(path.rpartition("/")[2], digest, size, int(now_s))
        self.trees.setdefault(context, {})[path] = file
        self._count_upload(path, digest)

    def delete_node(self, context: str, path: str) -> Job:
        """Delete the file or the folder with its contents, if any, and return the deletion job."""
        self._remove_node(context, path)
        return self.start_job(context)

    @event("node_gone")
    def _remove_node(self, context: str, path: str) -> None:
        tree = self.trees.get(context, {})
        for gone in [path, *self.list_tree(context, path)]:
            if tree.pop(gone, None):
                self.ledger["deletions"][gone] += 1
