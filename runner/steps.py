"""What workers are asked to do, and what came of it: values that can travel to another process.

A step is done by a function from (client, step) to an outcome. Only `CreateBatch` and `StartRun` must not be done
twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.model import Answer, Member, Page
from runner.wire import RunInfo


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """Create the batch of a shard; its intent is recorded as row `batch`."""

    shard: int
    batch: int
    name: str
    workspace: str


@dataclass(frozen=True, slots=True)
class FindBatch:
    """Look for a batch whose creation may have taken effect; `known` are the ids of others of that name.

    `sent_by_s` is the server's time by which the request was surely sent, if it was; its effect shows in a
    listing within `settle_s`.
    """

    shard: int
    batch: int
    name: str
    workspace: str
    known: frozenset[int]
    sent_by_s: float
    settle_s: float


@dataclass(frozen=True, slots=True)
class SendFile:
    """Put a file into a batch. Until `young_until_s` (server's time) a 404 may pass."""

    shard: int
    batch: int
    remote_id: int
    workspace: str
    member: Member
    path: Path
    part_threshold: int
    young_until_s: float


@dataclass(frozen=True, slots=True)
class CheckBatch:
    """Compare a batch with the sizes (by NFC name) that it shall hold, and delete what it shall not.

    What was done to it shows in its listing within `settle_s`.
    """

    shard: int
    batch: int
    remote_id: int
    workspace: str
    sizes: Mapping[str, int]
    settle_s: float
    young_until_s: float


@dataclass(frozen=True, slots=True)
class StartRun:
    """Start a run, which costs money; its intent is recorded as row `run`. The body may hold passwords."""

    shard: int
    run: int
    deployment_id: str
    body: Mapping[str, Any] = field(repr=False)
    young_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FindRun:
    """Look for a run whose start may have taken effect, among all since `from_s`.

    `known` are the ids that the state has, `newest` the newest of them (empty where there is none): a
    listing without it cannot be trusted.
    """

    shard: int
    run: int
    tag: str
    remote_batch: int
    known: frozenset[str]
    newest: str
    from_s: float
    sent_by_s: float
    settle_s: float


@dataclass(frozen=True, slots=True)
class PollRun:
    """Ask once how a run is."""

    shard: int
    run: int
    remote_id: str
    from_s: float
    young_until_s: float


@dataclass(frozen=True, slots=True)
class FetchResults:
    """Fetch every page of a run's results into `folder`; `names` (NFC) are the files that were sent.

    `from_s` is a time before the run began; until `young_until_s` (server's time) a 404 may pass.
    """

    shard: int
    run: int
    remote_id: str
    from_s: float
    young_until_s: float
    include: str
    folder: Path
    names: frozenset[str]


Step = CreateBatch | FindBatch | SendFile | CheckBatch | StartRun | FindRun | PollRun | FetchResults


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """The batch is there, made or found."""

    remote_id: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A request that must not be repeated was sent at `at_s` (server's time), and its answer was lost."""

    at_s: float
    error: RunnerError


@dataclass(frozen=True, slots=True)
class NotThere:
    """Looked for, and surely not there."""


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
    """The batch holds what the shard holds, but for the files named."""

    missing: tuple[str, ...]


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
    BatchCreated | Lost | NotThere | Unsure | Sent | Unsendable | Checked | Gone | RunSeen | Fetched | Failed | Stopped
)
