"""Read the newest results of each file from the raw pages. All other forms of results are made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.errors import ResultsError
from aihub_runner.files import digest_file, read_regular, write_file
from aihub_runner.model import Damage, Member, Page, Run, Scan, Shard, Source
from aihub_runner.plan.packets import whole_packets
from aihub_runner.plan.planner import RESTORE, Goal
from aihub_runner.results.kept import KeptFiles
from aihub_runner.results.pieces import KEY_BYTES
from aihub_runner.results.rawpage import RawPage
from aihub_runner.results.record import FILE_READER, Record, as_record
from aihub_runner.state.store import State
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.jsontext import Place, settle
from aihub_runner.text.shown import show_value

BYTES_IN_MEMORY = 16_000_000  # of raw pages; at least one is kept
_AT_ONCE = 1000  # files whose inputs are rendered at once
FETCH_AGAIN = "apply again, which fetches it again for free"
_OWN = ("path", "present", "sha256", "file_name", "run_id", "document_index", "class", "pages", "fields")
_KNOWN = frozenset({"class_name", "page_numbers", *_OWN})  # values of the service never replace our own

Document = dict[str, Any]  # a line of `documents.jsonl`


class Chosen(Struct, frozen=True, gc=False):
    """The run whose results count for a file, and whether the file still exists."""

    path: str
    member: Member
    run: Run
    present: bool


class Choices(Sequence[Chosen]):
    """What was chosen for each file, ordered by path, in a third of the memory that its objects take.

    `gone` are the paths of removed files.
    """

    def __init__(self, members: Sequence[Member], runs: Sequence[Run], gone: Collection[str]) -> None:
        order = sorted(range(len(members)), key=[member.path for member in members].__getitem__)
        self.members, self.runs = [members[place] for place in order], [runs[place] for place in order]
        self.gone = gone

    @classmethod
    def of(cls, chosen: Sequence[Chosen]) -> Choices:
        """Return the choices of some files."""
        gone = {one.path for one in chosen if not one.present}
        return cls([one.member for one in chosen], [one.run for one in chosen], gone)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        member = self.members[place]
        return Chosen(member.path, member, self.runs[place], member.path not in self.gone)

    def __iter__(self) -> Iterator[Chosen]:
        for member, run in zip(self.members, self.runs, strict=True):
            yield Chosen(member.path, member, run, member.path not in self.gone)


def choose_runs(shards: Iterable[Shard], scan: Scan, goal: Goal, also: Collection[int] = ()) -> Choices:
    """Choose the newest complete run for each file, with today's run key and the current content.

    A removed file keeps its newest results. Where the spec groups by folder, only runs of the folder as it is now count
    for the files in it. `also` are runs to choose as if they had been fetched. Sorted by path.
    """
    shards = list(shards)
    current = {shard.id for shard in (whole_packets(shards, scan.sources) if goal.by_folder else shards)}
    today: dict[str, Source | None] = {source.path: source for source in scan.sources}  # None once it has results
    skipped = {item.path for item in scan.skipped}
    found = [(run, shard) for shard in shards for run in shard.runs_of(goal.run_key)]
    members, runs, removed = list[Member](), list[Run](), set[str]()
    for run, shard in sorted(found, key=lambda one: one[0].id, reverse=True):  # the newest first
        if run.status != "COMPLETE" or not (goal.include in run.fetched or run.id in also):
            continue
        is_current = shard.id in current
        for member in shard.members:
            path = member.path
            if path not in today:
                counts = path and path not in skipped and path not in removed
                removed.update([path] if counts else ())
            elif (source := today[path]) is None:
                continue
            else:  # as `is_sent_as`, without a call
                counts = is_current and source.digest == member.digest and source.password == member.password
                if counts:
                    today[path] = None
            if counts:
                members.append(member)
                runs.append(run)
    del today
    return Choices(members, runs, set() if goal.input else removed)


# Damage


def find_damaged(
    state: State, shards: Iterable[Shard], goal: Goal, folder: Path, among: Collection[int] | None = None
) -> Damage:
    """Find the pages of today's runs that are missing or changed, by run: of the runs `among`, or of all."""
    damaged, kept = {}, KeptFiles(state, folder)
    for run in (run for shard in shards for run in shard.runs_of(goal.run_key) if goal.include in run.fetched):
        if among is None or run.id in among:
            pages = state.load_pages(run.id, goal.include)
            paths = frozenset(page.path for page in pages if not kept.holds(page.path, page.digest))
            damaged.update({run.id: paths} if paths else {})
    kept.record()
    return damaged


