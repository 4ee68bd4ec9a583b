"""What happens during an apply, as values. Each is emitted once; subscribers show, log or count it.

`cli/messages.py` has the words for them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from msgspec import Struct, field


class Event(Struct, frozen=True):
    """Something that happened: one of the classes below."""


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


class Tick(Event, frozen=True):
    """Time passed. Emitted at least about once a second while requests are in flight."""


class Stopping(Event, frozen=True):
    """A signal asked to stop; requests in flight are finished."""


class Problem(Event, frozen=True):
    """A shard is skipped for the rest of this apply, or something is not recorded."""

    message: str


# Before anything is sent


class ScanProgress(Event, frozen=True):
    """How much of the local files was read."""

    files: int
    files_total: int
    bytes: int
    bytes_total: int


class ContextUnset(Event, frozen=True):
    """No context is set, so runs spend the units of the community account."""

    target: str


class StateOnNetwork(Event, frozen=True):
    """The state is on a network file system, whose locks are unreliable."""

    state: str
    file_system: str


class UploadsLowered(Event, frozen=True):
    """Fewer uploads at once than wanted, because of the limit of descriptors."""

    now: int
    wanted: int
    limit: int


class WorkersJoined(Event, frozen=True):
    """Files are sent by workers beyond this process."""

    cluster: str
    workers: int
    threads: int


class WorkerCannotRead(Event, frozen=True):
    """A worker beyond this process cannot read a file as it was planned, so it is sent from here, as others may be."""

    worker: str
    path: str
    why: str


class AgainResumed(Event, frozen=True):
    """An interrupted `--again` is finished first."""


# The check before paying


class CheckStarted(Event, frozen=True):
    """The service is asked for earlier work of this spec."""


class CheckRepeated(Event, frozen=True):
    """A batch for planned work exists without a run; the check is repeated after a wait."""

    wait_s: float


class ImportStarted(Event, frozen=True):
    """Paid runs are imported from a lock file."""

    runs: int
    lock_file: str


class RunImported(Event, frozen=True):
    """A run that was not known here was imported. `is_clones` says that another clone started it."""

    run: str
    batch: int
    is_clones: bool = False


class TwinFound(Event, frozen=True):
    """A run has the same tag as an imported one, so it was paid twice."""

    run: str
    batch: int


class ForeignBatch(Event, frozen=True):
    """A batch that may have been this spec's holds other files."""

    batch: int
    name: str


class RunsUnlisted(Event, frozen=True):
    """None of the recorded runs is listed any more."""


# Other clones


class OlderBatch(Event, frozen=True):
    """Another clone's older batch of the same name; its run is awaited."""

    batch: int


class OlderClaim(Event, frozen=True):
    """Another clone's older claim on a batch; its run is awaited."""

    claim: int
    batch: int


class TurnAwaited(Event, frozen=True):
    """A kept batch is about to be changed or run; another client may be first."""

    batch: int
    wait_s: float


class CloneAwaited(Event, frozen=True):
    """Another client may run the same batch; its run is awaited."""

    batch: int
    wait_s: float


class BatchTakenOver(Event, frozen=True):
    """Another clone's batch has no run, and the user decided to start one here."""

    batch: int


# Batches and files


class UploadPlanned(Event, frozen=True):
    """Files will be sent."""

    files: int
    bytes: int


class BatchCreated(Event, frozen=True):
    """A batch was created and verified. `is_found` says that an earlier request had created it."""

    batch: int
    is_found: bool = False


class BatchGone(Event, frozen=True):
    """A batch does not exist any more, so its files are sent again."""

    batch: int


class BatchSpoilt(Event, frozen=True):
    """A worker beyond this process may still send files to a batch that it must not hold: another one is created."""

    batch: int


class LateWorkersAwaited(Event, frozen=True):
    """A worker beyond this process may still send files to a batch. It is not run before that is over."""

    batch: int
    wait_s: float


class BatchFollowed(Event, frozen=True):
    """A kept batch holds what was planned; `deleted` are the names of the files that were deleted from it."""

    batch: int
    added: int
    replaced: int
    deleted: tuple[str, ...]


class FilesMissing(Event, frozen=True):
    """Files that were sent are not in a batch, and are sent again."""

    batch: int
    files: int


class FileUploaded(Event, frozen=True):
    """A file is in its batch."""

    path: str
    bytes: int


class FileChanged(Event, frozen=True):
    """A file changed since the scan; the new content was sent."""

    path: str


class FileSkipped(Event, frozen=True):
    """A file that was planned cannot be sent."""

    path: str
    bytes: int
    reason: str
    detail: str


# Requests


class Retry(Event, frozen=True):
    """A request failed, and is repeated after a wait."""

    message: str
    wait_s: float


class RateLimited(Event, frozen=True):
    """The service asks to slow down."""

    message: str
    wait_s: float


class ResponseLost(Event, frozen=True):
    """It is unconfirmed whether a request that creates something succeeded."""

    message: str


class RefusedForNow(Event, frozen=True):
    """A request that creates something was refused, and may be sent again after a check."""

    message: str


class ExistenceChecked(Event, frozen=True):
    """It is checked whether something that was requested exists."""

    what: str
    wait_s: float


# Runs


class RunStarted(Event, frozen=True):
    """The service confirmed that it started a run."""

    run: str


class RunStatus(Event, frozen=True):
    """The status of a run changed. `before` is empty for the first one."""

    run: str
    status: str
    message: str = ""
    before: str = ""


class RunPaidTwice(Event, frozen=True):
    """A run was imported, and others carry the same tag."""

    run: str
    twins: tuple[str, ...]


class RunGone(Event, frozen=True):
    """A run does not exist any more, and its results were not fetched."""

    run: str


class RunDropped(Event, frozen=True):
    """A run that was not started is not wanted any more. `is_paid` says that another run paid for its files."""

    shard: int
    is_paid: bool


class RunUnrecorded(Event, frozen=True):
    """A run was started, but the state cannot record it."""

    run: str


class RunUnconfirmed(Event, frozen=True):
    """A run may have been started when the apply had to end."""

    batch: int | None
    tag: str


class ResultsFetched(Event, frozen=True):
    """All results of a run are on disk."""

    run: str
    files: int


class PdfsFetched(Event, frozen=True):
    """Some PDFs of documents are on disk."""

    pdfs: int


class DeletionStarted(Event, frozen=True):
    """Batches and runs are about to be deleted on the service."""

    batches: int
    runs: int


class RefreshStarted(Event, frozen=True):
    """The service is asked whether the recorded batches and runs are still there."""


class Drifted(Event, frozen=True):
    """A batch or a run is not as it is recorded."""

    kind: str
    id: str
    recorded: str
    found: str


class Counts(Struct):
    """The numbers of an apply, for a subscriber. `runs` counts runs by their last known status; `drift` lists it."""

    files_to_send: int = 0
    files_sent: int = 0
    bytes_to_send: int = 0
    bytes_sent: int = 0
    runs_started: int = 0
    runs_fetched: int = 0
    retries: int = 0
    rate_limited: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    drift: list[Drifted] = field(default_factory=list)

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
            case Drifted():
                self.drift.append(event)
            case Retry():
                self.retries += 1
            case RateLimited():
                self.rate_limited += 1
