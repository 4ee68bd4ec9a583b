"""The lock file for Git: a record of paid work, so that a fresh clone does not pay again.

It has one entry per run of a closed shard. The text is deterministic, without secrets, paths or file names. `members`
holds 16 hex digits per file, in the order of the names in the batch: enough to recognise an unchanged file when
another one of its shard has changed or is gone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from aihub_runner.errors import InputError
from aihub_runner.files import explain_disk, read_regular, try_place, write_file
from aihub_runner.model import FINAL_STATUSES, Batch, Member, Run, Shard
from aihub_runner.plan.identity import MEMBER_HEX, VERSION, mark_place, run_tag
from aihub_runner.plan.placeholders import mark_of
from aihub_runner.spec.diagnostics import explain
from aihub_runner.spec.kinds import Flaw, Table, integer, key, listed, string, table

HEADER = "# Not a spec: the record of what was paid, written by `runner apply`. Commit it, and do not edit it.\n"
FORMAT = 1
MAX_NUMBER = 2**63 - 1  # what a column of the state holds
MAX_ATTEMPT = 10**9 - 1  # what a tag holds
FORGOTTEN = "FORGOTTEN"  # what the status of a run begins with that only the lock file is to know
DELETED = "DELETED"  # what the status of a run begins with whose results were deleted on request
_TIME = "%Y-%m-%dT%H:%M:%SZ"
GIVEN_UP = "RESUBMITTED"  # the status of an entry without a run, by the user's decision


class Entry(Table):
    """A run of a closed shard in the lock file; `run_id` is empty if it is unknown.

    `kept` is the kind of a batch that is kept. Then `places` has a mark for each file's place in it, see `mark_place`.
    """

    fingerprint: str = key(string())
    fingerprint_version: int = key(integer(0), VERSION)
    target: str = key(string())
    run_key: str = key(string())
    batch_id: int = key(integer(0, MAX_NUMBER))
    run_id: str = key(string(), "")
    attempt: int = key(integer(1, MAX_ATTEMPT))
    app: str = key(string(), "")
    status: str = key(string(), "")
    files: int = key(integer(0), 0)
    documents: int = key(integer(0), 0)
    when: str = key(string(), "")
    members: str = key(string(), "")
    kept: str = key(string(), "")
    places: str = key(string(), "")

    @property
    def tag(self) -> str:
        """The tag of the run."""
        return run_tag(self.fingerprint, self.run_key, self.attempt)

    @property
    def is_forgotten(self) -> bool:
        """Whether you had the state forget the run. It counts again once one of its files is back."""
        return self.status.partition(" ")[0] == FORGOTTEN

    @property
    def is_deleted(self) -> bool:
        """Whether the results of the run were deleted on request."""
        return bool(self.run_id) and self.status.partition(" ")[0] == DELETED

    @property
    def last_status(self) -> str:
        """The last status of a run, whether it was deleted or not."""
        return (self.status.partition(" ")[2] or "COMPLETE") if self.is_deleted else self.status

    @property
    def when_s(self) -> float:
        """When the run ended, or else was started, in Unix seconds; 0 where that is not known."""
        with suppress(ValueError):
            return datetime.strptime(self.when, _TIME).replace(tzinfo=UTC).timestamp()
        return 0.0

    def is_run(self, tag: str) -> bool:
        """Whether it is the run that is recorded under its id: a restored service may give an id a second time.

        Its batch would not tell: another version, or other content of a batch that is kept, is run on the same one.
        """
        return tag == self.tag

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """What identifies an entry while its run id is unknown."""
        return self.fingerprint, self.run_key, self.attempt, self.batch_id


_ENTRIES = listed(table(Entry))
_MARKS = re.compile(rf"(?:[0-9a-f]{{{MEMBER_HEX}}})*")
_RUN = "\n[[run]]\n"  # what each entry begins with
_PLAIN_LINE = re.compile(r'([a-z_]+) = (?:"([^"\\\x00-\x1f\x7f]*)"|(0|[1-9][0-9]{0,18}))')


def as_forgotten(entry: Entry) -> Entry:
    """Return an entry of a run that the state forgets."""
    return _with_status(entry, f"{FORGOTTEN} {entry.status}")


def as_remembered(entry: Entry) -> Entry:
    """Return an entry as it was before the state forgot its run."""
    return _with_status(entry, entry.status.partition(" ")[2]) if entry.is_forgotten else entry


def as_kept(entry: Entry, kind: str) -> Entry:
    """Return an entry of a run on a batch that is kept."""
    return Entry(**{**vars(entry), "kept": kind})


def _with_status(entry: Entry, status: str) -> Entry:
    return Entry(**{**vars(entry), "status": status})


def member_hashes(members: Iterable[Member]) -> str:
    """Join the shortened identities of a shard's members, in the order of their names in the batch."""
    ordered = sorted(members, key=attrgetter("name"))
    return "".join(map(mark_of, ordered))


