"""The results of a run: every page is fetched."""

from __future__ import annotations

from aihub_runner.apply import events
from aihub_runner.apply.context import Context
from aihub_runner.apply.steps import Fetched, FetchResults, Outcome
from aihub_runner.apply.tasks import run as runs
from aihub_runner.model import Shard


def fetch(context: Context, shard: Shard) -> None:
    """Fetch all results of a complete run."""
    run = context.run_of(shard)
    assert run.remote_id is not None
    context.shards[shard.id].fetched = run.attempt
    context.submit(
        FetchResults(
            shard.id,
            run.id,
            run.remote_id,
            run.bound_s,
            context.young_until_s(run.since),
            context.goal.include,
            context.job.results_path,
            frozenset(member.name for member in shard.members),
            context.others(run),
            run.remote_batch,
            bool(run.fetched),
        )
    )


def record_fetched(context: Context, step: FetchResults, outcome: Outcome) -> None:
    """Record the pages that were fetched."""
    if not isinstance(outcome, Fetched):
        runs.record(context, step, outcome)
        return
    context.state.record_fetch(step.run, step.include, outcome.pages, outcome.answers, context.now_s)
    context.reporter.emit(events.ResultsFetched(step.remote_id, len(outcome.answers)))
