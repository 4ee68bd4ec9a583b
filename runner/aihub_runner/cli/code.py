"""The command `code`: a script that does a job without this tool."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from click import option
from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_output
from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, FILE, Answer, Asked, over_specs
from aihub_runner.cli.product import refuse_two_products
from aihub_runner.codegen.script import ENDINGS, Work, render_script
from aihub_runner.errors import InputError
from aihub_runner.model import Member
from aihub_runner.outfile import write_output
from aihub_runner.plan.batching import group_sources
from aihub_runner.sources.scan import check_files
from aihub_runner.text.escape import escape_control_chars


@over_specs(
    ALLOW_OUTSIDE,
    ALLOW_REMOTE,
    option(
        "--as",
        "language",
        type=click.Choice(tuple(ENDINGS)),
        required=True,
        help="Language of the script: Python with the vendor's SDK or with requests, bash with curl, or JavaScript.",
    ),
    option("--output", type=FILE, help="Path of the script. Default: standard output."),
    many=False,
    example="runner code invoices.aihub.toml --as curl --output invoices.sh",
)
def code(asked: Asked, language: str, output: Path | None) -> None:
    """Write a script that does the job once without aihub-runner.

    It has every parameter of the spec, and no secret: it reads those from the environment. Sends no requests.
    """
    refuse_two_products(output, as_json=asked.as_json)

    def act(job: Job) -> Answer:
        check_output(job, output)
        script = render_script(_find_work(job, language), language)
        if output:
            write_output(output, [script.encode()])
        text = "" if output else escape_control_chars(script, keep="\n").removesuffix("\n")
        return text, {"spec": job.shown, "language": language, "code": script}, 0

    (asked.in_full() if output else asked.as_product()).each_job(act)


def _find_work(job: Job, language: str) -> Work:
    """Return what the script is to do, from the files as they are now. Raises InputError."""
    if job.goal.follows:
        how = "sync" if job.goal.batch_id else "keep"
        what = f"{job.shown}: a script runs once, so it cannot keep a batch in step with your files ({how} of [batch])"
        raise InputError(what, f"use `{job.command('apply')}`, or remove {how} from a copy of the spec")
    if job.is_remote:
        raise InputError(f"{job.shown}: scripts for files elsewhere are not offered", "use `runner apply`")
    spec, is_elsewhere = job.spec, bool(job.goal.input or job.goal.kept)
    skipped, batches = list[str](), list[tuple[Member, ...]]()
    if not is_elsewhere:
        scan = check_files(spec, job.spec_path, job.options.allowed)
        batches = group_sources(scan.sources, spec.limits.files_per_batch, by_folder=job.goal.by_folder)
        skipped = [f"{item.path} ({item.reason})" for item in scan.skipped]
    runs = 1 if is_elsewhere else len(batches)
    if not runs:
        raise InputError(f"{job.shown}: no file can be sent", f"run `{job.command('plan')}`, which says why")
    most = spec.limits.max_runs
    if most is not None and runs > most:
        raise InputError(
            f"{job.shown}: would start {runs} runs, max_runs is {most}", "raise max_runs, or select fewer files"
        )
    command = shlex.join([*shlex.split(job.command("code")), "--as", language])
    found = Work(spec, job.goal, batches, skipped, command, job.target_name)
    return replace(found, root=job.connection.root) if job.target_name else found