def split_marks(entry: Entry) -> list[str]:
    """List the marks of an entry's files, in the order of their names in the batch."""
    return _split(entry.members)


def split_places(entry: Entry) -> list[str]:
    """List the marks of the places of an entry's files, in the same order."""
    return _split(entry.places)


def _split(marks: str) -> list[str]:
    return [marks[at : at + MEMBER_HEX] for at in range(0, len(marks), MEMBER_HEX)]


def _places(shard: Shard, batch: Batch) -> str:
    return "".join(_place(one, batch) for one in sorted(shard.members, key=lambda one: one.name)) if batch.kept else ""


def _place(member: Member, batch: Batch) -> str:
    if member.is_stale:  # it is named by its mark
        return member.name[-MEMBER_HEX:]
    return mark_place(member.name, member.size, batch.modified.get(member.name))


def shard_entries(shard: Shard, app: str, documents: dict[int, int]) -> list[Entry]:
    """Return the entries of a closed shard. `documents` maps run rows to the number of fetched documents."""
    batches = {batch.id: batch for batch in shard.batches}
    return [
        Entry(
            fingerprint=shard.fingerprint,
            target=batches[run.batch].target,
            run_key=run.run_key,
            batch_id=run.remote_batch or batches[run.batch].remote_id or 0,
            run_id=run.remote_id or "",
            attempt=run.attempt,
            app=app,
            status=_status(run),
            files=len(shard.members),
            documents=documents.get(run.id, 0),
            when=_render_time(run.finished_ns or run.started_ns),
            members=member_hashes(shard.members),
            kept=batches[run.batch].kept,
            places=_places(shard, batches[run.batch]),
        )
        for run in shard.runs
    ]


def _status(run: Run) -> str:
    """Return the status of a run: the service's last word, or why there is none."""
    if run.is_gone and run.is_deleted:
        return DELETED if run.status == "COMPLETE" else f"{DELETED} {run.status}"
    if run.is_gone and run.status != "COMPLETE":
        return "GONE"
    if run.is_given_up:
        return GIVEN_UP
    if run.is_open:
        return "REFUSED" if run.refused else "UNKNOWN"
    return run.status or "RUNNING"


def _render_time(nanoseconds: int) -> str:
    if not nanoseconds:
        return ""
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime(_TIME)


def load_lockfile(path: Path) -> list[Entry]:
    """Read a lock file; a missing one has no entries. Raises InputError if it is damaged or too new."""
    try:
        text = read_regular(path).decode()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        what = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"{path.name}: cannot be read, {what}", "restore it from Git") from error
    return list(_parse_lockfile(text, path.name))


def forget_parsed() -> None:
    """Forget the last lock file: it takes 33 bytes for each file, just when results need memory."""
    _parse_lockfile.cache_clear()


@lru_cache(maxsize=1)  # an apply reads the same text several times
def _parse_lockfile(text: str, name: str) -> tuple[Entry, ...]:
    try:
        content = _read_plainly(text) or tomllib.loads(text)
        version = content.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise InputError(f"{name}: has format {version}, this version supports {FORMAT}", "upgrade aihub-runner")
        flaws: list[Flaw] = []
        entries = _ENTRIES.read(content.get("run", []), ("run",), flaws)
        what = explain(flaws[0], {}).what if flaws else ""
        what = what or next(filter(None, map(_find_damage, entries)), "")
        what = what if version == FORMAT else "format is missing or wrong"
    except tomllib.TOMLDecodeError as error:
        what = str(error)
    if what:
        hint = "resolve the merge conflict, and keep each whole entry of both sides; or restore it from Git"
        raise InputError(f"{name}: is damaged, {what}", hint)
    return tuple(entries)


