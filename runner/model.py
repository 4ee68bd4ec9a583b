"""The values that the modules hand each other. The words are those of docs/glossary.md."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_048_576

FINAL_STATUSES = frozenset({"COMPLETE", "FAILED", "CANCELLED"})
REVIEW_STATUS = "STOPPED_AT_CHECKPOINT"


@dataclass(frozen=True, slots=True)
class Stat:
    """What `os.stat` says of a file; equal stats save hashing it again. Times in nanoseconds."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class CachedDigest:
    """A digest and the stat it was computed under. `scanned_ns` is when (Unix time in nanoseconds)."""

    stat: Stat
    digest: str
    scanned_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """A local file that the spec selects.

    `path` is relative to the spec's folder, with `/`. `digest` is `sha256:` and 64 hex digits.
    `password` is the name of the variable that holds its PDF password, or empty.
    """

    path: str
    size: int
    digest: str
    password: str = ""

    @property
    def identity(self) -> str:
        """What makes it the same document: its bytes, and the name of its password's variable."""
        return f"{self.digest}+{self.password}" if self.password else self.digest


@dataclass(frozen=True, slots=True)
class SetAside:
    """A selected file that cannot be sent, and why.

    `reason` is one of: empty, too large, unsupported type, unreadable, vanished, name, refused.
    """

    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """All files that a spec selects, both lists sorted by path; `cache` is the new stat cache, whole."""

    sources: tuple[Source, ...]
    set_aside: tuple[SetAside, ...]
    cache: dict[str, CachedDigest]
