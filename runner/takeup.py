"""Take up work that another state did: from a lock file, or from what is found on the server. It only reads there.

Nothing is believed that cannot be verified: the batch's listing and the digests of local files must agree with the
fingerprint, and the run must carry the tag.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, product

from runner.api import AIHub
from runner.errors import ServiceError
from runner.fingerprint import MEMBER_HEX, fingerprint_members, parse_run_tag, short_identity
from runner.lockfile import Entry
from runner.model import GIVEN_UP, GONE, Member, Source
from runner.shards import hashed_name, plain_name
from runner.state import State
from runner.wire import RunInfo, clean_text

STALE = "sha256/16:"  # stands before the shortened identity of a file that is not here any more as it was
THREADS = 8
MAX_TRIES = 1000  # of files that fit a batch by name and size; with a lock file, none are needed

Listed = Sequence[tuple[str, int | None]]  # the names (NFC) and sizes in a batch


@dataclass(frozen=True, slots=True)
class Inspected:
    """What the server says of an entry: the files in its batch, and its run; `why` it cannot be verified."""

    entry: Entry
    files: Mapping[str, int | None]
    run: RunInfo | None
    why: str = ""


def inspect_entries(client: AIHub, entries: Sequence[Entry]) -> list[Inspected]:
    """Ask the server about entries, several at once. Raises ServiceError where it cannot be asked at all."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda entry: _inspect(client, entry), entries))


def _inspect(client: AIHub, entry: Entry) -> Inspected:
    try:
        files = {name: file.size for name, file in client.list_files(entry.batch_id).items()}
    except ServiceError as error:
        if error.status != 404:
            raise
        return Inspected(entry, {}, None, f"batch {entry.batch_id} is not on the server")
    try:
        run = client.get_run(entry.run_id) if entry.run_id else None
    except ServiceError as error:
        if error.status != 404:
            raise
        run = RunInfo(id=entry.run_id, status="FAILED", msg=GONE)
        return Inspected(entry, files, run)
    why = f"run {entry.run_id} does not carry its tag" if run and entry.tag not in (run.tags or ()) else ""
    return Inspected(entry, files, run, why)


