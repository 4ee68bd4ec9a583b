"""The values that modules exchange. docs/glossary.md defines the words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import astuple

from aihub_runner.system.moment import UNKNOWN, Moment

MB = 1_048_576
SPEC_ENDING = ".aihub.toml"
RACY_NS = 2_000_000_000  # how coarse file times may be
DOCUMENTS_NAME = "documents.jsonl"
LAST_APPLY = "last-apply.json"
UPSTREAM = "upstream integration"
ALL = 1 << 62  # stands for every row of runs
OWN, FOREIGN = "own", "foreign"  # the kinds of a kept batch: we made it, or somebody else did
LISTED = "listed:"  # how the digest of a file begins that only a batch's listing describes
UNHASHED = "unhashed:"  # how the digest of a file elsewhere begins that is only hashed as it is sent

FINAL_STATUSES = frozenset({"COMPLETE", "FAILED", "CANCELLED"})
REVIEW_STATUS = "STOPPED_AT_CHECKPOINT"


def stem_of(spec: PurePath) -> str:
    """Return the stem for the files beside a spec: its name without `.aihub.toml`, else without its extension."""
    return spec.name.removesuffix(SPEC_ENDING) if spec.name.endswith(SPEC_ENDING) else spec.stem


class Secret:
    """A token or a password. Showing it shows nothing of it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        """Return the value."""
        return self._value


class Stat(Struct, frozen=True, gc=False):
    """What `os.stat` reports about a file. A file with an equal stat is not hashed again. Times in nanoseconds."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stat:
        """Return the part of a stat that tells whether the content may have changed."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def is_older(self, now_ns: int) -> bool:
        """Whether the file was last changed so long ago that another change would show: file times are coarse."""
        return self.mtime_ns <= now_ns - RACY_NS >= self.ctime_ns


def defer_digest(path: str, stat: Stat) -> str:
    """Return what stands for the digest of a file elsewhere until it is sent: it identifies this version of it."""
    return UNHASHED + hashlib.sha256(f"{path}\0{astuple(stat)}".encode("utf-8", "surrogatepass")).hexdigest()


class CachedDigest(Struct, frozen=True, gc=False):
    """A digest, and the stat it was computed under. `scanned_ns` is when (Unix time in nanoseconds)."""

    stat: Stat
    digest: str
    scanned_ns: int


CacheRow = tuple[str, str, int, int, int, int, int]  # path, digest, scanned_ns, and the stat, of a `CachedDigest`


def rank_status(status: str) -> int:
    """Rank the status of a run among runs with the same tag: complete, then in progress, then the rest."""
    if status == "COMPLETE":
        return 0
    return 2 if status in FINAL_STATUSES else 1


class Source(Struct, frozen=True, gc=False):
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
        """What identifies the document: its bytes, and the name of its password's variable."""
        return f"{self.digest}+{self.password}" if self.password else self.digest

    @property
    def is_listed(self) -> bool:
        """Whether it is no local file, but somebody else's in a batch."""
        return self.digest.startswith(LISTED)

    @property
    def is_unhashed(self) -> bool:
        """Whether it lies elsewhere, and its bytes were not read yet."""
        return self.digest.startswith(UNHASHED)

    def is_sent_as(self, member: Member) -> bool:
        """Whether a member of a shard has the same bytes and the same password."""
        return self.digest == member.digest and self.password == member.password

    def as_member(self, name: str) -> Member:
        """Return the file as a member of a shard, under its name in the batch."""
        return Member(name, self.path, self.size, self.digest, self.password)


class SkippedFile(Struct, frozen=True):
    """A selected file that cannot be sent, and why.

    `reason` is one of: empty, too large, too many pages, unsupported type, unreadable, vanished, name, refused.
    """

    path: str
    reason: str
    detail: str = ""


class Allowed(Struct, frozen=True):
    """Where files may be: outside the work tree, and below which URLs."""

    outside: bool = False
    remote: tuple[str, ...] = ()


class Scan(Struct, frozen=True):
    """All files that a spec selects, both lists sorted by path.

    `cache` has what is new in the stat cache, `outdated` the paths to remove from it. `busy` lists the parts of its
    patterns that match files, `idle` those that match none. `identity` is the digest of all paths and stats, empty
    if a file may have changed under the same stat. `pages` has the page counts read so far, 0 if a file has none.
    """

    sources: tuple[Source, ...]
    skipped: tuple[SkippedFile, ...]
    cache: dict[str, CachedDigest]
    busy: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    identity: str = ""
    outdated: tuple[str, ...] = ()
    pages: dict[str, int] = {}

    @property
    def files(self) -> int:
        """Count all files that the spec selects."""
        return len(self.sources) + len(self.skipped)


class Target(Struct, frozen=True):
    """Where work belongs: work in one target is never looked up in another."""

    root: str
    context: str
    workspace: str


