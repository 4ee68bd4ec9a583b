"""Find the local files that a paid run had, by what a lock file and the service say of them. It only reads."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, product

from msgspec import Struct

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.model import Member, Shard, Source
from aihub_runner.plan.batching import assign_names, hashed_name, plain_name, unhashed_name
from aihub_runner.plan.identity import fingerprint_members, short_identity
from aihub_runner.plan.packets import find_packets, folder_of
from aihub_runner.plan.placeholders import is_placeholder, mark_of, placeholder
from aihub_runner.state.lockfile import Entry, split_marks, split_places
from aihub_runner.state.store import State

MAX_TRIES = 1000  # combinations of files that fit by name and size; a lock file needs none
FEW_TRIES = 10  # where the files have most likely changed
MAX_MOVED = 100  # files that a name may stand for if its hash is of another path

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


class Finder:
    """Finds local files for those in batches. Each file stands for one of each run key, by its name if it can.

    With `by_folder`, all files of a batch are those of one folder, and a whole folder stands for one of each run key.
    """

    def __init__(self, sources: Sequence[Source], *, by_folder: bool = False) -> None:
        self._sources = sources
        self._by_name: dict[str, list[Source]] = {}
        self._by_size: dict[tuple[str, int | None], list[Source]] = {}  # by name and size, or only by name
        self._by_mark: dict[str, list[Source]] = {}
        self._used: set[tuple[str, str]] = set()  # run keys and paths
        self._reserved: set[tuple[str, str]] = set()
        self._names: dict[str, dict[str, list[Source]]] = {}  # by mark and name
        self._start: dict[tuple[str, str], int] = {}  # by run key and mark: the files before it are used
        self._folders = find_packets(sources) if by_folder else {}
        self._packets: dict[tuple[int | str, ...], list[list[Source]]] = {}  # by marks and by sizes
        self._proofs: dict[str, tuple[Member, ...]] = {}  # folders by their fingerprint
        for packet in self._folders.values():
            for facts in ([short_identity(one.identity) for one in packet], [one.size for one in packet]):
                self._packets.setdefault(tuple(sorted(facts)), []).append(packet)

    def reserve(self, inspected: Iterable[Inspected]) -> None:
        """Keep the files that are named as those in batches from standing for others, of the same bytes.

        With `by_folder`, files stand for others of their own folder only.
        """
        for found in () if self._folders else inspected:
            names, marks, key = _list_names(found), split_marks(found.entry), found.entry.run_key
            for name, mark in zip(names, marks, strict=True) if len(names) == len(marks) else ():
                places = ((key, source.path) for source in self._find_named(mark, name, key))
                self._reserved.update(islice((place for place in places if place not in self._reserved), 1))

    def match(self, found: Inspected) -> tuple[Member, ...]:
        """Find all files of a batch. Empty if fingerprint and files do not match."""
        members = self._find(Finder._match, found)
        if self._folders and not _is_proven(members, found.entry):
            members = self._prove_folder(found) or members
        return members

    def trust(self, found: Inspected) -> tuple[Member, ...]:
        """Trust an entry's marks for its files. Files that are missing or changed locally are stale."""
        return self._find(Finder._trust, found)

    def _find(self, find: Callable[[Finder, Inspected], tuple[Member, ...]], found: Inspected) -> tuple[Member, ...]:
        sizes, marks = [size for size in (found.files or {}).values() if size is not None], split_marks(found.entry)
        whole = self._packets.get(tuple(sorted(marks or sizes)), ())
        for packet in whole:
            is_used = any((found.entry.run_key, source.path) in self._used for source in packet)
            if members := () if is_used else find(Finder(packet), found):
                self.use(found.entry, members)
                return members
        likely = self._list_likely(marks, {folder_of(packet[0].path) for packet in whole})
        return find(Finder(likely) if self._folders and marks else self, found)

    def _list_likely(self, marks: Iterable[str], used: Collection[str]) -> list[Source]:
        """List the files of the folder with most of some files, except for used folders, which are whole."""
        sources = (source for mark in marks for source in self._marked(mark)) if self._folders else ()
        folders = Counter(folder_of(source.path) for source in sources).most_common()
        return next((self._folders[folder] for folder, _ in folders if folder not in used), [])

    def use(self, entry: Entry, members: Sequence[Member]) -> None:
        """Note that files stand for those of an entry. Part of a folder may be in several batches."""
        if not (self._folders and any(member.is_stale for member in members)):
            self._used |= {(entry.run_key, member.path) for member in members if member.path}

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
        members = self._recognise(listed, entry) if len(split_marks(entry)) == len(listed) else []
        if not _is_proven(members, entry):
            stale = members if any(member.is_stale for member in members) else []
            members = self._prove(listed, entry, is_likely=not stale) or stale
        self.use(entry, members)
        return tuple(members)

    def _prove_folder(self, found: Inspected) -> tuple[Member, ...]:
        """Find the folder of an entry by its fingerprint, as `_prove` does."""
        if not self._proofs:
            for packet in self._folders.values():
                names = assign_names([source.path for source in packet])
                whole = tuple(source.as_member(names[source.path]) for source in packet)
                self._proofs[fingerprint_members(whole)] = whole
        members = self._proofs.get(found.entry.fingerprint, ())
        if any((found.entry.run_key, member.path) in self._used for member in members):
            return ()
        self.use(found.entry, members)
        return members

    def _prove(self, listed: Listed, entry: Entry, *, is_likely: bool) -> list[Member]:
        """Find the files by the fingerprint: a merge may have given an entry the marks of another one.

        Unless that `is_likely`, a few tries must do, and none may stand for them that stands for others already.
        """
        members = self._try(listed, entry, MAX_TRIES if is_likely else FEW_TRIES)
        is_used = any((entry.run_key, member.path) in self._used for member in members)
        return members if is_likely or not is_used else []

    def _trust(self, found: Inspected) -> tuple[Member, ...]:
        """Trust the marks. Where nothing lists the names any more, placeholders keep their order."""
        marks = split_marks(found.entry)
        if found.entry.files not in (0, len(marks)):
            return ()
        names = _list_names(found)
        if len(names) != len(marks):
            names = [placeholder(at, mark) for at, mark in enumerate(marks)]
        sizes = {unicodedata.normalize("NFC", name): size for name, size in (found.files or {}).items()}
        members = self._recognise([(name, sizes.get(name)) for name in names], found.entry)
        self.use(found.entry, members)
        return tuple(members)

    def _match_marks(self, entry: Entry) -> tuple[Member, ...]:
        """Find the files of an entry by its marks alone; the fingerprint confirms their names."""
        chosen: dict[str, Source] = {}
        for mark in split_marks(entry):
            fresh = [source for source in self._marked(mark) if source.path not in chosen]
            source = min(fresh, key=lambda source: (entry.run_key, source.path) in self._used, default=None)
            if source is None:
                return ()
            chosen[source.path] = source
        usual = assign_names([*chosen])  # as long as no file moved; of others, there may be too many to try all
        names = [tuple(dict.fromkeys((usual[path], plain_name(path), hashed_name(path)))) for path in chosen]
        for chosen_names in islice(product(*names), MAX_TRIES):
            members = tuple(map(Source.as_member, chosen.values(), chosen_names))
            if members and fingerprint_members(members) == entry.fingerprint:
                self.use(entry, members)
                return members
        return ()

    def _marked(self, mark: str) -> list[Source]:
        if not self._by_mark:
            for source in self._sources:
                self._by_mark.setdefault(short_identity(source.identity), []).append(source)
        return self._by_mark.get(mark, [])

    def _recognise(self, listed: Listed, entry: Entry) -> list[Member]:
        """Find the files that the marks identify. Files that are missing or changed locally become stale."""
        wanted, taken, key = [*zip(listed, split_marks(entry), strict=True)], set[str](), entry.run_key
        found: dict[int, Source] = {}
        for by_name in (True, False):
            for at, ((name, size), mark) in enumerate(wanted):
                if at in found:
                    continue
                fitting = self._find_named(mark, name, key) if by_name else self._find_free(mark, key)
                source = next((one for one in fitting if one.path not in taken and size in (one.size, None)), None)
                if source:
                    found[at] = source
                    taken.add(source.path)
        return [
            found[at].as_member(name) if at in found else _stale(name, size or 0, mark)
            for at, ((name, size), mark) in enumerate(wanted)
        ]

    def _find_named(self, mark: str, name: str, key: str) -> Iterator[Source]:
        if mark not in self._names:
            self._names[mark] = _group_by_name(self._marked(mark))
        return (one for one in self._names[mark].get(name, ()) if (key, one.path) not in self._used)

    def _find_free(self, mark: str, key: str) -> Iterator[Source]:
        """Yield the unused files that no name asks for."""
        marked, start = self._marked(mark), self._start.get((key, mark), 0)
        while start < len(marked) and (key, marked[start].path) in self._used:
            start += 1  # it stays used: of many equal files, each is looked at once
        self._start[key, mark] = start
        free = islice(marked, start, None)
        return (one for one in free if (key, one.path) not in self._used and (key, one.path) not in self._reserved)

    def _try(self, listed: Listed, entry: Entry, tries: int) -> list[Member]:
        """Find the files by name and size alone. Where several fit, try them until the fingerprint matches."""
        choices = [[source.as_member(name) for source in self._fitting(name, size, entry)] for name, size in listed]
        by_folder = islice(_choose_by_folder(choices), tries)
        for members in chain(by_folder, islice(product(*choices), tries)):
            is_each_once = len({member.path for member in members}) == len(members)
            if is_each_once and fingerprint_members(members) == entry.fingerprint:
                return list(members)
        return []

    def _fitting(self, name: str, size: int | None, entry: Entry) -> list[Source]:
        """List the files of a name and a size, unused ones first. A hash in a name may be of a path before a move."""
        self._by_name = self._by_name or _group_by_name(self._sources)
        named = self._by_name.get(name) or self._list_moved(unhashed_name(name), size)
        fitting = (source for source in named if size in (None, source.size))
        return sorted(fitting, key=lambda source: (entry.run_key, source.path) in self._used)

    def _list_moved(self, name: str, size: int | None) -> Sequence[Source]:
        """List files of a basename and a size, at most MAX_MOVED: many names may have the same ones to choose from."""
        if not self._by_size:
            for source in self._sources:
                for facts in ((plain_name(source.path), source.size), (plain_name(source.path), None)):
                    self._by_size.setdefault(facts, []).append(source)
        return self._by_size.get((name, size), ())[:MAX_MOVED]


