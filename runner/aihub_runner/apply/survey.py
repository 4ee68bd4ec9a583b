"""What exists on the service, listed before anything is paid: the state may be a copy, or one of several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply import events
from aihub_runner.apply.assess import plan_job
from aihub_runner.apply.background import do_both, in_thread
from aihub_runner.apply.finder import Finder, Inspected
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.matching import (
    MARK_BYTES,
    choose_twins,
    index_marks,
    inspect_entries,
    is_withheld,
    mark_files,
    record_imported,
    result_names,
    survey_entries,
)
from aihub_runner.apply.recovery import find_info, import_entries, listed_in, unverified_error
from aihub_runner.apply.reused import Doubts, find_reused
from aihub_runner.apply.tasks.content import list_batch
from aihub_runner.errors import ListingCut, ServiceError, UnknownOutcome
from aihub_runner.model import FOREIGN, Listed, Member
from aihub_runner.plan.identity import batch_name, fingerprint_input, fingerprint_of
from aihub_runner.plan.planner import PAYS, Plan, Work
from aihub_runner.state.lockfile import Entry, as_kept, load_lockfile
from aihub_runner.state.store import State
from aihub_runner.text.escape import clean_text
from aihub_runner.text.shown import are, count

VISIBLE = 50  # known runs that a listing is compared with
LOOKS = 8  # batches that are checked in parallel


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
    found = _survey(job, client)
    found, blind_since_ns = _check_visible(opened, found)
    if job.options.again:
        return Paying(_by_name(found), blind_since_ns=blind_since_ns, runs=found.runs)
    if _is_begun(job, state, found, plan):
        settle_s = job.spec.limits.settle_s
        opened.reporter.emit(events.CheckRepeated(settle_s))
        client.pause(settle_s)
        found = _survey(job, client)
    plan, taken, doubts = _import_all(opened, found, plan, held)
    if job.goal.kept != FOREIGN:  # what is in that batch is paid for by its tag only
        taken = UnknownBatches(opened, found, is_new=is_new).resolve(plan) or taken
    return Paying(_by_name(found), taken, blind_since_ns, found.runs, doubts)


def list_existing(job: Job, client: AIHub) -> Paying:
    """List what exists on the service, and import nothing."""
    found = _survey(job, client)
    return Paying(_by_name(found), runs=found.runs)


class Survey(Struct, frozen=True):
    """What exists on the service before paying: all batches of the workspace, and all runs."""

    batches: tuple[BatchInfo, ...]
    runs: tuple[RunInfo, ...]


def _survey(job: Job, client: AIHub) -> Survey:
    """List all batches and runs before paying, to find what another state may have paid for.

    Which of the two lists is the newer does not matter: work whose batch shows and whose run does not is looked for
    again.
    """
    try:
        batches, runs = in_thread(
            lambda: do_both(lambda: client.list_batches(job.target.workspace), lambda: client.list_runs(1))
        )
        return Survey(tuple(batches), tuple(runs))
    except ListingCut as error:
        raise UnknownOutcome(
            f"{job.spec_path.name}: cannot check what was paid before, {error.message}",
            "apply again in a while; nothing was paid",
        ) from None


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
    found = _survey(job, client)
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
    known = _known_batches(state) | {run.batch_id for run in found.runs}
    planned = {batch_name(job.spec.name, fingerprint_of(work.shard)) for work in plan.work if work.action in PAYS}
    return any(batch.name in planned and not known & {batch.id, batch.name} for batch in found.batches)


def _known_batches(state: State) -> set[int | str | None]:
    """Return the ids of our batches. Where an id is unknown, no run can be on the batch: return its name."""
    ours = [batch for shard in state.load_shards() for batch in shard.batches]
    return {batch.remote_id for batch in ours} | {batch.name for batch in ours if batch.remote_id is None}


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


def find_batch_of(client: AIHub, run_id: str) -> int:
    """Find the batch of a run from the run itself or its results; 0 where neither has it."""
    info = find_info(client, run_id)
    if info is not None and info.batch_id:
        return info.batch_id
    try:
        _, page = client.get_results(run_id, {}, 0)
    except ServiceError:
        return 0
    text = str(page.batch_id or "")
    return int(text) if text.isascii() and text.isdigit() else 0


class UnknownBatches:
    """Batches that neither state nor lock file knows, and that may hold files about to be paid for.

    These are batches of this spec's name, and those of runs of today's run key: the spec may have been renamed.
    `is_new` says that nothing was recorded for today's target before.
    """

    def __init__(self, opened: OpenJob, found: Survey, *, is_new: bool) -> None:
        self.opened, self.found, self._is_new = opened, found, is_new
        self.job, self.state, self.client, self.reporter = opened.job, opened.state, opened.client, opened.reporter
        target, today = self.job.goal.target, self.job.goal.run_key
        self._of_today = {entry.batch_id for entry in survey_entries(found.runs, target) if entry.run_key == today}
        self._locked = [entry for entry in load_lockfile(self.job.lock_path) if entry.target == target]
        self._deleted: dict[int, list[RunInfo]] = {}  # complete runs of today's key, by their batch
        self._paid: dict[int, str] = {}  # runs confirmed to have had files about to be paid for, by deleted batch
        self._refused: dict[str, str] = {}  # why the results of runs on deleted batches are withheld
        self._unread = set[int | None]()  # deleted batches with a run whose results could not be read

    def resolve(self, plan: Plan) -> bool:
        """Resolve them, and return whether something was imported. Raises UnknownOutcome."""
        unknown_batches = self._list()
        deleted = self._find_paid([batch for batch, _ in self._fitting(self._list_deleted(), plan)])
        if self.job.options.adopt:
            refused = {run.batch_id for runs in self._deleted.values() for run in runs if run.id in self._refused}
            refused |= {batch.id for batch, _ in deleted}
            return self._adopt([*unknown_batches, *(BatchInfo(id=batch_id or 0, name="") for batch_id in refused)])
        for batch, fitting in chain(deleted, self._fitting(unknown_batches, plan)):
            raise self._fits_error(batch, fitting)
        for run_id, why in sorted(self._refused.items()):
            raise UnknownOutcome(
                f"{self.job.shown}: run {run_id} may have paid for files about to be paid for, but its batch was "
                f"deleted, and its results cannot be read: {why}",
                f"apply later; to decide, apply with --adopt, then run `{self.job.command('resolve')}`",
            )
        for batch in unknown_batches if self._is_new else ():
            self.reporter.emit(events.ForeignBatch(batch.id, clean_text(batch.name)))
        return False

    def _fits_error(self, batch: BatchInfo, fitting: Sequence[str]) -> UnknownOutcome:
        """Return the error for a batch that may be of an earlier apply, or of another spec."""
        files = f"{count(len(fitting), 'file')} that {are(len(fitting))} also in this spec, {fitting[0]}"
        ours = "if it is this spec's, apply with --adopt to import what was paid, or with --again to pay again"
        if batch.id in self._paid:
            return UnknownOutcome(
                f"{self.job.shown}: run {self._paid[batch.id]} paid for {files}, as their content proves, but "
                "neither the state nor the lock file lists it",
                "apply with --adopt to import what was paid, or with --again to pay again",
            )
        if batch.id in self._of_today:  # it was found by its settings, whatever its name is
            other = "another spec with the same settings may have paid for them"
        else:
            other = f"it may belong to another spec that is also named {self.job.spec.name}"
            ours = f"if it is another spec's, set a different name in this one; {ours}"
        return UnknownOutcome(
            f"{self.job.shown}: batch {batch.id} on the service, {clean_text(batch.name)}, holds {files} by name and "
            f"size, but neither the state nor the lock file lists it; {other}",
            ours,
        )

    def _list(self) -> list[BatchInfo]:
        known = _known_batches(self.state) | {entry.batch_id for entry in self._locked} | {self.job.goal.batch_id}
        dismissed = self.state.load_dismissed()
        paid = {run.batch_id for run in self.found.runs if run.id not in dismissed}
        known |= {run.batch_id for run in self.found.runs} - paid  # the user decided about these
        unknown_batches = [b for b in self.found.batches if self._may_be_ours(b) and not known & {b.id, b.name}]
        recorded = self.state.batches_of_runs()
        new = [run for run in self.found.runs if run.id not in dismissed and not _is_recorded(run, recorded)]
        doubtful = {run.batch_id for run in new if self._may_be_paid(run)}
        if None in doubtful or (self._is_new and not self._locked):  # a run that names no batch may be on any
            return unknown_batches
        return [batch for batch in unknown_batches if batch.id in doubtful]

    def _list_deleted(self) -> list[BatchInfo]:
        """List the batches of runs of today's key that do not exist any more. The results of these have their files."""
        known = self.state.known_batches() | {entry.batch_id for entry in self._locked} | {self.job.goal.batch_id}
        known |= {batch.id for batch in self.found.batches}
        dismissed, recorded = self.state.load_dismissed(), self.state.batches_of_runs()
        for run in self.found.runs:
            is_new = run.id not in dismissed and not _is_recorded(run, recorded)
            if is_new and run.status == "COMPLETE" and run.batch_id in self._of_today - known:
                self._deleted.setdefault(run.batch_id, []).append(run)
        return [BatchInfo(id=batch_id, name="") for batch_id in self._deleted]

    def _find_paid(self, fitting: Sequence[BatchInfo]) -> list[tuple[BatchInfo, list[str]]]:
        """Choose the deleted batches with a run that had local files, with their paths: names alone prove nothing."""
        runs, paths = [run for batch in fitting for run in self._deleted[batch.id]], dict[int, list[str]]()
        finder = Finder(self.opened.scan.sources, by_folder=self.job.goal.by_folder)
        for found in self._inspect(survey_entries(runs, self.job.goal.target)):
            if not found.why and (members := finder.match(found)):
                self._paid.setdefault(found.entry.batch_id, found.entry.run_id)
                paths.setdefault(found.entry.batch_id, sorted(member.path for member in members))
        return [(batch, paths[batch.id]) for batch in fitting if batch.id in paths]

    def _inspect(self, entries: Sequence[Entry]) -> list[Inspected]:
        known, resolve = self.state.known_runs(), self.job.command("resolve")
        return in_thread(lambda: inspect_entries(self.client, entries, known, resolve))

    def _may_be_paid(self, run: RunInfo) -> bool:
        """Whether a run may be today's work: yes, unless its tag says that its settings differ."""
        return not run.our_tags or any(key == self.job.goal.run_key for _, key, _ in run.our_tags)

    def _may_be_ours(self, batch: BatchInfo) -> bool:
        if re.fullmatch(re.escape(self.job.spec.name) + "-[0-9a-f]{64}", batch.name):
            return True
        return batch.id in self._of_today

    def _fitting(self, unknown_batches: Sequence[BatchInfo], plan: Plan) -> Iterator[tuple[BatchInfo, list[str]]]:
        """Yield the batches that hold files, by name and size, that are about to be paid for, with their paths."""
        members = [member for work in plan.work if work.action in PAYS for member in work.shard.members]
        if not unknown_batches or not members:
            return
        ours, marks = index_marks(members), self._load_marks(unknown_batches)
        for batch in unknown_batches:
            if fitting := {at for mark in marks[batch.id] for at in ours.get(mark, ())}:
                yield batch, [members[at].path for at in sorted(fitting)]

    def _load_marks(self, unknown_batches: Sequence[BatchInfo]) -> dict[int, frozenset[bytes]]:
        """Return the files of batches, as marks. Each batch is listed once, until another run starts on it.

        Of a batch that was deleted, the results are read once, until another run on it is complete.
        """
        runs = Counter(run.batch_id for run in self.found.runs)
        for batch_id, ended in self._deleted.items():
            runs[batch_id] = -len(ended)  # never equal to the number for a list of its files
        known = {batch.id: self.state.load_foreign(batch.id, runs[batch.id]) for batch in unknown_batches}
        unknown = [batch for batch in unknown_batches if known[batch.id] is None or not runs[batch.id]]

        def ask(batch: BatchInfo) -> frozenset[bytes]:
            if runs_on := self._deleted.get(batch.id):
                return mark_files(dict.fromkeys(chain(*map(self._read_names, runs_on))))
            return mark_files({name: file.size for name, file in self.client.list_files(batch.id).items()})

        with ThreadPoolExecutor(LOOKS) as pool, self.state.transaction():
            for batch, marks in zip(unknown, pool.map(ask, unknown), strict=True):
                known[batch.id] = b"".join(sorted(marks))
                if batch.id not in self._unread:  # what cannot be read now may be there later
                    self.state.record_foreign(batch.id, runs[batch.id], known[batch.id] or b"")
        return {batch: _split_marks(marks or b"") for batch, marks in known.items()}

    def _read_names(self, run: RunInfo) -> tuple[str, ...]:
        """Return the names of files in the results of a run on a deleted batch; empty if they cannot be read."""
        names: tuple[str, ...] = ()
        try:
            names = result_names(self.client, run)
        except ServiceError as error:
            if not is_withheld(error):
                raise
            self._refused[run.id] = error.message
        if not names:
            self._unread.add(run.batch_id)
        return names

    def _adopt(self, unknown_batches: Sequence[BatchInfo]) -> bool:
        """Import what their runs paid for. Raises UnknownOutcome if files fit but the run is unconfirmed."""
        batches = {batch.id for batch in unknown_batches}
        runs = [run for run in self.found.runs if run.batch_id in batches]
        entries, twins = choose_twins(survey_entries(runs, self.job.goal.target))
        self.state.record_pending(entries)
        left = import_entries(self.opened, self._inspect(entries))
        for twin in twins:
            self.reporter.emit(events.TwinFound(twin.run_id, twin.batch_id))
        if left:
            raise unverified_error(self.job, left)
        known = self.state.known_batches()
        rest = [batch for batch in unknown_batches if batch.id not in known]
        for batch, _ in self._fitting(rest, plan_job(self.job, self.state, self.opened.scan)):
            if run := self._find_run_on(batch):
                raise UnknownOutcome(
                    f"{self.job.spec_path.name}: batch {batch.id} holds files about to be paid for, and run "
                    f"{run.id} may have paid for them",
                    "apply with --again to pay for them again; nothing was paid yet",
                )
        return bool(entries)

    def _find_run_on(self, batch: BatchInfo) -> RunInfo | None:
        """Find a run on a batch, whatever its tags. A run whose batch cannot be found may be on it."""
        for run in self.found.runs:
            if run.batch_id == batch.id:
                return run
            if run.batch_id is None and find_batch_of(self.client, run.id) in (0, batch.id):
                return run
        return None


def _is_recorded(run: RunInfo, recorded: Mapping[str, int]) -> bool:
    """Whether a run is the one that is recorded under its id: a restored service may give an id to another one."""
    return run.id in recorded and (not run.batch_id or recorded[run.id] in (0, run.batch_id))


def _split_marks(marks: bytes) -> frozenset[bytes]:
    return frozenset(marks[at : at + MARK_BYTES] for at in range(0, len(marks), MARK_BYTES))


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
