"""Report the status of a job, as numbers, as text and as an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from aihub_runner.errors import RunnerError, worst_code
from aihub_runner.model import REVIEW_STATUS, Run, Scan, Shard, SkippedFile
from aihub_runner.plan.planner import (
    PAYS,
    Action,
    Goal,
    Plan,
    Work,
    find_attempt,
    missing_uploads,
)
from aihub_runner.state.store import State
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import are, count, render_size

if TYPE_CHECKING:
    from aihub_runner.results.documents import Tally

SHOWN = 10
DETAILS = 5
_HOW_TO_FETCH = "to fetch these results again, for free, pass --refetch"
_WHEN_REVIEWED = "apply again after the review, or pass --wait-for-review"
WHEN_LAPSED = "check that the folder exists; if it may be empty, set allow_empty = true in the spec"
_HOW_TO_LEAVE_OUT = 'exclude them with "!…" in files, or file types with [limits] on_unsupported = "ignore"'
_HOW_TO_RETRY = "to send refused files again, pass --retry-failed"


class Problem(Struct, frozen=True):
    """A problem to report, with the fields of a `RunnerError`."""

    message: str
    hint: str
    exit_code: int


def describe_error(error: RunnerError) -> Problem:
    """Return an error as a problem of the report."""
    return Problem(error.message, error.hint, error.exit_code)


class Drift(Struct, frozen=True):
    """A batch or a run that is not as it is recorded, by its id on the service.

    `found` is `GONE` only if that is sure; for a run it may also be the status that it has now.
    """

    kind: str
    id: str
    recorded: str
    found: str

    def render(self) -> str:
        """Render it in words."""
        return f"{self.kind} {self.id}: recorded as {self.recorded}, now {self.found}"


class Pages(Struct, frozen=True):
    """The pages of some files. `silent` is the number of files without a page count, `cost` is in your currency."""

    known: int = 0
    silent: int = 0
    cost: float | None = None

    @property
    def least(self) -> int:
        """The number of pages. A file without a page count counts as one page."""
        return self.known + self.silent

    def render(self) -> str:
        """Render them; empty if nothing is known and nobody asked for the cost."""
        if not self.known and self.cost is None:
            return ""
        unknown = f" and {count(self.silent, 'file')} without a page count" * bool(self.silent)
        least = "at least " * bool(self.silent)
        cost = "" if self.cost is None else f", cost {least}{self.cost:.2f}"
        return f"{count(self.known, 'page')}{unknown}{cost}"


def sum_pages(scan: Scan, paths: Iterable[str], unit_price: float | None) -> Pages:
    """Return the pages of files that were asked for theirs."""
    found = [scan.pages.get(path, 0) for path in paths]
    pages = Pages(sum(found), found.count(0))
    return pages if unit_price is None else replace(pages, cost=round(pages.least * unit_price, 2))


class Report(Struct, frozen=True):
    """The status of a job, after an apply or at any time.

    `input` is what is run where the files lie elsewhere; then `files` are those that its results name, and
    `has_input_run` says that it has a run that counts.
    """

    spec: str = ""
    name: str = ""
    files: int = 0
    files_done: int = 0
    files_left: int = 0
    files_unselected: int = 0
    files_uploaded: int = 0
    files_sent: int = 0
    bytes_sent: int = 0
    batches: int = 0
    runs: dict[str, int] = {}
    runs_deleted: int = 0
    runs_started: int = 0
    pages: str = ""
    retries: int = 0
    rate_limited: int = 0
    documents: int = 0
    documents_gone: int = 0
    field_errors: int = 0
    failed: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    idle: tuple[str, ...] = ()
    lapsed: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    without_documents: tuple[str, ...] = ()
    unknown_answers: tuple[str, ...] = ()
    unknown_runs: int = 0
    failed_runs: dict[str, str] = {}
    review: tuple[str, ...] = ()
    going: int = 0
    unfetched: int = 0
    unwritten: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    nothing_to_do: bool = False
    interrupted: bool = False
    applied: bool = True
    fake: bool = False
    results: str = ""
    seconds: float = 0.0
    upload_seconds: float = 0.0
    at_work: str = ""
    next: str = ""
    input: str = ""
    has_input_run: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code for the state of the job, not of one invocation. It is 6 while another apply runs."""
        codes = [problem.exit_code for problem in self.problems]
        codes += [130] * self.interrupted
        if self.at_work:
            return worst_code([6, *codes])
        codes += [7] * bool(self.unknown_runs)
        if not self.applied:
            return worst_code([6, *codes])
        answers = self.unanswered or self.without_documents or self.unknown_answers
        codes += [3] * bool(self.failed or self.skipped or self.lapsed or answers)
        codes += [6] * bool(self.going or self.review or self.unfetched or self.unwritten or self.files_left)
        return worst_code(codes)

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        values: dict[str, Any] = to_builtins(self)
        return values | {"exit_code": self.exit_code}