class Member(Struct, frozen=True, gc=False):
    """A file of a shard, under its name in the batch (NFC).

    `path` is empty if only the lock file lists the file. `is_stale` says that the local file is missing or changed:
    then `digest` is the shortened identity from the lock file.
    """

    name: str
    path: str
    size: int
    digest: str
    password: str = ""
    is_stale: bool = False

    @property
    def is_listed(self) -> bool:
        """Whether it was no local file (see `Source.is_listed`)."""
        return self.digest.startswith(LISTED)

    @property
    def is_unhashed(self) -> bool:
        """Whether it lies elsewhere, and its bytes were not read yet."""
        return self.digest.startswith(UNHASHED)

    @property
    def sha256(self) -> str:
        """The SHA-256 of its bytes; empty where they were never here."""
        return "" if self.is_listed else self.digest.removeprefix("sha256:")

    @property
    def identity(self) -> str:
        """What identifies the document (see `Source.identity`)."""
        return f"{self.digest}+{self.password}" if self.password else self.digest


class Batch(Struct, frozen=True):
    """The recorded facts about a shard's batch in one target.

    `intent_s` and `sent_s` (when the last file was sent) are Unix seconds of the service's clock, 0 where
    unknown: for display only. `since` is when the wait for its creation started. `remote_id` is None until the service
    has returned it. `uploads` maps every name ever sent to the digest sent, empty while that is unconfirmed; `modified`
    maps it to the time listed afterwards. `before` are the ids of batches of this name from before the intent.
    `is_verified` says that it is confirmed as ours. `is_gone` says that the service does not have it any more; such a
    row stays for its runs. `kept` is the kind of a batch that is kept: its content may be another one by now, and no
    step of a shard changes it.
    """

    id: int
    target: str
    name: str
    intent_s: float
    remote_id: int | None
    uploads: Mapping[str, str]
    sent_s: float = 0.0
    since: Moment = UNKNOWN
    before: frozenset[int] = frozenset()
    created_ms: int = 0
    is_verified: bool = False
    is_gone: bool = False
    modified: Mapping[str, int] = {}
    kept: str = ""


class Handed(Struct, frozen=True):
    """What a batch was to hold when its files were handed to workers, and for how long one of them may send late."""

    fingerprint: str
    late_s: float


class Run(Struct, frozen=True):
    """The recorded facts about one attempt to run an app on a shard's batch.

    `remote_id` is None until the service has returned it; `unknown` says why it is unconfirmed. `status` is the
    service's last status, verbatim, or empty. `fetched` maps the `include` of each complete fetch to when that was
    (Unix seconds of the service's clock, 0 where unknown). `since` is when the wait for its effect started. `refused`
    is the service's refusal; a gateway may have sent it after the run was started. `remote_batch` is the batch in the
    request (0 where unknown). `bound_s` is a time before the run, from a response's body, or 1. `is_gone` says that the
    service does not have it any more, `is_given_up` that the user decided that it was never started, `is_deleted`
    that we asked the service to delete it.
    """

    id: int
    shard: int
    run_key: str
    attempt: int
    tag: str
    batch: int
    intent_s: float
    remote_id: str | None
    unknown: str
    status: str
    message: str
    started_ns: int
    finished_ns: int
    fetched: Mapping[str, float]
    since: Moment = UNKNOWN
    refused: str = ""
    remote_batch: int = 0
    bound_s: int = 1
    is_gone: bool = False
    is_given_up: bool = False
    is_deleted: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the service will not change it any more."""
        return self.status in FINAL_STATUSES or self.is_given_up

    @property
    def is_open(self) -> bool:
        """Whether its start is unconfirmed."""
        return not self.remote_id and not self.is_given_up

    @property
    def has_failed(self) -> bool:
        """Whether it ended without results, or is gone and was never fetched.

        A complete run that we deleted, or that a lock file calls complete, has not failed: its results were fetched
        elsewhere or before, and are lost here.
        """
        if self.status == "COMPLETE" and (self.is_deleted or (self.is_gone and self.is_imported)):
            return False
        return (self.is_final and self.status != "COMPLETE") or (self.is_gone and not self.fetched)

    @property
    def is_imported(self) -> bool:
        """Whether another state started it."""
        return not self.intent_s

    @property
    def rank(self) -> tuple[int, int, int]:
        """The sort key for runs with the same tag: complete, then in progress, then the rest; oldest first."""
        status = "" if self.is_gone and not self.fetched and not self.is_deleted else self.status
        return 2 if self.is_given_up else rank_status(status), self.started_ns, self.id


class Shard(Struct, frozen=True):
    """A group of files that goes into one batch. Closed for good once it has a fingerprint."""

    id: int
    fingerprint: str
    members: tuple[Member, ...]
    batches: tuple[Batch, ...] = ()
    runs: tuple[Run, ...] = ()

    @property
    def is_closed(self) -> bool:
        """Whether a run intent was recorded for it. Its members never change again."""
        return bool(self.fingerprint)

    @property
    def files(self) -> frozenset[tuple[str, str]]:
        """Its members' paths and identities."""
        return frozenset((member.path, member.identity) for member in self.members)

    @property
    def sendable(self) -> tuple[Member, ...]:
        """Its members, without those that results named: they lie elsewhere, and their bytes are not known."""
        return tuple(member for member in self.members if member.digest)

    @property
    def is_kept(self) -> bool:
        """Whether its batch is one that is kept."""
        return any(batch.kept for batch in self.batches)

    def batch_in(self, target: str) -> Batch | None:
        """Return its batch in a target, or None."""
        return next((batch for batch in self.batches if batch.target == target and not batch.is_gone), None)

    def runs_of(self, run_key: str) -> list[Run]:
        """Return its runs of one run key, the first attempt first; of twins, the one to use."""
        best: dict[int, Run] = {}
        for run in self.runs:
            if run.run_key == run_key and (run.attempt not in best or run.rank < best[run.attempt].rank):
                best[run.attempt] = run
        return [best[attempt] for attempt in sorted(best)]


