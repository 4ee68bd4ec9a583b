"""Assess a job: scan its files, plan, look for damage, describe. Apply and the commands that only read share this."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.apply.events import Reporter, ScanProgress
from aihub_runner.apply.job import Job
from aihub_runner.apply.lapsed import describe_idle, exclude_lapsed, find_lapsed
from aihub_runner.apply.pagecount import skip_long
from aihub_runner.errors import InputError, Interrupted, ResultsError, RunnerError
from aihub_runner.model import FINAL_STATUSES, FOREIGN, OWN, Changes, Goal, Scan, Shard, SkippedFile, Source
from aihub_runner.plan.contents import Evidence, collect_known, find_changes
from aihub_runner.plan.identity import fingerprint_members, short_identity
from aihub_runner.plan.inputs import find_answered, plan_input
from aihub_runner.plan.kept import content_of, list_others, plan_kept, recorded_others, scan_listed, scan_recorded
from aihub_runner.plan.packets import find_packets
from aihub_runner.plan.planfile import PlanFile, bind_plan, compute_revision
from aihub_runner.plan.planner import PAYS, Plan, find_lost, find_moves, lost_error, make_plan, move_members
from aihub_runner.report.summary import Problem, Report, describe, describe_error
from aihub_runner.results.reader import choose_runs, find_damaged
from aihub_runner.sources.scan import Selection, scan_sources
from aihub_runner.state.lockfile import Entry, as_remembered, load_lockfile, split_marks, split_places
from aihub_runner.state.store import State
from aihub_runner.text.shown import count

if TYPE_CHECKING:
    from aihub_runner.results.documents import Tally

UNPAID = (FINAL_STATUSES - {"COMPLETE"}) | {"GONE", "REFUSED"}  # statuses of lock file entries whose files are not done


def scan_files(
    job: Job,
    state: State | None,
    reporter: Reporter,
    stop: Event,
    *,
    may_be_empty: bool = False,
    selection: Selection | None = None,
    hashes_all: bool = False,
) -> Scan:
    """Scan the spec's files, or those of a selection just made, which is used up. Refused files count as skipped.

    New files elsewhere are hashed as they are sent, unless `hashes_all`, or unless a digest may decide before.
    """

    if job.goal.kept == FOREIGN and not job.goal.follows:
        return _scan_batch(job, state, may_be_empty=may_be_empty)

    def on_progress(files: int, files_total: int, size: int, size_total: int) -> None:
        if stop.is_set():
            raise Interrupted("interrupted while reading files")
        reporter.emit(ScanProgress(files, files_total, size, size_total))

    scan = scan_sources(
        job.spec,
        job.spec_path,
        state.load_cache() if state else (),
        allowed=job.options.allowed,
        may_be_empty=may_be_empty or job.spec.allow_empty,
        now_ns=time.time_ns(),
        on_progress=on_progress,
        selection=selection,
        defers=_find_new(job, state) if job.is_remote and not hashes_all and _may_defer(job, state) else None,
    )
    if selection:
        selection.judged.clear()  # a quarter of a kilobyte for each file, of no further use
    if state:
        state.share_texts(scan.sources)
    scan = skip_long(job, state, _without_state(scan, job), stop)
    if job.goal.by_folder and not may_be_empty:
        _check_packets(job, scan)
    if job.goal.follows and not may_be_empty:
        _check_whole(job, scan)
    refused = state.load_refused() if state and not job.options.retry_failed else {}
    scan = _without_refused(scan, refused) if refused else scan
    return _with_others(job, state, scan) if job.goal.follows and job.goal.kept == FOREIGN else scan


def _may_defer(job: Job, state: State | None) -> bool:
    """Whether a plan may be made before the digests of new files elsewhere are known.

    They decide where work was recorded elsewhere, where a plan was approved, and where files are paid for together.
    """
    options = job.options
    if job.goal.kept or job.goal.by_folder or options.adopt or options.approved or options.again:
        return False
    return not entries_to_import(job, state)


def _find_new(job: Job, state: State | None) -> Callable[[str], bool]:
    """Return whether a path was never recorded with a digest."""
    shards = state.load_shards() if state else ()
    known = {member.path for shard in shards for member in shard.members if not member.is_unhashed}
    return lambda path: path not in known


def _scan_batch(job: Job, state: State | None, *, may_be_empty: bool) -> Scan:
    """Return the files of somebody else's batch: as it was just listed, else as it was run last."""
    if job.look is None:
        return scan_recorded(job.goal, state.load_shards() if state else ())
    most, files = job.spec.limits.files_per_batch, len(job.look.files)
    shown = f"{job.shown}: batch {job.look.remote_id}"
    if files > most:
        raise InputError(f"{shown} holds {files} files, at most {most} can be one run", "split it into several batches")
    if not files and not may_be_empty:
        raise InputError(f"{shown} holds no files", "add files to it, or check id in [batch]")
    return scan_listed(job.look.files, recorded_others(job.goal, state.load_shards()) if state else ())


