"""Batches on the service that nothing records, and that may hold files about to be paid for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from msgspec.structs import replace

from aihub_runner.aihub.schemas import BatchInfo, RunInfo
from aihub_runner.apply import events
from aihub_runner.apply.assess import plan_job
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.finder import Finder, Inspected
from aihub_runner.apply.job import OpenJob
from aihub_runner.apply.listing import Survey, find_batch_of, known_batches
from aihub_runner.apply.matching import (
    MARK_BYTES,
    choose_twins,
    index_marks,
    inspect_entries,
    is_withheld,
    mark_files,
    result_names,
    survey_entries,
)
from aihub_runner.apply.recovery import import_entries, unverified_error
from aihub_runner.errors import ServiceError, UnknownOutcome
from aihub_runner.plan.planner import PAYS, Plan
from aihub_runner.state.lockfile import Entry, load_lockfile
from aihub_runner.text.escape import clean_text
from aihub_runner.text.shown import are, count

LOOKS = 8  # batches that are checked in parallel


class UnknownBatches:
    """Batches that neither state nor lock file knows, and that may hold files about to be paid for.

    These are batches of this spec's name, and those of runs of today's run key: the spec may have been renamed.
    `is_new` says that nothing was recorded for today's target before.
    """

    def __init__(self, opened: OpenJob, found: Survey, *, is_new: bool) -> None:
        self.opened, self._is_new = opened, is_new
        self.job, self.state, self.client, self.reporter = opened.job, opened.state, opened.client, opened.reporter
        target, today = self.job.goal.target, self.job.goal.run_key
        self.found = replace(found, runs=self._with_batches(found.runs))
        self._of_today = {entry.batch_id for entry in survey_entries(self.found.runs, target) if entry.run_key == today}
        self._locked = [entry for entry in load_lockfile(self.job.lock_path) if entry.target == target]
        self._deleted: dict[int, list[RunInfo]] = {}  # complete runs of today's key, by their batch
        self._paid: dict[int, str] = {}  # runs confirmed to have had files about to be paid for, by deleted batch
        self._refused: dict[str, str] = {}  # why the results of runs on deleted batches are withheld
        self._unread = set[int | None]()  # deleted batches with a run whose results could not be read

    def _with_batches(self, runs: Sequence[RunInfo]) -> tuple[RunInfo, ...]:
        """Return the runs. Those of today's key that are new get their batch, which a list may omit."""
        known = self.state.known_runs() | self.state.load_dismissed()

        def ask(run: RunInfo) -> RunInfo:
            return run.model_copy(update={"batch_id": find_batch_of(self.client, run.id) or None})

        lost = [run for run in runs if not run.batch_id and run.id not in known and self._is_of_today(run)]
        with ThreadPoolExecutor(LOOKS) as pool:
            found = {run.id: run for run in pool.map(ask, lost)}
        return tuple(found.get(run.id, run) for run in runs)

    def _is_of_today(self, run: RunInfo) -> bool:
        return any(key == self.job.goal.run_key for _, key, _ in run.our_tags)

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
        known = known_batches(self.state) | {entry.batch_id for entry in self._locked} | {self.job.goal.batch_id}
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
        return not run.our_tags or self._is_of_today(run)

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