class Goal(Struct, frozen=True):
    """What the spec asks for, as far as planning needs it. `include` is the name of a kind of fetch.

    `damaged` are the rows of runs whose results on disk are missing or changed. `again_after` is the newest run (row)
    from before `--again`; newer runs are its work. `by_folder` says that all files of a folder are one batch. `only`
    and `limit` select pending files, or folders of them; `left` are paths of those that are not selected.
    `input` is what to run where the files are elsewhere: a folder of a drive, or the word UPSTREAM. `kept` is the kind
    of a batch that is kept, and `batch_id` its id, or 0. It `follows` the files of the spec; `exact` says that it holds
    no others, `adopts` that files under their names are ours.
    """

    run_key: str
    target: str
    include: str
    files_per_batch: int
    settings: Mapping[str, Any]
    retry_failed: bool = False
    again: bool = False
    refetch: bool = False
    damaged: Collection[int] = ()
    again_after: int = ALL
    by_folder: bool = False
    only: Callable[[str], bool] | None = None
    limit: int | None = None
    left: Collection[str] = ()
    input: str = ""
    kept: str = ""
    batch_id: int = 0
    follows: bool = False
    exact: bool = False
    adopts: bool = False

    def leaves(self, pending: Iterable[str]) -> frozenset[str]:
        """Return which of the pending files, in order, are not selected."""
        folders = {path: path.rpartition("/")[0] if self.by_folder else path for path in pending}
        fits = (path for path in folders if path not in self.left and (self.only is None or self.only(path)))
        chosen = set(list(dict.fromkeys(folders[path] for path in fits))[: self.limit])
        return frozenset(path for path, folder in folders.items() if folder not in chosen)

    def lacks(self, run: Run) -> bool:
        """Whether the results of a run are missing here, in the wanted form."""
        return self.include not in run.fetched or run.id in self.damaged


class Page(Struct, frozen=True):
    """A raw page of results; `path` is relative to the results folder."""

    file_offset: int
    path: str
    digest: str


class Listed(NamedTuple):
    """A file as a batch lists it: name, size in bytes, and time (Unix seconds); None for what is not listed."""

    name: str
    size: int | None
    modified_s: int | None

    @property
    def digest(self) -> str:
        """What is known of its bytes."""
        return f"{LISTED}{self.size}:{self.modified_s}"

    def may_be(self, digest: str) -> bool:
        """Whether what is listed is the same as in an earlier list, as far as both know."""
        size, _, modified_s = digest.removeprefix(LISTED).partition(":")
        pairs = (size, self.size), (modified_s, self.modified_s)
        return digest.startswith(LISTED) and all(now is None or old in ("None", str(now)) for old, now in pairs)


class Look(Struct, frozen=True):
    """What a kept batch holds, by names (NFC). `name` is the batch's own, if it is ours."""

    remote_id: int
    files: Mapping[str, Listed]
    name: str = ""


class Changes(Struct, frozen=True):
    """How a kept batch must change to hold the files of the spec; `seen` is what it holds now.

    `delete` and `others` are names: `others` are somebody else's, and left. `foreign` are those of somebody else that
    are deleted or replaced on request. `doubtful` are in the way, and may be somebody else's.
    """

    remote_id: int
    add: tuple[Member, ...] = ()
    replace: tuple[Member, ...] = ()
    delete: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    seen: Mapping[str, Listed] = {}

    @property
    def sends(self) -> tuple[Member, ...]:
        """The files to send."""
        return self.add + self.replace

    @property
    def loses(self) -> bool:
        """Whether anything that is in the batch goes."""
        return bool(self.replace or self.delete)

    def __bool__(self) -> bool:
        return bool(self.add or self.replace or self.delete)

    def list_lines(self) -> list[str]:
        """List the changes, one line each."""
        lines = [f"add {one.name}" for one in self.add] + [f"replace {one.name}" for one in self.replace]
        return sorted([*lines, *(f"delete {name}" for name in self.delete)])


Damage = Mapping[int, frozenset[str]]  # damaged pages: their paths, by run row


class Answer(Struct, frozen=True):
    """Where the answer for one file is: the `position`-th file of the page at `file_offset`.

    `name` is the name in the batch (NFC). `documents` and `field_errors` are counts.
    """

    name: str
    file_offset: int
    position: int
    documents: int
    field_errors: int
