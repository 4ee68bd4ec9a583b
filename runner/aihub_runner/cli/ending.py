"""Say what came of an apply where programs look for it. What cannot be written or sent never ends the work."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aihub_runner.apply.events import Event
from aihub_runner.apply.job import Job
from aihub_runner.cli.messages import render_event
from aihub_runner.cli.output import say
from aihub_runner.errors import RunnerError
from aihub_runner.files import explain_late, read_regular, write_file
from aihub_runner.report.summary import Report, describe_error
from aihub_runner.text.jsontext import render_json

LAST_APPLY = "last-apply.json"
_WARNING = "warning: "
_SENT = ("files_sent", "bytes_sent", "runs_started", "pages", "retries", "rate_limited")
_OF_ONE_APPLY = frozenset({"ended", *_SENT, "nothing_to_do", "seconds", "upload_seconds"})


class Ending:
    """Hears the warnings of an apply, and writes `last-apply.json` into its results folder, which is never a source."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        """Keep an event that is a warning."""
        line = render_event(event)
        if line.startswith(_WARNING):
            self._warnings.append(line.removeprefix(_WARNING))

    def take(self, report: Report) -> None:
        """Record how an apply ended."""
        values = report.as_json()
        self._record(values | {"warnings": [*values["warnings"], *self._warnings]})

    def take_error(self, error: RunnerError) -> None:
        """Record why an apply could not do its work."""
        problems = tuple(describe_error(one) for one in error.mistakes)
        values = Report(self._job.shown, self._job.spec.name, problems=problems, fake=self._job.is_fake).as_json()
        told = {name: values[name] for name in ("spec", "name", "fake", "problems", "exit_code")}
        self._record(told | {"warnings": self._warnings})

    def _record(self, values: dict[str, Any]) -> None:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        document = {"format_version": 1, "ended": ended} | values
        text, path = render_json(document, indent=2, only_ascii=True), self._job.results_path / LAST_APPLY
        if values.get("nothing_to_do") and _load_lasting(path) == _select_lasting(json.loads(text)):
            return  # an apply with nothing to do changes no file
        try:
            with explain_late():
                write_file(path, [f"{text}\n".encode()])
        except RunnerError as error:
            say(f"{_WARNING}{LAST_APPLY}: not written, {error.message}", err=True)


def _load_lasting(path: Path) -> dict[str, Any] | None:
    try:
        return _select_lasting(json.loads(read_regular(path)))
    except (OSError, ValueError, AttributeError):
        return None


def _select_lasting(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of the job, without what one apply did."""
    return {name: value for name, value in document.items() if name not in _OF_ONE_APPLY}
