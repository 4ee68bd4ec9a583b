"""Results of runs that are gone, found in raw pages on disk: the state that recorded them was lost or replaced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec.structs import replace

from aihub_runner.aihub.response import MAX_ANSWER_BYTES
from aihub_runner.aihub.schemas import include_parameters, parse_results
from aihub_runner.apply.job import Job
from aihub_runner.apply.tasks.fetch import Fetched, answer_of, members_elsewhere, page_path
from aihub_runner.errors import RunnerError, Shortage
from aihub_runner.files import read_regular, safe_segment
from aihub_runner.model import Answer, Member, Page, Run, Shard
from aihub_runner.plan.batching import assign_names
from aihub_runner.plan.identity import fingerprint_input, fingerprint_members
from aihub_runner.plan.placeholders import name_members
from aihub_runner.state.store import State
from aihub_runner.system.shortage import explain_shortage


def reclaim_results(job: Job, state: State) -> None:
    """Record the raw pages of runs that the service does not have any more. Nothing else has their results.

    They count only if they are complete, of the run's batch, and of none but its files. May be repeated. Raises
    Shortage.
    """
    for row, shard_id in state.list_unfetched_gone(job.goal.include):
        [shard] = state.load_shards(shard_id)
        run = next(run for run in shard.runs if run.id == row)
        if run.is_final and run.status != "COMPLETE":
            continue
        for include in _list_includes(job.results_path, run):
            found = _read_pages(job.results_path, run, include)
            members = _name_members(job, shard, run, found.answers) if found else None
            if found and members is not None:
                with state.transaction():
                    if members != shard.members:
                        state.record_members(shard.id, members)
                    state.record_fetch(run.id, include, found.pages, found.answers, 0.0)
                    state.record_status(run.id, "COMPLETE")  # only such a run has results
                    state.record_run_gone(run.id)
                [shard] = state.load_shards(shard_id)


def _list_includes(folder: Path, run: Run) -> list[str]:
    """List the kinds of fetches of a run that have a folder on disk, and are not recorded."""
    try:
        with explain_shortage():
            names = sorted(os.listdir(folder / "raw" / safe_segment(run.remote_id or "")))
    except OSError:
        return []
    return [name for name in names if name not in run.fetched and _is_kind(name)]


def _is_kind(name: str) -> bool:
    try:
        include_parameters(name)
    except KeyError:
        return False
    return name == "+".join(sorted({*name.split("+")}))  # as `name_include` makes them


def _read_pages(folder: Path, run: Run, include: str) -> Fetched | None:
    """Read the pages of a fetch; None if one is missing, cannot be read, or is about something else."""
    pages, answers = list[Page](), list[Answer]()
    while True:
        offset = len(answers)
        path = page_path(run.remote_id or "", include, offset)
        try:
            with explain_shortage():
                body = read_regular(folder / path, MAX_ANSWER_BYTES + 1)
            content = parse_results(body, path)
        except Shortage:
            raise
        except (OSError, RunnerError):
            return None
        if len(body) > MAX_ANSWER_BYTES:
            return None
        if run.remote_batch and content.batch_id not in (None, run.remote_batch):
            return None
        if content.id not in (None, run.remote_id):
            return None
        pages.append(Page(offset, path, f"sha256:{hashlib.sha256(body).hexdigest()}"))
        answers += [answer_of(file, offset, position) for position, file in enumerate(content.files)]
        if not content.has_more:
            return Fetched(tuple(pages), tuple(answers))
        if not content.files:
            return None


def _name_members(job: Job, shard: Shard, run: Run, answers: Sequence[Answer]) -> tuple[Member, ...] | None:
    """Return the files of a shard under the names that they had in the batch; None if the answers are of others.

    Where the batch is gone, too, the names of an imported shard are placeholders. The fingerprint confirms the names,
    unless the lock file alone knows some of the files. Files without an answer had none on the service, either.
    """
    names = {answer.name for answer in answers}
    if len(names) != len(answers):
        return None
    if shard.fingerprint == fingerprint_input(run.run_key):  # an earlier `input_dir` is not recorded
        return members_elsewhere(job.goal.input, names) if run.run_key == job.goal.run_key else None
    ways = (shard.members, name_members(shard.members, names), _name_as_usual(shard.members))
    return next((members for members in ways if names and _fits(shard, members, names)), None)


def _name_as_usual(members: Sequence[Member]) -> tuple[Member, ...]:
    """Return files under the names that they would get in a batch today; empty if one is not here."""
    names = assign_names([member.path for member in members if member.path])
    return tuple(replace(one, name=names[one.path]) for one in members) if len(names) == len(members) else ()


def _fits(shard: Shard, members: Sequence[Member], names: Collection[str]) -> bool:
    if not {*names} <= {member.name for member in members}:
        return False
    return shard.is_kept or any(one.is_stale for one in members) or fingerprint_members(members) == shard.fingerprint