def _tally(state: State, shards: Sequence[Shard], scan: Scan, goal: Goal) -> Tally:
    from aihub_runner.results.documents import tally_documents  # a settled job has its report already
    from aihub_runner.results.reader import choose_runs

    return tally_documents(state, shards, choose_runs(shards, scan, goal), goal.include)


def describe(
    state: State, shards: Sequence[Shard], scan: Scan, plan: Plan, goal: Goal, tally: Tally | None = None
) -> Report:
    """Report runs and results from the recorded facts, and what is left from a plan made of them.

    `tally` is what the results hold, if it is known.
    """

    latest = [runs[-1] for shard in shards if (runs := shard.runs_of(goal.run_key)) and not runs[-1].is_given_up]
    tally = tally or _tally(state, shards, scan, goal)
    needs = Counter(work.action for work in plan.work)
    reviews = tuple(run.remote_id or "" for run in latest if run.status == REVIEW_STATUS)
    failed_runs = {run.remote_id or "": _describe_failed(run) for run in latest if run.has_failed}
    refused = [work for work in plan.work if work.action is Action.FIND_RUN and _is_refused(work, goal)]
    return Report(
        files_done=plan.done,
        files_left=sum(len(work.shard.members) for work in plan.work if work.action in PAYS or work in refused),
        files_uploaded=sum(
            len(work.shard.members) - len(missing_uploads(work.shard, goal.target))
            for work in plan.work
            if work.action in PAYS and not goal.follows  # a batch that is kept is changed first
        ),
        batches=len({one.remote_id for shard in shards for one in shard.batches if one.remote_id and not one.is_gone}),
        runs=dict(Counter(run.status or ("REFUSED" if run.refused else "UNKNOWN") for run in latest)),
        runs_deleted=sum(run.is_gone and run.is_deleted for run in latest),
        documents=tally.documents,
        documents_gone=tally.gone,
        field_errors=tally.field_errors,
        failed=plan.failed,
        failed_runs=failed_runs if plan.failed else {},
        unanswered=tally.missing,
        without_documents=tally.empty,
        unknown_answers=tally.unknown,
        unknown_runs=needs[Action.FIND_RUN] - len(refused),
        review=reviews,
        going=needs[Action.POLL] - len(reviews),
        unfetched=needs[Action.FETCH],
    )


def _describe_failed(run: Run) -> str:
    if run.is_gone:
        return f"{run.status or 'started'}, deleted from the server before its results were fetched"
    return f"{run.status}, {run.message or 'no message'}"


def _is_refused(work: Work, goal: Goal) -> bool:
    """Whether the service refused to start the run. Apply checks that it does not exist."""
    run = find_attempt(work.shard, goal.run_key, work.attempt)
    return run is not None and bool(run.refused)