def _choose_by_folder(choices: Sequence[Sequence[Member]]) -> Iterator[tuple[Member, ...]]:
    """Choose a file for each name, from one folder as far as it can: many folders may have files of the same names."""
    if not all(choices):
        return
    by_folder = [{folder_of(member.path): member for member in reversed(choice)} for choice in choices]
    for folder in dict.fromkeys(folder_of(member.path) for choice in choices for member in choice):
        yield tuple(found.get(folder, choice[0]) for found, choice in zip(by_folder, choices, strict=True))


def _is_proven(members: Sequence[Member], entry: Entry) -> bool:
    """Whether these are exactly the files of an entry, as its fingerprint says."""
    return all(member.path for member in members) and fingerprint_members(members) == entry.fingerprint


def _group_by_name(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """Return files by the names that they may have in a batch."""
    names: dict[str, list[Source]] = {}
    for source in sources:
        for name in {plain_name(source.path), hashed_name(source.path)}:
            names.setdefault(name, []).append(source)
    return names


def _list_names(found: Inspected) -> list[str]:
    """List the names (NFC) of the files in a batch, in order, as its listing or its run's results have them."""
    return sorted({unicodedata.normalize("NFC", name) for name in found.names or found.files or ()})


def match_kept(entry: Entry, content: Sequence[Member]) -> tuple[Member, ...]:
    """Return the files of a kept batch at an entry's run. If it held other files than today, all of them are stale.

    The fingerprint says which it is. Another content pays for nothing of today's, so its marks are enough; they become
    the names, in the same order.
    """
    if fingerprint_members(content) == entry.fingerprint:
        return tuple(content)
    marks = zip(split_places(entry), split_marks(entry), strict=False)
    return tuple(_stale(placeholder(at, place), 0, mark) for at, (place, mark) in enumerate(marks))


def recognise_stale(state: State, sources: Sequence[Source], *, by_folder: bool = False) -> None:
    """Record stale files that match their paid version again; with `by_folder`, once all of their folder does."""
    shards = state.load_shards()
    stale = [shard for shard in shards if any(member.is_stale for member in shard.members)]
    # One without results takes no file from one that has some, nor one with those of few versions from one with more.
    stale.sort(key=lambda shard: -len(_paid_keys(shard)))
    if stale and by_folder:
        _recognise_folders(state, shards, stale, sources)
    elif stale:
        _recognise_files(state, shards, stale, sources)


def _paid_keys(shard: Shard) -> set[str]:
    """Return the run keys of a shard's runs, without those that failed: their files may have other results."""
    return {run.run_key for run in shard.runs if not run.has_failed}


def _wanted_keys(shard: Shard) -> set[str]:
    """Return the run keys that a shard needs its files for: those with results, or all if it has none."""
    return _paid_keys(shard) or {run.run_key for run in shard.runs}


def _recognise_files(state: State, shards: Sequence[Shard], stale: Sequence[Shard], sources: Sequence[Source]) -> None:
    """Record stale files that are back. Each file stands for one of each run key."""
    marked: dict[str, list[Source]] = {}
    for source in sources:
        marked.setdefault(short_identity(source.identity), []).append(source)
    taken = {
        (key, member.path, member.identity)
        for shard in shards
        for key in _paid_keys(shard)
        for member in shard.members
        if not member.is_stale
    }
    for shard in stale:
        keys, found = _wanted_keys(shard), dict[str, Member]()
        used = set[tuple[str, str, str]]()
        for member in filter(lambda member: member.is_stale, shard.members):
            for source in marked.get(member.digest, ()):
                places = {(key, source.path, source.identity) for key in keys}
                if (is_placeholder(member) or _is_named(source, member.name)) and taken.isdisjoint(places):
                    found[member.name] = source.as_member(member.name)
                    used |= places
                    taken |= places
                    break
        members = [found.get(member.name, member) for member in shard.members]
        if _is_disproven(members, shard):
            taken -= used
        elif found:
            state.record_members(shard.id, members)


def _recognise_folders(
    state: State, shards: Sequence[Shard], stale: Sequence[Shard], sources: Sequence[Source]
) -> None:
    """Record the files of stale shards whose folder is back. A folder stands for one shard of each run key."""
    packets: dict[tuple[str, ...], list[list[Source]]] = {}
    for packet in find_packets(sources).values():
        packets.setdefault(tuple(sorted(short_identity(one.identity) for one in packet)), []).append(packet)
    taken = {(key, shard.files) for shard in shards for key in _paid_keys(shard)}
    for shard in stale:
        for packet in packets.get(tuple(sorted(map(mark_of, shard.members))), ()):
            places = {(key, frozenset((one.path, one.identity) for one in packet)) for key in _wanted_keys(shard)}
            members = list(_pair(shard.members, packet))
            if taken.isdisjoint(places) and not _is_disproven(members, shard):
                taken |= places
                state.record_members(shard.id, members)
                break


def _is_disproven(members: Sequence[Member], shard: Shard) -> bool:
    """Whether the fingerprint of a run says that these are not its files: a merge may have mixed up their marks."""
    has_names = not any(member.is_stale or is_placeholder(member) for member in members)
    return has_names and fingerprint_members(members) != shard.fingerprint


def _pair(members: Iterable[Member], packet: Iterable[Source]) -> Iterator[Member]:
    """Yield files of the same marks under the names of others, by these names if they can."""
    left = list(packet)
    for member in members:
        fitting = (source for source in left if short_identity(source.identity) == mark_of(member))
        source = min(fitting, key=lambda source: not _is_named(source, member.name))
        left.remove(source)
        yield source.as_member(member.name)


def _stale(name: str, size: int, mark: str) -> Member:
    """Return a member of which only the lock file's mark is known."""
    return Member(name, "", size, mark, is_stale=True)


def _is_named(source: Source, name: str) -> bool:
    return name in (plain_name(source.path), hashed_name(source.path))