def find_lost_earlier(state: State, shards: Iterable[Shard], goal: Goal, folder: Path) -> frozenset[int]:
    """Find the runs of other run keys of which no fetch is whole on disk."""
    kept = KeptFiles(state, folder)

    def is_whole(run: Run, include: str) -> bool:
        return all(kept.holds(page.path, page.digest) for page in state.load_pages(run.id, include))

    earlier = (run for shard in shards for run in shard.runs if run.run_key != goal.run_key)
    return frozenset(run.id for run in earlier if not any(is_whole(run, include) for include in run.fetched))


class Located(Struct, frozen=True):
    """Where the documents of a file are: a page and a position in it, or, without a page, the documents themselves.

    `documents` is how many there are.
    """

    choice: Chosen
    page: Page | None
    position: int
    documents: int = 0
    kept: Sequence[Document] = ()


def record_reader(folder: Path) -> Callable[[Located], list[Record]]:
    """Return a function that loads what tables take from a file. Raises ResultsError if its page is missing.

    It warns of nothing: who reads documents does.
    """
    pages = _Pages(folder, _ignore_warning)

    def read(located: Located) -> list[Record]:
        if located.page is None:
            return [*map(as_record, located.kept)]
        return pages.records(located.page, located.position, located.choice)

    return read


def located_reader(folder: Path, warn: Callable[[str], None]) -> Callable[[Located], Iterable[Document]]:
    """Return a function that loads the documents of a file. Raises ResultsError if its page is missing."""
    pages = _Pages(folder, warn)

    def read(located: Located) -> Iterable[Document]:
        if located.page is None:
            return located.kept
        return _read_file(located.choice, pages.file(located.page, located.position, located.choice))

    return read


