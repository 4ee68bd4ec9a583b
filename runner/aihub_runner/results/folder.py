"""Keep the tables in the results folder up to date, in every format of the spec. Never overwrite edits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aihub_runner.errors import InputError, ResultsError, RunnerError, Shortage
from aihub_runner.files import Draft, digest_file, explain_disk
from aihub_runner.model import DOCUMENTS_NAME
from aihub_runner.results.naming import Names, parse_names
from aihub_runner.results.reader import Found
from aihub_runner.results.tables import VERSION, Layout, Row, Table, survey
from aihub_runner.results.writers.formats import MEMORY_BYTES, open_sink
from aihub_runner.results.writers.sink import WAITING, Sink
from aihub_runner.results.written import load_written, note_written
from aihub_runner.state.outputs import TABLES, Output
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
    odd: dict[str, None] = {}
    cases = replace(found, tell=lambda text: odd.setdefault(text)).cases()
    layout = survey(found.documents(), cases, load_names(state))
    state.record_column_names(layout.names().as_text())
    wanted = [Target(table, format) for table in layout.tables() for format in formats]
    todo = [target for target in wanted if target.path not in left]
    errors: dict[str, RunnerError] = {}
    at_once = max(1, min(OPEN_AT_ONCE, spare_descriptors() // 4))
    for start in range(0, len(todo), at_once):
        errors |= _write_tables(found, layout, todo[start : start + at_once])
    broken = {path for path, error in errors.items() if isinstance(error, InputError | Shortage)}
    kept = left | broken | ({target.path for target in todo} - errors.keys())
    _remove(state, folder, record.keys() - kept)
    refused: list[RunnerError] = [
        error if isinstance(error, Shortage) else ResultsError(error.message, error.hint) for error in errors.values()
    ]
    with state.transaction():
        state.record_warnings(TABLES, list(odd)[:MAX_WARNINGS])
        state.record_table_errors(refused)
        state.record_made_from(TABLES, "" if broken else made_from)
    note_written(folder, {path: written.digest for path, written in _load_record(state).items()})
    return refused


@dataclass(frozen=True, slots=True)
class Target:
    """A table in one format."""

    table: Table
    format: str

    @property
    def path(self) -> str:
        """The path in the results folder."""
        return f"{self.table.name}.{self.format}"


# The record of written tables


def _load_record(state: State) -> dict[str, Output]:
    """Load the record of each written table, by its path in the results folder."""
    outputs = state.load_outputs()
    return {path: output for path, output in outputs.items() if output.digest and path != DOCUMENTS_NAME}


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
    return sorted(path for path in _load_record(state) if not (folder / path).is_file())


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

    def __init__(self, target: Target, folder: Path, memory: int) -> None:
        self.target = target
        self.error: RunnerError | None = None
        self._path = folder / target.path
        self._draft: Draft | None = None
        self._sink: Sink | None = None
        self.digest = ""
        self._try(lambda: self._open(memory))

    def _open(self, memory: int) -> None:
        self._draft = Draft(self._path)
        self._sink = open_sink(self.target.format, self._draft, self.target.table, memory, self._path.parent)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            with explain_disk(self._path):
                act()
        except (ResultsError, InputError, Shortage) as error:
            self.error = error
            self.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows at the end."""
        if self._sink and not self.error:
            self._try(partial(self._sink.write, rows))

    def finish(self) -> None:
        """Complete the temporary file."""
        if not self.error:
            self._try(self._finish)

    def _finish(self) -> None:
        if self._sink and self._draft:
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
        if self._draft:
            with suppress(OSError):  # of an abandoned file; a finished one is closed
                self._draft.close()


def _write_tables(found: Found, layout: Layout, targets: Sequence[Target]) -> dict[str, RunnerError]:
    """Write tables in one pass over the pages. Return the errors by path."""
    with _opened(targets, found.folder) as writing:
        _fill(found, layout, writing)
        for one in writing:
            one.finish()
        _publish(found.state, [one for one in writing if not one.error])
        return {one.target.path: one.error for one in writing if one.error}


@contextmanager
def _opened(targets: Sequence[Target], folder: Path) -> Iterator[list[_Writing]]:
    memory = MEMORY_BYTES // max(1, sum(target.format == "parquet" for target in targets))
    with ExitStack() as stack:
        writing = []
        for target in targets:
            writing.append(_Writing(target, folder, memory))
            stack.callback(writing[-1].close)
        yield writing


def _fill(found: Found, layout: Layout, writing: Sequence[_Writing]) -> None:
    by_table: dict[str, list[_Writing]] = {}
    for one in writing:
        by_table.setdefault(one.target.table.name, []).append(one)
    for name, rows in layout.rows(found.documents(), found.cases(), by_table.keys()):
        for one in by_table[name]:
            one.add(rows)


def _publish(state: State, writing: Sequence[_Writing]) -> None:
    """Publish files. After a crash in between, the published ones are still known to be ours."""
    state.record_announced({one.target.path: one.digest for one in writing})
    for one in writing:
        one.publish()
    with state.transaction():
        for one in writing:
            if not one.error:
                one.record(state)