def at_work(report: Report, holder: str) -> Report:
    """Mark a report as in progress: while an apply runs, open runs are being started, not unconfirmed."""
    runs = Counter(report.runs)
    going = runs.pop("UNKNOWN", 0)
    return replace(
        report,
        at_work=holder,
        runs=dict(runs + Counter({"being started": going})),
        unknown_runs=0,
        going=report.going + report.unknown_runs,
    )


def render_report(report: Report, *, applied: bool = True, verbose: bool = False) -> str:
    """Render a report as text, a line per fact. `applied` adds what this apply did, `verbose` lists all items."""
    show = Lines(verbose)
    where = " on the FAKE AI Hub" if report.fake else ""
    what, done = _head(report)
    if report.nothing_to_do:
        done = f"nothing to do{where}; {done}"
    show.lines.append(f"{report.spec}: {what}, {done}{'' if report.nothing_to_do else where}")
    show.listed("now", [report.at_work] * bool(report.at_work))
    _render_done(report, show, applied=applied and not report.nothing_to_do)
    _render_problems(report, show)
    show.listed("results", [report.results] * bool(report.results))
    if report.interrupted:
        sent = f"{count(report.files_sent, 'file')} ({render_size(report.bytes_sent)}) sent"
        started = f"{count(report.runs_started, 'run')} started"
        if report.unknown_runs:
            started += f", {count(report.unknown_runs, 'start')} unconfirmed; the next apply checks before it pays"
        show.lines.append(f"{report.spec}: interrupted after {sent}, {started}")
        show.lines.append(f"  {'continue':<10} {report.next}")
    return "\n".join(show.lines)


def _head(report: Report) -> tuple[str, str]:
    """Return what a job is about, and how much of it is done."""
    files = count(report.files, "file")
    if not report.input:
        return files, f"{report.files_done} done or in progress"
    what = escape_control_chars(report.input) + f" ({files} in its results)" * bool(report.files)
    failed = "failed" if report.failed else "not run yet"
    return what, "done or in progress" if report.has_input_run else failed


def render_briefly(report: Report) -> str:
    """Render a report as one line, with the number of files and runs that are not done."""
    numbers = {
        "not done": len(report.failed),
        "skipped": len(report.skipped),
        "left": report.files_left,
        "without results": len(report.unanswered) + len(report.without_documents),
    }
    parts = [*_head(report)]
    parts += [f"{number} {what}" for what, number in numbers.items() if number]
    runs = {"unconfirmed": report.unknown_runs, "in progress": report.going, "in review": len(report.review)}
    parts += [f"{count(number, 'run')} {what}" for what, number in runs.items() if number]
    parts += ["interrupted"] * report.interrupted + [report.at_work] * bool(report.at_work)
    return escape_control_chars(f"{report.spec}: {', '.join(parts)}") + " on the FAKE AI Hub" * report.fake


class Lines:
    """Lines of text, each with a title."""

    def __init__(self, verbose: bool) -> None:
        self.lines: list[str] = []
        self._verbose = verbose

    def listed(self, title: str, items: Sequence[str], hint: str = "") -> None:
        """Add the first items, or all of them, and a hint that applies to all."""
        shown = items if self._verbose else items[:SHOWN]
        self.lines += [f"  {title:<10} {escape_control_chars(item)}" for item in shown]
        more = len(items) - len(shown)
        self.lines += [f"  {'':<10} and {more} more; to list all, pass -v"] * (more > 0)
        self.lines += [f"  {'hint':<10} {hint}"] * bool(items and hint)

    def skipped(self, items: Sequence[SkippedFile]) -> None:
        """Add the skipped files. Files with the same reason share a line."""
        by_reason: dict[str, list[SkippedFile]] = {}
        for item in items:
            by_reason.setdefault(item.reason, []).append(item)
        lines = []
        for of_reason in by_reason.values():
            if self._verbose or len(of_reason) == 1:
                lines += [f"{item.path}: {because(item)}" for item in of_reason]
            else:
                lines.append(_sum_up(of_reason))
        self.listed("skipped", lines, hint_skipped(items))


