"""Handmade results: raw pages and a matching state, as an apply would have left them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from aihub_runner.files import write_file
from aihub_runner.model import Answer, Member, Page, Scan, Source
from aihub_runner.plan.planner import Goal
from aihub_runner.results.reader import Found, find_results
from aihub_runner.state.store import State

TARGET, RUN_KEY = "target", "key"
DIGEST = "sha256:" + "0" * 64
FINISHED_NS = 1_790_000_000_000_000_000


def open_state(folder: Path) -> State:
    """Open a new state that may record."""
    state = State(folder / "job.state.db")
    state.record_lease("lease", "root")
    return state


def record_run(
    state: State, folder: Path, run_id: str, pages: Iterable[bytes], include: str = "plain", number: int = 1
) -> list[Member]:
    """Record a complete run with its pages, and return the files that it covers. Each page is written as it is."""
    recorded: list[Page] = []
    answers: list[Answer] = []
    for body in pages:
        offset = len(answers)
        path = f"raw/{run_id}/{include}/{offset}.json"
        recorded.append(Page(offset, path, write_file(folder / path, [body])))
        for position, file in enumerate(json.loads(body)["files"] or ()):
            documents = file.get("documents") or []
            name = unicodedata.normalize("NFC", file["original_file_name"])
            answers.append(Answer(name, offset, position, len(documents), 0))
    members = [Member(answer.name, f"in/{answer.name}", 1, DIGEST) for answer in answers]
    with state.transaction():
        shard = state.record_shard(members, f"shard {run_id}")
        state.record_batch_intent(shard, TARGET, f"batch {run_id}", 0.0, ())
        [batch] = state.load_shards(shard)[0].batches
        state.record_batch(batch.id, number)
        run = state.record_imported_run(shard, batch, (RUN_KEY, 1, f"tag {run_id}"))
        state.record_run(run, run_id, "COMPLETE", "", (0, FINISHED_NS))
        state.record_fetch(run, include, recorded, answers, 0.0)
    return members


def goal(include: str = "plain") -> Goal:
    """Return the goal that selects the runs of `record_run`."""
    return Goal(RUN_KEY, TARGET, include, 1000, {})


def scan_of(members: Iterable[Member]) -> Scan:
    """Return a scan with these files, unchanged since they were sent."""
    return Scan(tuple(Source(member.path, member.size, member.digest) for member in members), (), {})


@contextmanager
def made_results(folder: Path, *runs: Sequence[Any], include: str = "plain") -> Iterator[Found]:
    """Make results of runs, each a list of pages, and open them."""
    with closing(open_state(folder)) as state:
        members = []
        for number, pages in enumerate(runs, 1):
            bodies = (json.dumps(page).encode() for page in pages)
            members += record_run(state, folder, f"run-{number}", bodies, include, number)
        yield find_results(state, state.load_shards(), scan_of(members), goal(include), folder)
