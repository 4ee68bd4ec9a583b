"""The report page: the job, its summary, the timeline, the problems and the documents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aihub_runner.report import plots
from aihub_runner.report.statistics import BINS, OTHERS, Census, FieldCount
from aihub_runner.report.subject import Subject
from aihub_runner.report.summary import Report
from aihub_runner.report.timeline import PHASES, Bar, total_s
from aihub_runner.report.webpage import (
    Column,
    Table,
    facts,
    fitting,
    live_table,
    note,
    plain_table,
    render_page,
    section,
    show,
)
from aihub_runner.text.shown import count, escape_control_chars

MAX_HISTOGRAMS = 60
BATCHES_BYTES = 600_000
PROBLEMS_BYTES = 500_000
NO_PLOTS = "To see plots, install the extra: pip install 'aihub-runner[plots]'"
PHASE_NAMES = ("Upload", "Queued", "Run", "Fetch")
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


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the page shows."""

    job: Subject
    report: Report
    bars: Sequence[Bar]
    census: Census


def render_overview(found: Facts, output: Path, now: datetime) -> Iterator[bytes]:
    """Render the page. Links to local files are relative to `output`, where the page is written."""
    tables = {name: table.as_json() for name, table in _tables(found).items()}
    data = {"base": base_of(found.job.folder, output), "threshold": found.census.threshold, "tables": tables}
    title = f"{found.job.spec.name}: report"
    body = [
        _head(found, now, _diff_pages(output)),
        _asked(found.job),
        _done(found.report, found.census),
        _timeline(found.bars),
        _problems(found),
        _classes(found.census),
        _confidence(found.census),
        _documents(found.census),
    ]
    return render_page(title, body, data)


def base_of(folder: Path, output: Path) -> str:
    """Return the relative URL of a folder as seen from a file, with a trailing slash."""
    return quote(Path(os.path.relpath(folder.absolute(), output.absolute().parent)).as_posix()) + "/"


def _tables(found: Facts) -> dict[str, Table]:
    documents = Table(DOCUMENT_COLUMNS, found.census.rows, (2, 7), DOCUMENT_PLACES)
    failed = [Column("File", "file"), Column("Document", "number", 2), Column("Field", at=3), Column("Error", at=4)]
    problems = [Column("Problem"), Column("File or run"), Column("Reason")]
    return {
        "batches": Table(_batch_columns(), _batch_rows(found.bars)),
        "failed": Table(failed, found.census.failed, places={"address": 1}),
        "problems": Table(problems, fitting(_list_problems(found.report), PROBLEMS_BYTES)),
        "documents": documents,
    }


def _diff_pages(output: Path) -> list[str]:
    """List the pages of `runner diff --html diff….html` in the folder of the report."""
    return sorted(path.name for path in output.absolute().parent.glob("diff*.html"))


def _head(found: Facts, now: datetime, diffs: Sequence[str]) -> str:
    report = found.report
    lines = [f"<h1>{show(found.job.spec.name)}</h1>"]
    state, kind = _describe_state(report)
    lines.append(note(state, kind))
    where = "on the FAKE AI Hub, " if found.job.is_fake else ""
    lines.append(note(f"{where}as recorded at {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"))
    names = {"asked": "Job", "done": "Summary", "timeline": "Timeline", "problems": "Problems"}
    names |= {"classes": "Classes", "confidence": "Fields", "look": "Needs review", "documents": "Documents"}
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in names.items())
    links += "".join(f'<a href="./{quote(name)}">{show(Path(name).stem)}</a>' for name in diffs)
    return "\n".join([*lines, f"<nav>{links}</nav>"])


def _describe_state(report: Report) -> tuple[str, str]:
    words = {
        0: ("Complete: everything in the spec is done.", "good"),
        3: ("Completed with problems: some files or runs failed or were skipped.", "bad"),
        6: ("Not complete: runs are in progress, need a person's review, or are not started yet.", "warn"),
        7: ("Unconfirmed: it is unknown whether a run was started. Decide with runner resolve.", "bad"),
    }
    return words.get(report.exit_code, (f"Exit code {report.exit_code}.", "warn"))


