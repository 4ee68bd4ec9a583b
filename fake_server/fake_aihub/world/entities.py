"""What the world is made of, and how it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """The service's refusal: a status, a message, and headers if any."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclass(slots=True)
class File:
    """A file in a batch, or in the tree of files; times in Unix seconds."""

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
    """A run on the files as they were when it started.

    `script` says how it goes, if not by itself. `polls` counts how often its status was asked for, and `polled_ns` is
    when that was last; both only where its script ends it after polls. `webhook` are the calls of its webhook so far.
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
        """Where its files come from."""
        return str(self.request.get("input_dir") or f"/fake/batches/{self.batch_id}")


@dataclass(slots=True)
class Job:
    """An asynchronous deletion."""

    id: str
    context: str
    started_s: float


@dataclass(slots=True)
class Secret:
    """A secret of an organisation's vault; what it contains is not kept."""

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
    """Who did what, and when."""

    context: str
    now_ms: int
    user: str
    address: str
    log_type: str
    operation: str
    subject: str
