"""Deletions on the service: check that a batch or a run is ours, delete it, and wait until that is confirmed."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.job import Job
from aihub_runner.errors import ServiceError
from aihub_runner.model import FINAL_STATUSES
from aihub_runner.plan.deletion import BATCH, Item
from aihub_runner.plan.identity import mark_place
from aihub_runner.plan.placeholders import mark_in
from aihub_runner.state.store import State
from aihub_runner.text.escape import clean_text
from aihub_runner.text.shown import count

JOB_WAIT_S = 600.0  # longest wait for jobs of the service while none of them ends
LOOK_EVERY_S = 1.0
GONE = "returned 404"
UNSEEN = f"{GONE}, and nothing else of this job is listed, so the account may not see it"


class Patience:
    """How long to wait for deletions: one time for all, which begins anew when one is confirmed.

    With a time for each, a service that does nothing would be waited for as often as there are batches and runs.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self.renew()

    def renew(self) -> None:
        """Begin anew."""
        self._until_s = self._clock() + self._limit_s

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self._clock() >= self._until_s


class Deleter:
    """Deletes items one after another, then waits for all of them. `done` and `left` are the outcome."""

    def __init__(self, job: Job, state: State, client: AIHub) -> None:
        self._job, self._state, self._client = job, state, client
        self._runs_on: dict[str, set[str]] = {}
        self._begun = state.load_deletions()
        batches = (batch for shard in state.load_shards() for batch in shard.batches)
        self._kept = {str(batch.remote_id) for batch in batches if batch.kept}
        self._has_seen = False
        self.done: list[Item] = []
        self.left: list[Item] = []

    def delete(self, items: Sequence[Item]) -> None:
        """Delete items, as far as they are ours. Raises ServiceError if the account is refused."""
        if not items:
            return
        self._survey()
        gone: list[Item] = []
        asked = [(item, jobs) for item in items if (jobs := self._ask(item, gone)) is not None]
        listing = Listing(self._client, self._job.target.workspace)
        self._for_jobs, self._for_lists = Patience(JOB_WAIT_S), Patience(self._job.spec.limits.settle_s)
        for item, jobs in asked:
            self._finish(item, jobs, listing)
        for item in gone:
            if self._has_seen or item.was_gone:
                self._finish(item, (), listing)
            else:
                self._leave(item, UNSEEN)

    def _survey(self) -> None:
        """List all runs: one that is not recorded here may need a batch."""
        listed = in_thread(lambda: self._client.list_runs(1))
        known = self._state.known_runs()
        self._has_seen = any(run.id in known for run in listed)
        for run in listed:
            if run.id not in known:
                batch_id = run.batch_id
                if batch_id is None and run.status not in FINAL_STATUSES:
                    batch_id = self._find_batch(run)
                self._runs_on.setdefault(str(batch_id), set()).add(run.id)

    def _find_batch(self, run: RunInfo) -> int | None:
        """Ask a run for its batch, which a list may omit. Returns None where it is gone, or has none."""
        info = in_thread(lambda: or_none(lambda: self._client.get_run(run.id)))
        return info.batch_id if info else None

    def _leave(self, item: Item, why: str) -> None:
        self.left.append(replace(item, left=why))

    def _ask(self, item: Item, gone: list[Item]) -> tuple[str, ...] | None:
        """Ask for a deletion and return its jobs, None if it was not asked for. The intent is recorded before."""
        begun = self._begun.get(item.key)
        if begun and not begun.is_done and begun.jobs and item.parts <= begun.parts:
            return begun.jobs
        try:
            names = self._state.names_in(int(item.remote_id)) if item.kind == BATCH else frozenset[str]()
            why = in_thread(lambda: self._check(item, names))
            if why == GONE and not begun:
                gone.append(item)
                return None
            if why not in ("", GONE):
                self._leave(item, why)
                return None
            self._has_seen = self._has_seen or not why
            parts = item.parts | (begun.parts if begun else frozenset())
            self._state.record_deletion(*item.key, parts)
            jobs = None if why else self._request(item)
        except ServiceError as error:
            if error.status == 401:
                raise
            self._leave(item, error.message)
            return None
        known = tuple(filter(None, jobs or ()))
        if not jobs or len(known) < len(jobs):
            return ()
        self._state.record_deletion_jobs(*item.key, known)
        return known

    def _request(self, item: Item) -> tuple[str | None, ...] | None:
        """Ask for a deletion. A batch that the account must not delete stays in use; after other errors, it may go."""
        try:
            return in_thread(lambda: or_none(lambda: request_deletion(self._client, item)))
        except ServiceError as error:
            if item.kind == BATCH and error.status in (401, 403):
                self._state.record_deletion(*item.key, ())
            raise

    def _check(self, item: Item, names: Collection[str]) -> str:
        """Return why an item must not be deleted, `GONE` for a 404, else nothing."""
        if item.kind == BATCH:
            why = check_batch(self._client, item, self._job.spec.name)
            others = self._runs_on.get(item.remote_id)
            if others and why != GONE:  # of a batch that is gone, no run needs anything
                return f"run {min(others)} on it is not recorded here"
            return why or check_files(self._client, item, names, is_kept=item.remote_id in self._kept)
        return check_run(self._client, item)

    def _finish(self, item: Item, jobs: tuple[str, ...], listing: Listing) -> None:
        """Wait until a deletion is confirmed, and record it. After a job that failed, the next time asks again."""
        limits = self._job.spec.limits
        pauses_s = limits.poll_min_s, limits.poll_max_s
        try:
            why = in_thread(lambda: wait_for_jobs(self._client, jobs, pauses_s, self._for_jobs)) if jobs else GONE
            if why == GONE:
                why = in_thread(lambda: wait_until_gone(self._client, item, listing, self._for_lists))
            if why and jobs:  # it failed, or the service forgot it
                self._state.record_deletion_jobs(*item.key, ())
        except ServiceError as error:
            if error.status == 401:
                raise
            why = error.message
        if why:
            self._leave(item, f"not confirmed, {why}")
            return
        self._for_jobs.renew()
        self._for_lists.renew()
        self._state.record_deleted(*item.key, item.parts)
        self.done.append(item)


