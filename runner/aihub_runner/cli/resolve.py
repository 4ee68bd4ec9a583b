"""The command `resolve`."""

from __future__ import annotations

from contextlib import closing

from click import option

from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.resolve import resolve_unknown
from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, LOCK_FILE, PLACES, Answer, Asked, over_specs
from aihub_runner.cli.progress import open_progress


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    option("--adopt", "run_id", metavar="RUN_ID", help="Import this run as the one whose start is unconfirmed."),
    option("--resubmit", is_flag=True, help="Confirm that no run was started. The next apply starts one."),
    many=False,
    example="runner resolve invoices.aihub.toml --adopt RUN_ID",
)
def resolve(asked: Asked, run_id: str | None, resubmit: bool) -> None:
    """Decide whether unconfirmed runs were started.

    Without a decision, lists the runs whose start the service did not confirm. Look them up in AI Hub, then pass
    --adopt or --resubmit.
    """

    def act(job: Job) -> Answer:
        with closing(open_progress()) as progress:
            return resolve_unknown(job, run_id, resubmit, Reporter(progress))

    asked.in_full().each_online(act)
