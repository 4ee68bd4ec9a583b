"""What exists on the service, listed before anything is paid: the state may be a copy, or one of several."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply import events
from aihub_runner.apply.assess import plan_job
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.finder import Inspected
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.listing import Survey, find_batch_of, known_batches, list_all
from aihub_runner.apply.matching import (
    choose_twins,
    record_imported,
    survey_entries,
)
from aihub_runner.apply.recovery import find_info, listed_in
from aihub_runner.apply.reused import Doubts, find_reused
from aihub_runner.apply.tasks.content import list_batch
from aihub_runner.apply.unknown_batches import UnknownBatches
from aihub_runner.errors import ServiceError, UnknownOutcome
from aihub_runner.model import FOREIGN, Listed, Member
from aihub_runner.plan.identity import batch_name, fingerprint_input, fingerprint_of
from aihub_runner.plan.planner import PAYS, Plan, Work
from aihub_runner.state.lockfile import as_kept
from aihub_runner.state.store import State

VISIBLE = 50  # known runs that a listing is compared with


class Paying(Struct, frozen=True):
    """What was found before paying: the existing batches, by name, whether anything was imported, and what is in doubt.

    `blind_since_ns` is when the newest known run started (nanoseconds) where no known run is listed any more, else 0.
    """

    batches: Mapping[str, frozenset[int]]
    has_imported: bool = False
    blind_since_ns: int = 0
    runs: tuple[RunInfo, ...] = ()
    doubts: Doubts = Doubts()

    def compared(self, run_key: str) -> frozenset[int]:
        """Return the batches with a run of today's key, whose files were compared with what is about to be paid for.

        A batch that was made while the runs were listed is missing in the list of batches: it was not compared.
        """
        listed = frozenset[int]().union(*self.batches.values())
        return listed & {run.batch_id for run in self.runs if any(key == run_key for _, key, _ in run.our_tags)}


def look_before_paying(opened: OpenJob, plan: Plan, held: Collection[str] = ()) -> Paying:
    """List what exists on the service before each apply that would pay: the state may be a copy, or one of several.

    Runs with the tags about to be paid are imported. `held` are files that the plan leaves out. Raises UnknownOutcome
    if batches that neither state nor lock file knows hold files about to be paid for, or if the listing cannot be
    trusted.
    """
    job, state, client = opened.job, opened.state, opened.client
    opened.reporter.emit(events.CheckStarted())
    is_new = all(batch.target != job.goal.target for shard in state.load_shards() for batch in shard.batches)
    found = list_all(job, client)
    found, blind_since_ns = _check_visible(opened, found)
    if job.options.again:
        return Paying(_by_name(found), blind_since_ns=blind_since_ns, runs=found.runs)
    if _is_begun(job, state, found, plan):
        settle_s = job.spec.limits.settle_s
        opened.reporter.emit(events.CheckRepeated(settle_s))
        client.pause(settle_s)
        found = list_all(job, client)
    plan, taken, doubts = _import_all(opened, found, plan, held)
    if job.goal.kept != FOREIGN:  # what is in that batch is paid for by its tag only
        taken = UnknownBatches(opened, found, is_new=is_new).resolve(plan) or taken
    return Paying(_by_name(found), taken, blind_since_ns, found.runs, doubts)


def list_existing(job: Job, client: AIHub) -> Paying:
    """List what exists on the service, and import nothing."""
    found = list_all(job, client)
    return Paying(_by_name(found), runs=found.runs)


def _by_name(found: Survey) -> dict[str, frozenset[int]]:
    names: dict[str, set[int]] = {}
    for batch in found.batches:
        names.setdefault(batch.name, set()).add(batch.id)
    return {name: frozenset(ids) for name, ids in names.items()}


def _check_visible(opened: OpenJob, found: Survey) -> tuple[Survey, int]:
    """Check that the listing shows the newest known run; else it proves no absence.

    Runs that the service deleted are no problem if another known run shows. If none shows, they are a problem only
    while a paid run is not fetched. Returns when the newest started, for a check against the service's own times.
    """
    job, state, client = opened.job, opened.state, opened.client
    visible = state.list_visible(job.goal.target, VISIBLE)
    if not visible or visible[0].remote_id in _ids(found):
        return found, 0
    newest = visible[0]
    if newest.since.boot and (left_s := newest.since.left_s(job.spec.limits.settle_s)):
        client.pause(left_s)  # it may not be listed yet
    found = list_all(job, client)
    if newest.remote_id in _ids(found):
        return found, 0
    first = next((number for number, run in enumerate(visible) if run.remote_id in _ids(found)), len(visible))
    missing = visible[: first if first < len(visible) else 1]
    for run in missing:
        if in_thread(partial(find_info, client, run.remote_id or "")) is not None:
            raise UnknownOutcome(
                f"{job.spec_path.name}: run {run.remote_id} exists, but is missing from the list of runs, "
                "so past payments cannot be checked",
                "check what the account can see, then apply again in a while; nothing was paid",
            )
    if first < len(visible):  # another known run in the same listing proves that these are gone
        for run in missing:
            state.record_run_gone(run.id)
        return found, 0
    if not all(run.fetched or run.has_failed for run in visible):
        raise ServiceError(
            f"{job.spec_path.name}: none of the recorded runs exists on the service any more",
            "check the context, and whether the account can see its runs; nothing was paid",
        )
    known = state.known_batches()
    if any(batch.id in known for batch in found.batches):
        return found, 0  # the account sees its batches, so the runs were deleted
    opened.reporter.emit(events.RunsUnlisted())
    return found, newest.started_ns


def _ids(found: Survey) -> set[str]:
    return {run.id for run in found.runs}


def _is_begun(job: Job, state: State, found: Survey, plan: Plan) -> bool:
    """Whether a batch of planned work exists without a run: one may have been started a moment ago."""
    known = known_batches(state) | {run.batch_id for run in found.runs}
    planned = {batch_name(job.spec.name, fingerprint_of(work.shard)) for work in plan.work if work.action in PAYS}
    return any(batch.name in planned and not known & {batch.id, batch.name} for batch in found.batches)


def _import_all(opened: OpenJob, found: Survey, plan: Plan, held: Collection[str]) -> tuple[Plan, bool, Doubts]:
    """Import runs until no file about to be paid for has one. With `--limit`, a new plan may turn to other files."""
    taken, doubts = False, Doubts()
    while True:
        more = find_reused(opened.job, opened.state, found.runs, plan)
        doubts = Doubts(doubts.paths | more.paths, doubts.errors + more.errors)
        if more.paths:
            plan = plan_job(opened.job, opened.state, opened.scan, {*held, *doubts.paths})
        has_imported = _import_planned(opened, found, plan)
        if not (has_imported or more.paths):
            return plan, taken, doubts
        taken = taken or has_imported
        plan = plan_job(opened.job, opened.state, opened.scan, {*held, *doubts.paths})


def _import_planned(opened: OpenJob, found: Survey, plan: Plan) -> bool:
    """Import runs whose tag matches what is about to be paid, or an earlier attempt of it."""
    state, reporter, goal = opened.state, opened.reporter, opened.job.goal
    planned: dict[str, list[Work]] = {}
    for work in plan.work:
        if work.action in PAYS:
            planned.setdefault(fingerprint_of(work.shard), []).append(work)
    known = state.known_runs() | state.load_dismissed()
    runs = {run.id: run for run in found.runs if run.id not in known and _is_planned(run, planned, goal.run_key)}
    runs = {run_id: _with_batch(opened.job, opened.client, run, found.batches) for run_id, run in runs.items()}
    entries, twins = choose_twins(survey_entries(runs.values(), goal.target, without_batch=bool(goal.input)))
    members: dict[int, tuple[Member, ...]] = {}  # by batch: all attempts on one have the same shard; twins their own
    for entry in entries:
        works = planned[entry.fingerprint]
        if entry.batch_id not in members and works:
            members[entry.batch_id] = _take_work(works, entry.batch_id, goal.target).shard.members
        if entry.batch_id in members:
            kept = goal.kept if listed_in(opened, entry.batch_id) is not None else ""
            found_run = Inspected(as_kept(entry, kept), {}, runs[entry.run_id])
            files = _list_as_run(opened, members[entry.batch_id], runs[entry.run_id]) if kept else None
            record_imported(state, found_run, members[entry.batch_id], files)
            reporter.emit(events.RunImported(entry.run_id, entry.batch_id))
    for twin in twins:
        reporter.emit(events.TwinFound(twin.run_id, twin.batch_id))
    return bool(members)


def _list_as_run(opened: OpenJob, members: Sequence[Member], run: RunInfo) -> Mapping[str, Listed]:
    """Return the files of a kept batch if it still holds what a run got, as names, sizes and times tell; else none.

    It is listed again: another client may have changed it since we looked.
    """
    assert run.batch_id
    files = in_thread(partial(list_batch, opened.client, run.batch_id)) or {}
    sizes = {name: file.size for name, file in files.items()}
    started_s = run.start_timestamp // 1_000_000_000 if run.start_timestamp else 0
    is_as_run = sizes == {member.name: member.size for member in members} and all(
        (file.modified_s or 0) <= started_s for file in files.values()
    )
    return files if is_as_run else {}


def _is_planned(run: RunInfo, planned: Mapping[str, object], run_key: str) -> bool:
    fingerprint, key, _ = next(iter(run.our_tags), ("", "", 0))
    return fingerprint in planned and key == run_key


def _take_work(works: list[Work], batch_id: int, target: str) -> Work:
    """Take the work that has this batch, else any with the same names and bytes."""
    own = next((work for work in works if (batch := work.shard.batch_in(target)) and batch.remote_id == batch_id), None)
    if own is None:
        return works.pop(0)
    works.remove(own)
    return own


def _with_batch(job: Job, client: AIHub, run: RunInfo, batches: Iterable[BatchInfo]) -> RunInfo:
    """Return a run with its batch, which a listing may omit. Raises UnknownOutcome if it cannot be found.

    A run on files elsewhere gets the empty batch of its job, or none.
    """
    if run.batch_id:
        return run
    if job.goal.input:
        name = batch_name(job.spec.name, fingerprint_input(job.goal.run_key))
        return run.model_copy(update={"batch_id": min((one.id for one in batches if one.name == name), default=None)})
    batch_id = in_thread(partial(find_batch_of, client, run.id))
    if batch_id:
        return run.model_copy(update={"batch_id": batch_id})
    raise UnknownOutcome(
        f"{job.spec_path.name}: run {run.id} has the tag of work about to be paid, but no batch",
        f"run `{job.command('resolve')}` to decide",
    )


def raise_attempts(plan: Plan, job: Job, runs: Iterable[RunInfo]) -> Plan:
    """Number the attempts of `--again` after those on the service, so that no two runs share a tag."""
    key = job.goal.run_key
    highest: dict[str, int] = {}
    for entry in survey_entries(runs, "", without_batch=True):
        if entry.run_key == key:
            highest[entry.fingerprint] = max(entry.attempt, highest.get(entry.fingerprint, 0))
    work = tuple(
        replace(item, attempt=max(item.attempt, highest.get(fingerprint_of(item.shard), 0) + 1))
        if item.action in PAYS
        else item
        for item in plan.work
    )
    return replace(plan, work=work)
