"""The command line: it reads arguments, prints, and alone turns errors into exit codes.

Everything heavy is imported where it is used, so that `runner --version` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aihub_runner.cli.insights import diff, report
from aihub_runner.cli.options import (
    LOCK_FILE,
    PLAN_HAS_CHANGES,
    Answer,
    common,
    each,
    find_specs,
    opened_job,
    placed,
    print_error,
    say,
    verbosely,
)
from aihub_runner.cli.results import results
from aihub_runner.cli.types import Duration
from aihub_runner.errors import InputError, Interrupted, RunnerError
from aihub_runner.system import interrupt, streams
from aihub_runner.system.shortage import find_shortage, probe_shortage

if TYPE_CHECKING:
    from aihub_runner.apply.job import Job, Options
    from aihub_runner.model import Scan
    from aihub_runner.plan.planner import Plan
    from aihub_runner.report.summary import Report


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"runner {version('aihub-runner')}")
        ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Apply committed job specs to Instabase AI Hub: upload, run, poll, fetch, and never pay twice."""


@cli.command()
@common
@verbosely
@click.option("--check-files", is_flag=True, help="Look for the files, too, and say which patterns take none.")
@click.option("--allow-outside", is_flag=True, help="Allow files outside the Git work tree.")
def validate(specs: tuple[Path, ...], as_json: bool, verbose: bool, check_files: bool, allow_outside: bool) -> None:
    """Check specs: every mistake, each with its line. Sends nothing."""

    def act(spec: Path) -> Answer:
        from aihub_runner.settings import load_spec

        loaded = load_spec(spec)
        text, data = f"{spec}: ok", {"spec": str(spec), "name": loaded.name}
        if check_files:
            from aihub_runner.cli.inspection import describe_files

            more, found = describe_files(loaded, spec, allow_outside, verbose)
            text, data = text + more, data | found
        return text, data, 0

    each(specs, as_json, act)


@cli.command()
@placed
@LOCK_FILE
@verbosely
@click.option("--exit-code", "tell_changes", is_flag=True, help="Exit with 10 where applying would change something.")
@click.option("--retry-failed", is_flag=True, help="Plan to pay for failed runs again.")
@click.option("--again", is_flag=True, help="Plan to pay for everything again.")
def plan(
    specs: tuple[Path, ...],
    as_json: bool,
    state: Path | None,
    fake: bool,
    allow_outside: bool,
    lock_file: Path | None,
    verbose: bool,
    tell_changes: bool,
    retry_failed: bool,
    again: bool,
) -> None:
    """Show what apply would send, create and pay, and why. Sends nothing."""
    from aihub_runner.apply.job import Options

    options = Options(retry_failed=retry_failed, again=again, allow_outside=allow_outside, lock_file=lock_file)

    def act(spec: Path) -> Answer:
        from aihub_runner.cli.inspection import WORKING, preview
        from aihub_runner.report.summary import plan_as_json, render_plan

        with opened_job(spec, options, state, fake, offline=True) as job:
            found = preview(job)
            code = WORKING if found.at_work else PLAN_HAS_CHANGES if tell_changes and found.plan.work else 0
            return render_plan(found, verbose=verbose), plan_as_json(found), code

    _refuse_place_of_many(specs, state, lock_file)
    each(specs, as_json, act)


@cli.command()
@placed
@LOCK_FILE
@verbosely
def status(
    specs: tuple[Path, ...],
    as_json: bool,
    state: Path | None,
    fake: bool,
    allow_outside: bool,
    lock_file: Path | None,
    verbose: bool,
) -> None:
    """Show how jobs stand.

    By what is recorded and the local files; the exit code tells it too. Sends nothing.
    """
    from aihub_runner.apply.job import Options

    def act(spec: Path) -> Answer:
        from aihub_runner.cli.inspection import inspect_job
        from aihub_runner.report.summary import render_report

        options = Options(allow_outside=allow_outside, lock_file=lock_file)
        with opened_job(spec, options, state, fake, offline=True) as job:
            report = inspect_job(job)
            _print_problems(report)
            return render_report(report, applied=False, verbose=verbose), report.as_json(), report.exit_code

    _refuse_place_of_many(specs, state, lock_file)
    each(specs, as_json, act)


@cli.command()
@placed
@LOCK_FILE
@verbosely
@click.option("--yes", is_flag=True, help="Do not ask before runs are paid.")
@click.option("--retry-failed", is_flag=True, help="Pay for failed runs again, and send refused files again.")
@click.option("--again", is_flag=True, help="Pay for everything again.")
@click.option("--adopt", is_flag=True, help="Take up what lies on the server, where state and lock file are gone.")
@click.option("--refetch", is_flag=True, help="Fetch all results again, and replace edited files.")
@click.option("--wait-for-review", is_flag=True, help="Wait for runs that stopped for a person's review.")
@click.option("--wait-timeout", type=Duration(), help="Stop waiting for runs after this long; apply again later.")
@click.option("--lock-timeout", type=Duration(), default=0.0, help="Wait this long for another apply to end.")
@click.option("--max-runs", type=click.IntRange(min=0), help="Refuse to start more runs than this.")
def apply(
    specs: tuple[Path, ...],
    as_json: bool,
    state: Path | None,
    fake: bool,
    verbose: bool,
    yes: bool,
    wait_timeout: float | None,
    lock_timeout: float,
    **flags: Any,
) -> None:
    """Do what specs ask for: upload, run, wait, fetch. What is done is not done again."""
    from aihub_runner.apply.job import Options

    options = Options(**flags, wait_timeout_s=wait_timeout, lock_timeout_s=lock_timeout)

    _refuse_place_of_many(specs, state, options.lock_file)
    wrong = _find_wrong(specs, options, fake)

    def act(spec: Path) -> Answer:
        if wrong:
            raise wrong.get(spec) or InputError(f"{spec}: not applied, since another spec is wrong", "fix that one")
        with opened_job(spec, options, state, fake) as job:
            return _apply_one(job, ask=not (yes or as_json), verbose=verbose)

    each(specs, as_json, act)


