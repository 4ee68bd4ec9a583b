"""The report page: the job, its summary, the timeline, the problems and the documents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from glob import glob
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from aihub_runner.report.html import Column, Table, fitting, render_page
from aihub_runner.report.statistics import BINS, Census, FieldCount
from aihub_runner.report.subject import Subject
from aihub_runner.report.summary import Report
from aihub_runner.report.svg import MAX_BARS, Drawing, draw_counts, draw_histogram, draw_timeline
from aihub_runner.report.timeline import PHASES, Bar, total_pause_s, total_s
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count, show_value

MAX_HISTOGRAMS = 60
CLASS_LENGTH = 40
BATCHES_BYTES = 600_000
PROBLEMS_BYTES = 500_000
_PHASES = tuple(zip(PHASES, ("Upload", "Queued", "Run", "Fetch"), strict=True))
_PAUSE = ("pause", "Between applies")
DOCUMENT_COLUMNS = (
    Column("File", "file"),
    Column("Document", "number"),
    Column("Class"),
    Column("Pages", "number", down=True),
    Column("Fields", "number", down=True),
    Column("Failed", "failed", down=True),
    Column("Lowest confidence", "confidence"),
    Column("Run", "id"),
)
DOCUMENT_PLACES = {"pick": 2, "failed": 5, "confidence": 6, "address": 8, "detail": 9}


class Facts(Struct, frozen=True):
    """Everything that the page shows."""

    job: Subject
    report: Report
    bars: Sequence[Bar]
    census: Census


def render_overview(found: Facts, output: Path, now: datetime) -> Iterator[bytes]:
    """Render the page. Links to local files are relative to `output`, where the page is written."""
    batches = fitting([_batch_row(bar) for bar in reversed(found.bars)], BATCHES_BYTES)[::-1]  # the newest ones
    problems = _list_problems(found.report)
    listed = fitting(problems, PROBLEMS_BYTES)
    tables = {name: table.as_json() for name, table in _tables(found.census, batches, listed).items()}
    data = {"base": base_of(found.job.folder, output), "threshold": found.census.threshold, "tables": tables}
    values = {
        "title": f"{found.job.spec.name}: report",
        "job": found.job,
        "report": found.report,
        "census": found.census,
        "state": _describe_state(found.report),
        "now": f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "diffs": _diff_pages(output),
        "asked": _asked(found.job),
        "done": _done(found.report, found.census),
        "below": f"Below {found.census.threshold:.0%}",
        "bars_left_out": len(found.bars) - len(batches),
        "problems": len(problems),
        "problems_left_out": found.census.failed_left_out + len(problems) - len(listed),
        **_classes(found.census),
        "documents_left_out": _left_out(found.census),
    }
    return render_page("report.html", data, values | _timeline(found.bars) | _fields(found.census))


def base_of(folder: Path, output: Path) -> str:
    """Return the relative URL of a folder as seen from a file, with a trailing slash."""
    return quote(os.fsencode(Path(os.path.relpath(folder.absolute(), output.absolute().parent)).as_posix())) + "/"


def _tables(census: Census, batches: Sequence[Sequence[Any]], problems: Sequence[Sequence[Any]]) -> dict[str, Table]:
    failed = [Column("File", "file"), Column("Document", "number", 2), Column("Field", at=3), Column("Error", at=4)]
    return {
        "batches": Table(_batch_columns(), batches),
        "failed": Table(failed, census.failed, places={"address": 1}),
        "problems": Table([Column("Problem"), Column("File or run"), Column("Reason")], problems),
        "documents": Table(DOCUMENT_COLUMNS, census.rows, (2, 7), DOCUMENT_PLACES),
    }


def _diff_pages(output: Path) -> list[tuple[str, str]]:
    """List the pages of `runner diff --html diff….html` in the folder of the report, with their addresses."""
    pages = sorted(glob("diff*.html", root_dir=output.absolute().parent))
    return [(Path(name).stem, f"./{quote(os.fsencode(name))}") for name in pages]


def _describe_state(report: Report) -> tuple[str, str]:
    words = {
        0: ("Complete: everything in the spec is done.", "good"),
        3: ("Completed with problems: some files or runs failed or were skipped.", "bad"),
        6: ("Not complete: runs are in progress, need a person's review, or are not started yet.", "warn"),
        7: ("Unconfirmed: it is unknown whether a run was started. Decide with runner resolve.", "bad"),
    }
    return words.get(report.exit_code, (f"Exit code {report.exit_code}.", "warn"))


def _asked(job: Subject) -> dict[str, str]:
    spec = job.spec
    return {
        "Spec": job.shown,
        "Files": ", ".join(spec.files),
        "App": job.app,
        "Version": spec.run.version or "newest production version",
        "Owner": spec.owner or "",
        "Context": job.target.context or "community account",
        "Workspace": job.target.workspace,
        "Custom keys": ", ".join(sorted(spec.run.keys.custom)),
        "Include": ", ".join(spec.results.include) or "fields only",
    }


def _done(report: Report, census: Census) -> dict[str, int]:
    return {
        "Files": report.files,
        "Done or in progress": report.files_done,
        "Skipped": len(report.skipped),
        "Batches": report.batches,
        **{f"Runs {status}": number for status, number in sorted(report.runs.items())},
        "Documents": census.documents,
        "Failed fields": sum(counts.failed for counts in census.fields.values()),
        "Needs review": census.needs_review,
    }


# The timeline


def _batch_columns() -> list[Column]:
    phases = [Column(name, "seconds", down=True) for _, name in _PHASES]
    return [
        Column("Batch", "id"),
        Column("Run", "id"),
        Column("Status", "word"),
        Column("Files", "number", down=True),
        Column("Attempt", "number"),
        Column("Started (UTC)"),
        *phases,
    ]


def _batch_row(bar: Bar) -> list[Any]:
    begun = f"{_moment(bar.begun_s):%Y-%m-%d %H:%M:%S}" if bar.begun_s else None
    phases = [None if duration is None else round(duration, 1) for duration in bar.durations_s()]
    batch = None if bar.batch is None else str(bar.batch)
    return [
        batch,
        escape_control_chars(bar.run),
        escape_control_chars(bar.status),
        bar.files,
        bar.attempt,
        begun,
        *phases,
    ]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _timeline(bars: Sequence[Bar]) -> dict[str, Any]:
    totals = total_s(bars)
    timed = [bar for bar in bars if bar.begun_s][-MAX_BARS:]
    return {
        "spent": {f"{name}, all batches": _duration(totals[phase]) for phase, name in _PHASES} | _between(bars),
        "phases": (*_PHASES, _PAUSE) if any(sum(bar.paused_s) for bar in timed) else _PHASES,
        "plot": _draw(timed) if timed else None,
        "timed": len(timed),
        "bars": len(bars),
    }


def _draw(bars: Sequence[Bar]) -> Drawing:
    begun_s = min(bar.begun_s for bar in bars)
    rows = [[bar.begun_s - begun_s, *_parts_s(bar)] for bar in bars]
    longest_s = max(map(sum, rows))
    unit, seconds = ("hours", 3600) if longest_s > 7200 else ("minutes", 60) if longest_s > 120 else ("seconds", 1)
    rows = [[part / seconds for part in row] for row in rows]
    title = f"Batches, in {unit} since {_moment(begun_s):%Y-%m-%d %H:%M:%S} UTC"
    return draw_timeline(
        title, [str(bar.batch or "?") for bar in bars], rows, [kind for phase in PHASES for kind in (phase, _PAUSE[0])]
    )


def _parts_s(bar: Bar) -> Iterator[float]:
    """Each phase, then its pauses. When in a phase they were is not shown."""
    for duration, paused in zip(bar.durations_s(), bar.paused_s, strict=True):
        yield from (duration or 0.0, paused)


def _between(bars: Sequence[Bar]) -> dict[str, str]:
    paused_s = total_pause_s(bars)
    return {f"{_PAUSE[1]}, all batches": _duration(paused_s)} if paused_s else {}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# Problems


def _list_problems(report: Report) -> list[list[str]]:
    rows = [["skipped", item.path, ", ".join(filter(None, (item.reason, item.detail)))] for item in report.skipped]
    rows += [["run failed", run, text] for run, text in report.failed_runs.items()]
    rows += [["file failed", path, "its run failed"] for path in report.failed]
    rows += [["no results", path, "the results do not contain this file"] for path in report.unanswered]
    rows += [["unexpected", name, "results of a file that was not sent"] for name in report.unknown_answers]
    rows += [["needs review", run, "the run waits for a person's review"] for run in report.review]
    return [[escape_control_chars(cell[:1000]) for cell in row] for row in rows]


# Results


def _classes(census: Census) -> dict[str, Any]:
    """Return the table of classes, the largest first, and a plot of them."""
    ordered = sorted(census.classes.items(), key=lambda item: (-item[1].documents, item[0]))
    drawn = [(show_value(name, CLASS_LENGTH), counts.documents) for name, counts in ordered[:MAX_BARS]]
    return {
        "classes": [[name, counts.documents, counts.pages, counts.failed, counts.below] for name, counts in ordered],
        "class_plot": draw_counts("Documents of each class", drawn),
        "drawn": len(drawn),
    }


def _fields(census: Census) -> dict[str, Any]:
    """Return the table of fields, the lowest mean confidence first, and their histograms."""
    ordered = sorted(census.fields.items(), key=lambda item: (item[1].mean is None, item[1].mean, item[0]))
    columns, rows = ["Field", "Times", "Failed"], [[name, counts.documents, counts.failed] for name, counts in ordered]
    if census.has_confidence:
        columns += ["Mean", "Lowest", f"Below {census.threshold:.0%}", *_bin_names()]
        rows = [[*row, *_confidence_cells(counts)] for row, (_, counts) in zip(rows, ordered, strict=True)]
    drawn = [(name, counts) for name, counts in ordered[:MAX_HISTOGRAMS] if counts.confidences]
    histograms = [(name, draw_histogram(f"Confidence of {name}", counts.bins)) for name, counts in drawn]
    return {"field_columns": columns, "fields": rows, "histograms": histograms}


def _bin_names() -> list[str]:
    return ["< 50%", *(f"{tenth * 10} to {tenth * 10 + 10}%" for tenth in range(BINS // 2, BINS))]


def _confidence_cells(counts: FieldCount) -> list[Any]:
    half = BINS // 2
    shares = ["" if share is None else f"{share:.1%}" for share in (counts.mean, counts.lowest)]
    return [*shares, counts.below, sum(counts.bins[:half]), *counts.bins[half:]]


def _left_out(census: Census) -> list[str]:
    left = [f"To keep the page small, {census.rows_left_out:,} documents are left out"] * bool(census.rows_left_out)
    return left + [f"The fields of {count(census.fields_left_out, 'document')} are left out"] * bool(
        census.fields_left_out
    )


def as_json(found: Facts, output: Path) -> Mapping[str, Any]:
    """Return the numbers on the page as JSON values."""
    census = found.census
    return {
        "spec": found.job.shown,
        "output": str(output),
        "documents": census.documents,
        "needs_review": census.needs_review,
        "phases_s": {phase: round(seconds, 1) for phase, seconds in total_s(found.bars).items()},
        "between_applies_s": round(total_pause_s(found.bars), 1),
        "classes": {name: counts.documents for name, counts in census.classes.items()},
        "failed_fields": {name: counts.failed for name, counts in census.fields.items() if counts.failed},
    }