class Finder:
    """Finds the local files that lie in batches; of twins, the one of the right name, then one not found before."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._by_size: dict[int, list[Source]] = {}
        self._found: set[str] = set()
        for source in sources:
            self._by_size.setdefault(source.size, []).append(source)

    def match(self, entry: Entry, files: Mapping[str, int | None]) -> tuple[Member, ...]:
        """Find all files of a batch; empty where fingerprint and files do not agree.

        With the entry's `members`, files that are not here any more as they were become stale members.
        """
        listed = sorted((unicodedata.normalize("NFC", name), size) for name, size in files.items())
        if entry.files and len(listed) != entry.files:
            return ()
        marks = [entry.members[i : i + MEMBER_HEX] for i in range(0, len(entry.members), MEMBER_HEX)]
        members = self._recognise(listed, marks) if len(marks) == len(listed) else self._try(listed, entry.fingerprint)
        whole = all(member.path for member in members)
        if not members or (whole and fingerprint_members(members) != entry.fingerprint):
            return ()
        self._found |= {member.path for member in members}
        return tuple(members)

    def _recognise(self, listed: Listed, marks: Iterable[str]) -> list[Member]:
        """Find the files that the marks recognise; those that are not here as they were become stale."""
        members: list[Member] = []
        for (name, size), mark in zip(listed, marks, strict=True):
            here = {member.path for member in members}
            fitting = self._fitting(name, size, partial(_is_marked, mark=mark))
            found = next((source for source in fitting if source.path not in here), None)
            members.append(_member(name, found) if found else Member(name, "", size or 0, STALE + mark))
        return members

    def _try(self, listed: Listed, fingerprint: str) -> list[Member]:
        """Find the files by name and size alone; where several fit, try them until the fingerprint agrees."""
        choices = [
            [_member(name, source) for source in self._fitting(name, size, partial(_is_named, name=name))]
            for name, size in listed
        ]
        for members in islice(product(*choices), MAX_TRIES):
            if len({member.path for member in members}) == len(members) and fingerprint_members(members) == fingerprint:
                return list(members)
        return []

    def _fitting(self, name: str, size: int | None, fits: Callable[[Source], bool]) -> list[Source]:
        """List the files of a size that fit, the likeliest first."""
        sized = chain.from_iterable(self._by_size.values()) if size is None else self._by_size.get(size, ())
        return sorted(filter(fits, sized), key=lambda source: (not _is_named(source, name), source.path in self._found))


def _member(name: str, source: Source) -> Member:
    return Member(name, source.path, source.size, source.digest, source.password)


def recognise_stale(state: State, sources: Sequence[Source]) -> None:
    """Record files that were not here as they had been paid for, and are so again."""
    for shard in state.load_shards():
        stale = [member for member in shard.members if member.digest.startswith(STALE)]
        taken = {member.path for member in shard.members}
        found = {}
        for member in stale:
            mark = member.digest.removeprefix(STALE)
            for source in sources:
                fits_name = source.path not in taken and _is_named(source, member.name)
                if fits_name and short_identity(source.identity) == mark:
                    found[member.name] = replace(
                        member, path=source.path, size=source.size, digest=source.digest, password=source.password
                    )
                    taken.add(source.path)
                    break
        if found:
            state.record_members(shard.id, [found.get(member.name, member) for member in shard.members])


def _is_marked(source: Source, mark: str) -> bool:
    return short_identity(source.identity) == mark


def _is_named(source: Source, name: str) -> bool:
    return name in (plain_name(source.path), hashed_name(source.path))


def record_taken(state: State, found: Inspected, members: tuple[Member, ...]) -> None:
    """Record a verified entry: its shard, batch and run."""
    entry = found.entry
    with state.transaction():
        shard_id, batch_id = _ensure_shard(state, entry, members)
        run = state.record_taken_run(shard_id, batch_id, entry.run_key, entry.attempt, entry.tag)
        if entry.status == GIVEN_UP:
            state.record_given_up(run)
        if found.run is not None:
            times = (found.run.start_timestamp or 0, found.run.finish_timestamp or 0)
            state.record_run(run, found.run.id, found.run.status, clean_text(found.run.msg or ""), times)


def _ensure_shard(state: State, entry: Entry, members: tuple[Member, ...]) -> tuple[int, int]:
    for shard in state.load_shards():
        for batch in shard.batches:
            if shard.fingerprint == entry.fingerprint and batch.remote_id == entry.batch_id:
                return shard.id, batch.id
    shard_id = state.record_shard(members, entry.fingerprint)
    batch_id = state.record_taken_batch(shard_id, entry.target, entry.batch_id)
    for member in members:
        state.record_upload(batch_id, member.name, member.digest)
    return shard_id, batch_id


def new_entries(state: State, entries: Iterable[Entry], target: str) -> list[Entry]:
    """List the entries of this target that the state does not have."""
    shards = state.load_shards()
    runs = {run.remote_id for shard in shards for run in shard.runs if run.remote_id}
    open_tags = {run.tag for shard in shards for run in shard.runs}
    return [
        entry
        for entry in entries
        if entry.target == target and entry.run_id not in runs and (entry.run_id or entry.tag not in open_tags)
    ]


def survey_entries(runs: Iterable[RunInfo], target: str) -> list[Entry]:
    """Make entries of runs that were found on the server by their tags."""
    entries = []
    for run in runs:
        parsed = next(filter(None, map(parse_run_tag, run.tags or ())), None)
        if parsed and run.batch_id:
            fingerprint, key, attempt = parsed
            entries.append(
                Entry(
                    fingerprint=fingerprint,
                    target=target,
                    run_key=key,
                    batch_id=run.batch_id,
                    run_id=run.id,
                    attempt=attempt,
                )
            )
    return entries


def fits(files: Mapping[str, int | None], sources: Iterable[Source]) -> bool:
    """Tell whether any file of a batch could be one of ours, by name and size."""
    ours = {
        (name, size) for s in sources for name in (plain_name(s.path), hashed_name(s.path)) for size in (s.size, None)
    }
    return any((unicodedata.normalize("NFC", name), size) in ours for name, size in files.items())