def check_batch(client: AIHub, item: Item, spec_name: str) -> str:
    """Return why a batch must not be deleted: its name on the service must be the recorded one, or one of the spec."""
    info = or_none(lambda: client.get_batch(int(item.remote_id)))
    if info is None:
        return GONE
    is_ours = info.name == item.name or (
        not item.name and re.fullmatch(re.escape(spec_name) + "-[0-9a-f]{64}", info.name)
    )
    return "" if is_ours else f"is named {clean_text(info.name)}, which is not a name of this job"


def check_files(client: AIHub, item: Item, names: Collection[str], *, is_kept: bool = False) -> str:
    """Return why a batch must not be deleted: it holds a file that was not sent by this job, or cannot be listed.

    Names that were lost are placeholders. Those of a batch that is kept have marks of the places of files; of another
    batch, only the number of files is known.
    """
    lost = {mark for name in names if (mark := mark_in(name))}
    files = or_none(lambda: client.list_files(int(item.remote_id)))
    if files is None:  # the batch is there: a page may have been refused, and others' files be on it
        return "its list of files returned 404"
    others = []
    for name, file in sorted(files.items()):
        own = unicodedata.normalize("NFC", name)
        if own not in names and not (is_kept and mark_place(own, file.size, file.modified_timestamp) in lost):
            others.append(name)
    if not is_kept and len(others) <= sum(bool(mark_in(name)) for name in names):
        return ""
    return f"holds {count(len(others), 'file')} of others, {clean_text(others[0])}" if others else ""


def check_run(client: AIHub, item: Item) -> str:
    """Return why a run must not be deleted: it must carry our tag, and have ended."""
    info = or_none(lambda: client.get_run(item.remote_id))
    if info is None:
        return GONE
    if item.name not in (info.tags or ()):
        return "does not carry the tag of this job"
    return "" if info.status in FINAL_STATUSES else f"is {clean_text(info.status)}"


def request_deletion(client: AIHub, item: Item) -> tuple[str | None, ...]:
    """Ask for the deletion of an item, and return its jobs."""
    if item.kind == BATCH:
        return client.delete_batch(int(item.remote_id))
    return client.delete_run(item.remote_id, item.parts)


def wait_for_jobs(client: AIHub, jobs: Iterable[str], pauses_s: tuple[float, float], patience: Patience) -> str:
    """Wait until jobs have ended. Return why one has not done its work, `GONE` where the service forgot one."""
    return next(filter(None, (_wait_for_job(client, job, pauses_s, patience) for job in jobs)), "")


def _wait_for_job(client: AIHub, job_id: str, pauses_s: tuple[float, float], patience: Patience) -> str:
    pause_s = pauses_s[0]
    while True:
        job = or_none(lambda: client.get_job(job_id))
        if job is None:
            return GONE
        if job.state == "COMPLETE":
            return ""
        if job.state in FINAL_STATUSES or patience.is_over:
            return f"its job {job_id} is {clean_text(job.state)}, {clean_text(job.message or 'no message')}"
        client.pause(pause_s)
        pause_s = min(2 * pause_s, pauses_s[1])


class Listing:
    """The ids that the service lists. They are read once after all requests, and again for an item that still shows."""

    def __init__(self, client: AIHub, workspace: str) -> None:
        self._client, self._workspace = client, workspace
        self._ids: dict[str, set[str]] = {}

    def lacks(self, item: Item) -> bool:
        """Whether an item is not listed any more."""
        if item.remote_id in self._ids.get(item.kind, {item.remote_id}):
            self._ids[item.kind] = self._read(item.kind)
        return item.remote_id not in self._ids[item.kind]

    def _read(self, kind: str) -> set[str]:
        if kind == BATCH:
            return {str(batch.id) for batch in self._client.list_batches(self._workspace)}
        return {run.id for run in self._client.list_runs(1)}


def wait_until_gone(client: AIHub, item: Item, listing: Listing, patience: Patience) -> str:
    """Look until the service neither returns nor lists an item; return why it is not confirmed."""
    while find(client, item) or not listing.lacks(item):
        if patience.is_over:
            return "the service returned no deletion job, and still has it"
        client.pause(LOOK_EVERY_S)
    return ""


def find(client: AIHub, item: Item) -> BatchInfo | RunInfo | None:
    """Return what the service has under the id of an item, None for a 404."""
    if item.kind == BATCH:
        return or_none(lambda: client.get_batch(int(item.remote_id)))
    return or_none(lambda: client.get_run(item.remote_id))
