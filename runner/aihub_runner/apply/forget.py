"""Forget, on request, the names, runs and results of removed files. The lock file still records that they were paid."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from threading import Event

from msgspec import Struct

from aihub_runner.apply.assess import load_moved, scan_files
from aihub_runner.apply.begin import hold_state
from aihub_runner.apply.delivery import deliver, write_lockfile
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.lapsed import find_lapsed
from aihub_runner.apply.places import check_lock_target, claim_results
from aihub_runner.apply.prune import list_changed, remove_pages
from aihub_runner.apply.run import take_over
from aihub_runner.errors import InputError, RunnerError
from aihub_runner.model import Member, Page, Run, Scan, Shard
from aihub_runner.plan.identity import short_identity
from aihub_runner.state.lockfile import try_lockfile
from aihub_runner.state.store import State


class Group(Struct, frozen=True):
    """A group of files that are all gone, and the raw pages of its runs. `left` says why it is not forgotten."""

    shard: Shard
    pages: tuple[Page, ...]
    left: str = ""


class Forgotten(Struct, frozen=True):
    """What to forget, or was forgotten; what is left; notes and errors of writing the tables."""

    groups: Sequence[Group] = ()
    left: Sequence[Group] = ()
    notes: Sequence[str] = ()
    errors: Sequence[RunnerError] = ()


def forget(job: Job, reporter: Reporter, confirm: Callable[[Forgotten], bool], stop: Event) -> Forgotten:
    """Remove all facts, and the raw pages, of groups of files that are all gone.

    Nothing is sent. Their entries stay in the lock file, marked: if such a file is back, the next apply imports its run
    instead of paying. `confirm` receives everything before anything is removed. You can repeat this however an earlier
    one ended. Raises InputError if it is not sure which files are gone, or which runs were started.
    """
    if not job.state_path.exists():
        raise job.no_results()
    if job.goal.input:
        raise InputError(f"{job.shown}: its files lie elsewhere, so none of them is gone", "nothing can be forgotten")
    if job.goal.kept:
        raise InputError(f"{job.shown}: what a batch that is kept held before is not forgotten", "leave it as it is")
    check_lock_target(job)
    with hold_state(job, stop) as state:
        take_over(job, state)
        claim_results(job)
        scan = scan_files(job, state, reporter, stop, hashes_all=True)
        if lapsed := find_lapsed(job, state, scan):
            raise InputError(f"{job.shown}: {lapsed[0]} matched files before, and matches none now", "look for them")
        _check_confirmed(job, state)
        groups = list(_find_gone(job, state, scan))
        found = Forgotten([one for one in groups if not one.left], [one for one in groups if one.left])
        if not found.groups:
            return found
        try_lockfile(job.lock_path)
        if not confirm(found):
            raise InputError(f"{job.shown}: cancelled, nothing was forgotten")
        _forget(job, state, found.groups)
        done = deliver(job, state, scan)
    return Forgotten(found.groups, found.left, done.notes, done.errors)


def _check_confirmed(job: Job, state: State) -> None:
    """Raise InputError while what was paid is not sure: a fact less might let it be paid again."""
    if any(run.is_open for shard in state.load_shards() for run in shard.runs):
        hint = f"run `{job.command('apply')}`, and `{job.command('resolve')}` if it says so"
        raise InputError(f"{job.shown}: unconfirmed whether a run was started, so nothing is forgotten", hint)
    if state.has_again():
        raise InputError(
            f"{job.shown}: an --again was interrupted", f"run `{job.command('apply')} --again` to finish it"
        )


def _find_gone(job: Job, state: State, scan: Scan) -> Iterator[Group]:
    here = {source.path: source.identity for source in scan.sources}
    marks = {short_identity(source.identity) for source in scan.sources}
    skipped = {item.path for item in scan.skipped}
    only = job.goal.only
    newest = {run.id for run in state.list_visible(job.goal.target, 1)}

    def is_here(member: Member) -> bool:
        if member.is_stale:
            return member.digest in marks
        return member.path in skipped or here.get(member.path) == member.identity

    for shard in load_moved(job, state, scan):
        if not shard.is_closed or not (shard.members or shard.runs) or any(map(is_here, shard.members)):
            continue
        if only and not all(only(member.path) for member in shard.members):
            continue
        fetched = [(run, include) for run in shard.runs for include in sorted(run.fetched)]
        pages = tuple(page for run, include in fetched for page in state.load_pages(run.id, include))
        changed = list_changed(pages, job.results_path)
        left = f"{changed[0]} was changed after it was fetched" if changed else ""
        why = (_why_needed(run, newest) for run in shard.runs)
        yield Group(shard, pages, next(filter(None, why), left))


def _why_needed(run: Run, newest: Collection[int]) -> str:
    """Return why a run must not be forgotten; empty if it may be."""
    if not run.is_final and not run.is_gone:
        return f"run {run.remote_id} is {run.status or 'started'}"
    if run.status == "COMPLETE" and not run.fetched and not run.is_gone:
        return f"the results of run {run.remote_id} were not fetched"
    if run.id in newest:
        return f"run {run.remote_id} is the newest: apply trusts a list of runs only if it shows that one"
    return ""


def _forget(job: Job, state: State, groups: Sequence[Group]) -> None:
    """Mark the lock file, remove the pages, then the facts: after a crash, all is as before, or can be repeated."""
    ids = {one.shard.id for one in groups}
    write_lockfile(job, state, state.load_shards(), forgotten=ids)
    remove_pages([page for one in groups for page in one.pages], job.results_path)
    state.forget_closed(ids)
