"""Before anything is paid: take up what was paid already, by a lock file or by what lies on the server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import TypeVar

from runner.api import AIHub
from runner.errors import UnknownOutcome
from runner.events import Reporter
from runner.fingerprint import TAG_PREFIX, batch_name, fingerprint_members
from runner.job import Job
from runner.lockfile import Entry, load_lockfile
from runner.look import Survey, survey
from runner.model import GIVEN_UP, Member, Scan
from runner.plan import PAYS, Plan, Work
from runner.shown import count
from runner.state import State
from runner.takeup import (
    Finder,
    Inspected,
    fits,
    inspect_entries,
    new_entries,
    record_taken,
    survey_entries,
)
from runner.wire import RunInfo

PENDING = "pending entries"
DISMISSED = "dismissed entries"
SURVEYED = "surveyed "  # and the target

T = TypeVar("T")


def in_thread(act: Callable[[], T]) -> T:
    """Do HTTP outside the main thread, which must stay free to be interrupted; nobody waits for it then."""
    result = Future[T]()

    def work() -> None:
        try:
            result.set_result(act())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=work, daemon=True).start()
    return result.result()


def load_pending(state: State) -> list[Entry]:
    """Load what was found on the server and could not be verified yet."""
    return [Entry.model_validate(entry) for entry in json.loads(state.get_meta(PENDING) or "[]")]


def record_pending(state: State, entries: Iterable[Entry]) -> None:
    """Record what was found on the server and could not be verified."""
    state.record_meta(PENDING, json.dumps([entry.model_dump() for entry in entries]))


def load_dismissed(state: State) -> set[str]:
    """Load the run ids (or tags) of entries that a person decided to leave alone."""
    return set(json.loads(state.get_meta(DISMISSED) or "[]"))


def dismiss(state: State, entries: Iterable[Entry]) -> None:
    """Leave entries alone from now on: a person decided to pay for their files again."""
    names = {entry.run_id or entry.tag for entry in entries}
    state.record_meta(DISMISSED, json.dumps(sorted(load_dismissed(state) | names)))


def entries_to_take_up(job: Job, state: State | None) -> list[Entry]:
    """List what the lock file, or an earlier look at the server, names and the state lacks."""
    locked = load_lockfile(job.lock_path)
    target = job.want().target
    if state is None:
        return [entry for entry in locked if entry.target == target]
    entries = {entry.identity: entry for entry in [*load_pending(state), *locked]}
    dismissed = load_dismissed(state)
    wanted = [entry for entry in entries.values() if (entry.run_id or entry.tag) not in dismissed]
    return new_entries(state, wanted, target)


def take_up(job: Job, state: State, client: AIHub, scan: Scan, reporter: Reporter) -> list[Inspected]:
    """Take up what can be verified, free of charge, and give the rest of today's run key: it must not be paid."""
    entries = entries_to_take_up(job, state)
    if not entries:
        return []
    runs = f"{count(len(entries), 'run')} that {'was' if len(entries) == 1 else 'were'}"
    reporter.say(f"taking up {runs} paid before, by {job.lock_path.name}")
    return take_up_entries(job, state, inspect_entries(client, entries), scan, reporter)


def take_up_entries(
    job: Job, state: State, inspected: Iterable[Inspected], scan: Scan, reporter: Reporter
) -> list[Inspected]:
    """Record the entries that agree with the local files, and give those of today's run key that do not."""
    left, today = [], job.want().run_key
    finder, shards = Finder(scan.sources), dict[tuple[str, int], tuple[Member, ...]]()
    for found in inspected:
        shard = found.entry.fingerprint, found.entry.batch_id  # several runs of one shard have the same members
        if shard not in shards:
            shards[shard] = () if found.why else finder.match(found.entry, found.files)
        members = () if found.why else shards[shard]
        if members:
            record_taken(state, found, members)
        elif found.entry.run_key == today and found.entry.status != GIVEN_UP:  # of which nothing was paid
            left.append(found if found.why else replace(found, why="its files and the local ones differ"))
    taken = [found.entry.identity for found in left]
    record_pending(state, [entry for entry in load_pending(state) if entry.identity in taken])
    return left


def unverified_error(job: Job, left: Sequence[Inspected]) -> UnknownOutcome:
    """Say which paid runs could not be verified, and that nothing is paid until a person decides."""
    shown = "; ".join(f"run {item.entry.run_id or 'of unknown id'}: {item.why}" for item in left[:5])
    return UnknownOutcome(
        f"{job.shown}: {count(len(left), 'run')} paid before cannot be taken up, {shown}",
        f"see `{job.command('resolve')}`; nothing is paid until then",
    )


