"""Keep the tables in the results folder up to date, in every format of the spec. Never overwrite edits."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path

from msgspec import Struct

from aihub_runner.errors import InputError, ResultsError, RunnerError, Shortage
from aihub_runner.files import Draft, digest_file, explain_disk, is_there
from aihub_runner.model import DOCUMENTS_NAME
from aihub_runner.results.helper import render_many
from aihub_runner.results.kept import KeptFiles
from aihub_runner.results.naming import Names, parse_names
from aihub_runner.results.pieces import Forms, Pieces, Sizes, Weaver, find_new, load_pieces, spans
from aihub_runner.results.reader import Found, Located, record_reader
from aihub_runner.results.record import Record
from aihub_runner.results.tables import VERSION, Layout, Row, Table, case_row, field_columns, form_of, survey
from aihub_runner.results.writers.formats import LINES, MEMORY_BYTES, TextSink, open_sink
from aihub_runner.results.writers.sink import WAITING, Sink
from aihub_runner.results.written import load_written, note_written
from aihub_runner.state.outputs import DOCUMENTS, PDF_FOLDER, TABLES, Output
from aihub_runner.state.store import State
from aihub_runner.system.shortage import spare_descriptors

MAX_WARNINGS = 1000
OPEN_AT_ONCE = 50  # tables to write in one pass over the pages; each needs one or two open files


def update_tables(found: Found, formats: Sequence[str], *, again: bool = False) -> list[RunnerError]:
    """Write the tables if one is missing or their inputs have changed. Return the errors of tables that failed.

    Keeps edited tables, unless `again`, and removes tables that are no longer needed. An error of one table does not
    affect the others. Raises ResultsError if raw pages are missing, StateError if the state cannot be written.
    """
    state, folder = found.state, found.folder
    made_from = f"{VERSION} {'+'.join(sorted(formats))} {found.identify()}"
    record = _load_record(state)
    if not again and state.find_made_from(TABLES) == made_from and not list_missing(state, folder):
        return state.load_table_errors()
    state.record_made_from(TABLES, "")  # after a crash, the next apply writes them again
    _sweep(folder)
    left = set() if again else set(list_edited(state, folder))
    old = load_pieces(folder, TABLES)
    packets = _survey_packets(found, old.plain_runs)
    work = _Work(found, _gather_forms(found), old, KeptFiles(state, folder))
    layout = survey(work.forms.count(), packets.cases, load_names(state))
    state.record_column_names(layout.names().as_text())
    wanted = [Target(table, format) for table in layout.tables() for format in formats]
    todo = [target for target in wanted if target.path not in left]
    errors: dict[str, RunnerError] = {}
    at_once = max(1, min(OPEN_AT_ONCE, spare_descriptors() // 4))
    for start in range(0, len(todo), at_once):
        errors |= _write_tables(work, layout, todo[start : start + at_once])
    broken = {path for path, error in errors.items() if isinstance(error, InputError | Shortage)}
    kept = left | broken | ({target.path for target in todo} - errors.keys())
    _remove(state, folder, record.keys() - kept)
    refused: list[RunnerError] = [
        error if isinstance(error, Shortage) else ResultsError(error.message, error.hint) for error in errors.values()
    ]
    with state.transaction():
        state.record_warnings(TABLES, packets.warnings[:MAX_WARNINGS])
        state.record_table_errors(refused)
        state.record_made_from(TABLES, "" if broken else made_from)
    note_written(folder, {path: written.digest for path, written in _load_record(state).items()})
    Pieces(found.keys(), work.sizes, plain_runs=packets.plain_runs).save(folder, TABLES)
    return refused


class _Packets(Struct, frozen=True):
    """The number of cross-class fields, the warnings about them, and the runs that have neither."""

    cases: int
    warnings: list[str]
    plain_runs: frozenset[str]


def _survey_packets(found: Found, plain: Collection[str]) -> _Packets:
    warnings: dict[str, None] = {}
    cases = Counter(run for run, _ in found.warning(warnings.setdefault).cases(plain))
    runs = found.run_keys()
    # A warning names no run by its key: then no other run counts as plain.
    still = (key for run, key in runs.items() if key in plain or not (warnings or run in cases))
    return _Packets(cases.total(), list(warnings), frozenset(still))


def _gather_forms(found: Found) -> Forms:
    """Return the form of each file's documents: as recorded when documents.jsonl was written, or read again."""
    old, read, forms = load_pieces(found.folder, DOCUMENTS), found.reader(), Forms()
    for start, position, number in spans(found.keys(), old.keys):
        if position is None:
            forms.add(form_of(read(found.chosen[start])))
        else:
            forms.copy(old, position, number)
    return forms


