"""Results of runs that are gone, found in raw pages on disk: the state that recorded them was lost or replaced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from aihub_runner.aihub.schemas import include_parameters, parse_results
from aihub_runner.apply.job import Job
from aihub_runner.apply.tasks.fetch import Fetched, answer_of, members_elsewhere, page_path
from aihub_runner.errors import RunnerError
from aihub_runner.files import read_regular, safe_segment
from aihub_runner.model import Answer, Member, Page, Run, Shard
from aihub_runner.plan.batching import hashed_name, plain_name
from aihub_runner.plan.identity import fingerprint_input, fingerprint_members
from aihub_runner.state.store import State


def reclaim_results(job: Job, state: State) -> None:
    """Record the raw pages of runs that the service does not have any more. Nothing else has their results.

    They count only if they are complete, of the run's batch, and of exactly its files. May be repeated.
    """
    for row, shard_id in state.list_unfetched_gone():
        [shard] = state.load_shards(shard_id)
        run = next(run for run in shard.runs if run.id == row)
        for include in _list_includes(job.results_path, run):
            found = _read_pages(job.results_path, run, include)
            members = _name_members(job, shard, run, found.answers) if found else None
            if found and members is not None:
                with state.transaction():
                    if members != shard.members:
                        state.record_members(shard.id, members)
                    state.record_fetch(run.id, include, found.pages, found.answers, 0.0)
                    state.record_run_gone(run.id)


def _list_includes(folder: Path, run: Run) -> list[str]:
    """List the kinds of fetches of a run that have a folder on disk."""
    try:
        return [
            name for name in sorted(os.listdir(folder / "raw" / safe_segment(run.remote_id or ""))) if _is_kind(name)
        ]
    except OSError:
        return []


def _is_kind(name: str) -> bool:
    try:
        include_parameters(name)
    except KeyError:
        return False
    return True


def _read_pages(folder: Path, run: Run, include: str) -> Fetched | None:
    """Read the pages of a fetch; None if one is missing, cannot be read, or is about something else."""
    pages, answers = list[Page](), list[Answer]()
    while True:
        offset = len(answers)
        path = page_path(run.remote_id or "", include, offset)
        try:
            body = read_regular(folder / path)
            content = parse_results(body, path)
        except (OSError, RunnerError):
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

    Where the batch is gone, too, the names of an imported shard are guesses. The fingerprint confirms these.
    """
    names = {answer.name for answer in answers}
    if len(names) != len(answers):
        return None
    if shard.fingerprint == fingerprint_input(run.run_key):  # an earlier `input_dir` is not recorded
        return members_elsewhere(job.goal.input, names) if run.run_key == job.goal.run_key else None
    if names == {member.name for member in shard.members} and (shard.is_kept or _fits(shard, shard.members)):
        return shard.members
    if len(names) != len(shard.members) or shard.is_kept:
        return None
    return _rename(shard, names)


def _fits(shard: Shard, members: Sequence[Member]) -> bool:
    """Whether files can be those of a shard: the fingerprint decides, unless some have changed since."""
    return any(member.is_stale for member in members) or fingerprint_members(members) == shard.fingerprint


def _rename(shard: Shard, names: set[str]) -> tuple[Member, ...] | None:
    renamed = [member if member.is_stale else _named(member, names) for member in shard.members]
    left = sorted(names - {member.name for member in renamed if not member.is_stale})
    if len(left) != sum(member.is_stale for member in renamed) or not _fits(shard, renamed):
        return None
    rest = iter(left)
    return tuple(replace(member, name=next(rest)) if member.is_stale else member for member in renamed)


def _named(member: Member, names: set[str]) -> Member:
    fitting = (name for name in (hashed_name(member.path), plain_name(member.path)) if name in names)
    return replace(member, name=next(fitting, member.name))
