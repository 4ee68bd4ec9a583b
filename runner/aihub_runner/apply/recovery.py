"""Import what was paid for already, as the lock file lists it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply import events
from aihub_runner.apply.assess import UNPAID, entries_to_import
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.finder import Finder, Inspected, match_kept
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.matching import inspect_entries, is_contradicted, record_imported
from aihub_runner.apply.reused import REUSED
from aihub_runner.errors import UnknownOutcome
from aihub_runner.model import Listed, Member
from aihub_runner.plan.deletion import LOGS, OUTPUT, RUN
from aihub_runner.plan.identity import fingerprint_input
from aihub_runner.plan.kept import content_of
from aihub_runner.plan.planner import Move, find_moves
from aihub_runner.state.lockfile import GIVEN_UP, Entry, load_lockfile
from aihub_runner.state.store import State
from aihub_runner.text.shown import are, count

SHOWN = 5  # runs that a message names
NEVER_PAID = frozenset({GIVEN_UP, "REFUSED"})  # statuses of entries without a known run


def record_moved(opened: OpenJob) -> Sequence[Move]:
    """Record which files moved since the last apply, and return them.

    Before anything is imported, which makes new paths known, and even if nothing may be paid now: at the next apply,
    another file may be at an old path. The content of a batch that is kept moves as a whole.
    """
    state, goal = opened.state, opened.job.goal
    moves = [] if goal.kept else find_moves(state.load_shards(), opened.scan, by_folder=goal.by_folder)
    if moves:
        with state.transaction():
            state.record_moves(moves)
    return moves


def import_paid(opened: OpenJob) -> list[Inspected]:
    """Import what can be verified, free of charge. Return today's other entries, which must not be paid for again."""
    learn_deleted(opened)
    entries = entries_to_import(opened.job, opened.state, opened.scan.sources)
    if not entries:
        return []
    opened.reporter.emit(events.ImportStarted(len(entries), opened.job.lock_path.name))
    known, resolve = opened.state.known_runs(), opened.job.command("resolve")
    return import_entries(opened, in_thread(lambda: inspect_entries(opened.client, entries, known, resolve)))


def learn_deleted(opened: OpenJob) -> None:
    """Record that known runs ended and were deleted elsewhere on request, as the lock file says.

    Before a run whose results are not here counts as deleted, the service is asked.
    """
    job, state = opened.job, opened.state
    deleted = {(entry.run_id, entry.tag): entry for entry in load_lockfile(job.lock_path) if _tells_end(entry, job)}
    for run in [run for shard in state.load_shards() for run in shard.runs] if deleted else ():
        entry = deleted.get((run.remote_id or "", run.tag))
        if entry is None or run.is_gone or run.remote_batch not in (0, entry.batch_id):
            continue
        if not run.fetched and in_thread(partial(find_info, opened.client, entry.run_id)) is not None:
            continue
        with state.transaction():
            if not run.is_final:
                state.record_status(run.id, entry.last_status)
            state.record_deleted(RUN, entry.run_id, OUTPUT | LOGS)


def _tells_end(entry: Entry, job: Job) -> bool:
    return entry.is_deleted and entry.target == job.goal.target


def import_entries(opened: OpenJob, inspected: Iterable[Inspected]) -> list[Inspected]:
    """Record the entries that match the local files, and return those of today's run key that do not."""
    left, today, state = [], opened.job.goal.run_key, opened.state
    content = content_of(opened.scan)
    inspected, finder = list(inspected), Finder(opened.scan.sources, by_folder=opened.job.goal.by_folder)
    shards: dict[tuple[str, int], tuple[Member, ...]] = {}
    # Those that are not deleted know the names. The newest come first: each file stands for one run of a key.
    # Shards whose runs all failed come last: a file in one of them may have results of an older run.
    good = {_shard_of(found) for found in inspected if not _has_failed(found)}
    finder.reserve(found for found in inspected if not found.why and _shard_of(found) in good)

    def rank(found: Inspected) -> tuple[bool, bool, float]:
        return _shard_of(found) not in good, found.entry.is_deleted, -found.entry.when_s

    known = state.known_runs()
    for found in sorted(inspected, key=rank):
        if found.entry.run_id in known:
            found = replace(found, why=REUSED)
        shard = found.entry.fingerprint, found.entry.batch_id  # several runs of one shard have the same members
        if not shards.get(shard):
            match = partial(match_kept, found.entry, content) if found.entry.kept else partial(finder.match, found)
            shards[shard] = () if found.why else match()
        members = () if found.why else shards[shard]
        finder.use(found.entry, members)
        is_input = found.entry.fingerprint == fingerprint_input(found.entry.run_key) and not found.why
        if members or is_input:
            record_imported(state, found, members, listed_in(opened, found.entry.batch_id))
            known |= {found.entry.run_id} - {""}
        elif found.entry.run_key == today and found.entry.status not in NEVER_PAID:
            left.append(found if found.why else replace(found, why="its files differ from the local files"))
    taken = [found.entry.identity for found in left]
    state.record_pending([entry for entry in state.load_pending() if entry.identity in taken])
    return left


def _shard_of(found: Inspected) -> tuple[str, str, int]:
    return found.entry.fingerprint, found.entry.run_key, found.entry.batch_id


def _has_failed(found: Inspected) -> bool:
    """Whether a run has no results, or is not known: its files may have those of an older one."""
    status = found.run.status if found.run else found.entry.last_status
    return not found.entry.run_id or status in UNPAID


def listed_in(opened: OpenJob, batch_id: int) -> Mapping[str, Listed] | None:
    """Return what a batch holds now, if it is the one that is kept."""
    look = opened.job.look
    return look.files if look and look.remote_id == batch_id else None


def unverified_error(job: Job, left: Sequence[Inspected], held: Collection[str] = ()) -> UnknownOutcome:
    """Return an error that lists the unverified runs, and the `held` files, which wait for a decision.

    Where an entry lists no files, all wait.
    """
    shown = "; ".join(f"run {item.entry.run_id or 'of unknown id'}: {item.why}" for item in left[:SHOWN])
    merged = f"if {job.lock_path.name} was merged wrongly, restore it from Git; else " * any(map(is_contradicted, left))
    hint = f"{merged}run `{job.command('resolve')}` to decide"
    if blind := [item.entry.run_id for item in left if not item.entry.members]:
        runs = ", ".join(filter(None, blind[:SHOWN])) or "of unknown id"
        hint += f"; until then nothing is paid for, as nothing tells which files run {runs} had"
    elif held:
        more = " …" * (len(held) > 1)
        hint += f"; until then {count(len(held), 'file')} ({min(held)}{more}) {are(len(held))} not paid for again"
    return UnknownOutcome(f"{job.shown}: cannot verify {count(len(left), 'run')} paid before, {shown}", hint)


def ask_for_gone(job: Job, state: State, client: AIHub) -> None:
    """Ask again for runs that were gone before their results were fetched: the account may see them now."""
    today = job.goal.run_key
    runs = [run for shard in state.load_shards() for run in shard.runs if run.run_key == today and run.remote_id]
    for run in runs:
        if run.is_gone and not (run.fetched or run.is_deleted):
            info = in_thread(partial(find_info, client, run.remote_id or ""))
            if info is not None:
                state.record_run(run.id, *info.facts)


def find_info(client: AIHub, run_id: str) -> RunInfo | None:
    """Return what the service reports about a run, None for a 404."""
    return or_none(lambda: client.get_run(run_id))
