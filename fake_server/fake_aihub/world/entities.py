"""The objects in the world, and the error that it raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """An error response of the service: a status, a message, and optional headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclass(slots=True)
class File:
    """A file in a batch or in a drive. Times are in Unix seconds."""

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
    """An open multipart upload. `parts` maps part numbers to (part id, digest, size)."""

    id: str
    context: str
    batch_id: int
    name: str
    size: int
    part_size: int
    parts: dict[int, tuple[str, str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """A run on a snapshot of the files at its start.

    `script` overrides the default course of the run. `polls` is the number of status requests and `polled_ns` the time
    of the last one; both are tracked only if the script ends the run after polls. `webhook` lists its webhook calls.
    """

    id: str
    context: str
    batch_id: int | None
    started_ns: int
    request: dict[str, Any]
    files: list[File]
    script: dict[str, Any]
    user: str = "fake-user"
    polls: int = 0
    polled_ns: int = 0
    has_output: bool = True
    webhook: list[dict[str, Any]] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """The source of its files."""
        return str(self.request.get("input_dir") or f"/fake/batches/{self.batch_id}")


@dataclass(slots=True)
class Job:
    """An asynchronous deletion."""

    id: str
    context: str
    started_s: float


@dataclass(slots=True)
class Secret:
    """A secret in an organisation's vault. Its value is not stored."""

    alias: str
    context: str
    description: str
    allowed_workspaces_type: str
    allowed_workspaces: list[str]
    created_ms: int
    created_by: str
    updated_ms: int
    updated_by: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An entry of the audit log: who did what, and when."""

    context: str
    now_ms: int
    user: str
    address: str
    log_type: str
    operation: str
    subject: str
