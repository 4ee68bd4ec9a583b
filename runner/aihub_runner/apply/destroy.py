"""Delete on the service, on request, all that was made for a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from threading import Event

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.assess import look_for_damage, scan_files, with_pruned
from aihub_runner.apply.background import in_thread
from aihub_runner.apply.begin import hold_state
from aihub_runner.apply.cleanup import delete_items, find_ended, with_facts
from aihub_runner.apply.events import ExistenceChecked, Reporter
from aihub_runner.apply.finder import Inspected
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.kept import take_turns
from aihub_runner.apply.pdfs import are_fetched
from aihub_runner.apply.places import check_lock_target, is_on_network
from aihub_runner.apply.recovery import import_paid
from aihub_runner.apply.run import take_over
from aihub_runner.apply.steps import NotThere, RunSeen, Unsure
from aihub_runner.apply.tasks.run import find_run, find_step
from aihub_runner.apply.tasks.turn import end_turns
from aihub_runner.errors import InputError
from aihub_runner.plan.deletion import Item, Wish, plan_destroy
from aihub_runner.results.reader import find_lost_earlier
from aihub_runner.state.lockfile import try_lockfile

AskDestroy = Callable[["Found"], bool]


class Found(Struct, frozen=True):
    """What is to be deleted, or was, and what is left. `unverified` are runs of the lock file only."""

    items: Sequence[Item] = ()
    left: Sequence[Item] = ()
    unverified: Sequence[Inspected] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left."""
        return not self.left and not self.unverified


def destroy(job: Job, wish: Wish, reporter: Reporter, confirm: AskDestroy, stop: Event) -> Found:
    """Delete the batches and runs of a job on the service, and return what was deleted and what is left.

    You can repeat this at any time, however an earlier one ended. `confirm` receives everything before anything is
    deleted. Raises RunnerError if the work cannot start.
    """
    if not job.state_path.exists() and not job.lock_path.exists():
        return Found()
    check_lock_target(job)
    with hold_state(job, stop) as state, closing(AIHub(job.connection, stop)) as client:
        take_over(job, state)
        job = look_for_damage(job, state)
        scan = scan_files(job, state, reporter, stop, may_be_empty=True)
        job = with_pruned(job, state, scan)
        opened = OpenJob(job, state, client, scan, reporter)
        try:
            return _destroy(opened, wish, confirm)
        finally:
            end_turns(opened)  # one that cannot be deleted now is deleted next time


def _destroy(opened: OpenJob, wish: Wish, confirm: AskDestroy) -> Found:
    """Find everything, ask, and delete it."""
    job, state = opened.job, opened.state
    unverified = import_paid(opened)
    _find_lost(opened)
    find_ended(opened, is_all=True)
    shards = state.load_shards()
    wish = with_facts(wish, job, state)
    lost = find_lost_earlier(state, shards, job.goal, job.results_path) | job.damaged.keys()
    if not are_fetched(job, state, opened.scan):  # deleting the results would lose the PDFs
        lost |= {run.id for shard in shards for run in shard.runs_of(job.goal.run_key)}
    wish = replace(wish, goal=replace(wish.goal, damaged=lost))
    planned = plan_destroy(shards, wish)
    found = Found([item for item in planned if not item.left], [item for item in planned if item.left], unverified)
    if not found.items:
        return found
    try_lockfile(job.lock_path)
    if not confirm(found):
        raise InputError(f"{job.shown}: destroy cancelled, nothing was deleted")
    take_turns(opened, found.items)
    deleter = delete_items(opened, found.items)
    return replace(found, items=deleter.done, left=[*found.left, *deleter.left])


def _find_lost(opened: OpenJob) -> None:
    """Find out whether runs were started whose start is unconfirmed: they need their batches. May take `settle_s`."""
    job, state, client = opened.job, opened.state, opened.client
    may_conclude = job.spec.run.on_lost != "stop" and not (is_on_network(job) or job.goal.input)
    for shard in state.load_shards():
        for run in (run for run in shard.runs if run.is_open):
            wait_s = run.since.left_s(job.spec.limits.settle_s)
            opened.reporter.emit(ExistenceChecked("a run", wait_s))
            step = find_step(state, job.goal.target, shard, run, time.monotonic() + wait_s)
            match in_thread(partial(find_run, client, step)):
                case RunSeen(info):
                    state.record_run(run.id, *info.facts)
                case NotThere() if may_conclude:
                    state.record_given_up(run.id)
                case NotThere():
                    state.record_run_unknown(run.id, "not found")
                case Unsure(why):
                    state.record_run_unknown(run.id, why)
