"""Whose turn it is to change a kept batch, and to run it.

The service cannot lock a batch. It only numbers batches as they are created. So each client creates an empty batch
first, whose name names the kept one: its turn. The oldest turn counts. It is deleted when it is over: when no run was
started in it, or when that run is listed, so that the next client finds it.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from aihub_runner.aihub.client import AIHub, or_none
from aihub_runner.aihub.schemas import BatchInfo
from aihub_runner.apply import events
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.job import OpenJob
from aihub_runner.apply.tasks.settle import LOOK_EVERY_S
from aihub_runner.errors import AnswerLost, Interrupted, Refused, RunnerError, ServiceError, StillGoing
from aihub_runner.model import Run
from aihub_runner.plan.identity import stem_of_claim, turn_name
from aihub_runner.system.moment import DAY_S


def take_turn(opened: OpenJob, remote_id: int, hint: str = "") -> None:
    """Wait until it is confirmed that no other client changes or runs a kept batch.

    Raises StillGoing if one does, with a hint if it is not about apply.
    """
    job, state, client = opened.job, opened.state, opened.client
    if job.is_fake:
        return  # nobody else can use the embedded fake at the same time
    name = turn_name(remote_id, secrets.token_hex(4))  # not an earlier one: a copy of the state knows that, too
    state.record_turn(remote_id, name)
    workspace, settle_s = job.target.workspace, job.spec.limits.settle_s
    own = in_thread(partial(_create, client, name, workspace, settle_s))
    _check_oldest(opened, remote_id, own, hint)
    opened.reporter.emit(events.TurnAwaited(remote_id, settle_s))
    in_thread(partial(client.pause, settle_s))  # an older one may show as late as that
    _check_oldest(opened, remote_id, own, hint)


def _check_oldest(opened: OpenJob, remote_id: int, own: BatchInfo, hint: str) -> None:
    turns = in_thread(partial(_list_turns, opened.client, own.name, opened.job.target.workspace))
    if own.id not in {turn.id for turn in turns}:
        raise ServiceError(f"batch {own.id} ({own.name}): created, but not listed", "apply again in a while")
    ours = opened.state.load_turns().values()
    others = (turn for turn in turns if turn.id < own.id and turn.name not in itertools.chain(*ours))
    elder = next((turn for turn in others if not _has_lapsed(turn, own)), None)
    if elder and not opened.job.options.adopt:
        command = f"{opened.job.command('apply')} --adopt"
        raise StillGoing(
            f"{opened.job.shown}: batch {remote_id} is in use by another client, or by one that died: "
            f"its turn is batch {elder.id} ({elder.name}){_render_since(elder)}, which counts for a day",
            hint or f"apply again later; if no other client uses batch {remote_id}, run `{command}`",
        )


def _render_since(turn: BatchInfo) -> str:
    """Return since when it is a client's turn, as the service says."""
    with suppress(ValueError, OverflowError, OSError):  # whatever number it is
        if turn.created_at_ms:
            return f"{datetime.fromtimestamp(turn.created_at_ms // 1000, UTC): since %Y-%m-%dT%H:%M:%SZ}"
    return ""


def _create(client: AIHub, name: str, workspace: str, settle_s: float) -> BatchInfo:
    """Create our turn unless it exists, and wait until it is listed, for at most `settle_s`. It may be repeated."""
    left_s, is_created = settle_s, False
    while True:
        own = next((turn for turn in _list_turns(client, name, workspace) if turn.name == name), None)
        if own:
            return own
        if not is_created:
            is_created = True
            try:
                client.create_batch(name, workspace)
            except AnswerLost:
                pass  # the list says whether it exists
            except Refused as error:
                raise ServiceError(error.message, error.hint, status=error.status) from None
            continue
        if left_s <= 0:
            raise ServiceError(f"batch {name}: created, but not listed", "apply again in a while")
        client.pause(min(LOOK_EVERY_S, left_s))
        left_s -= LOOK_EVERY_S


def _list_turns(client: AIHub, name: str, workspace: str) -> list[BatchInfo]:
    """List the turns on the same batch, the oldest first."""
    turns = (batch for batch in client.list_batches(workspace) if stem_of_claim(batch.name) == stem_of_claim(name))
    return sorted(turns, key=lambda turn: turn.id)


def _has_lapsed(elder: BatchInfo, own: BatchInfo) -> bool:
    """Whether an older turn is a day older than ours by the service's own records: its owner has died."""
    return (own.created_at_ms or 0) - (elder.created_at_ms or own.created_at_ms or 0) > DAY_S * 1000


def end_turns(opened: OpenJob) -> list[RunnerError]:
    """Delete our turns that are over, and return what failed. A turn whose run is not listed yet stays for later."""
    job, state, client = opened.job, opened.state, opened.client
    errors: list[RunnerError] = []
    for remote_id, names in state.load_turns().items():
        runs = [run for shard in state.load_shards() for run in shard.runs if run.remote_batch == remote_id]
        if client.stop.is_set() or any(run.is_open for run in runs):
            continue
        try:
            if in_thread(partial(_wait_listed, client, _find_shown(runs), job.spec.limits.settle_s)):
                in_thread(partial(_delete, client, names, job.target.workspace))
                state.forget_turns(remote_id)
        except ServiceError as error:
            errors.append(error)
        except Interrupted:
            break
    return errors


def _find_shown(runs: Sequence[Run]) -> set[str]:
    """Return the runs that the next client must see: those that still go, and the newest."""
    there = [run for run in runs if not (run.is_given_up or run.is_gone or run.is_deleted)]
    newest = max(there, key=lambda run: run.id, default=None)
    return {run.remote_id or "" for run in there if run is newest or not run.is_final}


def _wait_listed(client: AIHub, runs: Iterable[str], settle_s: float) -> bool:
    """Wait until runs are listed, for at most `settle_s`, and return whether all of them are."""
    missing, left_s = {*runs}, settle_s
    while missing := missing - {run.id for run in (client.list_runs(1) if missing else ())}:
        if left_s <= 0:
            return False
        client.pause(min(LOOK_EVERY_S, left_s))
        left_s -= LOOK_EVERY_S
    return True


def _delete(client: AIHub, names: Sequence[str], workspace: str) -> None:
    """Delete the batches of exactly these names, which nobody else has; one that is not there is deleted."""
    for turn in _list_turns(client, names[0], workspace):
        if turn.name in names:
            or_none(partial(client.delete_batch, turn.id))
