"""The command `validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click import option
from msgspec.structs import asdict, replace

from aihub_runner.apply.job import load_alone
from aihub_runner.cli.diagnostics import list_diagnostics, render_annotations
from aihub_runner.cli.options import ALLOW_REMOTE, VERBOSE, Answer, Asked, over_specs
from aihub_runner.cli.output import say
from aihub_runner.errors import RunnerError, SpecErrors, worst_code
from aihub_runner.settings import STDIN


@over_specs(
    VERBOSE,
    option("--check-files", is_flag=True, help="Also find the files, and list patterns that match none."),
    option(
        "--check-service", is_flag=True, help="Also ask the service whether it accepts the token and shows the app."
    ),
    option("--allow-outside", is_flag=True, help="Allow files outside the Git work tree."),
    ALLOW_REMOTE,
    option(
        "--format",
        "form",
        type=click.Choice(["text", "json", "github"]),
        default="text",
        help="Format of the output. github: annotations, for a workflow. Default: text.",
    ),
    here=True,
    example="runner validate invoices.aihub.toml --check-files",
)
def validate(asked: Asked, check_files: bool, check_service: bool, form: str) -> None:
    """Check specs and report every mistake with its line. Sends no requests, unless you pass --check-service.

    "-" is standard input, with paths relative to the current folder. Without a spec, it checks those of that folder.
    """
    asked = replace(asked, as_json=asked.as_json or form == "json")
    if form == "github":
        asked = asked.as_product()
    if check_service and STDIN in asked.specs:
        raise click.UsageError("--check-service needs the path of a spec")
    found: list[dict[str, Any]] = []

    def act(path: Path) -> Answer:
        try:
            text, data, code = _validate(path, asked, check_files)
            if check_service:
                more, checks = _ask_service(path, asked)
                text, data = text + more, data | {"checks": checks}
            return text, data, code
        except RunnerError as error:
            found.extend(new := list_diagnostics(path, error))
            if form == "text" and not asked.as_json:
                raise
            if form == "github":
                say(render_annotations(new))
            return "", {"spec": str(path)}, error.exit_code

    asked.each_spec(act, also=lambda: {"error_count": len(found), "diagnostics": found})


def _validate(path: Path, asked: Asked, check_files: bool) -> Answer:
    spec = load_alone(path, asked.choice._replace(any_target=not asked.target)).spec
    text, data = f"{path}: ok", {"spec": str(path), "name": spec.name}
    if not check_files:
        return text, data, 0
    from aihub_runner.apply.lapsed import describe_idle
    from aihub_runner.report.summary import render_files
    from aihub_runner.sources.scan import check_files as find_files

    scan = find_files(spec, path, asked.options.allowed)
    idle = describe_idle(scan, ())
    found = {
        "files": len(scan.sources) + len(scan.skipped),
        "idle": idle,
        "skipped": list(map(asdict, scan.skipped)),
    }
    return text + render_files(scan, idle, verbose=asked.verbose), data | found, 0


def _ask_service(path: Path, asked: Asked) -> tuple[str, list[dict[str, Any]]]:
    """Check settings, token, root and app, as `runner check` does. Raises SpecErrors with all that fails."""
    from aihub_runner.apply.checkup import check_account

    checks = list(check_account(lambda offline: asked.open(path, offline=offline), asked.target))
    if failed := [one for one in checks if one.exit_code]:
        error = SpecErrors([RunnerError(f"{path}: {one.name}: {one.text}", one.hint) for one in failed])
        error.exit_code = worst_code(one.exit_code for one in failed)
        raise error
    lines = [f"  {one.verdict:<10} {one.name}: {one.text}" for one in checks]
    return "\n".join(["", *lines]), [asdict(one) for one in checks]
