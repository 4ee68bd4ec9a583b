"""The content of a kept batch: send, replace and delete files until it holds what was planned. All may be repeated."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.apply import events
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.tasks.upload import SendFile, Sent, Unsendable, send_file
from aihub_runner.errors import ServiceError, StillGoing
from aihub_runner.model import FINAL_STATUSES, MB, Changes, Listed, Member
from aihub_runner.plan.packets import REFUSED, RETRY_REFUSED
from aihub_runner.state.store import State
from aihub_runner.text.escape import clean_text
from aihub_runner.text.shown import count

SENDERS = 8
PAUSE_S = 0.2


def list_batch(client: AIHub, remote_id: int) -> dict[str, Listed] | None:
    """List the files of a batch by their names (NFC); None where there is no such batch."""
    found = or_none(lambda: client.list_files(remote_id))
    if found is None:
        return None
    files: dict[str, Listed] = {}
    for name, file in found.items():
        here = files.setdefault(unicodedata.normalize("NFC", name), Listed(name, file.size, file.modified_timestamp))
        if here.name != name:
            what = f"batch {remote_id}: two of its files differ only in how Unicode writes {clean_text(name)}"
            raise ServiceError(what, "rename one of them: their results could not be told apart")
    return files


def list_busy(client: AIHub, remote_id: int, going: Iterable[str]) -> list[str]:
    """List the runs on a batch that are not final, whoever started them. A run without a batch may be on it.

    `going` are the recorded ones: a list may lack them.
    """
    listed = [run for run in client.list_runs(1) if run.batch_id in (None, remote_id)]
    hidden = (run_id for run_id in going if run_id not in {run.id for run in listed})
    asked = (or_none(partial(client.get_run, run_id)) for run_id in hidden)
    runs = [*listed, *filter(None, asked)]
    return [f"run {clean_text(one.id)} is {clean_text(one.status)}" for one in runs if one.status not in FINAL_STATUSES]


def list_going(state: State, remote_id: int) -> list[str]:
    """List the recorded runs on a batch that have not ended as far as the state knows."""
    runs = (run for shard in state.load_shards() for run in shard.runs if run.remote_batch == remote_id)
    return [run.remote_id for run in runs if run.remote_id and not (run.is_final or run.is_gone)]


def follow(opened: OpenJob, changes: Changes) -> dict[str, Listed]:
    """Change a batch as planned, and return what it holds then. Nothing is changed that the plan does not name.

    What is about to change is recorded before. However this ends, the next plan finds what is left to do. Raises
    RunnerError.
    """
    job, state, client = opened.job, opened.state, opened.client
    remote_id = changes.remote_id
    in_thread(partial(_check_unchanged, client, changes, list_going(state, remote_id)))
    state.record_placing(remote_id, [one.name for one in changes.sends])
    _send(opened, changes)
    in_thread(partial(_check_deletions, client, changes))
    for name in changes.delete:
        in_thread(partial(_delete, client, remote_id, changes.seen[name].name))
    files = in_thread(partial(_wait_until_right, client, changes, job.spec.limits.settle_s))
    touched = {*changes.delete, *(one.name for one in changes.sends)}
    if other := [name for name in _find_differences(files, changes.seen) if name not in touched]:
        what = f"batch {remote_id}: {clean_text(other[0])} was changed by somebody else meanwhile; no run was started"
        raise ServiceError(what, "apply again")
    state.record_listed(remote_id, {name: file.modified_s or 0 for name, file in files.items()})
    opened.reporter.emit(events.BatchFollowed(remote_id, len(changes.add), len(changes.replace), tuple(changes.delete)))
    return files


def _check_unchanged(client: AIHub, changes: Changes, going: Sequence[str]) -> None:
    """Check that what goes is as it was when the plan was shown, and that no run needs it."""
    if busy := list_busy(client, changes.remote_id, going):
        raise StillGoing(f"batch {changes.remote_id} is not changed while {busy[0]}", "apply again when it has ended")
    files = list_batch(client, changes.remote_id) or {}
    if other := _find_differences(files, changes.seen):
        raise ServiceError(
            f"batch {changes.remote_id}: {clean_text(other[0])} changed since the plan; nothing was changed",
            "apply again",
        )


def _check_deletions(client: AIHub, changes: Changes) -> None:
    """Check that what is deleted is still as it was when the plan was shown: sending may have taken long."""
    if not changes.delete:
        return
    files = list_batch(client, changes.remote_id)
    if files is None:
        what = f"batch {changes.remote_id}: its list of files returned 404; nothing was deleted"
        raise ServiceError(what, "apply again")
    if other := [name for name in changes.delete if files.get(name, changes.seen[name]) != changes.seen[name]]:
        what = f"batch {changes.remote_id}: {clean_text(other[0])} was replaced meanwhile; nothing was deleted"
        raise ServiceError(what, "apply again")


def _find_differences(files: Mapping[str, Listed], before: Mapping[str, Listed]) -> list[str]:
    return sorted(name for name in files.keys() | before.keys() if files.get(name) != before.get(name))


def _send(opened: OpenJob, changes: Changes) -> None:
    """Send files, several at once, and record each. Raises RunnerError for the first that is not sent as planned."""
    job, client, reporter = opened.job, opened.client, opened.reporter
    members = changes.sends
    reporter.emit(events.UploadPlanned(len(members), sum(member.size for member in members)))
    steps = {member: _step(job, changes.remote_id, member) for member in members}
    with ThreadPoolExecutor(max(1, min(SENDERS, job.spec.limits.parallel_uploads))) as pool:
        sent = {pool.submit(send_file, client, step): member for member, step in steps.items()}
        try:
            for future in as_completed(sent):
                _record(opened, changes.remote_id, sent[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _step(job: Job, remote_id: int, member: Member) -> SendFile:
    threshold = int(job.spec.limits.part_threshold_mb * MB)
    path = job.place_of(member.path)
    return SendFile(0, 0, remote_id, job.target.workspace, member, path, threshold, 0.0, is_older=True, tree=job.tree)


def _record(opened: OpenJob, remote_id: int, member: Member, outcome: object) -> None:
    state = opened.state
    match outcome:
        case Sent(digest, size):
            state.record_placed(remote_id, member.name, digest)
            opened.reporter.emit(events.FileUploaded(member.path, size))
            if digest != member.digest:
                raise ServiceError(f"{member.path}: changed while it was sent; no run was started", "apply again")
        case Unsendable(reason, detail):
            if reason == REFUSED:
                state.record_refused(member.path, member.identity, clean_text(detail))
            hint = RETRY_REFUSED if reason == REFUSED else "apply again"
            raise ServiceError(f"{member.path}: cannot be sent, {detail}; no run was started", hint)
        case _:
            raise ServiceError(f"batch {remote_id}: does not exist any more", "apply again")


def _delete(client: AIHub, remote_id: int, name: str) -> None:
    """Delete a file. One that is not there is deleted."""
    or_none(lambda: client.delete_file(remote_id, name))


def _wait_until_right(client: AIHub, changes: Changes, settle_s: float) -> dict[str, Listed]:
    """List a batch until it shows all changes. A replaced file shows another time, unless it is of the same second."""
    until_s, pause_s = time.monotonic() + settle_s, PAUSE_S
    while True:
        files = list_batch(client, changes.remote_id) or {}
        wrong, is_over = _find_wrong(changes, files), time.monotonic() >= until_s
        if not wrong and (is_over or not _may_be_old(changes.replace, changes.seen, files)):
            return files
        if is_over:
            what = f"{count(len(wrong), 'file')} not listed as changed, {clean_text(wrong[0])}"
            raise ServiceError(f"batch {changes.remote_id}: {what}; no run was started", "apply again in a while")
        client.pause(pause_s)
        pause_s = min(5.0, 2 * pause_s)


def _find_wrong(changes: Changes, files: Mapping[str, Listed]) -> list[str]:
    left = [name for name in changes.delete if name in files]
    missing = [
        one.name for one in changes.sends if one.name not in files or files[one.name].size not in (one.size, None)
    ]
    return left + missing


def _may_be_old(replaced: Sequence[Member], seen: Mapping[str, Listed], files: Mapping[str, Listed]) -> bool:
    return any(files[member.name] == seen.get(member.name) for member in replaced)
