"""What is told while the work goes on, without a terminal."""

from __future__ import annotations

import io

from aihub_runner.apply.events import Counts
from aihub_runner.cli.progress import LineProgress, render_counts
from aihub_runner.text.shown import render_size


def test_lines_come_at_each_change_and_at_least_every_30_seconds() -> None:
    now, out = [0.0], io.StringIO()
    progress = LineProgress(out, lambda: now[0])
    counts = Counts(files_to_send=10, files_sent=4, bytes_to_send=100, bytes_sent=40)
    for now[0] in range(0, 95):
        progress.show(counts)
    assert out.getvalue().count("uploaded 4 of 10 files") == 3
    progress.say("batch 7 created")
    assert out.getvalue().endswith("batch 7 created\n")


def test_counts_are_told_in_one_line() -> None:
    counts = Counts(files_to_send=2, files_sent=2, runs_fetched=1)
    counts.runs.update({"COMPLETE": 1, "RUNNING": 2})
    assert render_counts(counts) == (
        "uploaded 2 of 2 files (0 bytes of 0 bytes); runs: 1 COMPLETE, 2 RUNNING; results of 1 run fetched"
    )


def test_sizes_are_told_in_units_that_fit() -> None:
    assert [render_size(size) for size in (512, 5_242_880, 3 * 1024**3)] == ["512 bytes", "5.0 MB", "3.0 GB"]
