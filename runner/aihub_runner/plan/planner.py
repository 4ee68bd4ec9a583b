"""Plan what is missing, from facts, spec and files. Pure: no disk, no network, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.errors import ResultsError
from aihub_runner.model import REVIEW_STATUS, Changes, Member, Run, Scan, Shard, Source
from aihub_runner.model import Goal as Goal
from aihub_runner.plan.batching import group_sources
from aihub_runner.plan.cover import cover_files
from aihub_runner.plan.packets import (
    describe_waits,
    explain_packet,
    folder_of,
    is_packet,
    list_gone,
    list_waiting,
    pair_packets,
    suffix_of,
    whole_packets,
)
from aihub_runner.plan.placeholders import have_placeholders
from aihub_runner.spec.urls import is_url
from aihub_runner.text.shown import count


class Action(Enum):
    """The next action that a shard needs."""

    NOTHING = "nothing"
    CREATE_BATCH = "create a batch"
    FIND_BATCH = "find its batch"
    VERIFY = "verify its batch"
    UPLOAD = "upload"
    CHECK = "check the batch"
    START_RUN = "start a run"
    FIND_RUN = "find its run"
    POLL = "wait for its run"
    FETCH = "fetch results"


NEW, CHANGED = "new", "changed"
NOT_RUN = "not run yet"
RESTORE = "restore the results folder from a backup; to pay for the results again, apply with --again"
REGROUPED = "to run again because other files in their batch changed or are gone"
CREATES = frozenset({Action.CREATE_BATCH, Action.FIND_BATCH, Action.VERIFY})
PAYS = frozenset({Action.CREATE_BATCH, Action.FIND_BATCH, Action.VERIFY, Action.UPLOAD, Action.CHECK, Action.START_RUN})


class Move(Struct, frozen=True):
    """A recorded file whose path changed."""

    old: str
    new: str


class Work(Struct, frozen=True):
    """A shard to finish under one attempt, and why; `shard.id` is 0 for a new shard.

    `is_stale` says that some of its files are missing or changed, so that no more runs are started on it. `words` say
    of each file of a new shard why it is sent.
    """

    shard: Shard
    attempt: int
    action: Action
    reason: str
    is_stale: bool = False
    words: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """Everything that is missing.

    `members` are the new members of open shards, by shard id. `dissolved` are the ids of open shards to group again.
    `failed` lists the files that are not paid for again unless you ask for it. `left` are the pending files that are
    not selected: nothing is done about them. `changes` are those of a batch that is kept.
    """

    moves: tuple[Move, ...]
    members: dict[int, tuple[Member, ...]]
    dissolved: tuple[int, ...]
    work: tuple[Work, ...]
    done: int
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    left: frozenset[str] = frozenset()
    changes: Changes = Changes(0)

    @property
    def is_empty(self) -> bool:
        """Whether applying this would do nothing."""
        return not (self.work or self.changes)

    @property
    def runs_to_pay(self) -> int:
        """The number of runs that applying this would start."""
        return sum(work.action in PAYS for work in self.work)

    @property
    def open_intents(self) -> int:
        """The number of runs whose start is unconfirmed."""
        return sum(work.action is Action.FIND_RUN for work in self.work)

    @property
    def runs_to_confirm(self) -> int:
        """Count the runs that applying this may start; an open intent is started once it is confirmed absent."""
        return self.runs_to_pay + self.open_intents

    @property
    def batches_to_create(self) -> int:
        """The number of batches that applying this would create."""
        return sum(work.action in (Action.CREATE_BATCH, Action.FIND_BATCH) for work in self.work)

    def uploads(self, target: str) -> list[Member]:
        """Return the files that applying this would send."""
        paying = (work.shard for work in self.work if work.action in PAYS)
        return [*self.changes.sends, *(member for shard in paying for member in missing_uploads(shard, target))]


def missing_uploads(shard: Shard, target: str) -> list[Member]:
    """List the members whose bytes are not in the shard's batch yet."""
    batch = shard.batch_in(target)
    if batch and batch.kept:
        return []  # it is changed before, or not at all
    sent = batch.uploads if batch else {}
    return [member for member in shard.sendable if sent.get(member.name) != member.digest]


def find_attempt(shard: Shard, run_key: str, attempt: int) -> Run | None:
    """Find the run of one attempt."""
    return next((run for run in shard.runs_of(run_key) if run.attempt == attempt), None)


