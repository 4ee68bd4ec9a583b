"""Import work that another state did, from a lock file or from what exists on the service. It only reads there.

Everything is verified: the batch's listing and the digests of local files must match the fingerprint, and the run
must carry the tag.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply.finder import Inspected
from aihub_runner.errors import ServiceError
from aihub_runner.model import Batch, Member, Source
from aihub_runner.model import Listed as ListedFile
from aihub_runner.plan.batching import hashed_name, plain_name, unhashed_name
from aihub_runner.plan.deletion import LOGS, OUTPUT, RUN
from aihub_runner.plan.identity import mark_place, short_identity
from aihub_runner.state.lockfile import GIVEN_UP, Entry, split_marks, split_places
from aihub_runner.state.store import State
from aihub_runner.text.shown import count

THREADS = 8
MARK_BYTES = 8
_OF_ALL = frozenset({401, 404, 408, 425, 429})  # statuses that concern all requests or pass, and "not there"
MISFIT = "has another tag or another batch"


def inspect_entries(client: AIHub, entries: Sequence[Entry], known: Collection[str], resolve: str) -> list[Inspected]:
    """Ask the service about entries, several at once; `known` are other runs that this state knows.

    Raises ServiceError if the service cannot be asked, or lists nothing that is known: then the command `resolve` may
    trust the lock file.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        inspected = list(pool.map(lambda entry: _inspect(client, entry), entries))
    missing = {found.entry.run_id for found in inspected if found.is_gone and not found.entry.is_deleted}
    if not missing:
        return inspected
    others = {entry.run_id for entry in entries if entry.run_id} | set(known)
    for run_id in missing:
        others.discard(run_id)
    listed = _list_twice(client, others, missing, resolve)
    return [_hidden(found) if found.is_gone and found.entry.run_id in listed else found for found in inspected]


def _hidden(found: Inspected) -> Inspected:
    return replace(found, is_gone=False, why=f"run {found.entry.run_id} returned 404, but is listed")


def _list_twice(client: AIHub, others: Collection[str], missing: Collection[str], resolve: str) -> set[str]:
    """List runs twice, and return those in either listing. Raises ServiceError if one lists no known run."""
    listed: set[str] = set()
    for _ in range(2):
        reading = {run.id for run in client.list_runs(1)}
        if reading.isdisjoint(others) and reading.isdisjoint(missing):
            raise ServiceError(
                f"{count(len(missing), 'run')} paid for before: status 404, and no known run is listed",
                "check the context, and whether the account can see its runs; "
                f"if they were deleted, trust the lock file with `{resolve} --adopt RUN_ID` for each",
                status=404,
            )
        listed |= reading
    return listed


def _inspect(client: AIHub, entry: Entry) -> Inspected:
    if entry.is_deleted:
        return Inspected(entry, None, None, is_gone=True)
    files = or_none(lambda: {name: file.size for name, file in client.list_files(entry.batch_id).items()})
    if not entry.run_id:
        why = f"batch {entry.batch_id} does not exist on the service" if files is None else ""
        return Inspected(entry, files, None, why)
    run = or_none(lambda: client.get_run(entry.run_id))
    if run is None:
        return Inspected(entry, files, None, is_gone=True)
    why = "" if _fits_entry(run, entry) else f"run {entry.run_id} {MISFIT}"
    names: tuple[str, ...] = ()
    if files is None and not why:
        try:
            names = result_names(client, run)
        except ServiceError as error:
            if not is_withheld(error):
                raise
            if not entry.members:  # else these tell which files the run had
                why = f"its batch was deleted, and its results cannot be read, {error.message}"
    return Inspected(entry, files, run, why, names)


def is_withheld(error: ServiceError) -> bool:
    """Whether the service withholds something that exists, such as others' results, while it answers otherwise."""
    return 400 <= error.status < 500 and error.status not in _OF_ALL


def _fits_entry(run: RunInfo, entry: Entry) -> bool:
    """Whether a run belongs to an entry: by its tag, or by its batch where it carries no tag of ours.

    A tag alone is not enough: a merge may have given the entry the batch of another one.
    """
    if entry.tag in (run.tags or ()):
        return not (run.batch_id and entry.batch_id) or run.batch_id == entry.batch_id
    return run.batch_id == entry.batch_id and not run.our_tags


def is_contradicted(found: Inspected) -> bool:
    """Whether a run is there, and is not the one of its entry: a merge may have mixed up the lines of several."""
    return found.why.endswith(MISFIT)


def result_names(client: AIHub, run: RunInfo) -> tuple[str, ...]:
    """List the names of files (NFC) in the results of a run; empty if there are no results."""
    names: list[str] = []
    while run.status == "COMPLETE":
        found = or_none(partial(client.get_results, run.id, {}, len(names)))
        if found is None or not found[1].files:
            break
        page = found[1]
        names += [unicodedata.normalize("NFC", file.original_file_name) for file in page.files]
        if not page.has_more:
            return tuple(names)
    return ()


