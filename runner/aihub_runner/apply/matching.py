"""Import work that another state did, from a lock file or from what exists on the service. It only reads there.

Everything is verified: the batch's listing and the digests of local files must match the fingerprint, and the run
must carry the tag.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice, product

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.errors import ServiceError
from aihub_runner.model import Batch, Member, Source
from aihub_runner.model import Listed as ListedFile
from aihub_runner.plan.batching import hashed_name, plain_name
from aihub_runner.plan.deletion import LOGS, OUTPUT, RUN
from aihub_runner.plan.identity import fingerprint_members, mark_place, short_identity
from aihub_runner.plan.packets import find_packets
from aihub_runner.plan.placeholders import is_placeholder, placeholder
from aihub_runner.state.lockfile import GIVEN_UP, Entry, split_marks, split_places
from aihub_runner.state.store import State
from aihub_runner.text.shown import count

THREADS = 8
MARK_BYTES = 8
MAX_TRIES = 1000  # combinations of files that fit by name and size; a lock file needs none

Listed = Sequence[tuple[str, int | None]]  # the names (NFC) and sizes in a batch


class Inspected(Struct, frozen=True):
    """What the service reports about an entry, and `why` it cannot be verified.

    `files` are the names and sizes in its batch, None if the batch is gone. Then `names` are those in the results of
    its run, if available. `is_gone` says that its run is gone.
    """

    entry: Entry
    files: Mapping[str, int | None] | None
    run: RunInfo | None
    why: str = ""
    names: tuple[str, ...] = ()
    is_gone: bool = False


def inspect_entries(client: AIHub, entries: Sequence[Entry], known: Collection[str] = ()) -> list[Inspected]:
    """Ask the service about entries, several at once; `known` are other runs that this state knows.

    Raises ServiceError if the service cannot be asked, or lists nothing that is known.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        inspected = list(pool.map(lambda entry: _inspect(client, entry), entries))
    missing = {found.entry.run_id for found in inspected if found.is_gone and not found.entry.is_deleted}
    if not missing:
        return inspected
    others = {entry.run_id for entry in entries if entry.run_id} | set(known)
    for run_id in missing:
        others.discard(run_id)
    listed = _list_twice(client, others, missing)
    return [_hidden(found) if found.is_gone and found.entry.run_id in listed else found for found in inspected]


def _hidden(found: Inspected) -> Inspected:
    return replace(found, is_gone=False, why=f"run {found.entry.run_id} returned 404, but is listed")


