"""Deliver what was paid for: first the documents, then the tables, then the lock file and the cache.

Each step is independent: if one fails, the error is reported and the others still run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from aihub_runner.apply.job import Job
from aihub_runner.errors import ResultsError, RunnerError, Shortage, StateError
from aihub_runner.files import explain_late
from aihub_runner.model import DOCUMENTS_NAME, Scan, Shard
from aihub_runner.results.documents import Tally, is_edited, tally_documents, update_documents, without_damage
from aihub_runner.results.folder import list_edited, update_tables
from aihub_runner.results.reader import Found, find_results
from aihub_runner.state.lockfile import as_forgotten, forget_parsed, shard_entries, update_lockfile
from aihub_runner.state.outputs import DOCUMENTS
from aihub_runner.state.store import State


class Delivered(Struct, frozen=True):
    """Notes, errors for what could not be written, and what the results hold, by the `facts` of that time."""

    notes: list[str]
    errors: list[RunnerError]
    tally: Tally
    facts: Sequence[object]

    def find_tally(self, shards: Sequence[Shard]) -> Tally | None:
        """Return what the results hold, unless other results count by now."""
        return self.tally if self.facts == _list_facts(shards) else None


def _list_facts(shards: Sequence[Shard]) -> list[object]:
    """List the facts that decide which results of a scan count."""
    return [(shard.id, shard.members, shard.runs) for shard in shards]


def deliver(job: Job, state: State, scan: Scan) -> Delivered:
    """Write results, lock file and cache."""
    shards, steps = state.load_shards(), _Steps()
    forget_parsed()
    found = find_results(state, shards, scan, job.goal, job.results_path)
    notes = _write_results(job, without_damage(found, job.damaged) if job.damaged else found, steps)
    with steps.one():
        write_lockfile(job, state, shards)
    with steps.one():
        notes += _keep_cache(state, scan)
    tally = tally_documents(state, shards, found.chosen, job.goal.include)
    return Delivered(notes, steps.errors, tally, _list_facts(shards))


class _Steps:
    """Independent delivery steps; `errors` holds those that failed."""

    def __init__(self) -> None:
        self.errors: list[RunnerError] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """Run one step, and keep its error."""
        try:
            with explain_late():
                yield
        except (ResultsError, StateError) as error:
            self.errors.append(error)


def write_lockfile(job: Job, state: State, shards: Sequence[Shard], forgotten: Collection[int] = ()) -> None:
    """Write the lock file from the recorded facts. It marks the shards that are about to be `forgotten`, by id."""
    counts = state.count_documents()
    closed = [shard for shard in shards if shard.is_closed]
    entries = [
        as_forgotten(entry) if shard.id in forgotten else entry
        for shard in closed
        for entry in shard_entries(shard, job.app, counts)
    ]
    update_lockfile(job.lock_path, entries, state.load_dismissed())


def _keep_cache(state: State, scan: Scan) -> list[str]:
    """Record the stat cache. A failure is only a note: the next apply hashes the files again.

    Raises Shortage: the next apply would lack the same.
    """
    try:
        state.record_cache(scan.cache, scan.outdated)
    except Shortage:
        raise
    except StateError as error:
        return [f"the next apply reads all files again, {error.message}"]
    return []


def _write_results(job: Job, found: Found, steps: _Steps) -> list[str]:
    """Write the documents and the tables. Return notes on files that were edited by hand."""
    refetch, edited = job.options.refetch, list[str]()
    with steps.one():
        if is_edited(found.state, found.folder) and not refetch:
            edited.append(DOCUMENTS_NAME)
            steps.errors += lacks_news(found)
        else:
            update_documents(found)
    with steps.one():
        edited += [] if refetch else list_edited(found.state, found.folder)
        steps.errors += update_tables(found, job.spec.results.formats, again=refetch)
    return [f"{found.folder.name}/{name} was edited by hand and is not overwritten; see --refetch" for name in edited]


def lacks_news(found: Found) -> list[RunnerError]:
    """Return an error where the user edited the documents and they are out of date."""
    if found.state.find_made_from(DOCUMENTS) == found.identify():
        return []
    what = f"{found.folder.name}/{DOCUMENTS_NAME}: was edited by hand and lacks newer results"
    return [ResultsError(what, "save your edits elsewhere and apply with --refetch")]
