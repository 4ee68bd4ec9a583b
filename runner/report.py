"""Say in numbers and words how a job stands, and which exit code that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from runner.errors import RunnerError
from runner.jsonl import tally_documents
from runner.model import REVIEW_STATUS, Scan, SetAside, Shard
from runner.pages import find_lost, lost_error
from runner.plan import PAYS, Need, Plan, Want, Work
from runner.progress import render_size
from runner.shown import make_visible
from runner.state import State

PRECEDENCE = (130, 1, 5, 7, 4, 3, 2, 6, 0)
SHOWN = 10
_WHEN_REVIEWED = "apply again when that is done, or with --wait-for-review"
_HOW_TO_LEAVE_OUT = 'leave them out with "!…" in files; [limits] on_unsupported = "ignore" is for types'


def count(number: int, thing: str) -> str:
    """Say how many there are of a thing that forms its plural with an s, or, for `batch`, with es."""
    return f"{number} {thing}" + ("" if number == 1 else "es" if thing.endswith("h") else "s")


def worst_code(codes: Iterable[int]) -> int:
    """Choose the exit code that tells most: the first that fits, in the order of the rules."""
    present = set(codes)
    return next(code for code in PRECEDENCE if code in present or code == 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person must be told of, as `RunnerError` has it."""

    message: str
    hint: str
    exit_code: int


def describe_error(error: RunnerError) -> Problem:
    """Describe an error for the report."""
    return Problem(error.message, error.hint, error.exit_code)


@dataclass(frozen=True, slots=True)
class Report:
    """How a job stands after an apply or by itself."""

    spec: str = ""
    name: str = ""
    files: int = 0
    files_done: int = 0
    files_left: int = 0
    files_sent: int = 0
    bytes_sent: int = 0
    batches: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    runs_started: int = 0
    documents: int = 0
    documents_gone: int = 0
    field_errors: int = 0
    failed: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    unanswered: tuple[str, ...] = ()
    without_documents: tuple[str, ...] = ()
    unknown_answers: tuple[str, ...] = ()
    unknown_runs: int = 0
    failed_runs: dict[str, str] = field(default_factory=dict)
    review: tuple[str, ...] = ()
    going: int = 0
    unfetched: int = 0
    unwritten: int = 0
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    nothing_to_do: bool = False
    interrupted: bool = False
    fake: bool = False
    results: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """The state of the job, not of one invocation."""
        codes = [problem.exit_code for problem in self.problems]
        codes += [130] * self.interrupted
        codes += [7] * bool(self.unknown_runs)
        answers = self.unanswered or self.without_documents or self.unknown_answers
        codes += [3] * bool(self.failed or self.set_aside or answers)
        codes += [6] * bool(self.going or self.review or self.unfetched or self.unwritten or self.files_left)
        return worst_code(codes)

    def as_json(self) -> dict[str, Any]:
        """Give everything as values that JSON can carry."""
        return asdict(self) | {"exit_code": self.exit_code}


def describe(state: State, shards: Sequence[Shard], scan: Scan, plan: Plan, want: Want) -> Report:
    """Describe runs and results by the recorded facts, and what is left by a plan made of them."""
    latest = [runs[-1] for shard in shards if (runs := shard.runs_of(want.run_key)) and not runs[-1].is_given_up]
    tally = tally_documents(state, shards, scan, want)
    needs = Counter(work.need for work in plan.work)
    reviews = tuple(run.remote_id or "" for run in latest if run.status == REVIEW_STATUS)
    failed_runs = {
        run.remote_id or "": f"{run.status}, {run.message or 'no message'}" for run in latest if run.has_failed
    }
    return Report(
        files_done=plan.done,
        files_left=sum(len(work.shard.members) for work in plan.work if work.need in PAYS),
        batches=sum(batch.remote_id is not None for shard in shards for batch in shard.batches),
        runs=dict(Counter(run.status or "UNKNOWN" for run in latest)),
        documents=tally.documents,
        documents_gone=tally.gone,
        field_errors=tally.field_errors,
        failed=plan.failed,
        failed_runs=failed_runs if plan.failed else {},
        unanswered=tally.missing,
        without_documents=tally.empty,
        unknown_answers=tally.unknown,
        unknown_runs=needs[Need.FIND_RUN],
        review=reviews,
        going=needs[Need.POLL] - len(reviews),
        unfetched=needs[Need.FETCH],
        problems=tuple(map(describe_error, map(lost_error, find_lost(shards, want)))),
    )


