"""The command `state forget`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from click import option

from aihub_runner.apply.events import Reporter
from aihub_runner.apply.forget import Forgotten, Group
from aihub_runner.apply.forget import forget as forget_job
from aihub_runner.apply.job import Job
from aihub_runner.cli.options import (
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    LOCK_TIMEOUT,
    ONLY,
    PLACES,
    VERBOSE,
    Answer,
    Asked,
    over_specs,
)
from aihub_runner.cli.output import ask_to, print_error, say
from aihub_runner.cli.progress import open_progress
from aihub_runner.errors import worst_code
from aihub_runner.report.summary import Lines
from aihub_runner.system import interrupt
from aihub_runner.text.shown import count


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    LOCK_TIMEOUT,
    VERBOSE,
    ONLY,
    option("--yes", is_flag=True, help="Forget without asking. Required without a terminal."),
    many=False,
    example="runner state forget invoices.aihub.toml --only 'inbox/2024/**'",
)
def forget(asked: Asked, yes: bool) -> None:
    """Forget the names, runs and results of files that you removed.

    Lists them and asks. Sends nothing, and deletes nothing on the service. The lock file still records that they were
    paid for: a file that comes back is not paid for again.
    """

    def act(job: Job) -> Answer:
        progress = open_progress()

        def confirm(found: Forgotten) -> bool:
            progress.close()
            lines = [f"{job.shown}: to forget, with their results:", *_render("group", found.groups, asked.verbose)]
            say("\n".join([*lines, "  batches and runs stay on the service; to delete them, destroy first"]), err=True)
            return ask_to("forget", "forgotten", job.shown, yes=yes, may_ask=not asked.as_json)

        with closing(progress), interrupt.shown_by(progress.close):
            found = forget_job(job, Reporter(progress), confirm, interrupt.stop)
        for error in found.errors:
            print_error(error)
        files = count(sum(len(one.shard.members) for one in found.groups), "file")
        what = f"{files} in {count(len(found.groups), 'group')} forgotten" if found.groups else "nothing is forgotten"
        notes = [f"  {'note':<10} {note}" for note in found.notes]
        text = "\n".join([f"{job.shown}: {what}", *_render("left", found.left, asked.verbose), *notes])
        data = {"spec": job.shown, "forgotten": _as_json(found.groups), "left": _as_json(found.left)}
        return text, data, worst_code([3 * bool(found.left), *(error.exit_code for error in found.errors)])

    asked.each_job(act)


def _render(title: str, groups: Iterable[Group], verbose: bool) -> list[str]:
    show = Lines(verbose)
    show.listed(title, [_describe(one) + f": {one.left}" * bool(one.left) for one in groups])
    return show.lines


def _describe(group: Group) -> str:
    paths = _list_paths(group)
    batches = ", ".join(str(one.remote_id) for one in group.shard.batches if one.remote_id)
    runs = ", ".join(f"{run.remote_id} {run.status}" for run in group.shard.runs if run.remote_id) or "none"
    files = f"{count(len(paths), 'file')} ({paths[0]}{' …' * (len(paths) > 1)})" if paths else "no file"
    return f"{files}, batch {batches or 'none'}, run {runs}"


def _list_paths(group: Group) -> list[str]:
    return [member.path or member.name for member in group.shard.members]


def _as_json(groups: Iterable[Group]) -> list[dict[str, object]]:
    return [
        {
            "files": _list_paths(one),
            "batches": [batch.remote_id for batch in one.shard.batches if batch.remote_id],
            "runs": [run.remote_id for run in one.shard.runs if run.remote_id],
            "pages": [page.path for page in one.pages],
            "why": one.left,
        }
        for one in groups
    ]
