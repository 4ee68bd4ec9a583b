"""Runs under an id that the state has for another run: a restored service may give an id a second time.

Such a run is paid for, and cannot be recorded: ids never change, and its results would mix with those of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.errors import UnknownOutcome
from aihub_runner.plan.identity import fingerprint_of, run_tag
from aihub_runner.plan.planner import PAYS

if TYPE_CHECKING:  # a worker in another process loads no state
    from aihub_runner.apply.job import Job
    from aihub_runner.plan.planner import Plan
    from aihub_runner.state.store import State

REUSED = "this id is already recorded for another run"


def is_reused(run: RunInfo, tag: str, ids: Collection[str], batches: Collection[int]) -> bool:
    """Whether a run under a recorded id is not the recorded one, but another with this tag.

    `ids` and `batches` are those of the runs that are recorded with the tag; a batch is 0 where it is unknown.
    """
    if tag not in (run.tags or ()):
        return False
    if run.id in ids and (not run.batch_id or 0 in batches):
        return False
    return run.batch_id not in batches


def describe_reused(run_id: str) -> str:
    """Say that a run under a recorded id is the wanted one."""
    return f"run {run_id} carries the tag, but {REUSED}"


def tells_reused(why: str) -> bool:
    """Whether this is why a run is unconfirmed."""
    return why.endswith(REUSED)


class Doubts(Struct, frozen=True):
    """The paths of files that may have been paid for under the id of another run, and an error for each such run."""

    paths: frozenset[str] = frozenset()
    errors: tuple[UnknownOutcome, ...] = ()


def find_reused(job: Job, state: State, runs: Iterable[RunInfo], plan: Plan) -> Doubts:
    """Find the files about to be paid for that a run on the service, under the id of another one, has paid for.

    Raises UnknownOutcome where the job has a single run.
    """
    paying = [work.shard for work in plan.work if work.action in PAYS]
    planned, known = {fingerprint_of(shard) for shard in paying}, state.known_runs()
    doubtful, errors = set[str](), list[UnknownOutcome]()
    for run in runs:
        fingerprint, key, attempt = next(iter(run.our_tags), ("", "", 0))
        is_planned = fingerprint in planned and key == job.goal.run_key
        if run.id in known and is_planned and _is_undecided(state, run, run_tag(fingerprint, key, attempt)):
            doubtful.add(fingerprint)
            errors.append(_error(job, run))
    if errors and (job.goal.input or job.goal.kept):
        raise errors[0]
    held = (member.path for shard in paying if fingerprint_of(shard) in doubtful for member in shard.members)
    return Doubts(frozenset(held), tuple(errors))


def _is_undecided(state: State, run: RunInfo, tag: str) -> bool:
    """Whether a run is another one than the recorded one, and neither a check nor a person has decided about it."""
    decided = state.has_intent(tag) or not {tag, run.id}.isdisjoint(state.load_dismissed())
    return not decided and is_reused(run, tag, state.runs_of_tag(tag), state.batches_of_tag(tag))


def _error(job: Job, run: RunInfo) -> UnknownOutcome:
    place = f" on batch {run.batch_id}" if run.batch_id else ""
    only = "" if job.goal.input or job.goal.kept else " --only FILES"
    return UnknownOutcome(
        f"{job.spec_path.name}: run {run.id}{place} has the tag of work about to be paid, but {REUSED}",
        "the service gave an id twice, as after a restored backup; to pay for these files again, use "
        f"`{job.command('apply')} --again{only}`",
    )