def _list_twice(client: AIHub, others: Collection[str], missing: Collection[str]) -> set[str]:
    """List runs twice, and return those in either listing. Raises ServiceError if one lists no known run."""
    listed: set[str] = set()
    for _ in range(2):
        reading = {run.id for run in client.list_runs(1)}
        if reading.isdisjoint(others) and reading.isdisjoint(missing):
            raise ServiceError(
                f"{count(len(missing), 'run')} paid for before: status 404, and no known run is listed",
                "check the context, and whether the account can see its runs; "
                "if they were deleted, trust the lock file with `runner resolve SPEC --adopt RUN_ID` for each",
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
    why = "" if _fits_entry(run, entry) else f"run {entry.run_id} has another tag or another batch"
    names = result_names(client, run) if files is None and not why else ()
    return Inspected(entry, files, run, why, names)


def _fits_entry(run: RunInfo, entry: Entry) -> bool:
    """Whether a run belongs to an entry: by its tag, or by its batch where it carries no tag of ours."""
    return entry.tag in (run.tags or ()) or (run.batch_id == entry.batch_id and not run.our_tags)


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


class Finder:
    """Finds local files for those in batches. Of twins, it prefers the one of the same name, then an unused one.

    With `by_folder`, all files of a batch are those of one folder, where there is one that fits.
    """

    def __init__(self, sources: Sequence[Source], *, by_folder: bool = False) -> None:
        self._by_size: dict[int, list[Source]] = {}
        self._by_mark: dict[str, list[Source]] = {}
        self._found: set[str] = set()
        for source in sources:
            self._by_size.setdefault(source.size, []).append(source)
        self._packets: dict[tuple[int | str, ...], list[list[Source]]] = {}  # by marks and by sizes
        for packet in find_packets(sources).values() if by_folder else ():
            for facts in ([short_identity(one.identity) for one in packet], [one.size for one in packet]):
                self._packets.setdefault(tuple(sorted(facts)), []).append(packet)

    def match(self, found: Inspected) -> tuple[Member, ...]:
        """Find all files of a batch. Empty if fingerprint and files do not match."""
        return self._find(Finder._match, found)

    def trust(self, found: Inspected) -> tuple[Member, ...]:
        """Trust an entry's marks for its files. Files that are missing or changed locally are stale."""
        return self._find(Finder._trust, found)

    def _find(self, find: Callable[[Finder, Inspected], tuple[Member, ...]], found: Inspected) -> tuple[Member, ...]:
        sizes = [size for size in (found.files or {}).values() if size is not None]
        packets = self._packets.get(tuple(sorted(split_marks(found.entry) or sizes)), ())
        for packet in sorted(packets, key=lambda packet: packet[0].path in self._found):
            if members := find(Finder(packet), found):
                self._found |= {member.path for member in members}
                return members
        return find(self, found)

    def _match(self, found: Inspected) -> tuple[Member, ...]:
        """Find the files of a batch, in whatever folders.

        With the entry's `members`, files that are missing or changed locally become stale members. Without a batch, the
        entry's `members`, the names in the run's results, or the fingerprint say which files it held.
        """
        entry = found.entry
        if entry.is_deleted:  # the service has nothing to compare with
            return self._trust(found)
        if found.files is None and not found.names:
            return self._match_marks(entry)
        files = dict.fromkeys(found.names) if found.files is None else found.files
        listed = sorted((unicodedata.normalize("NFC", name), size) for name, size in files.items())
        if entry.files and len(listed) != entry.files:
            return ()
        marks = split_marks(entry)
        members = self._recognise(listed, marks) if len(marks) == len(listed) else self._try(listed, entry.fingerprint)
        whole = all(member.path for member in members)
        if not members or (whole and fingerprint_members(members) != entry.fingerprint):
            return ()
        self._found |= {member.path for member in members}
        return tuple(members)

    def _trust(self, found: Inspected) -> tuple[Member, ...]:
        """Trust the marks. Where nothing lists the names any more, placeholders keep their order."""
        marks = split_marks(found.entry)
        names = found.names or sorted(found.files or ())
        if len(names) == len(marks):
            listed = sorted((unicodedata.normalize("NFC", name), (found.files or {}).get(name)) for name in names)
        else:
            listed = [(placeholder(at, mark), None) for at, mark in enumerate(marks)]
        members = self._recognise(listed, marks)
        self._found |= {member.path for member in members}
        return tuple(members)

    def _match_marks(self, entry: Entry) -> tuple[Member, ...]:
        """Find the files of an entry by its marks alone; the fingerprint confirms their names."""
        chosen: list[Source] = []
        for mark in split_marks(entry):
            source = next((source for source in self._marked(mark) if source not in chosen), None)
            if source is None:
                return ()
            chosen.append(source)
        names = [tuple(dict.fromkeys((plain_name(s.path), hashed_name(s.path)))) for s in chosen]
        for chosen_names in islice(product(*names), MAX_TRIES):
            members = tuple(map(Source.as_member, chosen, chosen_names))
            if members and fingerprint_members(members) == entry.fingerprint:
                self._found |= {member.path for member in members}
                return members
        return ()

    def _marked(self, mark: str) -> list[Source]:
        if not self._by_mark:
            for sources in self._by_size.values():
                for source in sources:
                    self._by_mark.setdefault(short_identity(source.identity), []).append(source)
        return self._by_mark.get(mark, [])

    def _recognise(self, listed: Listed, marks: Iterable[str]) -> list[Member]:
        """Find the files that the marks identify. Files that are missing or changed locally become stale."""
        members: list[Member] = []
        for (name, size), mark in zip(listed, marks, strict=True):
            here = {member.path for member in members}
            marked = [source for source in self._marked(mark) if size in (source.size, None)]
            found = next((source for source in self._likeliest(marked, name) if source.path not in here), None)
            members.append(found.as_member(name) if found else _stale(name, size or 0, mark))
        return members

    def _try(self, listed: Listed, fingerprint: str) -> list[Member]:
        """Find the files by name and size alone. Where several fit, try them until the fingerprint matches."""
        choices = [
            [source.as_member(name) for source in self._fitting(name, size, partial(_is_named, name=name))]
            for name, size in listed
        ]
        for members in islice(product(*choices), MAX_TRIES):
            if len({member.path for member in members}) == len(members) and fingerprint_members(members) == fingerprint:
                return list(members)
        return []

    def _fitting(self, name: str, size: int | None, fits: Callable[[Source], bool]) -> list[Source]:
        """List the files of a size that fit, the most likely first."""
        sized = chain.from_iterable(self._by_size.values()) if size is None else self._by_size.get(size, ())
        return self._likeliest(filter(fits, sized), name)

    def _likeliest(self, sources: Iterable[Source], name: str) -> list[Source]:
        return sorted(sources, key=lambda source: (not _is_named(source, name), source.path in self._found))


def match_kept(entry: Entry, content: Sequence[Member]) -> tuple[Member, ...]:
    """Return the files of a kept batch at an entry's run. If it held other files than today, all of them are stale.

    The fingerprint says which it is. Another content pays for nothing of today's, so its marks are enough; they become
    the names, in the same order.
    """
    if fingerprint_members(content) == entry.fingerprint:
        return tuple(content)
    marks = zip(split_places(entry), split_marks(entry), strict=False)
    return tuple(_stale(f"{at:05}-{place}", 0, mark) for at, (place, mark) in enumerate(marks))


def find_held(left: Iterable[Inspected], sources: Iterable[Source]) -> frozenset[str]:
    """List the paths of files that unverified entries may have paid for; all, where an entry lists no files."""
    entries = [found.entry for found in left]
    marks = {mark for entry in entries for mark in split_marks(entry)}
    knows_all = all(entry.members for entry in entries)
    return frozenset(s.path for s in sources if not knows_all or short_identity(s.identity) in marks)


def recognise_stale(state: State, sources: Sequence[Source]) -> None:
    """Record stale files that match their paid version again."""
    shards = [shard for shard in state.load_shards() if any(member.is_stale for member in shard.members)]
    marked: dict[str, list[Source]] = {}
    for source in sources if shards else ():
        marked.setdefault(short_identity(source.identity), []).append(source)
    for shard in shards:
        taken = {member.path for member in shard.members}
        found = {}
        for member in shard.members:
            for source in marked.get(member.digest, ()) if member.is_stale else ():
                if source.path not in taken and (is_placeholder(member) or _is_named(source, member.name)):
                    found[member.name] = source.as_member(member.name)
                    taken.add(source.path)
                    break
        if found:
            state.record_members(shard.id, [found.get(member.name, member) for member in shard.members])


def _stale(name: str, size: int, mark: str) -> Member:
    """Return a member of which only the lock file's mark is known."""
    return Member(name, "", size, mark, is_stale=True)


def _is_named(source: Source, name: str) -> bool:
    return name in (plain_name(source.path), hashed_name(source.path))


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
    """Return a mark for each file of a batch, by name (NFC) and size (None if it is not listed)."""
    return frozenset(_mark_file(unicodedata.normalize("NFC", name), size) for name, size in files.items())


def mark_sources(sources: Iterable[Source | Member]) -> frozenset[bytes]:
    """Return marks for local files as a batch may hold them; see `mark_files`."""
    return frozenset(
        _mark_file(name, size)
        for s in sources
        for name in (plain_name(s.path), hashed_name(s.path))
        for size in (s.size, None)
    )


def _mark_file(name: str, size: int | None) -> bytes:
    return hashlib.sha256(f"{name}\0{size}".encode("utf-8", "surrogatepass")).digest()[:MARK_BYTES]
