"""Refuse a plan that pays for more than the spec or the command line allows: runs, pages, and runs in a day."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.apply.matching import survey_entries
from aihub_runner.apply.pagecount import count_plan
from aihub_runner.apply.survey import Paying, list_existing
from aihub_runner.errors import InputError
from aihub_runner.plan.identity import fingerprint_of
from aihub_runner.plan.planner import PAYS, Plan
from aihub_runner.state.lockfile import load_lockfile
from aihub_runner.system.moment import DAY_S
from aihub_runner.text.shown import are, count


def check_limits(opened: OpenJob, plan: Plan) -> None:
    """Raise InputError if a plan pays for more than one apply may; unconfirmed runs count."""
    job, limits = opened.job, opened.job.spec.limits
    see, runs = f"see `{job.command('plan')}`, then raise", plan.runs_to_confirm
    of_one = [limit for limit in (job.options.max_runs, limits.max_runs) if limit is not None]
    what = f"start {count(runs, 'run')}"
    _check(job, runs, min(of_one, default=None), what, f"{see} --max-runs or [limits] max_runs")
    if limits.max_pages is not None:
        pages = count_plan(job, opened.scan, plan).least
        what = f"pay for {count(pages, 'page')}"
        _check(job, pages, limits.max_pages, what, f"{see} [limits] max_pages")


def check_day(opened: OpenJob, plan: Plan, found: Paying | None) -> None:
    """Raise InputError if a plan pays for more than one day allows. `found` is what was found on the service.

    Without it, the service is asked: only its clock counts, and another state may have paid.
    """
    job, most, runs = opened.job, opened.job.spec.limits.max_runs_per_day, plan.runs_to_confirm
    if most is None or not runs:
        return
    before = _count_day(opened, found or list_existing(job, opened.client))
    what = f"start {count(runs, 'run')} after {before} in the last 24 hours"
    _check(job, before + runs, most, what, "apply later, or raise [limits] max_runs_per_day")


def check_unapplied(job: Job, plan: Plan, runs: Iterable[RunInfo]) -> None:
    """Raise InputError if a saved plan that pays again was applied before, by a state that is lost or elsewhere.

    Then its runs are on the service, under the attempts that it would pay for. `plan` knows none of them.
    """
    if not (job.options.approved and (job.options.again or job.options.retry_failed)):
        return
    option = "--again" if job.options.again else "--retry-failed"
    planned = {fingerprint_of(item.shard): item.attempt for item in plan.work if item.action in PAYS}
    for entry in survey_entries(runs, job.goal.target, without_batch=True):
        attempt = planned.get(entry.fingerprint)
        if entry.run_key == job.goal.run_key and attempt and entry.attempt >= attempt:
            raise InputError(
                f"{job.shown}: the plan does not fit any more: run {entry.run_id} on the service is not recorded here, "
                "and may be what it paid for",
                f"if these files are to be paid for once more all the same, run `{job.command('apply')} {option}`",
            )


def _check(job: Job, number: int, most: int | None, what: str, hint: str) -> None:
    if most is not None and number > most:
        raise InputError(f"{job.shown}: would {what}, {most} {are(most)} allowed", hint)


def _count_day(opened: OpenJob, found: Paying) -> int:
    """Count the runs of this job in the last 24 hours, as the state, the service and the lock file tell."""
    since_s = opened.client.server_now_s() - DAY_S
    times = {entry.run_id: entry.when_s for entry in load_lockfile(opened.job.lock_path) if entry.run_id}
    times |= {run.id: (run.start_timestamp or 0) / 1e9 for run in _list_ours(opened.job, found)}
    times |= opened.state.load_run_times()
    return sum(time_s > since_s for time_s in times.values())


def _list_ours(job: Job, found: Paying) -> list[RunInfo]:
    """List the runs with a tag of ours on batches of this job's name, and those of today's key on its `[batch] id`."""
    named = re.compile(re.escape(job.spec.name) + "-[0-9a-f]{64}")
    ours = frozenset[int]().union(*(ids for name, ids in found.batches.items() if named.fullmatch(name)))

    def is_ours(run: RunInfo) -> bool:
        if run.batch_id in ours:
            return bool(run.our_tags)
        return run.batch_id == job.goal.batch_id and any(key == job.goal.run_key for _, key, _ in run.our_tags)

    return [run for run in found.runs if is_ours(run)]