class _Work(Struct, frozen=True):
    """What tables are made of: the results, the forms of all files, and the pieces of the tables as they are.

    `kept` are the files of the folder that were read before. `sizes` gets those of the new tables.
    """

    found: Found
    forms: Forms
    old: Pieces
    kept: KeptFiles
    sizes: dict[str, Sizes] = {}


class Target(Struct, frozen=True):
    """A table in one format."""

    table: Table
    format: str

    @property
    def path(self) -> str:
        """The path in the results folder."""
        return f"{self.table.name}.{self.format}"

    @property
    def looks(self) -> str:
        """What its lines look like."""
        return f"{VERSION} {hashlib.sha256(repr(self.table.columns).encode('utf-8', 'backslashreplace')).hexdigest()}"


# The record of written tables


def _load_record(state: State) -> dict[str, Output]:
    """Load the record of each written table, by its path in the results folder."""
    outputs = state.load_outputs()
    others = (DOCUMENTS_NAME, PDF_FOLDER)
    return {path: output for path, output in outputs.items() if output.digest and not path.startswith(others)}


def load_names(state: State) -> Names:
    """Load the column names of earlier applies, which stay the same."""
    return parse_names(state.load_column_names())


def list_edited(state: State, folder: Path) -> list[str]:
    """List the tables that were edited since we wrote them."""
    later = load_written(folder)  # written under a newer state file
    return sorted(
        path for path, written in _load_record(state).items() if _is_edited(folder / path, written, later.get(path))
    )


def _is_edited(path: Path, written: Output, later: str | None) -> bool:
    is_same = _stat(path) == (written.size, written.mtime_ns)
    return not is_same and digest_file(path) not in ("", written.digest, written.announced, later)


def find_table_damage(state: State, folder: Path) -> list[str]:
    """List the tables that are missing or edited."""
    edited = [f"{path} was edited by hand" for path in list_edited(state, folder)]
    return [*edited, *(f"{path} is missing" for path in list_missing(state, folder))]


def list_missing(state: State, folder: Path) -> list[str]:
    """List the tables that were written, and no longer exist."""
    return sorted(path for path in _load_record(state) if not is_there(folder / path))


def count_missing_pdfs(state: State, folder: Path) -> int:
    """Count the PDFs that were to be fetched, and are not there."""
    pdfs = {path: output for path, output in state.load_outputs().items() if path.startswith(PDF_FOLDER)}
    return sum(not (output.digest and is_there(folder / path)) for path, output in pdfs.items())