def find_held(left: Iterable[Inspected], sources: Iterable[Source]) -> frozenset[str]:
    """List the paths of files that unverified entries may have paid for; all, where an entry lists no files."""
    entries = [found.entry for found in left]
    marks = {mark for entry in entries for mark in split_marks(entry)}
    knows_all = all(entry.members for entry in entries)
    return frozenset(s.path for s in sources if not knows_all or short_identity(s.identity) in marks)


def record_imported(
    state: State, found: Inspected, members: tuple[Member, ...], listed: Mapping[str, ListedFile] | None = None
) -> None:
    """Record a verified entry: its shard, batch and run. `listed` is what its batch holds now, if that is kept."""
    entry = found.entry
    with state.transaction():
        shard_id, batch = _ensure_shard(state, found, members)
        _record_times(state, entry, batch.id, listed or {})
        identity = entry.run_key, entry.attempt, entry.tag
        run = state.record_imported_run(shard_id, batch, identity, entry.run_id or None)
        if entry.status == GIVEN_UP:
            state.record_given_up(run)
        if found.run is not None:
            state.record_run(run, *found.run.facts)
        elif found.is_gone:
            state.record_run(run, entry.run_id, entry.last_status, "", (0, 0))
            state.record_run_gone(run)
        if entry.is_deleted:
            state.record_deleted(RUN, entry.run_id, OUTPUT | LOGS)


def _record_times(state: State, entry: Entry, batch: int, listed: Mapping[str, ListedFile]) -> None:
    """Record the time of each file that lies in a kept batch as an entry says, which without places says nothing."""
    places = {*split_places(entry)}
    files = (file for file in listed.items() if not places or mark_place(*file[1]._replace(name=file[0])) in places)
    state.record_modified(batch, {name: file.modified_s or 0 for name, file in files})


def _ensure_shard(state: State, found: Inspected, members: tuple[Member, ...]) -> tuple[int, Batch]:
    entry = found.entry
    for shard in state.find_shards(entry.batch_id):
        if shard.fingerprint == entry.fingerprint:
            return shard.id, next(batch for batch in shard.batches if batch.remote_id == entry.batch_id)
    shard_id = state.record_shard(members, entry.fingerprint)
    row = state.record_imported_batch(shard_id, entry.target, entry.batch_id)
    state.record_uploads(row, ((member.name, member.digest) for member in members))
    if entry.kept:
        state.record_kind(row, entry.kept)
    if found.files is None and not (entry.kept and entry.is_deleted):  # that says nothing of a batch that is kept
        state.record_batch_gone(row)
    [shard] = state.load_shards(shard_id)
    return shard_id, shard.batches[0]


def survey_entries(runs: Iterable[RunInfo], target: str, *, without_batch: bool = False) -> list[Entry]:
    """Return entries for runs found on the service by their tags, and runs `without_batch` if asked for.

    Of twins, the one to use comes first.
    """
    entries = []
    for run in sorted(runs, key=RunInfo.rank):
        if run.our_tags and (run.batch_id or without_batch):
            fingerprint, key, attempt = run.our_tags[0]
            entries.append(
                Entry(
                    fingerprint=fingerprint,
                    target=target,
                    run_key=key,
                    batch_id=run.batch_id or 0,
                    run_id=run.id,
                    attempt=attempt,
                )
            )
    return entries


def choose_twins(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Split entries into the first of each (fingerprint, key, attempt, batch), and its twins."""
    first: dict[tuple[str, str, int, int], Entry] = {}
    twins = []
    for entry in entries:
        if first.setdefault(entry.identity, entry) is not entry:
            twins.append(entry)
    return list(first.values()), twins


def mark_files(files: Mapping[str, int | None]) -> frozenset[bytes]:
    """Return marks for the files of a batch, by name (NFC) and size (None if it is not listed).

    A name with a hash of a path also counts without it: the file may have moved.
    """
    named = ((unicodedata.normalize("NFC", name), size) for name, size in files.items())
    return frozenset(_mark_file(one, size) for name, size in named for one in {name, unhashed_name(name)})


def index_marks(sources: Iterable[Source | Member]) -> dict[bytes, list[int]]:
    """Return the marks of local files as a batch may hold them, each with the places of its files; see `mark_files`."""
    index: dict[bytes, list[int]] = {}
    for at, source in enumerate(sources):
        names = {plain_name(source.path), hashed_name(source.path)}
        for mark in {_mark_file(name, size) for name in names for size in (source.size, None)}:
            index.setdefault(mark, []).append(at)
    return index


def _mark_file(name: str, size: int | None) -> bytes:
    return hashlib.sha256(f"{name}\0{size}".encode("utf-8", "surrogatepass")).digest()[:MARK_BYTES]