def next_action(shard: Shard, goal: Goal, attempt: int, *, checked: bool = False, fetched: bool = False) -> Action:
    """Return the next action that this attempt needs until its results are here.

    `checked` says that the batch was just found to hold what the shard holds. `fetched` says that the results were just
    fetched again on request.
    """
    run = find_attempt(shard, goal.run_key, attempt)
    if run is None:
        before = next_before_run(shard, goal.target, checked=checked)
        return Action.NOTHING if goal.kept and not shard.members and before not in CREATES else before
    if run.is_open:
        return Action.FIND_RUN
    if run.is_gone and not run.fetched:
        return Action.NOTHING
    if not run.is_final:
        return Action.POLL
    if run.status != "COMPLETE" or not _lacks_results(run, goal, fetched):
        return Action.NOTHING
    return Action.FETCH


def _lacks_results(run: Run, goal: Goal, fetched: bool) -> bool:
    """Whether there is something to fetch. For a run that is gone, only on request."""
    if goal.include in run.fetched and fetched:
        return False
    return goal.refetch or (not run.is_gone and goal.lacks(run))


def next_before_run(shard: Shard, target: str, *, checked: bool) -> Action:
    """Return the next action needed until a run can be started."""
    batch = shard.batch_in(target)
    if batch is None:
        return Action.CREATE_BATCH
    if batch.remote_id is None:
        return Action.FIND_BATCH
    if not batch.is_verified:
        return Action.VERIFY
    if missing_uploads(shard, target):
        return Action.UPLOAD
    return Action.START_RUN if checked else Action.CHECK


def find_moves(shards: Sequence[Shard], scan: Scan, *, by_folder: bool = False) -> list[Move]:
    """Pair recorded paths that vanished with new paths of the same bytes and extension, both sorted.

    With `by_folder`, folders that moved as a whole come first: a file with twins must stay in its case. Of files
    elsewhere, those that were not paid for are new, even if they were sent: only that told their bytes.
    """
    if scan.sources and is_url(scan.sources[0].path):
        shards = [shard for shard in shards if shard.is_closed]
    present = {source.path for source in scan.sources}
    present.update(item.path for item in scan.skipped)
    lost = {
        (member.path, member.digest)
        for shard in shards
        for member in shard.members
        if member.path not in present and member.path
    }
    if not lost:
        return []
    gone: dict[tuple[str, str], list[str]] = {}
    for path, digest in sorted(lost):
        gone.setdefault((digest, suffix_of(path)), []).append(path)
    known = {member.path for shard in shards for member in shard.members}
    fresh = [source for source in scan.sources if source.path not in known]  # sorted by path
    moves = pair_packets(shards, fresh, {path for path, _ in lost}) if by_folder else {}
    taken = {*moves.values()}
    for source in fresh:
        if source.path not in taken:
            old = next((one for one in gone.get((source.digest, suffix_of(source.path)), ()) if one not in moves), None)
            if old is not None:
                moves[old] = source.path
    return [Move(old, new) for old, new in moves.items()]


def move_members(shard: Shard, moves: Mapping[str, str]) -> Shard:
    """Return a shard with its members' paths updated, whatever their bytes; `moves` maps old to new paths.

    The members are in the order in which the state has them once that is recorded.
    """
    if not any(member.path in moves for member in shard.members):
        return shard
    members = (replace(member, path=moves.get(member.path, member.path)) for member in shard.members)
    return replace(shard, members=tuple(sorted(members, key=attrgetter("path", "name"))))


def make_plan(
    goal: Goal,
    scan: Scan,
    shards: Sequence[Shard],
    settings_of: Mapping[str, Mapping[str, Any]] | None = None,
    held: Collection[str] = (),
) -> Plan:
    """Return the plan of everything that is missing.

    `settings_of` maps known run keys to their settings, to explain changes. `held` are the paths of files that may have
    been paid for, which is unconfirmed: nothing is planned for them.
    """
    moves = find_moves(shards, scan, by_folder=goal.by_folder)
    if by_old := {move.old: move.new for move in moves}:
        shards = [move_members(shard, by_old) for shard in shards]
    present = {source.path: source for source in scan.sources}
    current = whole_packets(shards, scan.sources) if goal.by_folder else shards
    cover = cover_files(current, goal, present)
    repeats = goal.retry_failed or goal.again
    takes = ("failed", None) if repeats else (None,)
    held = {*held, *list_waiting(scan, held)} if goal.by_folder else held
    pending = {path: source for path, source in present.items() if cover.get(path) in takes and path not in held}
    left = goal.leaves(pending)
    for path in left:
        del pending[path]
    work = finish(shards, goal, present, {shard.id for shard in current})
    work += _rerun(current, goal, pending, settings_of or {})
    waits = {*left, *held}
    members, dissolved, reopened = _reopen([one for one in shards if not _waits(one, waits)], goal, pending)
    past = describe_past(shards, pending) if pending else {}
    known = {path for path, _ in past}
    notes = _same_content(shards, pending.values(), known) if pending else []
    notes += describe_waits(scan) if goal.by_folder else []
    new = group_sources(pending.values(), goal.files_per_batch, by_folder=goal.by_folder)
    start = partial(_start_packet, shards, present) if goal.by_folder else _start_new
    work += reopened + [start(group, known, past) for group in new]
    verdicts = Counter(cover.values())
    has_failed = verdicts["failed"] and not repeats
    return Plan(
        moves=tuple(moves),
        members=members,
        dissolved=tuple(dissolved),
        work=tuple(work),
        done=verdicts["done"],
        failed=tuple(path for path in present if cover.get(path) == "failed") if has_failed else (),
        notes=tuple(notes),
        left=left,
    )