def _stat(path: Path) -> tuple[int, int]:
    """Return the size and modification time of a file, both 0 if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _remove(state: State, folder: Path, paths: Iterable[str]) -> None:
    """Remove tables that are no longer needed, or can no longer be written. They would show old results."""
    paths = list(paths)
    for path in paths:
        with explain_disk(folder / path):
            (folder / path).unlink(missing_ok=True)
    state.forget_outputs(paths)


def _sweep(folder: Path) -> None:
    """Remove the temporary files of a crashed apply."""
    for left in [*folder.glob(".fields.*.tmp"), *folder.glob(".cases.*.tmp"), *folder.glob("documents/.*.tmp")]:
        left.unlink(missing_ok=True)
    for waiting in [*folder.glob(f"{WAITING}*"), *folder.glob(f"documents/{WAITING}*")]:
        shutil.rmtree(waiting, ignore_errors=True)


# Writing


class _Writing:
    """A table that is being written. The first error ends it, and keeps the existing file."""

    def __init__(self, target: Target, work: _Work, memory: int) -> None:
        self.target = target
        self.error: RunnerError | None = None
        self._path = work.found.folder / target.path
        self._draft: Draft | None = None
        self._sink: Sink | None = None
        self.weaver: Weaver | None = None
        self.digest = ""
        self._try(lambda: self._open(memory, work))

    def _open(self, memory: int, work: _Work) -> None:
        target = self.target
        self._draft = Draft(self._path)
        if target.format not in LINES:
            self._sink = open_sink(target.format, self._draft, target.table, memory, self._path.parent)
            return
        header = BytesIO()
        self._sink = open_sink(target.format, header, target.table)
        source = work.old.open_source(target.path, target.looks, work.found.folder, work.kept)
        self.weaver = Weaver(self._draft.write, source)
        self.weaver.add(header.getvalue())

    @property
    def copies(self) -> bool:
        """Whether rows of unchanged files can be copied."""
        return self.weaver is not None and self.weaver.source is not None

    def _try(self, act: Callable[[], None]) -> None:
        try:
            try:
                act()
            except OSError:
                with explain_disk(self._path):
                    raise
        except (ResultsError, InputError, Shortage) as error:
            self.error = error
            self.close()

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows of a file at the end."""
        if self.error:
            return
        if isinstance(self._sink, TextSink) and self.weaver:
            sink, weaver = self._sink, self.weaver
            self._try(lambda: weaver.add(sink.render(rows)))
        elif self._sink and rows:
            self._try(partial(self._sink.write, rows))

    def add_lines(self, lines: bytes) -> None:
        """Add the rows of a file, rendered as lines, at the end."""
        if self.weaver and not self.error:
            self._try(partial(self.weaver.add, lines))

    def copy(self, position: int, number: int) -> None:
        """Add the rows of some files as they were."""
        if self.weaver and not self.error:
            self._try(partial(self.weaver.copy, position, number))

    def finish(self) -> None:
        """Complete the temporary file."""
        if not self.error:
            self._try(self._finish)

    def _finish(self) -> None:
        if self._sink and self._draft:
            if self.weaver:
                self.weaver.flush()
            self._sink.close()
            self.digest = self._draft.finish()

    def publish(self) -> None:
        """Move the temporary file to its final path."""
        if self._draft and not self.error:
            self._try(self._draft.publish)

    def record(self, state: State) -> None:
        """Record the file."""
        state.record_output(self.target.path, self.digest, *_stat(self._path))

    def close(self) -> None:
        """Remove everything that was not published."""
        if self._sink:
            self._sink.drop()
        if self.weaver:
            self.weaver.close()
        if self._draft:
            with suppress(OSError):  # of an abandoned file; a finished one is closed
                self._draft.close()


def _write_tables(work: _Work, layout: Layout, targets: Sequence[Target]) -> dict[str, RunnerError]:
    """Write tables in one pass over the pages. Return the errors by path."""
    with _opened(targets, work) as writing:
        by_table: dict[str, list[_Writing]] = {}
        for one in writing:
            by_table.setdefault(one.target.table.name, []).append(one)
        packets = by_table.pop(layout.cases.name, [])
        if by_table:
            _fill(work, layout, by_table)
        for case in work.found.cases() if packets else ():
            for one in packets:
                one.add([case_row(*case)])
        for one in writing:
            one.finish()
        _publish(work.found.state, [one for one in writing if not one.error])
        for one in writing:
            if one.weaver and not one.error and one not in packets:
                work.sizes[one.target.path] = one.digest, one.target.looks, one.weaver.sizes
        return {one.target.path: one.error for one in writing if one.error}