def _check_whole(job: Job, scan: Scan) -> None:
    """Raise InputError where a kept batch would hold more files than one run may have."""
    most, files = job.spec.limits.files_per_batch, len(scan.sources)
    if files > most:
        raise InputError(f"{job.shown}: {files} files are selected, at most {most} can be one batch", "select fewer")


def _with_others(job: Job, state: State | None, scan: Scan) -> Scan:
    """Add the files of others that are in the batch, and that are run with ours."""
    shards = state.load_shards() if state else []
    recorded = recorded_others(job.goal, shards)
    others = list_others(find_batch_changes(job, state, scan), recorded) if job.look else recorded
    paths = {source.path for source in scan.sources} | {item.path for item in scan.skipped}
    if twin := next((one.path for one in others if one.path in paths), ""):
        what = f"{job.shown}: batch {job.goal.batch_id} has a file of others with the path of one of yours, {twin}"
        raise InputError(what, "rename your file")
    both = replace(scan, sources=tuple(sorted([*scan.sources, *others], key=lambda one: one.path)), identity="")
    _check_whole(job, both)
    return both


def find_batch_changes(job: Job, state: State | None, scan: Scan) -> Changes:
    """Return how the kept batch must change to hold the local files of a scan."""
    members = tuple(member for member in content_of(scan) if not member.is_listed)
    look = job.look
    if look is None:
        return Changes(0, add=members)
    entries = [one for one in load_lockfile(job.lock_path) if one.kept and one.batch_id == look.remote_id]
    locked = [pair for one in entries for pair in zip(split_places(one), split_marks(one), strict=False)]
    placed = state.load_placed(look.remote_id) if state else {}
    known = collect_known(state.load_shards() if state else (), look.remote_id, locked)
    return find_changes(job.goal, members, look, Evidence(placed, known))


def _check_packets(job: Job, scan: Scan) -> None:
    """Raise InputError if a folder has more files than one batch may hold."""
    most = job.goal.files_per_batch
    sizes = {folder: len(files) for folder, files in find_packets(scan.sources).items() if len(files) > most}
    if sizes:
        folder = min(sizes)
        more = f", and {count(len(sizes) - 1, 'more folder')}" if len(sizes) > 1 else ""
        raise InputError(
            f"{job.shown}: {folder} has {sizes[folder]} files{more}, at most {most} can be one batch",
            'split the folder, or remove group_by = "folder"',
        )


def own_names(job: Job) -> frozenset[str]:
    """Return the paths of the state file, its companions and the lock file, relative to the spec."""
    if job.is_remote:
        own, lock = (f"file://{path.absolute()}" for path in (job.state_path, job.lock_path))
    else:
        own, lock = (Path(os.path.relpath(path, job.folder)).as_posix() for path in (job.state_path, job.lock_path))
    return frozenset({own, f"{own}-journal", f"{own}.lock", lock})


