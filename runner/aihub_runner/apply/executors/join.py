"""Decide whether an apply needs its cluster, and join it."""

from __future__ import annotations

from collections.abc import Sequence

from aihub_runner.apply.context import Context
from aihub_runner.errors import InputError, ServiceError
from aihub_runner.plan.planner import PAYS, Work, missing_uploads


def join_cluster(context: Context, work: Sequence[Work]) -> Sequence[Work]:
    """Let the workers of a cluster send files, if one is named and there are any. Without it, do only what is free."""
    job, target = context.job, context.goal.target
    needs_it = any(item.action in PAYS and missing_uploads(item.shard, target) for item in work)
    if not job.options.scheduler or not needs_it or context.stopped_paying:
        return work
    from aihub_runner.apply.executors.connect import open_cluster  # slow to import, and an extra

    try:
        context.engine.fleet = open_cluster(job, context.engine.client, context.reporter)
    except (InputError, ServiceError) as error:
        context.errors.append(error)
        return [item for item in work if item.action not in PAYS]
    return work