class _Pages:
    """Raw pages, with a cache of those used last. Raises ResultsError if a page is missing or changed.

    `warn` is called for each value that is invalid JSON, and is replaced.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._warn = warn
        self._kept: dict[str, tuple[int, RawPage]] = {}

    def file(self, page: Page, position: int, choice: Chosen) -> Mapping[str, Any]:
        """Load a chosen file from a page."""
        return self._read(page, lambda raw: raw.file(position), choice.path, choice.run)  # type: ignore[no-any-return]

    def records(self, page: Page, position: int, choice: Chosen) -> list[Record]:
        """Load what tables take from a chosen file."""
        file = self._read(page, lambda raw: raw.file_as(FILE_READER, position), choice.path, choice.run)
        if file is None:
            return [*map(as_record, _read_file(choice, self.file(page, position, choice)))]
        path, present, run_id = choice.path, choice.present, choice.run.remote_id
        return [record.place(path, present, run_id, index) for index, record in enumerate(file.documents or ())]

    def cases(self, page: Page, run: Run) -> list[dict[str, Any]]:
        """Load the cross-class fields of a page."""
        case = self._read(page, lambda raw: raw.member("case_info"), f"run {run.remote_id}", run)
        fields = case.get("fields") if isinstance(case, dict) else None
        return [one for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []

    def _read(self, page: Page, read: Callable[[RawPage], Any], what: str, run: Run) -> Any:
        hint = RESTORE if run.is_gone else FETCH_AGAIN
        try:
            raw = self._load(page, hint)
            value = read(raw)
            for place, found in settle(value) if raw.is_odd else ():
                self._warn(_describe_odd(what, value, place, found))
            return value
        except (OSError, ValueError, IndexError, RecursionError) as error:
            raise ResultsError(f"{page.path}: is missing or damaged", hint) from error

    def _load(self, page: Page, hint: str) -> RawPage:
        path = page.path
        if path not in self._kept:
            content = read_regular(self._folder / path)
            if "sha256:" + hashlib.sha256(content).hexdigest() != page.digest:  # positions may differ now
                raise ResultsError(f"{path}: was changed after it was fetched", hint)
            while self._kept and sum(kept for kept, _ in self._kept.values()) + len(content) > BYTES_IN_MEMORY:
                del self._kept[next(iter(self._kept))]
            self._kept[path] = (len(content), RawPage(content))
        self._kept[path] = self._kept.pop(path)  # keep the order of last use
        return self._kept[path][1]


def _ignore_warning(_: str) -> None:
    pass


def _describe_odd(what: str, value: Any, place: Place, found: str) -> str:
    """Describe invalid JSON: its place, the value, and its replacement."""
    words = [what]
    names = list(place)
    if names[:1] == ["documents"]:
        words.append(f"document {names[1]}")
        value, names = value["documents"][names[1]], names[2:]
    if len(names) > 1 and names[0] == "fields":
        one = value["fields"][names[1]]
        name = one.get("field_name", one.get("name")) if isinstance(one, dict) else None
        words.append(f"field {show_value(name, 100) or names[1]}")
        names = names[2:]
    words += [".".join(str(name) for name in names)] * bool(names)
    become = "U+FFFD" if "surrogate" in found else "null"
    return escape_control_chars(f"{', '.join(words)}: {found} is invalid JSON, replaced by {become}")


class Found(Struct, frozen=True, dict=True):
    """The fetched results: the newest of each file, ordered by path, and the folder of their pages.

    Pages in `damaged` are not read. `kept` has the documents that were made from them before.
    """

    state: State
    chosen: Choices
    include: str
    folder: Path
    damaged: frozenset[str] = frozenset()
    kept: Mapping[tuple[str, str], Sequence[Document]] = {}
    warn: Callable[[str], None] = _ignore_warning  # called with a warning for invalid JSON

    def identify(self) -> str:
        """Return a digest of all inputs of the documents."""
        return self._digests[0]

    def keys(self) -> bytes:
        """Return a digest of the inputs of each file's documents, 16 bytes long."""
        return self._digests[1]

    def run_keys(self) -> Mapping[str, str]:
        """Return a digest of the pages of each run, by its id."""
        return self._digests[2]

    @cached_property
    def _digests(self) -> tuple[str, bytes, dict[str, str]]:
        whole, runs, keys = hashlib.sha256(self.include.encode()), dict[int, bytes](), bytearray()
        for run in self._runs():
            pages = [p.digest for p in self.state.load_pages(run.id, self.include) if p.path not in self.damaged]
            runs[run.id] = json.dumps(pages).encode()
            whole.update(runs[run.id])
            runs[run.id] = hashlib.sha256(f"{run.remote_id!a} {self.include} ".encode() + runs[run.id]).digest()
        show, blake2b = encode_basestring_ascii, hashlib.blake2b
        ids = {run.id: show(run.remote_id or "") for run in self._runs()}
        members, chosen_runs, gone = self.chosen.members, self.chosen.runs, self.chosen.gone
        for start in range(0, len(members), _AT_ONCE):
            batch = zip(members[start : start + _AT_ONCE], chosen_runs[start : start + _AT_ONCE], strict=True)
            some = [
                (
                    f"[{show(file.path)}, {show(file.name)}, {show(file.identity)}, "
                    f"{ids[run.id]}, {'false' if file.path in gone else 'true'}]".encode(),
                    runs[run.id],
                )
                for file, run in batch
            ]
            whole.update(b"".join([text for text, _ in some]))
            keys += b"".join([blake2b(text + run, digest_size=KEY_BYTES).digest() for text, run in some])
        return whole.hexdigest(), bytes(keys), {run.remote_id or "": runs[run.id].hex() for run in self._runs()}

    def _runs(self) -> Iterable[Run]:
        return {run.id: run for run in self.chosen.runs}.values()

    def warning(self, warn: Callable[[str], None]) -> Found:
        """Return the same results. `warn` is called with a warning for invalid JSON."""
        other = replace(self, warn=warn)
        vars(other)["_digests"] = self._digests  # they are the same, and take long
        return other

    def documents(self) -> Iterator[Document]:
        """Load all documents, ordered by path and index. Raises ResultsError if pages are missing."""
        read = self.reader()
        for choice in self.chosen:
            yield from read(choice)

    def reader(self) -> Callable[[Chosen], Iterable[Document]]:
        """Return a function that loads the documents of a file. Files of one page should be read in order."""
        read = located_reader(self.folder, self.warn)
        return lambda choice: read(self.locate(choice))

    def record_reader(self) -> Callable[[Chosen], list[Record]]:
        """Return a function that loads what tables take from a file, as `reader` does."""
        read = record_reader(self.folder)
        return lambda choice: read(self.locate(choice))

    def locate(self, choice: Chosen) -> Located:
        """Find where the documents of a file are."""
        answer = self.state.find_answer(choice.run.id, self.include, choice.member.name)
        if answer is None:
            return Located(choice, None, 0)
        page, position, documents = answer
        if page.path in self.damaged:
            return Located(choice, None, 0, kept=[*self._keep(choice)])
        return Located(choice, page, position, documents)

    def _keep(self, choice: Chosen) -> Iterator[Document]:
        """Return the documents of a file that were made before its page was damaged."""
        for document in self.kept.get((choice.run.remote_id or "", choice.member.name), ()):
            yield document | {"path": choice.path, "present": choice.present}

    def cases(self, without: Collection[str] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Load each cross-class field with the id of its run, ordered by the files of the runs.

        Runs whose keys are in `without` are left out.

        Every page of a run repeats these fields, so a page with the same ones as the page before adds nothing.
        Raises ResultsError if pages are missing.
        """
        pages = _Pages(self.folder, self.warn)
        for run in self._runs():
            if self.run_keys()[run.remote_id or ""] in without:
                continue
            before = None
            for page in self.state.load_pages(run.id, self.include):
                if page.path in self.damaged:
                    continue
                fields = pages.cases(page, run)
                if fields != before:
                    yield from ((run.remote_id or "", field) for field in fields)
                before = fields or before


def find_results(state: State, shards: Iterable[Shard], scan: Scan, goal: Goal, folder: Path) -> Found:
    """Find the results that count for the current files of a spec."""
    return Found(state, choose_runs(shards, scan, goal), goal.include, folder)


def without_pruned(state: State, shards: Iterable[Shard]) -> list[Shard]:
    """Return the shards, with the fetches whose pages were not removed on request."""
    pruned = state.load_pruned()

    def keep(run: Run) -> Run:
        return replace(run, fetched={kind: at for kind, at in run.fetched.items() if (run.id, kind) not in pruned})

    return [replace(shard, runs=tuple(map(keep, shard.runs))) if pruned else shard for shard in shards]


def carry_pages(state: State, old: Path, new: Path) -> None:
    """Copy raw pages to another results folder, except for missing and edited ones."""
    for run in (run for shard in state.load_shards() for run in shard.runs):
        for page in (page for include in sorted(run.fetched) for page in state.load_pages(run.id, include)):
            if digest_file(new / page.path) != page.digest and digest_file(old / page.path) == page.digest:
                write_file(new / page.path, [read_regular(old / page.path)])


def _read_file(choice: Chosen, file: Mapping[str, Any]) -> Iterator[Document]:
    sha256 = choice.member.sha256
    for index, document in enumerate(file.get("documents") or []):
        line = {
            "path": choice.path,
            "present": choice.present,
            "sha256": sha256,
            "file_name": choice.member.name,
            "run_id": choice.run.remote_id,
            "document_index": index,
            "class": document.get("class_name"),
            "pages": document.get("page_numbers") or [],
            "fields": [_read_field(field) for field in document.get("fields") or []],
        }
        for key, value in document.items():
            if key not in _KNOWN:
                line[key] = value
        yield line


def _read_field(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field under our names. Empties the one that was read: copying what is left costs much less then."""
    take = field.pop
    take("name", None)
    take("error", None)
    named = {
        "name": take("field_name", None),
        "value": take("value", None),
        "type": take("type", None),
        "error": take("error_msg", None),
    }
    named.update(field)
    return named
