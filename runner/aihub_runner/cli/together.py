"""Apply several specs in one go: show all plans, and ask once for all that they cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from aihub_runner.apply.job import Job
from aihub_runner.cli.inspection import preview
from aihub_runner.cli.options import served
from aihub_runner.cli.output import ask, say
from aihub_runner.errors import InputError, RunnerError
from aihub_runner.model import FOREIGN
from aihub_runner.plan.planfile import PlanFile
from aihub_runner.plan.planner import Plan
from aihub_runner.report.preview import Preview, render_plan
from aihub_runner.report.summary import Pages
from aihub_runner.text.shown import count, render_size


class Agreement:
    """What you agreed to pay for, by the paths of specs. None of a spec counts before you were asked about all."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self._agreed: dict[Path, PlanFile] = {}
        self._is_refused = False
        self.is_asked = False

    def ask(self, jobs: Sequence[Job]) -> None:
        """Show what applying each of these would do, and ask about all that it costs."""
        found = {job.spec_path: plan for job in jobs if (plan := self._show(job))}
        self._agreed = {path: plan.bound for path, plan in found.items() if plan.bound}
        self.is_asked = True
        plans = [plan for plan in found.values() if plan.plan.runs_to_confirm]
        if plans:
            say(f"All specs: {sum_plans(plans)}", err=True)
            self._is_refused = not ask(f"Start {count(_count_runs(plans), 'run')} of {count(len(plans), 'spec')}?")

    def allows(self, job: Job, planned: Plan) -> bool:
        """Whether you agreed to a plan. Raises InputError if it pays for more than you were shown."""
        if self._is_refused:
            return False
        agreed = self._agreed.get(job.spec_path)
        if agreed is None or not agreed.allows(planned):
            raise InputError(f"{job.shown}: would pay for more than was shown before", "apply again, to see it")
        return True

    def _show(self, job: Job) -> Preview | None:
        """Print the plan of a job, and return it; None if there is none, for a reason that its apply tells."""
        try:
            with served(job) if job.goal.kept == FOREIGN else nullcontext(job) as reachable:
                found = preview(reachable, binds=True)
        except RunnerError as error:
            say(f"{job.shown}: no plan, {error.message.removeprefix(f'{job.shown}: ')}", err=True)
            return None
        say(render_plan(found, verbose=self.verbose), err=True)
        return found


def sum_plans(plans: Sequence[Preview]) -> str:
    """Return what several plans send and pay for together."""
    sent = [member for found in plans for member in found.plan.uploads(found.target)]
    costs = [found.pages.cost for found in plans if found.pages.cost is not None]
    pages = Pages(
        sum(found.pages.known for found in plans),
        sum(found.pages.silent for found in plans),
        round(sum(costs), 2) if costs else None,
    )
    files = f"{count(len(sent), 'file')} to upload ({render_size(sum(member.size for member in sent))})"
    batches = count(sum(found.plan.batches_to_create for found in plans), "batch")
    of_pages = f" for {pages.render()}" * bool(pages.render())
    return f"{files}, {batches}, {count(_count_runs(plans), 'run')} to pay{of_pages}"


def _count_runs(plans: Sequence[Preview]) -> int:
    return sum(found.plan.runs_to_confirm for found in plans)
