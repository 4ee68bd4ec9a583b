"""The command `validate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from click import option

from aihub_runner.apply.job import load_alone
from aihub_runner.cli.options import VERBOSE, Answer, Asked, over_specs


@over_specs(
    VERBOSE,
    option("--check-files", is_flag=True, help="Also find the files, and list patterns that match none."),
    option("--allow-outside", is_flag=True, help="Allow files outside the Git work tree."),
    here=True,
    example="runner validate invoices.aihub.toml --check-files",
)
def validate(asked: Asked, check_files: bool) -> None:
    """Check specs and report every mistake with its line. Sends no requests."""

    def act(path: Path) -> Answer:
        spec = load_alone(path)
        text, data = f"{path}: ok", {"spec": str(path), "name": spec.name}
        if not check_files:
            return text, data, 0
        from aihub_runner.apply.lapsed import describe_idle
        from aihub_runner.report.summary import render_files
        from aihub_runner.sources.scan import check_files as find_files

        scan = find_files(spec, path, asked.options.allow_outside)
        idle = describe_idle(scan, ())
        found = {
            "files": len(scan.sources) + len(scan.skipped),
            "idle": idle,
            "skipped": list(map(asdict, scan.skipped)),
        }
        return text + render_files(scan, idle, verbose=asked.verbose), data | found, 0

    asked.each_spec(act)
