"""Plan a batch that is kept: all its files are one shard and one run, and any change of them makes another. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aihub_runner.model import Batch, Changes, Goal, Listed, Member, Scan, Shard, Source
from aihub_runner.plan import planner
from aihub_runner.plan.batching import assign_names
from aihub_runner.plan.cover import cover_files
from aihub_runner.plan.identity import fingerprint_members
from aihub_runner.plan.planner import CHANGED, NEW, NOT_RUN, Action, Move, Plan, Work

AGAIN = "unchanged, to pay for again because other files of the batch changed or are gone"


def scan_listed(files: Mapping[str, Listed], before: Iterable[Source] = ()) -> Scan:
    """Return the files of somebody else's batch as a scan. `before` are those of the newest content that was run."""
    known = {source.path: source for source in before}
    return Scan(tuple(_as_source(name, file, known.get(name)) for name, file in sorted(files.items())), (), {})


def _as_source(name: str, file: Listed, before: Source | None) -> Source:
    """Return a file as it is listed. A list that leaves out its size or time does not make it another one."""
    if before and None in (file.size, file.modified_s) and file.may_be(before.digest):
        return before
    return Source(name, file.size or 0, file.digest)


def scan_recorded(goal: Goal, shards: Iterable[Shard]) -> Scan:
    """Return the files of the newest content of a batch that was run, as a scan."""
    return Scan(recorded_others(goal, shards), (), {})


def recorded_others(goal: Goal, shards: Iterable[Shard]) -> tuple[Source, ...]:
    """Return the files of others in the newest content of a batch that was run."""
    ran = [shard for shard in shards if shard.is_kept and shard.runs_of(goal.run_key)]
    members = sorted(ran[-1].members, key=lambda one: one.path) if ran else []
    return tuple(Source(one.path, one.size, one.digest) for one in members if one.path and one.is_listed)


def list_others(changes: Changes, before: Iterable[Source] = ()) -> tuple[Source, ...]:
    """Return the files of others that a batch goes on holding; `before` as for `scan_listed`."""
    return scan_listed({name: changes.seen[name] for name in changes.others}, before).sources


def content_of(scan: Scan) -> tuple[Member, ...]:
    """Return what the batch is to hold: each file under its name there."""
    names = assign_names([source.path for source in scan.sources if not source.is_listed])
    return tuple(source.as_member(names.get(source.path, source.path)) for source in scan.sources)


def plan_kept(
    goal: Goal,
    scan: Scan,
    shards: Sequence[Shard],
    settings_of: Mapping[str, Mapping[str, Any]] | None = None,
    held: Collection[str] = (),
) -> Plan:
    """Return what is missing until the whole content of the batch is run; see `planner.make_plan`."""
    members = content_of(scan)
    fingerprint = fingerprint_members(members)
    moves = _find_moves(shards, fingerprint, members)
    by_old = {move.old: move.new for move in moves}
    shards = [planner.move_members(shard, by_old) for shard in shards]
    current = [shard for shard in shards if shard.fingerprint == fingerprint]
    present = {source.path: source for source in scan.sources}
    verdicts = {*cover_files(current, goal, present).values()}
    verdict = "done" if "done" in verdicts else "failed" if verdicts else ""
    work = planner.finish(shards, goal, present, {shard.id for shard in current})
    open_ones = [shard for shard in shards if not shard.is_closed]
    again = goal.retry_failed or goal.again
    kept = [one for one in open_ones if _is_begun(one, goal) and fingerprint_members(one.members) == fingerprint][:1]
    if members and verdict != "done" and (not verdict or again) and not held:
        past = planner.describe_past(shards, present)
        work.append(_repeat(current, goal, settings_of or {}) if current else _start(goal, kept, members, past))
    return Plan(
        moves=tuple(moves),
        members={},
        dissolved=tuple(shard.id for shard in open_ones if shard not in kept),
        work=tuple(work),
        done=len(members) if verdict == "done" else 0,
        failed=tuple(present) if verdict == "failed" and not again else (),
        notes=(),
    )


def _find_moves(shards: Sequence[Shard], fingerprint: str, members: Sequence[Member]) -> list[Move]:
    """Pair the recorded paths of today's content with those that its files have now, under the same names."""
    paths = {member.name: member.path for member in members}
    same = [shard for shard in shards if shard.fingerprint == fingerprint]
    recorded = {
        (one.path, paths[one.name]) for shard in same for one in shard.members if one.path and one.name in paths
    }
    return [Move(old, new) for old, new in sorted(recorded) if old != new]


def _is_begun(shard: Shard, goal: Goal) -> bool:
    """Whether an open shard has a kept batch, and perhaps a claim on its run, which must not be forgotten."""
    batch = shard.batch_in(goal.target)
    return batch is not None and bool(batch.kept)


def _repeat(current: Sequence[Shard], goal: Goal, settings_of: Mapping[str, Mapping[str, Any]]) -> Work:
    """Run a content again that was run before: on request, or with other settings."""
    shard = current[-1]
    runs = [run for one in current for run in one.runs_of(goal.run_key)]
    attempt = max((run.attempt for run in runs), default=0) + 1
    reason = planner.why_again(shard, shard.runs_of(goal.run_key), goal, settings_of)
    return Work(shard, attempt, _first_action(goal), reason)


def _start(
    goal: Goal, begun: Sequence[Shard], members: tuple[Member, ...], past: Mapping[tuple[str, str], str]
) -> Work:
    """Run a content for the first time."""
    known = {path for path, _ in past}
    words = tuple(_word(member, known, past) for member in members)
    counts = Counter(words)
    reason = ", ".join(f"{counts[word]} {word}" for word in (NEW, CHANGED, NOT_RUN, AGAIN) if counts[word])
    batch = Batch(0, goal.target, "", 0.0, goal.batch_id or None, {}, kept=goal.kept)
    shard = begun[0] if begun else Shard(0, "", members, (batch,))
    return Work(shard, 1, _first_action(goal), reason, words=words)


def _first_action(goal: Goal) -> Action:
    return Action.CHECK if goal.batch_id else Action.CREATE_BATCH


def _word(member: Member, known: Collection[str], past: Mapping[tuple[str, str], str]) -> str:
    if member.path not in known:
        return NEW
    word = past.get((member.path, member.identity), CHANGED)
    return AGAIN if word == planner.REGROUPED else word
