"""What happens during an apply, as values. Each is emitted once; subscribers show, log or count it.

`cli/messages.py` has the words for them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


class Event:
    """Something that happened."""

    __slots__ = ()


Subscriber = Callable[[Event], None]


class Reporter:
    """Passes each event to every subscriber, one event at a time. Any thread may emit."""

    def __init__(self, *subscribers: Subscriber) -> None:
        self._subscribers = subscribers
        self._lock = threading.RLock()

    def emit(self, event: Event) -> None:
        """Pass an event to every subscriber."""
        with self._lock:
            for subscriber in self._subscribers:
                subscriber(event)


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time passed. Emitted at least about once a second while requests are in flight."""


@dataclass(frozen=True, slots=True)
class Stopping(Event):
    """A signal asked to stop; requests in flight are finished."""


@dataclass(frozen=True, slots=True)
class Problem(Event):
    """A shard is skipped for the rest of this apply, or something is not recorded."""

    message: str


# Before anything is sent


@dataclass(frozen=True, slots=True)
class ScanProgress(Event):
    """How much of the local files was read."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class ContextUnset(Event):
    """No context is set, so runs spend the units of the community account."""


@dataclass(frozen=True, slots=True)
class StateOnNetwork(Event):
    """The state is on a network file system, whose locks are unreliable."""

    state: str
    file_system: str


@dataclass(frozen=True, slots=True)
class UploadsLowered(Event):
    """Fewer uploads at once than wanted, because of the limit of descriptors."""

    now: int
    wanted: int
    limit: int


@dataclass(frozen=True, slots=True)
class AgainResumed(Event):
    """An interrupted `--again` is finished first."""


# The check before paying


@dataclass(frozen=True, slots=True)
class CheckStarted(Event):
    """The service is asked for earlier work of this spec."""


@dataclass(frozen=True, slots=True)
class CheckRepeated(Event):
    """A batch for planned work exists without a run; the check is repeated after a wait."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class ImportStarted(Event):
    """Paid runs are imported from a lock file."""

    runs: int
    lock_file: str


@dataclass(frozen=True, slots=True)
class RunImported(Event):
    """A run that was not known here was imported. `is_clones` says that another clone started it."""

    run: str
    batch: int
    is_clones: bool = False


@dataclass(frozen=True, slots=True)
class TwinFound(Event):
    """A run has the same tag as an imported one, so it was paid twice."""

    run: str
    batch: int


@dataclass(frozen=True, slots=True)
class ForeignBatch(Event):
    """A batch that may have been this spec's holds other files."""

    batch: int
    name: str


@dataclass(frozen=True, slots=True)
class RunsUnlisted(Event):
    """None of the recorded runs is listed any more."""


# Other clones


@dataclass(frozen=True, slots=True)
class OlderBatch(Event):
    """Another clone's older batch of the same name; its run is awaited."""

    batch: int


@dataclass(frozen=True, slots=True)
class OlderClaim(Event):
    """Another clone's older claim on a batch; its run is awaited."""

    claim: int
    batch: int


@dataclass(frozen=True, slots=True)
class CloneAwaited(Event):
    """Another client may run the same batch; its run is awaited."""

    batch: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class BatchTakenOver(Event):
    """Another clone's batch has no run, and the user decided to start one here."""

    batch: int


# Batches and files


@dataclass(frozen=True, slots=True)
class UploadPlanned(Event):
    """Files will be sent."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BatchCreated(Event):
    """A batch was created and verified. `is_found` says that an earlier request had created it."""

    batch: int
    is_found: bool = False


@dataclass(frozen=True, slots=True)
class BatchGone(Event):
    """A batch does not exist any more, so its files are sent again."""

    batch: int


@dataclass(frozen=True, slots=True)
class FilesMissing(Event):
    """Files that were sent are not in a batch, and are sent again."""

    batch: int
    files: int


@dataclass(frozen=True, slots=True)
class FileUploaded(Event):
    """A file is in its batch."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FileChanged(Event):
    """A file changed since the scan; the new content was sent."""

    path: str


@dataclass(frozen=True, slots=True)
class FileSkipped(Event):
    """A file that was planned cannot be sent."""

    path: str
    bytes: int
    reason: str
    detail: str


# Requests


@dataclass(frozen=True, slots=True)
class Retry(Event):
    """A request failed, and is repeated after a wait."""

    message: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class RateLimited(Event):
    """The service asks to slow down."""

    message: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class ResponseLost(Event):
    """It is unconfirmed whether a request that creates something succeeded."""

    message: str


@dataclass(frozen=True, slots=True)
class RefusedForNow(Event):
    """A request that creates something was refused, and may be sent again after a check."""

    message: str


@dataclass(frozen=True, slots=True)
class ExistenceChecked(Event):
    """It is checked whether something that was requested exists."""

    what: str
    wait_s: float


# Runs


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The service confirmed that it started a run."""

    run: str


@dataclass(frozen=True, slots=True)
class RunStatus(Event):
    """The status of a run changed. `before` is empty for the first one."""

    run: str
    status: str
    message: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class RunPaidTwice(Event):
    """A run was imported, and others carry the same tag."""

    run: str
    twins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunGone(Event):
    """A run does not exist any more, and its results were not fetched."""

    run: str


@dataclass(frozen=True, slots=True)
class RunDropped(Event):
    """A run that was not started is not wanted any more. `is_paid` says that another run paid for its files."""

    shard: int
    is_paid: bool


@dataclass(frozen=True, slots=True)
class RunUnrecorded(Event):
    """A run was started, but the state cannot record it."""

    run: str


@dataclass(frozen=True, slots=True)
class RunUnconfirmed(Event):
    """A run may have been started when the apply had to end."""

    batch: int | None
    tag: str


@dataclass(frozen=True, slots=True)
class ResultsFetched(Event):
    """All results of a run are on disk."""

    run: str
    files: int


@dataclass(slots=True)
class Counts:
    """The numbers of an apply, for a subscriber. `runs` counts runs by their last known status."""

    files_to_send: int = 0
    files_sent: int = 0
    bytes_to_send: int = 0
    bytes_sent: int = 0
    runs_started: int = 0
    runs_fetched: int = 0
    retries: int = 0
    rate_limited: int = 0
    runs: Counter[str] = field(default_factory=Counter)

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case UploadPlanned(files, size):
                self.files_to_send += files
                self.bytes_to_send += size
            case FileUploaded(_, size):
                self.files_sent += 1
                self.bytes_sent += size
            case FileSkipped(_, size):
                self.files_to_send -= 1
                self.bytes_to_send -= size
            case RunStarted():
                self.runs_started += 1
            case RunStatus(_, status, _, before):
                self.runs.update({status: 1} | ({before: -1} if before else {}))
            case ResultsFetched():
                self.runs_fetched += 1
            case Retry():
                self.retries += 1
            case RateLimited():
                self.rate_limited += 1