def hint_skipped(items: Sequence[SkippedFile]) -> str:
    """Return what to do about skipped files."""
    reasons = {item.reason for item in items}
    return "; or ".join([_HOW_TO_RETRY] * ("refused" in reasons) + [_HOW_TO_LEAVE_OUT] * bool(reasons))


def because(item: SkippedFile) -> str:
    return f"{item.reason}, {item.detail}" if item.detail else item.reason


def _sum_up(items: Sequence[SkippedFile]) -> str:
    return f"{items[0].path} and {len(items) - 1} more: {explain_skipped(items)}; to list all, pass -v"


def explain_skipped(items: Sequence[SkippedFile]) -> str:
    """Return why files with the same reason are skipped, with the most common details."""
    details = Counter(item.detail for item in items if item.detail)
    many = len(items) > 1
    shown = [f"{detail} ({number})" if many else detail for detail, number in details.most_common(DETAILS)]
    return ", ".join([items[0].reason, *shown]) + " …" * (len(details) > DETAILS)


def _render_done(report: Report, show: Lines, *, applied: bool) -> None:
    """Add the lines about batches, runs and documents that exist."""
    if applied and report.files_sent:
        took = f" in {report.upload_seconds:.1f} s" if report.upload_seconds else ""
        show.listed("sent", [f"{count(report.files_sent, 'file')} ({render_size(report.bytes_sent)}){took}"])
    if report.nothing_to_do:
        return
    show.listed("batches", [str(report.batches)] * bool(report.batches))
    runs = ", ".join(f"{number} {status}" for status, number in sorted(report.runs.items()))
    runs += f", {report.runs_deleted} deleted from the service" * bool(report.runs_deleted)
    pages = f", {report.pages}" * bool(report.pages)
    started = f" ({report.runs_started} started now{pages})" if applied and report.runs_started else ""
    show.listed("runs", [runs + started] * bool(runs))
    gone = f" ({report.documents_gone} of removed files)" if report.documents_gone else ""
    errors = f", {count(report.field_errors, 'field')} with errors" if report.field_errors else ""
    show.listed("documents", [f"{report.documents}{gone}{errors}"] * bool(report.documents))


def _render_problems(report: Report, show: Lines) -> None:
    show.skipped(report.skipped)
    show.listed("pattern", report.idle, WHEN_LAPSED * bool(report.lapsed))
    show.listed("failed", [f"run {run}: {text}" for run, text in report.failed_runs.items()])
    show.listed("not done", report.failed, "to run them again, which is paid, pass --retry-failed")
    show.listed("unanswered", report.unanswered, _HOW_TO_FETCH)
    show.listed("no results", [f"{path}: the results contain no document" for path in report.without_documents])
    show.listed("unexpected", report.unknown_answers)
    show.listed("review", [f"run {run} waits for a person's review" for run in report.review], _WHEN_REVIEWED)
    uploaded = f", {report.files_uploaded} of them {are(report.files_uploaded)} uploaded" * bool(report.files_uploaded)
    left = {"file": (report.files_left, "to run" + uploaded), "run": (report.going, "in progress")}
    left |= {"results file": (report.unwritten, "to write again")}
    left |= {"fetch": (report.unfetched, "of results"), "check": (report.unknown_runs, "for an unconfirmed run")}
    show.listed("left", [f"{count(number, what)} {rest}" for what, (number, rest) in left.items() if number])
    if report.files_unselected:
        show.listed("left", [f"{count(report.files_unselected, 'file')} that --only or --limit did not select"])
    show.listed("drift", [drift.render() for drift in report.drift])
    show.listed("warning", report.warnings)
    show.listed("note", report.notes)


def render_files(scan: Scan, idle: Sequence[str], *, verbose: bool) -> str:
    """Render the files that a spec selects. The text continues the line about the spec."""
    show = Lines(verbose)
    show.skipped(scan.skipped)
    show.listed("pattern", idle)
    return "\n".join([f", {count(len(scan.sources), 'file')} to send", *show.lines])
