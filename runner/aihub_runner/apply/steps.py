"""Steps that workers do, and their outcomes: values that can travel to another process.

A function from (client, step) to an outcome does a step. Every step may be repeated, except `CreateBatch` and
`StartRun`.
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
    """Create the batch of a shard. Row `batch` records the intent."""

    shard: int
    batch: int
    name: str
    workspace: str


@dataclass(frozen=True, slots=True)
class FindBatch:
    """Check whether a batch exists after its creation was unconfirmed.

    `known` are ids that it cannot have: those in the state, and those of its name from before the intent. A listing
    shows the batch by `settled_at_s` (monotonic clock of this process).
    """

    shard: int
    batch: int
    name: str
    workspace: str
    known: frozenset[int]
    settled_at_s: float


@dataclass(frozen=True, slots=True)
class VerifyBatch:
    """Check, before the first upload, that a batch has our name and is empty. Until `young_until_s`, retry a 404."""

    shard: int
    batch: int
    remote_id: int
    name: str
    workspace: str
    young_until_s: float
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class SendFile:
    """Put a file into a batch. Until `young_until_s` (monotonic clock), retry a 404.

    `is_older` says that an earlier apply created the batch: then even an empty list of batches proves that it is gone.
    For a batch of this apply it proves nothing: the account may not see what it creates.
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
    """Compare a batch with the sizes (by NFC name) that it should hold, and delete this job's surplus files.

    A listing shows changes within `settle_s`. `sent` are the names that this state ever sent to the batch: nothing
    else is ever deleted. `modified` are times (Unix seconds) listed after earlier uploads. `name` is the batch's name,
    empty where it is not known; `known` are the known batches of that name. `minds_elders` says that older ones matter.
    `claim` is how the names of claims on the run begin.
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
    minds_elders: bool = True
    claim: str = ""


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run, which costs money. Row `run` records the intent. The body may hold passwords."""

    shard: int
    run: int
    deployment_id: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindRun:
    """Check whether a run exists after its start was unconfirmed, among all runs since `from_s`.

    `known` are the ids in the state, `newest` is the newest of them (or empty): a listing without it cannot be trusted.
    `siblings` are the batches of our other open intents with the same tag. `created_ms` is when the batch was created
    (0 where unknown). A listing shows the run by `settled_at_s` (monotonic clock of this process).
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
class ClaimRun:
    """Create a claim, a batch of this `name`, to start a run. `own` are the names of this state's claims."""

    shard: int
    name: str
    workspace: str
    own: frozenset[str]
    settle_s: float


@dataclass(frozen=True, slots=True)
class AwaitTwin:
    """Wait for the run of another clone, which has an older batch of the same name, or an older claim on ours.

    `elder` is the id of that batch. `may_take_over` says
    that we may pay where no such run shows. `known` are the runs that the state has.
    """

    shard: int
    batch: int
    tag: str
    elder: int
    from_s: float
    settled_at_s: float
    may_take_over: bool = False
    known: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PollRun:
    """Get the status of a run once. `others` are known runs: a listing without any of them proves no absence."""

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

    `from_s` is a time before the run started. Until `young_until_s` (monotonic clock), retry a 404. `others` as for
    `PollRun`. `was_fetched` says that the results were fetched before: then the run stays done in any case.
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
    | ClaimRun
    | AwaitTwin
    | PollRun
    | FetchResults
)


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """The batch exists, created or found."""

    remote_id: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The batch is ours and empty. The service created it at `created_ms` (0 where it does not say)."""

    created_ms: int


@dataclass(frozen=True, slots=True)
class Foreign:
    """The batch is not the one that we created."""

    why: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A request that must not be repeated was refused, perhaps by a gateway that delivered it."""

    error: ServiceError


@dataclass(frozen=True, slots=True)
class Lost:
    """A request that must not be repeated was sent at `at_s` (for display), and its response was lost."""

    at_s: float
    error: RunnerError


@dataclass(frozen=True, slots=True)
class NotThere:
    """Checked, and confirmed absent."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """Not found, but the check cannot be trusted."""

    why: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch contains the file; digest and size are those of the bytes sent."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Unsendable:
    """The file cannot be sent as it is: it vanished, became unusable, or the service refuses it."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The batch holds what the shard holds, except for the `missing` files.

    `modified` are the times (Unix seconds) that the service lists. `elders` are others' older batches of the
    same name. `is_claimed` says that somebody claims the run.
    """

    missing: tuple[str, ...]
    modified: Mapping[str, int] = field(default_factory=dict)
    elders: tuple[int, ...] = ()
    is_claimed: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """Our claim is listed; `elder` is an older one of another client, or 0."""

    elder: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The batch or run does not exist on the service any more."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """What the service reports about a run; `twins` are the ids of other runs with the same tag."""

    info: RunInfo
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetched:
    """All pages are on disk."""

    pages: tuple[Page, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The step was not done."""

    error: RunnerError


@dataclass(frozen=True, slots=True)
class Stopped:
    """The step was cancelled because the job is stopping."""


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
    | Claimed
    | Gone
    | RunSeen
    | Fetched
    | Failed
    | Stopped
)
