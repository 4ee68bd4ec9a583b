"""`fake-aihub certify`: check which promises a target keeps, the fake or a real AI Hub."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from fake_aihub.certify.runner import Certificate
    from fake_aihub.certify.session import Hub, Options

EXIT_BROKEN, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 3, 4, 130
FOLDER = "Folder in a drive to write files to, /ORGANISATION/WORKSPACE/fs/DRIVE/FOLDER."
REPORT = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--target", required=True, metavar="ROOT", help="API root, for example https://aihub.instabase.com/api.")
@click.option("--app-name", default="", help="App to run; without it, promises about runs are skipped.")
@click.option("--owner", default="", help="Owner of the app; leave it out for your own.")
@click.option("--deployment", default="", metavar="ID", help="Deployment to run.")
@click.option("--folder", default="", metavar="PATH", help=FOLDER)
@click.option(
    "--max-runs", type=click.IntRange(0, 10), default=0, show_default=True, help="Maximum number of paid runs."
)
@click.option(
    "--settle-seconds", default=30.0, show_default=True, help="How long to wait for created objects to appear."
)
@click.option(
    "--report", type=REPORT, default="certify-report.json", show_default=True, help="File to write the report to."
)
@click.option("--yes", is_flag=True, help="Do not ask before starting paid runs.")
@click.pass_context
def certify(
    context: click.Context, /, target: str, report: Path, yes: bool, settle_seconds: float, **named: Any
) -> None:
    """Check which promises of the API a target keeps.

    Writes a report that you can send in. Set the token in AIHUB_API_KEY, and the context and workspace in AIHUB_CONTEXT
    and AIHUB_WORKSPACE. Everything that certify creates has "certify" in its name and is deleted at the end. Runs cost
    consumption units: none starts unless --max-runs allows it, and 4 cover all promises. Exit codes: 0 all promises are
    kept, 2 usage error, 3 some promises are broken, 4 the target is unreachable or rejects the token, 130 interrupted.
    """
    from fake_aihub.certify.http import Target
    from fake_aihub.certify.session import Hub, Options

    _check_root(target)
    if not 0 <= settle_seconds <= 3600:
        raise click.UsageError(f"--settle-seconds is {settle_seconds:g}; allowed: a number of seconds from 0 to 3600")
    if not report.absolute().parent.is_dir():
        raise click.UsageError(f"--report: folder does not exist, {report.parent}")
    token = os.environ.get("AIHUB_API_KEY", "").strip()
    if not (token.isascii() and token.isprintable() and token):
        raise click.UsageError("AIHUB_API_KEY: not set, or contains invalid characters")
    options = Options(workspace=os.environ.get("AIHUB_WORKSPACE", ""), settle_s=settle_seconds, **named)
    options = _ask_for_runs(options, yes)
    hub = Hub(Target(target, token, os.environ.get("AIHUB_CONTEXT", "")), options, secrets.token_hex(5))
    _check_target(hub)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up afterwards, as for Ctrl-C
    try:
        context.exit(_run(hub, token, report))
    finally:
        signal.signal(signal.SIGTERM, before)


def say(text: str, *, err: bool = False) -> None:
    """Print a line. Output is best effort: a full disk or a closed pipe ends no work."""
    try:
        click.echo(text, err=err)
    except OSError:
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        sys.stdout, sys.stderr = (sys.stdout, nowhere) if err else (nowhere, sys.stderr)


def _check_root(root: str) -> None:
    from fake_aihub.addresses import is_loopback

    try:
        parts = urlsplit(root)
        _ = parts.port  # which may be empty
    except ValueError as error:
        raise click.UsageError(f"--target: invalid URL, {error}") from None
    if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
        raise click.UsageError("--target: not a plain URL such as https://aihub.instabase.com/api")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise click.UsageError("--target: not https; plain http is allowed on this machine only")


def _ask_for_runs(options: Options, yes: bool) -> Options:
    from dataclasses import replace

    if not options.max_runs or not options.app_name or yes:
        return options
    question = f"Start up to {options.max_runs} runs of {options.app_name}? Each costs consumption units for 3 pages"
    try:
        allowed = click.confirm(question, err=True)
    except click.Abort:
        say("\nnote: no terminal to ask on, so no run is started; pass --yes to allow runs", err=True)
        allowed = False
    return options if allowed else replace(options, max_runs=0)


def _check_target(hub: Hub) -> None:
    from fake_aihub.certify.http import NoAnswer

    try:
        status = hub.target.send("GET", "/v2/batches", params={"limit": 1}).status
    except NoAnswer as error:
        say(f"error: --target: no response, {error}", err=True)
        raise SystemExit(EXIT_UNREACHABLE) from None
    if status in (401, 403):
        say(f"error: AIHUB_API_KEY, AIHUB_CONTEXT: rejected by the target, status {status}", err=True)
    elif status != 200:
        say(f"error: --target: listing batches failed, status {status}", err=True)
        say("hint: pass the API root, which usually ends in /api", err=True)
    if status != 200:
        raise SystemExit(EXIT_UNREACHABLE)


def _run(hub: Hub, token: str, report: Path) -> int:
    from fake_aihub.certify.promise import load_promises
    from fake_aihub.certify.report import make_redaction, render_line, render_report
    from fake_aihub.certify.runner import certify as try_all

    def show(verdict: Any) -> None:
        say(render_line(verdict, make_redaction(hub, token, verdict.exchanges)))

    found = try_all(hub, load_promises(), show)
    exchanges = [one for verdict in found.verdicts for one in verdict.exchanges] + found.cleaning
    redaction = make_redaction(hub, token, exchanges)
    text = json.dumps(render_report(hub, found, redaction), indent=1, ensure_ascii=True)
    try:
        report.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        say(f"error: --report: cannot write, {error.strerror}", err=True)
    _summarise(hub, found, report)
    if found.ended:
        return EXIT_INTERRUPTED if found.ended == "interrupted" else EXIT_UNREACHABLE
    return EXIT_BROKEN if found.count("broken") else 0


def _summarise(hub: Hub, found: Certificate, report: Path) -> None:
    from fake_aihub.certify.report import plain

    counts = ", ".join(f"{found.count(outcome)} {outcome}" for outcome in ("kept", "broken", "skipped"))
    say(f"{counts}; runs started: {hub.runs_tried}; {found.ended or 'complete'}; report: {report}")
    for left in found.left_behind:
        say(f"not deleted: {plain(left)}", err=True)
