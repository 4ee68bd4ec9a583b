"""Progress lines without a terminal."""

from __future__ import annotations

import io

from aihub_runner.apply import events
from aihub_runner.apply.events import Counts, Event, Reporter
from aihub_runner.cli.messages import SILENT, render_counts, render_event
from aihub_runner.cli.progress import LineProgress
from aihub_runner.text.shown import render_size

EXAMPLES = {"int": 2, "str": "a", "float": 1.5, "bool": True, "tuple[str, ...]": ("a", "b"), "int | None": 2}


def every_event() -> list[Event]:
    """Make one of each event."""
    kinds = [kind for kind in vars(events).values() if hasattr(kind, "_fields")]
    wanted = [[of.__forward_arg__ for of in kind.__annotations__.values()] for kind in kinds]
    return [kind(*map(EXAMPLES.__getitem__, names)) for kind, names in zip(kinds, wanted, strict=True)]


def test_every_event_has_words_or_only_moves_the_display() -> None:
    for event in every_event():
        assert bool(render_event(event)) != isinstance(event, SILENT), event


def test_every_event_reaches_every_subscriber_once() -> None:
    first: list[Event] = []
    second: list[Event] = []
    reporter = Reporter(first.append, second.append)
    for event in every_event():
        reporter.emit(event)
    assert first == second == every_event()


def test_lines_come_at_each_change_and_at_least_every_30_seconds() -> None:
    now, out = [0.0], io.StringIO()
    progress = LineProgress(out, lambda: now[0])
    progress(events.UploadPlanned(10, 100))
    for number in range(4):
        progress(events.FileUploaded(str(number), 10))
    for now[0] in range(0, 95):
        progress(events.Tick())
    assert out.getvalue().count("uploaded 4 of 10 files (40 bytes of 100 bytes)") == 3
    progress(events.BatchCreated(7))
    assert out.getvalue().endswith("batch 7 created\n")


def test_trouble_of_many_requests_is_told_once_in_a_while() -> None:
    now, out = [0.0], io.StringIO()
    progress = LineProgress(out, lambda: now[0])
    for now[0] in range(25):
        for _ in range(100):
            progress(events.Retry("PUT x: failed", 0.5))
    assert out.getvalue().splitlines() == ["PUT x: failed; trying again in 0.5 s"] * 3


def test_counts_are_taken_from_events_and_told_in_one_line() -> None:
    counts = Counts()
    for event in (
        events.UploadPlanned(3, 30),
        events.FileUploaded("a", 10),
        events.FileSkipped("b", 10, "empty", ""),
        events.FileUploaded("c", 10),
        events.RunStatus("1", "RUNNING"),
        events.RunStatus("2", "RUNNING"),
        events.RunStatus("1", "COMPLETE", before="RUNNING"),
        events.ResultsFetched("1", 2),
        events.Retry("x", 1.0),
        events.RateLimited("x", 1.0),
    ):
        counts.take(event)
    assert render_counts(counts) == (
        "uploaded 2 of 2 files (20 bytes of 20 bytes); runs: 1 COMPLETE, 1 RUNNING; results of 1 run fetched"
    )
    assert (counts.retries, counts.rate_limited) == (1, 1)


def test_sizes_are_told_in_units_that_fit() -> None:
    assert [render_size(size) for size in (512, 5_242_880, 3 * 1024**3)] == ["512 bytes", "5.0 MB", "3.0 GB"]
