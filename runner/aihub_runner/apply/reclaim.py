"""Results of runs that are gone, found in raw pages on disk: the state that recorded them was lost or replaced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.aihub.schemas import parse_results
from aihub_runner.apply.job import Job
from aihub_runner.apply.tasks.fetch import answer_of, members_elsewhere, page_path
from aihub_runner.errors import RunnerError
from aihub_runner.files import read_regular, safe_segment
from aihub_runner.model import Answer, Member, Page, Run, Shard
from aihub_runner.plan.batching import hashed_name, plain_name
from aihub_runner.plan.identity import fingerprint_members
from aihub_runner.state.store import State


class _Pages(Struct):
    """All pages of one fetch, as they are on disk."""

    pages: list[Page]
    answers: list[Answer]


def reclaim_results(job: Job, state: State) -> None:
    """Record the raw pages of runs that the service does not have any more. Nothing else has their results.

    They count only if they are complete, of the run's batch, and of exactly its files. May be repeated.
    """
    for row, shard_id in state.list_unfetched_gone():
        [shard] = state.load_shards(shard_id)
        run = next(run for run in shard.runs if run.id == row)
        for include in _list_includes(job.results_path, run):
            found = _read_pages(job.results_path, run, include)
            members = _name_members(job, shard, found.answers) if found else None
            if found and members is not None:
                with state.transaction():
                    if members != shard.members:
                        state.record_members(shard.id, members)
                    state.record_fetch(run.id, include, found.pages, found.answers, 0.0)
                    state.record_run_gone(run.id)


def _list_includes(folder: Path, run: Run) -> Iterator[str]:
    try:
        yield from sorted(os.listdir(folder / "raw" / safe_segment(run.remote_id or "")))
    except OSError:
        return


def _read_pages(folder: Path, run: Run, include: str) -> _Pages | None:
    """Read the pages of a fetch; None if one is missing, cannot be read, or is about something else."""
    found = _Pages([], [])
    while True:
        offset = len(found.answers)
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
        found.pages.append(Page(offset, path, f"sha256:{hashlib.sha256(body).hexdigest()}"))
        found.answers += [answer_of(file, offset, position) for position, file in enumerate(content.files)]
        if not content.has_more:
            return found
        if not content.files:
            return None


def _name_members(job: Job, shard: Shard, answers: list[Answer]) -> tuple[Member, ...] | None:
    """Return the files of a shard under the names that they had in the batch; None if the answers are of others.

    Where the batch is gone, too, the names of an imported shard are guesses. The fingerprint confirms these.
    """
    names = {answer.name for answer in answers}
    if len(names) != len(answers):
        return None
    if job.goal.input and not shard.members:
        return members_elsewhere(job.goal.input, names)
    if names == {member.name for member in shard.members}:
        return shard.members
    if len(names) != len(shard.members) or shard.is_kept:
        return None
    return _rename(shard, names)


def _rename(shard: Shard, names: set[str]) -> tuple[Member, ...] | None:
    renamed = [member if member.is_stale else _named(member, names) for member in shard.members]
    left = sorted(names - {member.name for member in renamed if not member.is_stale})
    stale = [member for member in renamed if member.is_stale]
    if len(left) != len(stale):
        return None
    if not stale and fingerprint_members(renamed) != shard.fingerprint:
        return None
    rest = iter(left)
    return tuple(replace(member, name=next(rest)) if member.is_stale else member for member in renamed)


def _named(member: Member, names: set[str]) -> Member:
    fitting = (name for name in (hashed_name(member.path), plain_name(member.path)) if name in names)
    return replace(member, name=next(fitting, member.name))