def _without_state(scan: Scan, job: Job) -> Scan:
    """Leave out the state file, its companions and the lock file: --state and --lock-file allow any name."""
    names = own_names(job)
    paths = map(attrgetter("path"), chain(scan.sources, scan.skipped))
    if names.isdisjoint(paths):
        return scan
    return replace(
        scan,
        sources=tuple(source for source in scan.sources if source.path not in names),
        skipped=tuple(item for item in scan.skipped if item.path not in names),
    )


def _without_refused(scan: Scan, refused: dict[tuple[str, str], str]) -> Scan:
    kept = tuple(source for source in scan.sources if (source.path, source.identity) not in refused)
    left = [source for source in scan.sources if (source.path, source.identity) in refused]
    items = [SkippedFile(source.path, "refused", refused[source.path, source.identity]) for source in left]
    return replace(scan, skipped=tuple(sorted([*scan.skipped, *items], key=lambda item: item.path)), sources=kept)


def plan_job(job: Job, state: State | None, scan: Scan, held: Collection[str] = ()) -> Plan:
    """Plan what is missing by the recorded facts. `held` are paths of files to plan nothing for."""
    shards = state.load_shards() if state else []
    plan = _plan(job.goal, scan, shards, state.load_run_keys() if state else {}, held)
    pays = any(item.action in PAYS for item in plan.work)
    for batch in (batch for item in plan.work for batch in item.shard.batches):
        len(batch.uploads)  # loads them: a plan is shown when the state is closed
    if job.goal.follows and not held and (job.look or (pays and job.goal.kept == OWN)):
        plan = replace(plan, changes=find_batch_changes(job, state, scan))
    if parts := ", ".join(job.spec.cleanup.parts):
        note = f"[cleanup] deletes from the service, once results are on disk: {parts}"
        plan = replace(plan, notes=(*plan.notes, note))
    return plan


def _plan(
    goal: Goal,
    scan: Scan,
    shards: Sequence[Shard],
    settings_of: Mapping[str, Mapping[str, Any]],
    held: Collection[str] = (),
) -> Plan:
    """Plan by the kind of input."""
    if goal.input:
        return plan_input(goal, shards)
    return (plan_kept if goal.kept else make_plan)(goal, scan, shards, settings_of, held)


def look_for_damage(job: Job, state: State, among: Collection[int] | None = None) -> Job:
    """Return the job with the results that are damaged on disk, of the runs in `among` or of all."""
    damaged = find_damaged(state, state.load_shards(), job.goal, job.results_path, among)
    return replace(job, damaged=damaged)


def load_moved(job: Job, state: State, scan: Scan) -> list[Shard]:
    """Load the shards, with the paths of files that were moved since the last apply."""
    shards = state.load_shards()
    moves = {move.old: move.new for move in find_moves(shards, scan, by_folder=job.goal.by_folder)}
    return [move_members(shard, moves) for shard in shards]


def with_pruned(job: Job, state: State, scan: Scan) -> Job:
    """Return the job with the pruned results that count again as damaged: a file, or an earlier setting, is back."""
    if not (pruned := state.load_pruned()):
        return job
    include, chosen = job.goal.include, choose_runs(load_moved(job, state, scan), scan, job.goal)
    runs = {one.run.id for one in chosen if one.present and (one.run.id, include) in pruned}
    return replace(job, damaged={**job.damaged, **dict.fromkeys(runs, frozenset())})


def check_selected(job: Job, scan: Scan) -> None:
    """Raise InputError if --only selects no file at all, a mistyped pattern, or if there is none to select."""
    only = job.goal.only
    if job.goal.input and (only or job.goal.limit is not None):
        raise InputError(f"{job.shown}: --only and --limit select files, and this job has none", "leave them out")
    if job.goal.kept and (only or job.goal.limit is not None):
        raise InputError(
            f"{job.shown}: --only and --limit select files, and [batch] runs all of them", "leave them out"
        )
    paths = map(attrgetter("path"), chain(scan.sources, scan.skipped))
    if only and not any(map(only, paths)):
        shown = ", ".join(job.options.only)
        raise InputError(f"{job.shown}: no file matches --only {shown}", "write it relative to the spec, as in files")