def _asked(job: Subject) -> str:
    spec = job.spec
    asked = {
        "Spec": job.shown,
        "Files": ", ".join(spec.files),
        "App": job.app,
        "Version": spec.run.version or "newest production version",
        "Owner": spec.owner,
        "Context": job.target.context or "community account",
        "Workspace": job.target.workspace,
        "Custom keys": ", ".join(sorted(spec.run.keys.custom)),
        "Include": ", ".join(spec.results.include) or "fields only",
    }
    return section("asked", "Job", facts(asked))


def _done(report: Report, census: Census) -> str:
    done: dict[str, Any] = {
        "Files": f"{report.files:,}",
        "Done or in progress": f"{report.files_done:,}",
        "Skipped": f"{len(report.skipped):,}",
        "Batches": f"{report.batches:,}",
        **{f"Runs {status}": f"{number:,}" for status, number in sorted(report.runs.items())},
        "Documents": f"{census.documents:,}",
        "Failed fields": f"{sum(counts.failed for counts in census.fields.values()):,}",
        "Needs review": f"{census.needs_review:,}",
    }
    notes = [note(text) for text in report.notes[:20]]
    return section("done", "Summary", facts(done, "tiles"), *notes)


# The timeline


def _batch_columns() -> list[Column]:
    phases = [Column(name, "seconds", down=True) for name in PHASE_NAMES]
    return [
        Column("Batch", "id"),
        Column("Run", "id"),
        Column("Status", "word"),
        Column("Files", "number", down=True),
        Column("Attempt", "number"),
        Column("Started (UTC)"),
        *phases,
    ]


def _batch_rows(bars: Sequence[Bar]) -> list[Sequence[Any]]:
    """Return the rows of the newest batches, as many as fit."""
    return fitting([_batch_row(bar) for bar in reversed(bars)], BATCHES_BYTES)[::-1]


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


def _timeline(bars: Sequence[Bar]) -> str:
    if not bars:
        return section("timeline", "Timeline", note("No run has been started yet."))
    totals = total_s(bars)
    names = [f"{name}, all batches" for name in PHASE_NAMES]
    spent = {name: _duration(totals[phase]) for name, phase in zip(names, PHASES, strict=True)}
    hint = note("Times come from the service. Some have whole seconds only, so short phases show as 0.")
    left_out = len(bars) - len(_batch_rows(bars))
    more = note(f"{count(left_out, 'earlier run')} left out to keep the page small.") if left_out else ""
    table = live_table("batches", "batches")
    return section("timeline", "Timeline", facts(spent), _draw(bars), table, more, hint)


def _draw(bars: Sequence[Bar]) -> str:
    timed = [bar for bar in bars if bar.begun_s][-plots.MAX_BARS :]
    if not timed or not plots.can_plot():
        return "" if not timed else note(NO_PLOTS)
    begun_s = min(bar.begun_s for bar in timed)
    longest_s = max([bar.begun_s - begun_s + sum(d or 0.0 for d in bar.durations_s()) for bar in timed])
    unit, seconds = ("hours", 3600) if longest_s > 7200 else ("minutes", 60) if longest_s > 120 else ("seconds", 1)
    rows = [
        [(bar.begun_s - begun_s) / seconds, *((duration or 0.0) / seconds for duration in bar.durations_s())]
        for bar in timed
    ]
    labels = [str(bar.batch or "?") for bar in timed]
    title = f"Batches, in {unit} since {_moment(begun_s):%Y-%m-%d %H:%M:%S} UTC"
    drawing = plots.draw_timeline(title, labels, rows, PHASE_NAMES)
    legend = "".join(f'<li class="{phase}">{name}</li>' for phase, name in zip(PHASES, PHASE_NAMES, strict=True))
    more = f"; the last {len(timed)} of {len(bars)}" if len(timed) < len(bars) else ""
    return (
        f'<figure><figcaption>{title}{more}</figcaption><ul class="legend">{legend}</ul>'
        f'<div class="timeline">{drawing}</div></figure>'
    )


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