def render_report(report: Report, *, applied: bool = True) -> str:
    """Render a report for people, a line per fact that is not as expected; `applied` adds what was just done."""
    lines = []
    where = " on the FAKE AI Hub" if report.fake else ""
    if report.nothing_to_do:
        lines.append(f"{report.spec}: nothing to do{where}")
    runs = ", ".join(f"{number} {make_visible(status)}" for status, number in sorted(report.runs.items())) or "none"
    lines.append(f"{report.spec}: {count(report.files, 'file')}, {report.files_done} done or under way{where}")
    if applied:
        sent = f"{count(report.files_sent, 'file')} ({render_size(report.bytes_sent)}) in {report.seconds} s"
        lines.append(f"  sent       {sent}")
    lines += [
        f"  batches    {report.batches}",
        f"  runs       {runs}" + f" ({report.runs_started} started now)" * applied,
        f"  documents  {_render_documents(report)}",
    ]
    lines += _render_problems(report)
    return "\n".join(lines + [f"  results    {report.results}"] * bool(report.results))


def _render_documents(report: Report) -> str:
    gone = f" ({report.documents_gone} of files that are gone)" if report.documents_gone else ""
    return f"{report.documents}{gone}, fields with errors {report.field_errors}"


def _render_problems(report: Report) -> list[str]:
    lines = _render_aside(report.set_aside)
    lines += _listed("failed", [f"run {run}: {text}" for run, text in report.failed_runs.items()])
    lines += _listed("not done", report.failed, "--retry-failed pays for them again")
    lines += _listed("unanswered", report.unanswered)
    lines += _listed("no results", [f"{path}: answered, with no document" for path in report.without_documents])
    lines += _listed("unexpected", report.unknown_answers)
    lines += _listed("review", [f"run {run} waits for a person" for run in report.review], _WHEN_REVIEWED)
    left = {"file": (report.files_left, "to run"), "run": (report.going, "going on")}
    left |= {"results file": (report.unwritten, "to write again")}
    left |= {"fetch": (report.unfetched, "of results"), "look": (report.unknown_runs, "for a run of unknown outcome")}
    lines += _listed("left", [f"{count(number, what)} {rest}" for what, (number, rest) in left.items() if number])
    lines += _listed("warning", report.warnings)
    return lines + _listed("note", report.notes)


def _render_aside(items: Sequence[SetAside]) -> list[str]:
    return _listed("set aside", [f"{item.path}: {_because(item)}" for item in items], _HOW_TO_LEAVE_OUT)


def _because(item: SetAside) -> str:
    return f"{item.reason}, {item.detail}" if item.detail else item.reason


def _listed(title: str, items: Sequence[str], hint: str = "") -> list[str]:
    """List the first of some items, and under them what to do about all of them."""
    shown = [f"  {title:<10} {make_visible(item)}" for item in items[:SHOWN]]
    more = len(items) - SHOWN
    shown += [f"  {'':<10} and {more} more; --json lists all"] * (more > 0)
    return shown + [f"  {'hint':<10} {hint}"] * bool(items and hint)


def render_plan(name: str, plan: Plan, scan: Scan, target: str) -> str:
    """Render what applying would do, with the reason for each batch and run."""
    sent = plan.uploads(target)
    size = render_size(sum(member.size for member in sent))
    lines = [
        f"{name}: {count(len(scan.sources) + len(scan.set_aside), 'file')}, {plan.done} done or under way",
        f"  to send    {count(len(sent), 'file')} ({size})",
        f"  to create  {count(plan.batches_to_create, 'batch')}",
        f"  to pay     {count(plan.runs_to_pay, 'run')}",
    ]
    lines += _listed("because", [_describe_work(work) for work in plan.work])
    lines += _listed("moved", [f"{move.old} is now {move.new}" for move in plan.moves])
    lines += _listed("failed", [f"{path}: not paid for again without --retry-failed" for path in plan.failed])
    lines += _render_aside(scan.set_aside)
    return "\n".join(lines + _listed("note", plan.notes))


def _describe_work(work: Work) -> str:
    members = work.shard.members
    shown = (members[0].path or members[0].name) + " …" * (len(members) > 1) if members else "none"
    return f"{count(len(members), 'file')} ({shown}): {work.reason}; next: {work.need.value}"


def plan_as_json(name: str, plan: Plan, scan: Scan, target: str) -> dict[str, Any]:
    """Give a plan as values that JSON can carry."""
    sent = plan.uploads(target)
    return {
        "spec": name,
        "files": len(scan.sources),
        "done": plan.done,
        "send": [member.path for member in sent],
        "send_bytes": sum(member.size for member in sent),
        "batches": plan.batches_to_create,
        "runs": plan.runs_to_pay,
        "open_intents": plan.open_intents,
        "work": [
            {"files": len(work.shard.members), "attempt": work.attempt, "next": work.need.value, "reason": work.reason}
            for work in plan.work
        ],
        "moved": [asdict(move) for move in plan.moves],
        "failed": list(plan.failed),
        "set_aside": [asdict(item) for item in scan.set_aside],
        "notes": list(plan.notes),
    }