def finish(shards: Iterable[Shard], goal: Goal, present: Mapping[str, Source], current: Collection[int]) -> list[Work]:
    """Finish what was paid for: for each shard its newest run that is not finished yet."""
    work = []
    for shard in shards:
        runs = shard.runs_of(goal.run_key)
        newest = max((run.attempt for run in runs if run.status == "COMPLETE"), default=0)
        needs = [(run, next_action(shard, goal, run.attempt)) for run in runs]
        unfinished = [
            (run, action)
            for run, action in needs
            if action is not Action.NOTHING and (action is not Action.FETCH or run.attempt == newest)
        ]
        if unfinished:
            run, action = unfinished[-1]
            why = describe_run(run, run.id in goal.damaged)
            is_stale = shard.id not in current or not _is_whole(shard, present)
            work.append(Work(shard, run.attempt, action, why, is_stale))
    return work


def describe_run(run: Run, is_damaged: bool) -> str:
    """Return why a run is not finished."""
    if is_damaged:
        return f"the results of run {run.remote_id} are missing or changed on disk"
    if run.refused:
        return f"its run was refused, {run.refused}; it starts once confirmed absent"
    if run.is_open:
        return "the start of its run is unconfirmed"
    if run.status == REVIEW_STATUS:
        return f"run {run.remote_id} waits for review"
    return f"run {run.remote_id} is {run.status or 'started'}"


def _rerun(
    shards: Iterable[Shard],
    goal: Goal,
    pending: dict[str, Source],
    settings_of: Mapping[str, Mapping[str, Any]],
) -> list[Work]:
    """Run closed shards again as they are, where every member is still wanted with the same bytes."""
    work = []
    for shard in shards:
        if not shard.is_closed or not shard.members or shard.is_kept or not _is_whole(shard, pending):
            continue  # the content of a kept batch may be another one by now
        if have_placeholders(shard.members):
            continue  # to be sent, they need names
        for member in shard.members:
            del pending[member.path]
        runs = shard.runs_of(goal.run_key)
        attempt = runs[-1].attempt + 1 if runs else 1
        reason = why_again(shard, runs, goal, settings_of)
        work.append(Work(shard, attempt, next_action(shard, goal, attempt), reason))
    return work


def _is_present(member: Member, present: Mapping[str, Source]) -> bool:
    """Whether a recorded file is among others, by path, with the same bytes and the same password."""
    source = present.get(member.path)
    return source is not None and source.is_sent_as(member)


def _is_whole(shard: Shard, pending: Mapping[str, Source]) -> bool:
    return all(_is_present(member, pending) for member in shard.members)


def why_again(shard: Shard, runs: Sequence[Run], goal: Goal, settings_of: Mapping[str, Mapping[str, Any]]) -> str:
    if runs and runs[-1].is_given_up:
        return "no run was started before, by your decision"
    if runs:
        return f"run {runs[-1].remote_id} was {runs[-1].status}; repeated on request"
    ran = [run for run in shard.runs if run.remote_id]
    if not ran:
        return "its run has not started yet"
    before = settings_of.get(ran[-1].run_key, {})
    changed = sorted(
        name for name in before.keys() | goal.settings.keys() if before.get(name) != goal.settings.get(name)
    )
    return f"changed: {', '.join(changed) or 'settings'}"


def _waits(shard: Shard, left: Collection[str]) -> bool:
    """Whether an open shard has a batch with files for which nothing is planned. It stays as it is."""
    return bool(shard.batches) and not shard.is_closed and any(member.path in left for member in shard.members)


