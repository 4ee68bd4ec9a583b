"""Results like those of an apply, made without one: a spec, its state, and any number of raw pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aihub_runner.apply.job import Job, Options, open_job
from aihub_runner.model import Answer, Member, Page
from aihub_runner.plan.identity import fingerprint_members, run_tag
from aihub_runner.state.store import State

SPEC = """\
name = "job"
files = "in/**/*"
app_name = "Invoice Extraction"
owner = "instabase"
context = "acme"
[run]
version = "{version}"
[results]
include = ["confidence"]
"""
BEGUN_S = 1_800_000_000.0
PAGE = 100


@dataclass(frozen=True)
class MadeFile:
    """A file with its documents as the service returns them. `content`, if any, is written to disk."""

    path: str
    documents: list[dict[str, Any]]
    content: bytes | None = None


def make_documents(number: int, fields: int = 5) -> list[dict[str, Any]]:
    """Make the only document of a file, a plain one; every hundredth has a failed field."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    made = []
    for index in range(fields):
        share = 1 - (int(digest[index * 4 : index * 4 + 4], 16) / 65535) ** 3 * (0.3 + 0.1 * index)
        made.append(
            {
                "field_name": ("total", "currency", "due_date", "supplier", "iban")[index % 5] + "_" * (index // 5),
                "value": f"{number * 7919 % 100000 / 100:.2f} {digest[:index]}",
                "type": "TEXT",
                "confidence": {"model": round(share, 4), "ocr": 0.99},
            }
        )
    if number % 100 == 99:
        made[0] |= {"value": "ERROR", "error_msg": "no total was found on page 1"}
    names = ("Invoice", "Receipt", "Bank statement")
    return [{"class_name": names[number % 7 % 3], "page_numbers": [1, 2][: 1 + number % 2], "fields": made}]


def make_job(folder: Path, version: str = "1.0") -> Job:
    """Write the spec, and open it as for `--fake`."""
    (folder / "job.toml").write_text(SPEC.format(version=version))
    job = open_job(folder / "job.toml", Options(), fake=True, offline=True)
    job.results_path.mkdir(parents=True, exist_ok=True)
    return job


def make_results(
    job: Job,
    files: int,
    file: Callable[[int], MadeFile],
    *,
    run: Callable[[int], str] = "run-{}".format,
    per: int = 1000,
) -> None:
    """Record complete runs of `per` files each with their results, under the job's run key."""
    with closing(State(job.state_path)) as state:
        state.record_lease("made", job.target.root)
        number = len([found for shard in state.load_shards() for found in shard.runs])
        for start in range(0, files, per):
            made = [file(index) for index in range(start, min(files, start + per))]
            _record_run(job, state, made, number, run(number))
            number += 1


def _record_run(job: Job, state: State, files: list[MadeFile], number: int, remote_id: str) -> None:
    goal, begun_s = job.goal, BEGUN_S + number * 40
    members = [_member(job, file, index) for index, file in enumerate(files)]
    shard_id = state.record_shard(members)
    state.record_batch_intent(shard_id, goal.target, f"job-{number}", begun_s, ())
    [batch] = state.load_shards(shard_id)[0].batches
    state.record_batch(batch.id, 1000 + number)
    state.record_sent(batch.id, begun_s + 20 + number % 5)
    fingerprint = fingerprint_members(members)
    intent = {"fingerprint": fingerprint, "run_key": goal.run_key, "attempt": 1, "batch": batch.id, "bound_s": 1}
    intent |= {"tag": run_tag(fingerprint, goal.run_key, 1), "intent_s": begun_s + 26, "remote_batch": 1000 + number}
    shard = state.load_shards(shard_id)[0]
    state.record_run_intent(shard, intent, goal.settings)
    run = state.load_shards(shard_id)[0].runs[-1]
    times = (int((begun_s + 27) * 1e9), int((begun_s + 80 + number % 7 * 9) * 1e9))
    state.record_run(run.id, remote_id, "COMPLETE", "", times)
    pages, answers = [], []
    for offset in range(0, len(files), PAGE):
        part = files[offset : offset + PAGE]
        body = [
            {"original_file_name": member.name, "documents": file.documents}
            for member, file in zip(members[offset:], part, strict=False)
        ]
        path = f"raw/r{number}/{goal.include}/{offset}.json"
        target = job.results_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"files": body, "has_more": False}))
        pages.append(Page(offset, path, "sha256:" + hashlib.sha256(target.read_bytes()).hexdigest()))
        for position, file in enumerate(part):
            errors = sum(bool(item.get("error_msg")) for doc in file.documents for item in doc.get("fields") or ())
            answers.append(Answer(members[offset + position].name, offset, position, len(file.documents), errors))
    state.record_fetch(run.id, goal.include, pages, answers, begun_s + 150 + number % 7 * 9)


def _member(job: Job, file: MadeFile, index: int) -> Member:
    content = file.path.encode("utf-8", "surrogateescape") if file.content is None else file.content
    if file.content is not None:
        target = job.folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    return Member(f"{index:05}.txt", file.path, len(content), "sha256:" + hashlib.sha256(content).hexdigest())