def _problems(found: Facts) -> str:
    problems, census = _list_problems(found.report), found.census
    parts = ["<h3>Files and runs</h3>"]
    parts.append(live_table("problems", "files and runs") if problems else note("No skipped files, no failed runs."))
    parts.append("<h3>Fields</h3>")
    parts.append(live_table("failed", "fields that failed") if census.failed else note("No fields failed."))
    left_out = census.failed_left_out + len(problems) - len(fitting(problems, PROBLEMS_BYTES))
    parts.append(
        note(f"{left_out:,} more are not listed here. To list all, use runner status --json.") if left_out else ""
    )
    return section("problems", "Problems", *parts)


# Results


def _classes(census: Census) -> str:
    if not census.classes:
        return section("classes", "Documents by class", note("There are no documents yet."))
    ordered = sorted(census.classes.items(), key=lambda item: (-item[1].documents, item[0]))
    rows = [[name, counts.documents, counts.pages, counts.failed, counts.below] for name, counts in ordered]
    below = f"Below {census.threshold:.0%}"
    return section(
        "classes",
        "Documents by class",
        plain_table(["Class", "Documents", "Pages", "Failed fields", below], rows),
        note(f"Classes beyond the first {len(rows)} are counted together.") if OTHERS in census.classes else "",
    )


def _confidence(census: Census) -> str:
    if not census.fields:
        return section("confidence", "Confidence by field", note("There are no fields yet."))
    ordered = sorted(census.fields.items(), key=lambda item: (item[1].mean is None, item[1].mean, item[0]))
    columns = ["Field", "Times", "Failed"]
    if not census.has_confidence:
        rows = [[name, counts.documents, counts.failed] for name, counts in ordered]
        hint = note(
            'To see confidences, add "confidence" to [results] include in the spec, and apply again. Fetching is free.'
        )
        return section("confidence", "Fields", hint, plain_table(columns, rows))
    columns += ["Mean", "Lowest", f"Below {census.threshold:.0%}", *_bin_names()]
    rows = [_confidence_row(name, counts) for name, counts in ordered]
    drawn = ordered[:MAX_HISTOGRAMS]
    return section("confidence", "Confidence by field", _histograms(drawn), plain_table(columns, rows))


def _bin_names() -> list[str]:
    return ["< 50%", *(f"{tenth * 10} to {tenth * 10 + 10}%" for tenth in range(BINS // 2, BINS))]


def _confidence_row(name: str, counts: FieldCount) -> list[Any]:
    half = BINS // 2
    shares = ["" if share is None else f"{share:.1%}" for share in (counts.mean, counts.lowest)]
    return [name, counts.documents, counts.failed, *shares, counts.below, sum(counts.bins[:half]), *counts.bins[half:]]


def _histograms(fields: Sequence[tuple[str, FieldCount]]) -> str:
    if not plots.can_plot():
        return note(NO_PLOTS)
    figures = [
        f"<figure><h3>{show(name)}</h3>{plots.draw_histogram(f'Confidence of {name}', counts.bins)}</figure>"
        for name, counts in fields
        if counts.confidences
    ]
    caption = note("Documents by confidence of the model, in steps of 10%. The lowest mean comes first.")
    return "\n".join([caption, '<div class="histograms">', *figures, "</div>"])


def _documents(census: Census) -> str:
    below = f"Documents with a failed field, or with a fetched confidence below {census.threshold:.0%}."
    left = [f"To keep the page small, {census.rows_left_out:,} documents are left out"] * bool(census.rows_left_out)
    left += [f"The fields of {count(census.fields_left_out, 'document')} are left out"] * bool(census.fields_left_out)
    hint = note(". ".join(left) + ". For all, see documents.jsonl or runner results.") if left else ""
    look = live_table("documents", "documents that need review", only="look", sort=6, confidence=census.has_confidence)
    return "\n".join(
        [
            section("look", "Needs review", note(below), look),
            section("documents", "All documents", live_table("documents", "documents"), hint),
        ]
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
        "classes": {name: counts.documents for name, counts in census.classes.items()},
        "failed_fields": {name: counts.failed for name, counts in census.fields.items() if counts.failed},
    }
