"""The command `destroy`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import click
from click import option

from aihub_runner.apply.destroy import Found
from aihub_runner.apply.destroy import destroy as destroy_job
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.cli.options import (
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    LOCK_TIMEOUT,
    PLACES,
    VERBOSE,
    Answer,
    Asked,
    over_specs,
)
from aihub_runner.cli.output import ask_to, say
from aihub_runner.cli.progress import open_progress
from aihub_runner.plan.deletion import BATCH, RUN, UNCONFIRMED, UNFETCHED, Item, Wish
from aihub_runner.report.summary import SHOWN
from aihub_runner.system import interrupt
from aihub_runner.text.shown import count


@over_specs(
    *PLACES,
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    LOCK_FILE,
    LOCK_TIMEOUT,
    VERBOSE,
    option("--yes", is_flag=True, help="Delete without asking. Required without a terminal."),
    option("--keep-results", is_flag=True, help="Delete only the batches, and keep the runs with their results."),
    option("--discard-unfetched", is_flag=True, help="Delete results, too, that were never fetched. They are lost."),
    many=False,
    example="runner destroy invoices.aihub.toml",
)
def destroy(asked: Asked, yes: bool, keep_results: bool, discard_unfetched: bool) -> None:
    """Delete the batches and runs of a job on the service.

    Lists them and asks before it deletes. Files and results on this machine stay, and nothing is paid for again without
    `apply --again`.
    """
    if os.path.isdir(asked.specs[0]):
        raise click.UsageError("destroy needs the path of a spec, not of a folder")

    def act(job: Job) -> Answer:
        progress = open_progress()

        def confirm(found: Found) -> bool:
            progress.close()
            what = f"{_total(found.items)} to delete on {job.place}"
            say(f"{job.shown}: {what}\n{_render(found, asked.verbose)}", err=True)
            return ask_to("delete", "deleted", job.shown, yes=yes, may_ask=not asked.as_json)

        wish = Wish(job.goal, keep_results=keep_results, discard=discard_unfetched)
        with closing(progress), interrupt.shown_by(progress.close):
            found = destroy_job(job, wish, Reporter(progress), confirm, interrupt.stop)
        what = f"{_total(found.items)} deleted" if found.items else "nothing deleted"
        left = _render(Found((), found.left, found.unverified), asked.verbose)
        hint = f"  hint       {_hint(job, found)}" * bool(left)
        text = "\n".join(filter(None, (f"{job.shown}: {what}", left, hint)))
        return text, {"spec": job.spec_path.name, **_as_json(found)}, 0 if found.is_whole else 3

    asked.each_online(act)


def _hint(job: Job, found: Found) -> str:
    """Return what to do about what is left."""
    if bool(found.unverified) or any(UNCONFIRMED in item.left for item in found.left):
        return f"see `{job.command('resolve')}`, then destroy again"
    gives_up = any(UNFETCHED in item.left for item in found.left)
    again = f"see `{job.command('apply')}`, which fetches results of today's settings, then destroy again"
    return again + "; to give results up, pass --discard-unfetched" * gives_up


def _total(items: Iterable[Item]) -> str:
    kinds = [item.kind for item in items]
    return f"{count(kinds.count(BATCH), 'batch')} and {count(kinds.count(RUN), 'run')}"


def _render(found: Found, verbose: bool) -> str:
    # All that is deleted is listed: nobody can agree to what is not shown.
    lines = [f"  {item.kind:<10} {_describe(item)}" for item in found.items]
    left = [f"{item.kind} {item.remote_id or item.name}: {item.left}" for item in found.left]
    left += [f"run {item.entry.run_id or 'of unknown id'}: {item.why}" for item in found.unverified]
    return "\n".join([*lines, *_shorten([f"  {'left':<10} {line}" for line in left], verbose)])


def _shorten(lines: list[str], verbose: bool) -> list[str]:
    more = len(lines) - SHOWN
    return lines if verbose or more <= 0 else [*lines[:SHOWN], f"  {'':<10} and {more} more; to list all, pass -v"]


def _describe(item: Item) -> str:
    files = f"{count(len(item.paths), 'file')} ({item.paths[0]}{' …' * (len(item.paths) > 1)})" if item.paths else ""
    loses = ", whose results were never fetched and are lost" * item.loses
    what = item.status + loses if item.kind == RUN else item.name
    return ", ".join(filter(None, (item.remote_id, what, files)))


def _as_json(found: Found) -> dict[str, Any]:
    left = [{"kind": item.kind, "id": item.remote_id, "name": item.name, "why": item.left} for item in found.left]
    left += [{"kind": RUN, "id": one.entry.run_id, "name": one.entry.tag, "why": one.why} for one in found.unverified]
    return {
        "deleted": [{"kind": item.kind, "id": item.remote_id, "name": item.name} for item in found.items],
        "left": left,
    }
