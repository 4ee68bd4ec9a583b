"""Remove raw pages that do not count any more: of runs that newer ones replaced, and of files that are gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event

from msgspec import Struct

from aihub_runner.apply.assess import load_moved, look_for_damage, scan_files
from aihub_runner.apply.begin import hold_state
from aihub_runner.apply.delivery import deliver
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.lapsed import find_lapsed
from aihub_runner.apply.places import claim_results
from aihub_runner.errors import InputError, RunnerError
from aihub_runner.files import digest_file, explain_disk
from aihub_runner.model import Goal, Page, Run, Scan, Shard
from aihub_runner.results.reader import choose_runs, without_pruned
from aihub_runner.state.store import State


class Stale(Struct, frozen=True):
    """A run whose raw pages do not count any more. `changed` are pages that do not hold what was fetched."""

    run: Run
    files: tuple[str, ...]
    pages: tuple[Page, ...]
    changed: tuple[str, ...]


class Pruned(Struct, frozen=True):
    """What to remove, or what was removed; what is left since it was changed; notes and errors of writing tables."""

    stale: Sequence[Stale] = ()
    left: Sequence[Stale] = ()
    notes: Sequence[str] = ()
    errors: Sequence[RunnerError] = ()


def prune(job: Job, keep: int, reporter: Reporter, confirm: Callable[[Pruned], bool], stop: Event) -> Pruned:
    """Remove the raw pages of all but the `keep` newest runs of each file, and write the tables again.

    `confirm` receives everything before anything is removed. Raises InputError if it is not sure which files are
    gone.
    """
    if not job.state_path.exists():
        raise job.no_results()
    with hold_state(job, stop) as state:
        if state.results != Path(os.path.relpath(job.results_path, job.folder)).as_posix():
            raise InputError(f"{job.shown}: the results are still in {state.results or 'no folder'}", "apply first")
        claim_results(job)
        job = look_for_damage(job, state)
        scan = scan_files(job, state, reporter, stop, hashes_all=True)
        if lapsed := find_lapsed(job, state, scan):
            raise InputError(f"{job.shown}: {lapsed[0]} matched files before, and matches none now", "look for them")
        stale = list(_find_stale(job, state, scan, keep))
        found = Pruned([one for one in stale if not one.changed], [one for one in stale if one.changed])
        if not found.stale:
            return found
        if not confirm(found):
            raise InputError(f"{job.shown}: cancelled, nothing was removed")
        for one in found.stale:
            _remove(state, one, job.results_path)
        done = deliver(job, state, scan)
    return Pruned(found.stale, found.left, done.notes, done.errors)


def _find_stale(job: Job, state: State, scan: Scan, keep: int) -> Iterator[Stale]:
    shards, folder = without_pruned(state, load_moved(job, state, scan)), job.results_path
    fetched = [(shard, run) for shard in shards for run in shard.runs if run.status == "COMPLETE" and run.fetched]
    kept = _list_kept(fetched, scan, job.goal, keep)
    kept |= {one.run.id for one in choose_runs(shards, scan, job.goal) if one.present}
    for shard, run in fetched:
        if run.id not in kept:
            pages = tuple(page for include in sorted(run.fetched) for page in state.load_pages(run.id, include))
            changed = list_changed(pages, folder)
            yield Stale(run, tuple(member.path for member in shard.members), pages, changed)


def list_changed(pages: Iterable[Page], folder: Path) -> tuple[str, ...]:
    """List the pages that do not hold what was fetched. Those that are not there are left out."""
    return tuple(page.path for page in pages if digest_file(folder / page.path) not in ("", page.digest))


def _list_kept(fetched: Iterable[tuple[Shard, Run]], scan: Scan, goal: Goal, keep: int) -> set[int]:
    """List the newest runs of each file that is not gone. Files that lie elsewhere, or are unknown, are never gone."""
    present = {source.path for source in scan.sources} | {item.path for item in scan.skipped}
    kept, runs = set[int](), dict[str, list[int]]()
    for shard, run in fetched:
        for member in shard.members:
            if not member.path:
                kept.add(run.id)
            elif goal.input or not member.digest or member.is_listed or member.path in present:
                runs.setdefault(member.path, []).append(run.id)
    return kept.union(*(sorted(ids)[-keep:] for ids in runs.values()))


def _remove(state: State, stale: Stale, folder: Path) -> None:
    """Remove the pages of a run, then record it: after a crash in between, they are fetched again, for free."""
    remove_pages(stale.pages, folder)
    state.record_pruned(stale.run.id, [page.path for page in stale.pages])


def remove_pages(pages: Sequence[Page], folder: Path) -> None:
    """Remove pages, and the folders that are empty then."""
    for page in pages:
        with explain_disk(folder / page.path):
            (folder / page.path).unlink(missing_ok=True)
    for place in sorted({(folder / page.path).parent for page in pages}):
        with suppress(OSError):  # something else is in it
            place.rmdir()
            place.parent.rmdir()
