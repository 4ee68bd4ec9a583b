"""Write what an apply leaves for CI and for programs. A record that cannot be written never ends the work."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import asdict

from aihub_runner.apply import events as e
from aihub_runner.cli.output import print_error, say
from aihub_runner.errors import InputError, RunnerError, worst_code
from aihub_runner.files import explain_late
from aihub_runner.outfile import JsonLines, write_output
from aihub_runner.report.records import (
    Case,
    Suite,
    list_cases,
    render_annotations,
    render_junit,
    render_step_summary,
)
from aihub_runner.report.summary import Report


class EventFile(JsonLines):
    """Writes each event as a line of JSON: its time, its name and its values."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")

    def __call__(self, event: e.Event) -> None:
        """Write an event. Ticks say nothing, and are left out."""
        if isinstance(event, e.Tick):
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": type(event).__name__}
        self.write(line | asdict(event))


class Records:
    """Keeps what came of each spec, and writes it to the places that were asked for."""

    def __init__(self, junit: Path | None) -> None:
        self._junit = junit
        self._suites: list[Suite] = []

    def take(self, report: Report) -> int:
        """Record a report. Return the exit code, which is worse where a record could not be written."""
        return self._write(list_cases(report))

    def take_error(self, spec: str, error: RunnerError) -> None:
        """Record why a spec was not applied."""
        cases = [Case("apply", "failed", f"{one.message}; {one.hint}") for one in error.mistakes]
        self._write(Suite(spec, error.exit_code, cases))

    def _write(self, suite: Suite) -> int:
        self._suites.append(suite)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in render_annotations(suite):
                say(line, err=True)
        codes = [suite.exit_code]
        try:
            with explain_late():
                if self._junit:
                    write_output(self._junit, render_junit(self._suites))
                if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
                    _append(Path(summary), render_step_summary(suite))
        except RunnerError as error:
            print_error(error)
            codes.append(error.exit_code)
        return worst_code(codes)


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"GITHUB_STEP_SUMMARY: {path} cannot be written, {error.strerror or error}") from None
