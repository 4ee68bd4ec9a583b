"""Plan a job whose files lie elsewhere: in a folder of a drive, or behind a deployment. Pure.

The API lists no such files, so the job runs once for each run key. Its shard has no files until its results name them,
and an empty batch, which is free: it puts clones in order, and says when the search for a lost run begins. Each further
run has a shard of its own: the folder may hold other files by then.
"""

from __future__ import annotations

from collections.abc import Sequence

from aihub_runner.model import Goal, Run, Shard
from aihub_runner.plan.cover import covers
from aihub_runner.plan.identity import fingerprint_input
from aihub_runner.plan.planner import Action, Plan, Work, describe_run, next_action


def plan_input(goal: Goal, shards: Sequence[Shard]) -> Plan:
    """Return what is missing: to finish the newest run of each shard, or to start one."""
    fingerprint = fingerprint_input(goal.run_key)
    ours = [shard for shard in shards if shard.fingerprint == fingerprint]
    runs = [(shard, run) for shard in ours for run in shard.runs_of(goal.run_key) if not run.is_given_up]
    valid = [(shard, run) for shard, run in runs if covers(run, goal)]
    work: list[Work] = []
    if valid:
        newest = {shard.id: (shard, run) for shard, run in sorted(valid, key=lambda item: item[1].attempt)}
        work = [
            Work(shard, run.attempt, next_action(shard, goal, run.attempt), describe_run(run, run.id in goal.damaged))
            for shard, run in newest.values()
        ]
    elif not runs or goal.retry_failed or goal.again:
        work = [_start(goal, ours, fingerprint)]
    return Plan(
        moves=(),
        members={},
        dissolved=(),
        work=tuple(one for one in work if one.action is not Action.NOTHING),
        done=len(valid[:1]),
        failed=() if valid or work else (goal.input,),
        notes=tuple(one.reason for one in work if not one.shard.members),
    )


def find_answered(shards: Sequence[Shard], goal: Goal) -> set[str]:
    """Return the files, by their paths, that the results of the runs that count name."""
    ours = [shard for shard in shards if any(covers(run, goal) for run in shard.runs_of(goal.run_key))]
    return {member.path or member.name for shard in ours for member in shard.members}


def _start(goal: Goal, ours: Sequence[Shard], fingerprint: str) -> Work:
    fresh = Shard(0, fingerprint, ())
    shard = next((one for one in ours if all(run.is_given_up for run in one.runs)), fresh)
    attempts: list[Run] = [run for one in ours for run in one.runs_of(goal.run_key)]
    attempt = max((run.attempt for run in attempts), default=0) + 1
    why = "repeated on request" if attempts else "not run yet with these settings"
    action = next_action(shard, goal, attempt)
    return Work(shard, attempt, action, f"{goal.input}: {why}")