def describe_job(
    job: Job,
    state: State,
    scan: Scan,
    notes: Sequence[str] = (),
    left: Collection[str] = frozenset(),
    find_tally: Callable[[Sequence[Shard]], Tally | None] = lambda _: None,
) -> Report:
    """Return the report on a job, from its recorded facts and its files.

    `left` are files that were not selected. `find_tally` returns what is known already of what the results hold.
    """
    lapsed = find_lapsed(job, state, scan)
    shards, goal = state.load_shards(), replace(job.goal, retry_failed=False, again=False, refetch=False)
    goal = replace(goal, only=None, limit=None, left=left)
    plan = _plan(goal, scan, shards, state.load_run_keys())
    report = describe(state, shards, scan, plan, goal, find_tally(shards))
    answered = find_answered(shards, goal) if goal.input else ()
    problems, lost = _describe_lost(job, shards, scan, goal)
    return replace(
        report,
        problems=problems,
        spec=job.shown,
        name=job.spec.name,
        files=len(answered) if goal.input else scan.files,
        files_done=len(answered) if goal.input else report.files_done,
        input=goal.input,
        has_input_run=bool(goal.input and plan.done),
        files_unselected=len(plan.left),
        skipped=scan.skipped,
        idle=tuple(describe_idle(scan, lapsed)),
        lapsed=lapsed,
        notes=(*notes, *lost, *plan.notes),
        warnings=tuple(state.load_warnings()),
        fake=job.is_fake,
        results=str(job.results_path),
    )


def _describe_lost(job: Job, shards: Sequence[Shard], scan: Scan, goal: Goal) -> tuple[tuple[Problem, ...], list[str]]:
    """Describe the runs whose results are nowhere any more, and which a file still needs.

    Those are problems. Where only removed files need one, `state forget` ends it; what a batch that is kept held before
    cannot be forgotten, so that is a note.
    """
    lost = {run.id: lost_error(run, goal) for run in find_lost(shards, goal)}
    if not lost:
        return (), []
    whole = {run.id for shard in shards for run in shard.runs if not shard.members}  # whose files are not known
    chosen = choose_runs(shards, scan, goal, lost.keys())
    present = whole | {one.run.id for one in chosen if one.present}
    removed = {one.run.id for one in chosen} - present
    problems = [describe_error(error) for number, error in lost.items() if number in present]
    of_removed = [error for number, error in lost.items() if number in removed]
    if goal.kept:
        return tuple(problems), [f"{error.message}; its files are removed" for error in of_removed]
    hint = f"restore the results folder from a backup; to give them up, run `{job.command('state forget')}`"
    problems += [describe_error(ResultsError(f"{error.message}; its files are removed", hint)) for error in of_removed]
    return tuple(problems), []


def entries_to_import(job: Job, state: State | None, sources: Collection[Source] = ()) -> list[Entry]:
    """List the entries that the lock file or an earlier check names and the state lacks.

    What you had the state forget counts only if one of its files is among `sources`.
    """
    locked = list(_remember(load_lockfile(job.lock_path), sources))
    target = job.goal.target
    if state is None:
        return [entry for entry in locked if entry.target == target]
    entries = {(entry.identity, entry.run_id): entry for entry in [*state.load_pending(), *locked]}  # twins are two
    with_run = {identity for identity, run_id in entries if run_id}
    dismissed = state.load_dismissed()
    wanted = [
        entry
        for (identity, run_id), entry in entries.items()
        if (run_id or entry.tag) not in dismissed and (run_id or identity not in with_run)
    ]
    return _new_entries(state, wanted, target)


