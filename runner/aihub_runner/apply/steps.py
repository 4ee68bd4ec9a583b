"""What workers are asked to do, and what came of it: values that can travel to another process.

A step is done by a function from (client, step) to an outcome. Only `CreateBatch` and `StartRun` must not be done
twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.errors import RunnerError, ServiceError
from aihub_runner.model import Answer, Member, Page


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """Create the batch of a shard; its intent is recorded as row `batch`."""

    shard: int
    batch: int
    name: str
    workspace: str


@dataclass(frozen=True, slots=True)
class FindBatch:
    """Check whether a batch exists whose creation may have taken effect.

    `known` are ids that it cannot be: those that the state has, and those of its name from before the intent. The
    effect of the request shows in a listing by `settled_at_s` (monotonic clock of this process).
    """

    shard: int
    batch: int
    name: str
    workspace: str
    known: frozenset[int]
    settled_at_s: float


@dataclass(frozen=True, slots=True)
class VerifyBatch:
    """Check, before the first upload, that a batch has our name and is empty. Until `young_until_s` a 404 may pass."""

    shard: int
    batch: int
    remote_id: int
    name: str
    workspace: str
    young_until_s: float
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class SendFile:
    """Put a file into a batch. Until `young_until_s` (monotonic clock) a 404 may pass.

    `is_older` says that the batch was made by an earlier apply: then even an empty list of batches says that it is
    gone. Of one made by this apply that proves nothing: the account may not see what it makes.
    """

    shard: int
    batch: int
    remote_id: int
    workspace: str
    member: Member
    path: Path
    part_threshold: int
    young_until_s: float
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class CheckBatch:
    """Compare a batch with the sizes (by NFC name) that it shall hold, and delete what this job put there besides.

    What was done to it shows in its listing within `settle_s`. `sent` are the names that this state ever sent to it:
    nothing else is ever deleted. `modified` are times (Unix seconds) that were listed after earlier uploads. `name` is
    the batch's name, empty where batches of the same name do not matter, and `known` are those of them that are known.
    """

    shard: int
    batch: int
    remote_id: int
    workspace: str
    sizes: Mapping[str, int]
    settle_s: float
    young_until_s: float
    sent: frozenset[str] = frozenset()
    modified: Mapping[str, int] = field(default_factory=dict)
    name: str = ""
    known: frozenset[int] = frozenset()
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run, which costs money; its intent is recorded as row `run`. The body may hold passwords."""

    shard: int
    run: int
    deployment_id: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindRun:
    """Check whether a run exists whose start may have taken effect, among all since `from_s`.

    `known` are the ids that the state has, `newest` the newest of them (empty where there is none): a
    listing without it cannot be trusted. `siblings` are the batches of our other open intents with the same tag,
    `created_ms` is when the batch was made (0 where unknown). The effect shows in a listing by `settled_at_s`
    (monotonic clock of this process).
    """

    shard: int
    run: int
    tag: str
    remote_batch: int
    known: frozenset[str]
    newest: str
    from_s: float
    settled_at_s: float
    siblings: frozenset[int] = frozenset()
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class AwaitTwin:
    """Wait for the run of another clone's batch of the same name, which is older than ours and so the one to pay.

    `may_take_over` says that a person decided to pay where no such run shows.
    """

    shard: int
    batch: int
    tag: str
    elder: int
    from_s: float
    settled_at_s: float
    may_take_over: bool = False


@dataclass(frozen=True, slots=True)
class PollRun:
    """Ask once how a run is. `others` are runs that are known: a listing without any proves no absence."""

    shard: int
    run: int
    remote_id: str
    from_s: float
    young_until_s: float
    others: frozenset[str] = frozenset()
    remote_batch: int = 0
    tag: str = ""


@dataclass(frozen=True, slots=True)
class FetchResults:
    """Fetch every page of a run's results into `folder`; `names` (NFC) are the files that were sent.

    `from_s` is a time before the run began; until `young_until_s` (monotonic clock) a 404 may pass; `others` as for
    `PollRun`. `was_fetched` says that its results were fetched before: then it stays done whatever shows.
    """

    shard: int
    run: int
    remote_id: str
    from_s: float
    young_until_s: float
    include: str
    folder: Path
    names: frozenset[str]
    others: frozenset[str] = frozenset()
    remote_batch: int = 0
    was_fetched: bool = False


Step = (
    CreateBatch
    | FindBatch
    | VerifyBatch
    | SendFile
    | CheckBatch
    | StartRun
    | FindRun
    | AwaitTwin
    | PollRun
    | FetchResults
)


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """The batch is there, made or found."""

    remote_id: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The batch is ours and empty; the service says that it was made at `created_ms` (0 where it does not say)."""

    created_ms: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """The batch is not the one that we created."""

    why: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A request that must not be repeated was answered with a refusal, perhaps by a gateway that delivered it."""

    error: ServiceError


@dataclass(frozen=True, slots=True)
class Lost:
    """A request that must not be repeated was sent at `at_s` (for display), and its response was lost."""

    at_s: float
    error: RunnerError


@dataclass(frozen=True, slots=True)
class NotThere:
    """Looked for, and confirmed absent."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """Looked for, not found, but the look cannot be trusted."""

    why: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A file lies in the batch; the digest and size are those of the bytes that were sent."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A file cannot be sent as it is: it vanished, changed for the worse, or the service would not take it."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The batch holds what the shard holds, but for the files named.

    `modified` are the times (Unix seconds) that the service lists, `elders` older batches of the same name.
    """

    missing: tuple[str, ...]
    modified: Mapping[str, int] = field(default_factory=dict)
    elders: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """The batch or run is not on the server any more."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """What the service says of a run; `twins` are the ids of others that carry the same tag."""

    info: RunInfo
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """All pages lie on disk."""

    pages: tuple[Page, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The step was not done."""

    error: RunnerError


@dataclass(frozen=True, slots=True)
class Stopped:
    """The step was given up because we were asked to stop."""


Outcome = (
    BatchCreated
    | Verified
    | Foreign
    | Declined
    | Lost
    | NotThere
    | Unsure
    | Sent
    | Unsendable
    | Checked
    | Gone
    | RunSeen
    | Fetched
    | Failed
    | Stopped
)