def _refuse_place_of_many(specs: tuple[Path, ...], state: Path | None, lock_file: Path | None) -> None:
    for name, place in (("--state", state), ("--lock-file", lock_file)):
        if place and len(specs) > 1:
            raise click.UsageError(f"{name} goes with one spec")


def _find_wrong(given: tuple[Path, ...], options: Options, fake: bool) -> dict[Path, RunnerError]:
    """Check several specs, their settings and places before anything is sent for the first of them."""
    from aihub_runner.apply.job import open_job
    from aihub_runner.apply.places import check_renamed, claim_results

    specs, wrong = find_specs(given), {}
    for spec in specs if len(specs) > 1 else ():
        try:
            job = open_job(spec, options, fake_root="" if fake else None, offline=fake)
            check_renamed(job)
            claim_results(job)
        except RunnerError as error:
            wrong[spec] = error
    return wrong


def _apply_one(job: Job, *, ask: bool, verbose: bool) -> Answer:
    from aihub_runner.apply.job import warn_of_context
    from aihub_runner.apply.run import apply as apply_job
    from aihub_runner.cli.progress import open_progress
    from aihub_runner.report.summary import render_report

    progress = open_progress()
    with interrupt.shown_by(progress.close):
        if warning := warn_of_context(job):
            progress.say(warning)

        def confirm(planned: Plan, scan: Scan) -> bool:
            if not ask or not (sys.stdin.isatty() and sys.stderr.isatty()):
                return True
            from aihub_runner.report.summary import Preview, render_plan

            progress.close()
            found = Preview(job.shown, job.app_and_version, job.place, job.goal().target, planned, scan)
            say(render_plan(found, verbose=verbose), err=True)
            agreed = _ask(found.ask())
            progress.resume()
            return agreed

        report = apply_job(job, progress, confirm, interrupt.stop)
    _print_problems(report)
    return render_report(report, verbose=verbose), report.as_json(), report.exit_code


def _ask(question: str) -> bool:
    """Ask a person; a terminal that is gone, or an end of input, is no."""
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except (OSError, ValueError):
        answer = ""
    if not answer.endswith("\n"):
        say("", err=True)
    return answer.strip().lower() in ("y", "yes")


def _print_problems(report: Report) -> None:
    for problem in report.problems:
        print_error(RunnerError(problem.message, problem.hint))


@cli.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--state", type=click.Path(path_type=Path), help="The state is kept in another file.")
@click.option("--fake", is_flag=True, help="Decide of runs on the bundled fake AI Hub.")
@LOCK_FILE
@click.option("--adopt", metavar="RUN_ID", help="This run is the one whose outcome was unknown.")
@click.option("--resubmit", is_flag=True, help="Surely no run was started: pay for it at the next apply.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def resolve(
    spec: Path,
    state: Path | None,
    fake: bool,
    lock_file: Path | None,
    adopt: str | None,
    resubmit: bool,
    as_json: bool,
) -> None:
    """Decide what became of lost runs.

    Shows runs of which it is unconfirmed whether they were started, and takes a person's decision.
    """
    from aihub_runner.apply.job import Options

    def act(path: Path) -> Answer:
        from aihub_runner.apply.resolve import resolve_unknown
        from aihub_runner.cli.progress import open_progress

        with opened_job(path, Options(lock_file=lock_file), state, fake) as job:
            return resolve_unknown(job, adopt, resubmit, open_progress)

    each((spec,), as_json, act)


cli.add_command(results)
cli.add_command(report)
cli.add_command(diff)


def main() -> None:
    """Run the command line; the only place where an error becomes an exit code."""
    try:
        streams.speak_utf8()
        streams.open_streams()
        interrupt.listen()
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Interrupted.exit_code)
    except RunnerError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(_tell_of(error))


def _tell_of(error: Exception) -> int:
    """Say what this machine lacks, or else that it is a bug of ours, with what is needed to fix it."""
    if shortage := find_shortage(error) or probe_shortage():
        print_error(shortage)
        return shortage.exit_code
    say(f"error: this is a bug of aihub-runner, a report is in {_write_bug_report()}", err=True)
    say("hint: apply again to go on, and report it with that file", err=True)
    return 1


def _write_bug_report() -> str:
    import tempfile
    import traceback

    text = traceback.format_exc()
    try:
        descriptor, path = tempfile.mkstemp(prefix="aihub-runner-bug-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        return f"no file, since none can be written ({error.strerror}):\n{text}"
    return path