@contextmanager
def _opened(targets: Sequence[Target], work: _Work) -> Iterator[list[_Writing]]:
    memory = MEMORY_BYTES // max(1, sum(target.format == "parquet" for target in targets))
    with ExitStack() as stack:
        writing = []
        for target in targets:
            writing.append(_Writing(target, work, memory))
            stack.callback(writing[-1].close)
        yield writing


def _fill(work: _Work, layout: Layout, by_table: Mapping[str, Sequence[_Writing]]) -> None:
    """Add the rows of all files: those of unchanged files are copied, the others are rendered."""
    keys, writing = work.found.keys(), [one for ones in by_table.values() for one in ones]
    read, forms = work.found.record_reader(), [*work.forms.numbers]
    with closing(_render_new(work, layout, writing)) as rendered:
        for start, position, number in spans(keys, work.old.keys):
            if position is not None and all(one.copies for one in writing):
                for one in writing:
                    one.copy(position, number)
                continue
            if position is None and all(one.target.format in LINES for one in writing):
                for one, lines in zip(writing, next(rendered), strict=True):
                    one.add_lines(lines)
                continue
            for place in range(number):
                names = [name for name in layout.tables_of(forms[work.forms.of[start + place]]) if name in by_table]
                if position is not None:
                    names = [name for name in names if not all(one.copies for one in by_table[name])]
                rows = _gather_rows(layout, read(work.found.chosen[start + place]) if names else (), names)
                for one in writing:
                    if position is not None and one.copies:
                        one.copy(position + place, 1)
                    else:
                        one.add(rows.get(one.target.table.name, ()))


def _render_new(work: _Work, layout: Layout, writing: Sequence[_Writing]) -> Generator[list[bytes]]:
    """Render the rows of each new file for each table, if all tables are lines."""
    new, forms = find_new(work.found.keys(), work.old.keys), [*work.forms.numbers]
    names = {one.target.table.name for one in writing}
    some = [not names.isdisjoint(layout.tables_of(form)) for form in forms]  # which forms have rows in these tables
    located = (work.found.locate(work.found.chosen[start]) if some[work.forms.of[start]] else None for start in new)
    return render_many(partial(_Lines, work.found.folder, layout, [one.target for one in writing]), located, len(new))


class _Lines:
    """Renders the rows of files as lines of tables."""

    def __init__(self, folder: Path, layout: Layout, targets: Sequence[Target]) -> None:
        self._layout = layout
        self._sinks = [(target.table.name, _open_lines(target)) for target in targets]
        names = {name for name, _ in self._sinks}
        self._has_fields, self._names = layout.fields.name in names, names - {layout.fields.name}
        self._read = record_reader(folder)

    def __call__(self, places: Sequence[Located | None]) -> list[list[bytes]]:
        """Render files, all of a table at once. None stands for one without rows."""
        files = [self._read(place) if place else [] for place in places]
        rows = [_gather_rows(self._layout, records, self._names) for records in files]
        columns = field_columns([*chain.from_iterable(files)]) if self._has_fields else []
        rendered = [
            sink.render_fields(files, columns)
            if name == self._layout.fields.name
            else sink.render_each([found.get(name, ()) for found in rows])
            for name, sink in self._sinks
        ]
        return [*map(list, zip(*rendered, strict=True))]


def _gather_rows(layout: Layout, records: Iterable[Record], names: Collection[str]) -> dict[str, list[Row]]:
    """Return the rows of documents in the named tables."""
    rows: dict[str, list[Row]] = {}
    for name, some in layout.rows(records, names) if names else ():
        rows.setdefault(name, []).extend(some)
    return rows


def _open_lines(target: Target) -> TextSink:
    sink = open_sink(target.format, BytesIO(), target.table)
    assert isinstance(sink, TextSink)
    return sink


def _publish(state: State, writing: Sequence[_Writing]) -> None:
    """Publish files. After a crash in between, the published ones are still known to be ours."""
    state.record_announced({one.target.path: one.digest for one in writing})
    for one in writing:
        one.publish()
    with state.transaction():
        for one in writing:
            if not one.error:
                one.record(state)
