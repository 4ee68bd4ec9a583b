"""The command line: parse arguments, print, and turn errors into exit codes. No other module does the last.

Heavy modules are imported inside functions, to keep `runner --version` fast.
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
    """Process documents with Instabase AI Hub, and never pay twice.

    Write a spec, a small TOML file that says which documents to process with which app. `runner apply` uploads what is
    missing, starts the runs, waits for them and fetches the results.
    """


@cli.command()
@common
@verbosely
@click.option("--check-files", is_flag=True, help="Also find the files, and list patterns that match none.")
@click.option("--allow-outside", is_flag=True, help="Allow files outside the Git work tree.")
def validate(specs: tuple[Path, ...], as_json: bool, verbose: bool, check_files: bool, allow_outside: bool) -> None:
    """Check specs and report every mistake with its line. Sends no requests."""

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
@click.option("--exit-code", "report_changes", is_flag=True, help="Exit with code 10 if there is something to apply.")
@click.option("--retry-failed", is_flag=True, help="Include failed runs. Applying pays for them again.")
@click.option("--again", is_flag=True, help="Include finished runs. Applying pays for all of them again.")
def plan(
    specs: tuple[Path, ...],
    as_json: bool,
    state: Path | None,
    fake: bool,
    allow_outside: bool,
    lock_file: Path | None,
    verbose: bool,
    report_changes: bool,
    retry_failed: bool,
    again: bool,
) -> None:
    """Show what apply would upload, create and pay for, and why. Sends no requests."""
    from aihub_runner.apply.job import Options

    options = Options(retry_failed=retry_failed, again=again, allow_outside=allow_outside, lock_file=lock_file)

    def act(spec: Path) -> Answer:
        from aihub_runner.cli.inspection import WORKING, preview
        from aihub_runner.report.summary import plan_as_json, render_plan

        with opened_job(spec, options, state, fake, offline=True) as job:
            found = preview(job)
            code = WORKING if found.at_work else PLAN_HAS_CHANGES if report_changes and found.plan.work else 0
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
    """Show the state of jobs.

    Compares the recorded state with the local files. The exit code shows the state, too. Sends no requests.
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
@click.option("--yes", is_flag=True, help="Start paid runs without asking.")
@click.option("--retry-failed", is_flag=True, help="Run failed runs again, which is paid, and retry refused files.")
@click.option("--again", is_flag=True, help="Run everything again. All of it is paid again.")
@click.option(
    "--adopt", is_flag=True, help="Import existing runs from the service when the state and lock files are gone."
)
@click.option("--refetch", is_flag=True, help="Fetch all results again, and overwrite edited files.")
@click.option("--wait-for-review", is_flag=True, help="Wait for runs that need a person's review.")
@click.option("--wait-timeout", type=Duration(), help="Stop waiting for runs after, say, 90s, 10m or 2h.")
@click.option("--lock-timeout", type=Duration(), default=0.0, help="Wait this long for another apply to end.")
@click.option("--max-runs", type=click.IntRange(min=0), metavar="N", help="Refuse to start more than N runs.")
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
    """Upload files, start runs, wait for them and fetch results.

    Does only what is missing. Finished work is not repeated, and not paid again.
    """
    from aihub_runner.apply.job import Options

    options = Options(**flags, wait_timeout_s=wait_timeout, lock_timeout_s=lock_timeout)

    _refuse_place_of_many(specs, state, options.lock_file)
    wrong = _find_wrong(specs, options, fake)

    def act(spec: Path) -> Answer:
        if wrong:
            raise wrong.get(spec) or InputError(f"{spec}: not applied, another spec is invalid", "fix the other spec")
        with opened_job(spec, options, state, fake) as job:
            return _apply_one(job, ask=not (yes or as_json), verbose=verbose)

    each(specs, as_json, act, pays=True)


def _refuse_place_of_many(specs: tuple[Path, ...], state: Path | None, lock_file: Path | None) -> None:
    for name, place in (("--state", state), ("--lock-file", lock_file)):
        if place and len(specs) > 1:
            raise click.UsageError(f"{name} needs exactly one spec")


def _find_wrong(given: tuple[Path, ...], options: Options, fake: bool) -> dict[Path, RunnerError]:
    """Check all specs, their settings and their paths before anything is sent for the first one."""
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
    """Ask a yes-or-no question. A closed terminal or the end of input counts as no."""
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
@click.option("--state", type=click.Path(path_type=Path), help="Path of the state file.")
@click.option("--fake", is_flag=True, help="Use the bundled fake AI Hub, with data in <stem>.fake/.")
@LOCK_FILE
@click.option("--adopt", metavar="RUN_ID", help="Import this run as the one whose start is unconfirmed.")
@click.option("--resubmit", is_flag=True, help="Confirm that no run was started. The next apply starts one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def resolve(
    spec: Path,
    state: Path | None,
    fake: bool,
    lock_file: Path | None,
    adopt: str | None,
    resubmit: bool,
    as_json: bool,
) -> None:
    """Decide whether unconfirmed runs were started.

    Without a decision, lists the runs whose start the service did not confirm. Look them up in AI Hub, then pass
    --adopt or --resubmit.
    """
    from aihub_runner.apply.job import Options

    def act(path: Path) -> Answer:
        from aihub_runner.apply.resolve import resolve_unknown
        from aihub_runner.cli.progress import open_progress

        with opened_job(path, Options(lock_file=lock_file), state, fake) as job:
            return resolve_unknown(job, adopt, resubmit, open_progress)

    each((spec,), as_json, act, pays=True)


cli.add_command(results)
cli.add_command(report)
cli.add_command(diff)


def main() -> None:
    """Run the command line. Only this function turns an error into an exit code."""
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
        sys.exit(_report_crash(error))


def _report_crash(error: Exception) -> int:
    """Report a shortage of this machine; else report a bug of ours, and write a file for the maintainers."""
    if shortage := find_shortage(error) or probe_shortage():
        print_error(shortage)
        return shortage.exit_code
    say(f"error: internal error, this is a bug of aihub-runner; the report is in {_write_bug_report()}", err=True)
    say("hint: report the bug with that file, and apply again to continue", err=True)
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
        return f"no file, writing it failed ({error.strerror}):\n{text}"
    return path