def look_before_first_payment(
    job: Job, state: State, client: AIHub, scan: Scan, plan: Plan, reporter: Reporter
) -> bool:
    """Look once, where the state is new, for runs that are about to be paid; true where some were taken up.

    Raises UnknownOutcome where batches of this spec lie on the server that neither state nor lock file knows.
    """
    is_ours = re.compile(re.escape(job.spec.name) + "-[0-9a-f]{64}").fullmatch
    reporter.say("looking on the server for earlier work of this spec")

    def look() -> Survey:
        return survey(
            client, lambda name: bool(is_ours(name)), lambda tag: tag.startswith(TAG_PREFIX), job.target.workspace
        )

    found = in_thread(look)
    if job.options.again:
        return False
    if _is_begun(job, state, found, plan):
        settle_s = job.spec.limits.settle_s
        reporter.say(f"a batch of what is about to be paid is there already; looking once more in {settle_s:g} s")
        client.pause(settle_s)
        found = in_thread(look)
    taken = _take_up_planned(job, state, found, plan)
    return _face_strangers(job, state, client, scan, found, reporter) or taken


def _is_begun(job: Job, state: State, found: Survey, plan: Plan) -> bool:
    """Tell whether a batch of planned work is there without a run: one may have been started a moment ago."""
    known = _known_batches(state) | {run.batch_id for run in found.runs}
    planned = {batch_name(job.spec.name, _fingerprint(work)) for work in plan.work if work.need in PAYS}
    return any(batch.name in planned and not known & {batch.id, batch.name} for batch in found.batches)


def _known_batches(state: State) -> set[int | str | None]:
    """List the ids of our batches, and the names of those whose id is not known, on which no run can be."""
    ours = [batch for shard in state.load_shards() for batch in shard.batches]
    return {batch.remote_id for batch in ours} | {batch.name for batch in ours if batch.remote_id is None}


def _take_up_planned(job: Job, state: State, found: Survey, plan: Plan) -> bool:
    """Take up runs whose tag says that they are exactly what is about to be paid."""
    want = job.want()
    planned: dict[str, list[Work]] = {}
    for work in plan.work:
        if work.need in PAYS:
            planned.setdefault(_fingerprint(work), []).append(work)
    by_id = {run.id: run for run in found.runs}
    known = {run.remote_id for shard in state.load_shards() for run in shard.runs} | load_dismissed(state)
    members: dict[int, tuple[Member, ...]] = {}  # by batch: the attempts on one are of one shard, twins have their own
    for entry in survey_entries(found.runs, want.target):
        if entry.run_key != want.run_key or entry.run_id in known:
            continue
        twins = planned.get(entry.fingerprint)
        if entry.batch_id not in members and twins:
            members[entry.batch_id] = twins.pop(0).shard.members
        if entry.batch_id in members:
            record_taken(state, Inspected(entry, {}, by_id[entry.run_id]), members[entry.batch_id])
    return bool(members)


def _fingerprint(work: Work) -> str:
    return work.shard.fingerprint or fingerprint_members(work.shard.members)


def _face_strangers(job: Job, state: State, client: AIHub, scan: Scan, found: Survey, reporter: Reporter) -> bool:
    """Deal with batches of this spec's name that nothing here knows of; with a lock file, only with what was paid."""
    locked = load_lockfile(job.lock_path)
    known = _known_batches(state) | {entry.batch_id for entry in locked}
    dismissed = load_dismissed(state)
    paid = {run.batch_id for run in found.runs if run.id not in dismissed}
    known |= {run.batch_id for run in found.runs} - paid  # a person decided of them
    strangers = [batch for batch in found.batches if not known & {batch.id, batch.name}]
    strangers = [batch for batch in strangers if batch.id in paid or not locked]
    if job.options.adopt:
        batches = {batch.id for batch in strangers}
        entries = survey_entries((run for run in found.runs if run.batch_id in batches), job.want().target)
        record_pending(state, entries)
        left = take_up_entries(job, state, inspect_entries(client, entries), scan, reporter)
        if left:
            raise unverified_error(job, left)
        return bool(entries)
    for batch in strangers:
        files = in_thread(partial(client.list_files, batch.id))
        if fits({name: file.size for name, file in files.items()}, scan.sources):
            raise UnknownOutcome(
                f"{job.shown}: batch {batch.id} on the server holds files of this spec, "
                "but neither a state file nor a lock file here knows of it",
                "apply with --adopt to take up what was paid, or with --again to pay for it again",
            )
        reporter.say(f"batch {batch.id} on the server has this spec's name, but holds other files; it is left alone")
    return False


def raise_attempts(plan: Plan, job: Job, runs: Iterable[RunInfo]) -> Plan:
    """Number the attempts of `--again` after those that the server knows, so that no two runs share a tag."""
    key = job.want().run_key
    highest: dict[str, int] = {}
    for entry in survey_entries(runs, ""):
        if entry.run_key == key:
            highest[entry.fingerprint] = max(entry.attempt, highest.get(entry.fingerprint, 0))
    work = tuple(
        replace(item, attempt=max(item.attempt, highest.get(_fingerprint(item), 0) + 1)) if item.need in PAYS else item
        for item in plan.work
    )
    return replace(plan, work=work)