def _find_damage(entry: Entry) -> str:
    """Return what is wrong with an entry as a whole; empty if nothing is."""
    if not _MARKS.fullmatch(entry.members) or len(split_marks(entry)) not in (0, entry.files):
        return f"members of run {entry.run_id} are not those of {entry.files} files"
    is_wrong = entry.status.partition(" ")[0] == DELETED and entry.last_status not in FINAL_STATUSES
    return f"status {entry.status!r} of run {entry.run_id} is invalid" if is_wrong else ""


def _read_plainly(text: str) -> dict[str, Any] | None:
    """Return the content of a file that looks as we write it, else None. `tomllib` takes each character by itself."""
    head, *runs = text.removeprefix(HEADER).split(_RUN)
    top, tables = _read_lines(head), [*map(_read_lines, runs)]
    return top | {"run": tables} if top.keys() == {"format"} and all(tables) else None


def _read_lines(text: str) -> dict[str, str | int]:
    """Return the keys and values of plain lines; nothing if one is not plain, or a key is there twice."""
    found: dict[str, str | int] = {}
    for line in text.rstrip("\n").split("\n"):
        plain = _PLAIN_LINE.fullmatch(line)
        if not plain or plain[1] in found:
            return {}
        found[plain[1]] = plain[2] if plain[3] is None else int(plain[3])
    return found


def render_lockfile(entries: Sequence[Entry]) -> str:
    """Return the text of the file. It is the same for the same entries in any order."""
    ordered = sorted(entries, key=lambda entry: (entry.when, *entry.identity))
    runs = (
        _render_lines({key: fact for key, fact in vars(entry).items() if fact not in ("", None)}) for entry in ordered
    )
    return HEADER + "".join([f"format = {FORMAT}\n", *(_RUN + lines for lines in runs)])


def _render_lines(facts: Mapping[str, str | int]) -> str:
    return "".join(_render_line(key, fact) for key, fact in facts.items())


def _render_line(key: str, fact: str | int) -> str:
    """Return a line as `tomli_w` writes it, which looks at each character by itself."""
    line = f"{key} = {fact}" if isinstance(fact, int) else f'{key} = "{fact}"'
    if _PLAIN_LINE.fullmatch(line):
        return line + "\n"
    import tomli_w  # few values need it

    return tomli_w.dumps({key: fact})


def try_lockfile(path: Path) -> None:
    """Check, before anything is paid, that the lock file can be written. Raises InputError, StateError."""
    with _elsewhere(), explain_disk(path):
        try_place(path)
        if path.exists():
            write_file(path, [read_regular(path)])  # a file can be readable and still not replaceable


@contextmanager
def _elsewhere() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"lock file {error.message}", "use --lock-file PATH to keep it elsewhere") from error


def update_lockfile(path: Path, entries: Sequence[Entry], dismissed: Collection[str] = ()) -> None:
    """Write the lock file if it changes. Entries that the state does not know (a colleague's) stay.

    Entries that the user `dismissed`, by run id or tag, are removed, so that a fresh clone does not ask about them
    again. A complete run stays, even if another run with its tag is known here.
    """
    runs = {entry.run_id: entry for entry in entries if entry.run_id}
    complete = {entry.identity for entry in entries if entry.last_status == "COMPLETE"}
    ours = {entry.identity for entry in entries}
    kept = [
        entry
        for entry in load_lockfile(path)
        if not ((one := runs.get(entry.run_id)) and entry.is_run(one.tag))
        and (entry.run_id or entry.tag) not in dismissed
        and (entry.identity not in ours or (entry.last_status == "COMPLETE" and entry.identity not in complete))
    ]
    merged = [*kept, *entries]
    text = render_lockfile(merged)
    if merged and (not path.exists() or read_regular(path) != text.encode()):
        with _elsewhere():
            write_file(path, [text.encode()])
            forget_parsed()