def _remember(entries: Sequence[Entry], sources: Collection[Source]) -> Iterator[Entry]:
    """Yield the entries without those that were forgotten, unless one of their files is back."""
    is_needed = sources and any(entry.is_forgotten for entry in entries)
    marks = {short_identity(source.identity) for source in sources} if is_needed else set()
    for entry in entries:
        if not entry.is_forgotten or not marks.isdisjoint(split_marks(entry)):
            yield as_remembered(entry)


def _new_entries(state: State, entries: Iterable[Entry], target: str) -> list[Entry]:
    """List the entries of this target that the state lacks."""
    shards = state.load_shards()
    runs = {run.remote_id: run for shard in shards for run in shard.runs if run.remote_id}
    open_tags = {run.tag for shard in shards for run in shard.runs}
    return [
        entry
        for entry in entries
        if entry.target == target and (entry.run_id or entry.tag not in open_tags)
        if not ((run := runs.get(entry.run_id)) and entry.is_run(run.tag))
    ]


def without_paid(job: Job, scan: Scan, entries: list[Entry]) -> tuple[Scan, int]:
    """Remove the files that the lock file names as paid under today's run key. Apply verifies them."""
    key = job.goal.run_key
    paid = [e for e in entries if e.run_key == key and e.last_status not in UNPAID]
    if not paid:
        return scan, 0
    if job.goal.kept:
        is_paid = fingerprint_members(content_of(scan)) in {entry.fingerprint for entry in paid}
        sources = () if is_paid else scan.sources
    elif job.goal.by_folder:
        sources = _without_packets(scan, paid)
    else:
        marks = {mark for entry in paid for mark in split_marks(entry)}
        sources = tuple(source for source in scan.sources if short_identity(source.identity) not in marks)
    return replace(scan, sources=sources), len(scan.sources) - len(sources)


def _without_packets(scan: Scan, paid: list[Entry]) -> tuple[Source, ...]:
    """Leave out the files of folders that are paid for as they are."""
    whole = {tuple(sorted(split_marks(entry))) for entry in paid}
    groups = find_packets(scan.sources).values()
    left = [group for group in groups if tuple(sorted(short_identity(one.identity) for one in group)) not in whole]
    return tuple(sorted((source for group in left for source in group), key=lambda source: source.path))


class Local(Struct, frozen=True):
    """A plan by local facts alone. Files that the lock file names as paid are `recognised`, not planned.

    `held` are the errors about files that are not paid for, since a pattern `lapsed`.
    """

    plan: Plan
    entries: list[Entry]
    recognised: int
    lapsed: tuple[str, ...]
    held: list[RunnerError]


def plan_offline(job: Job, state: State | None, scan: Scan) -> Local:
    """Plan what is missing by local facts, without a request. May be repeated, and records nothing."""
    entries = entries_to_import(job, state, scan.sources)
    left, recognised = without_paid(job, scan, entries)
    lapsed = find_lapsed(job, state, scan)
    shards = state.load_shards() if state else []
    plan, held = exclude_lapsed(job, plan_job(job, state, left), shards, lapsed)
    if job.goal.follows and recognised and job.look:
        plan = replace(plan, changes=find_batch_changes(job, state, scan))
    return Local(plan, entries, recognised, lapsed, list(held))


def bind(job: Job, state: State | None, scan: Scan, local: Local) -> PlanFile:
    """Return what a plan binds, for a file. Files that moved count as if that was recorded: an apply does it first."""
    revision = compute_revision(load_moved(job, state, scan) if state else [], local.entries)
    return bind_plan(job.spec.name, job.goal, scan, local.plan, revision)


def check_asked(job: Job, state: State, scan: Scan) -> None:
    """Raise InputError if --only selects nothing, or if an approved plan no longer fits what there is."""
    check_selected(job, scan)
    approved = job.options.approved
    if approved is None:
        return
    if changes := approved.find_changes(bind(job, state, scan, plan_offline(job, state, scan))):
        raise InputError(
            f"{job.shown}: the plan does not fit any more: {', '.join(changes)}",
            f"look at `{job.command('plan')}`, and make a new plan with --out",
        )
