"""Say what came of an apply where programs look for it. What cannot be written or sent never ends the work."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aihub_runner.aihub.connection import Connection
from aihub_runner.apply.events import Event
from aihub_runner.apply.job import Job
from aihub_runner.cli.messages import render_event
from aihub_runner.cli.output import say
from aihub_runner.errors import RunnerError
from aihub_runner.files import explain_late, read_regular, write_file
from aihub_runner.model import LAST_APPLY, Secret
from aihub_runner.report.summary import Report, describe_error
from aihub_runner.system import interrupt
from aihub_runner.text.jsontext import render_json

URL, TOKEN = "AIHUB_RUNNER_NOTIFY_URL", "AIHUB_RUNNER_NOTIFY_TOKEN"
MOST = 100  # items of each list in a notification
_WARNING = "warning: "
_SENT = ("files_sent", "bytes_sent", "runs_started", "pages", "retries", "rate_limited")
_OF_ONE_APPLY = frozenset({"ended", *_SENT, "nothing_to_do", "seconds", "upload_seconds"})


class Ending:
    """Hears the warnings of an apply. At its end, writes `last-apply.json` into the results folder, and notifies you.

    Nothing in a results folder is ever a source. The URL to notify is read from the environment only: a spec and a
    `.env` may come from a pull request.
    """

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
        self._end(values | {"warnings": [*values["warnings"], *self._warnings]})

    def take_error(self, error: RunnerError) -> None:
        """Record why an apply could not do its work."""
        problems = tuple(describe_error(one) for one in error.mistakes)
        values = Report(self._job.shown, self._job.spec.name, problems=problems, fake=self._job.is_fake).as_json()
        told = {name: values[name] for name in ("spec", "name", "fake", "problems", "exit_code")}
        self._end(told | {"warnings": self._warnings})

    def _end(self, values: dict[str, Any]) -> None:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        document = {"format_version": 1, "ended": ended} | values
        self._record(document)
        if url := os.environ.get(URL):
            _notify(url, document)

    def _record(self, document: dict[str, Any]) -> None:
        text, path = _render(document), self._job.results_path / LAST_APPLY
        if document.get("nothing_to_do") and _load_lasting(path) == _select_lasting(json.loads(text)):
            return  # an apply with nothing to do changes no file
        try:
            with explain_late():
                write_file(path, [text])
        except RunnerError as error:
            say(f"{_WARNING}{LAST_APPLY}: not written, {error.message}", err=True)


def _render(document: dict[str, Any]) -> bytes:
    return f"{render_json(document, indent=2, only_ascii=True)}\n".encode()


def _notify(url: str, document: dict[str, Any]) -> None:
    """POST a summary. Its lists are cut: a receiver may refuse what is large."""
    from aihub_runner.aihub.notification import notify

    to = Connection(url, Secret(os.environ.get(TOKEN, "")), "", connect_timeout_s=5.0, read_timeout_s=10.0)
    short = {name: value[:MOST] if isinstance(value, list | tuple) else value for name, value in document.items()}
    if why := notify(to, _render(short), interrupt.stop):
        say(f"{_WARNING}{URL}: the notification was not delivered, {why}", err=True)


def _load_lasting(path: Path) -> dict[str, Any] | None:
    try:
        return _select_lasting(json.loads(read_regular(path)))
    except (OSError, ValueError, AttributeError):
        return None


def _select_lasting(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says of the job, without what one apply did."""
    return {name: value for name, value in document.items() if name not in _OF_ONE_APPLY}