def _reopen(
    shards: Iterable[Shard], goal: Goal, pending: dict[str, Source]
) -> tuple[dict[int, tuple[Member, ...]], list[int], list[Work]]:
    """Keep open shards that have a batch, with the current files; dissolve the others."""
    members, dissolved, work = {}, [], []
    for shard in shards:
        if shard.is_closed:
            continue
        kept = _refresh(shard, pending)[: goal.files_per_batch] if shard.batches and not shard.is_kept else ()
        if not kept or (goal.by_folder and not is_packet(kept, shard, pending)):
            dissolved.append(shard.id)
            continue
        for member in kept:
            del pending[member.path]
        if kept != shard.members:
            members[shard.id] = kept
        shard = replace(shard, members=kept)
        sent = len(kept) - len(missing_uploads(shard, goal.target))
        reason = f"not finished before: {sent} of {count(len(kept), 'file')} uploaded"
        work.append(Work(shard, 1, next_action(shard, goal, 1), reason))
    return members, dissolved, work


def _refresh(shard: Shard, pending: Mapping[str, Source]) -> tuple[Member, ...]:
    kept = []
    for member in shard.members:
        source = pending.get(member.path)
        if source is not None:
            kept.append(source.as_member(member.name))
    return tuple(kept)


def describe_past(shards: Iterable[Shard], paths: Collection[str]) -> dict[tuple[str, str], str]:
    """Return the past of each recorded (path, identity) with one of these paths: only what was run can run again."""
    past: dict[tuple[str, str], str] = {}
    for shard in shards:
        word = REGROUPED if any(run.remote_id for run in shard.runs) else NOT_RUN
        for member in shard.members:
            if member.path not in paths:
                continue
            key = (member.path, member.identity)
            past[key] = REGROUPED if past.get(key) == REGROUPED else word
    return past


def _start_new(members: tuple[Member, ...], known: Collection[str], past: Mapping[tuple[str, str], str]) -> Work:
    words = tuple(
        past.get((member.path, member.identity), CHANGED) if member.path in known else NEW for member in members
    )
    counts = Counter(words)
    reason = ", ".join(f"{counts[word]} {word}" for word in (NEW, CHANGED, NOT_RUN, REGROUPED) if counts[word])
    return Work(Shard(0, "", members), 1, Action.CREATE_BATCH, reason, words=words)


def _start_packet(
    shards: Iterable[Shard],
    present: Collection[str],
    members: tuple[Member, ...],
    known: Collection[str],
    past: Mapping[tuple[str, str], str],
) -> Work:
    """Start a folder, and say why its unchanged files are paid for again."""
    work, gone = _start_new(members, known, past), list_gone(shards, present, members)
    again = f"to pay for again because files in their folder changed{f', {len(gone)} gone' * bool(gone)}"
    files = {
        kind: [member.path for member, word in zip(members, work.words, strict=True) if word == kind]
        for kind in (NEW, CHANGED, NOT_RUN)
    }
    reason = explain_packet(folder_of(members[0].path), {**files, "gone": gone}, work.words.count(REGROUPED))
    return replace(work, reason=reason, words=tuple(again if word == REGROUPED else word for word in work.words))


def _same_content(shards: Iterable[Shard], new: Collection[Source], known: Collection[str]) -> list[str]:
    """Return a note for each new file whose bytes are known under another path. It is sent all the same."""
    first: dict[str, str] = {}
    digests = {source.digest for source in new}
    for shard in shards:
        for member in shard.members:
            if member.digest in digests and member.path:
                first.setdefault(member.digest, member.path)
    notes = []
    for source in sorted(new, key=lambda source: source.path):
        twin = first.setdefault(source.digest, source.path)
        if twin != source.path and source.path not in known:
            notes.append(f"{source.path}: same content as {twin}; sent anyway")
    return notes


def find_lost(shards: Iterable[Shard], goal: Goal) -> list[Run]:
    """Find the runs that were deleted on the server before all requested results were fetched."""
    complete = [[run for run in shard.runs_of(goal.run_key) if run.status == "COMPLETE"] for shard in shards]
    return [runs[-1] for runs in complete if runs and runs[-1].is_gone and goal.lacks(runs[-1])]


def lost_error(run: Run, goal: Goal) -> ResultsError:
    """Return the error for a run whose requested results can no longer be fetched."""
    gone = f"run {run.remote_id}: no longer exists on the server"
    if not run.fetched:
        deleted = f"run {run.remote_id}: was deleted on request, and its results cannot be fetched again"
        return ResultsError(deleted if run.is_deleted else f"{gone}, and its results were never fetched here", RESTORE)
    if run.id in goal.damaged:
        return ResultsError(f"{gone}, and its fetched results are missing or changed on disk", RESTORE)
    if not goal.lacks(run):
        return ResultsError(f"{gone}, and its results cannot be fetched again; earlier results stay", "omit --refetch")
    what = "the results that [results] include asks for were not fetched before; earlier results stay"
    return ResultsError(f"{gone}; {what}", "undo the change to [results] include")
