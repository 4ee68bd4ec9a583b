"""The option `--prune` of the command `results`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.prune import Pruned, Stale, prune
from aihub_runner.cli.options import Answer
from aihub_runner.cli.output import ask_to, print_error, say
from aihub_runner.cli.progress import open_progress
from aihub_runner.errors import worst_code
from aihub_runner.system import interrupt
from aihub_runner.text.shown import count


def prune_job(job: Job, keep: int, *, ask: bool, yes: bool) -> Answer:
    """Show which raw pages do not count any more, ask, and remove them."""
    progress = open_progress()

    def confirm(found: Pruned) -> bool:
        progress.close()
        say(f"{job.shown}: to remove from {job.results_path}\n{_render(found.stale)}", err=True)
        return ask_to("remove", "removed", job.shown, yes=yes, may_ask=ask)

    with closing(progress), interrupt.shown_by(progress.close):
        found = prune(job, keep, Reporter(progress), confirm, interrupt.stop)
    for error in found.errors:
        print_error(error)
    pages = count(sum(len(one.pages) for one in found.stale), "raw page")
    left = [
        f"  left       {path}, which was changed after it was fetched" for one in found.left for path in one.changed
    ]
    notes = [f"  note       {note}" for note in found.notes]
    text = "\n".join([f"{job.shown}: {pages} of {count(len(found.stale), 'run')} removed", *left, *notes])
    data = {"spec": job.shown, "removed": _as_json(found.stale), "left": _as_json(found.left)}
    return text, data, worst_code([3 * bool(found.left), *(error.exit_code for error in found.errors)])


def _render(stale: Iterable[Stale]) -> str:
    return "\n".join(
        f"  run        {one.run.remote_id}, {count(len(one.pages), 'page')} of {count(len(one.files), 'file')}: "
        + ", ".join(one.files[:3])
        + ", …" * (len(one.files) > 3)
        for one in stale
    )


def _as_json(stale: Iterable[Stale]) -> list[dict[str, object]]:
    return [{"run": one.run.remote_id, "pages": [p.path for p in one.pages], "files": [*one.files]} for one in stale]
