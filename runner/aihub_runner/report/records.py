"""What an apply leaves for CI: JUnit, a summary in Markdown, and annotations of GitHub. Foreign text stays text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from aihub_runner.errors import EXIT_CODES
from aihub_runner.report.summary import SHOWN, Report, because
from aihub_runner.text.shown import count
from aihub_runner.text.sinks import escape_annotation, escape_markdown, escape_property, escape_xml


class Case(Struct, frozen=True):
    """Something that may have gone wrong: a file, or a problem of the job. `verdict`: passed, failed or skipped."""

    name: str
    verdict: str
    text: str = ""


class Suite(Struct, frozen=True):
    """What came of one spec."""

    spec: str
    exit_code: int
    cases: Sequence[Case]
    seconds: float = 0.0

    def count(self, verdict: str) -> int:
        """Count the cases with a verdict."""
        return sum(case.verdict == verdict for case in self.cases)


def list_cases(report: Report) -> Suite:
    """Return what came of an apply: its problems, each file that is not done, and the rest as one."""
    return Suite(report.spec, report.exit_code, list(_list_cases(report)), report.seconds)


def _list_cases(report: Report) -> Iterator[Case]:
    yield Case(f"{count(report.files_done, 'file')} done or in progress", "passed")
    for problem in report.problems:
        yield Case("apply", "failed", f"{problem.message}; {problem.hint}" if problem.hint else problem.message)
    why = "; ".join(f"run {run}: {text}" for run, text in report.failed_runs.items()) or "its run failed"
    for path in report.failed:
        yield Case(path, "failed", why)
    lacking = {"no answer": report.unanswered, "the results contain no document": report.without_documents}
    for text, paths in lacking.items():
        yield from (Case(path, "failed", text) for path in paths)
    yield from (Case("results", "failed", text) for text in report.unknown_answers)
    for item in report.skipped:
        yield Case(item.path, "skipped", because(item))
    if report.unknown_runs:
        yield Case("runs", "failed", f"{count(report.unknown_runs, 'start')} unconfirmed")


def render_junit(suites: Sequence[Suite]) -> Iterator[bytes]:
    """Render the outcomes of several specs as one JUnit file."""
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="aihub-runner">\n'
    for suite in suites:
        yield "".join(_render_suite(suite)).encode()
    yield b"</testsuites>\n"


def _render_suite(suite: Suite) -> Iterator[str]:
    name = escape_xml(suite.spec)
    counts = f'tests="{len(suite.cases)}" failures="{suite.count("failed")}" skipped="{suite.count("skipped")}"'
    yield f'  <testsuite name="{name}" {counts} errors="0" time="{suite.seconds:.1f}">\n'
    for case in suite.cases:
        tag = {"failed": "failure", "skipped": "skipped"}.get(case.verdict)
        inner = f'<{tag} message="{escape_xml(case.text)}"/>' if tag else ""
        yield f'    <testcase classname="{name}" name="{escape_xml(case.name)}">{inner}</testcase>\n'
    yield "  </testsuite>\n"


def render_step_summary(suite: Suite) -> str:
    """Render the outcome of a spec as Markdown, for the page of a workflow."""
    bad = [case for case in suite.cases if case.verdict != "passed"]
    lines = [
        f"### {escape_markdown(suite.spec)}: exit code {suite.exit_code}",
        "",
        f"{EXIT_CODES[suite.exit_code]}",
        "",
    ]
    lines += [f"- {escape_markdown(case.name)}" for case in suite.cases if case.verdict == "passed"]
    lines += [f"- {case.verdict}: {escape_markdown(case.name)} {escape_markdown(case.text)}" for case in bad[:SHOWN]]
    lines += [f"- and {len(bad) - SHOWN} more"] * (len(bad) > SHOWN)
    return "\n".join(lines) + "\n\n"


def render_annotations(suite: Suite) -> list[str]:
    """Render what went wrong as commands of GitHub, each a line: errors, and warnings for what is skipped."""
    bad = [case for case in suite.cases if case.verdict in _LEVELS]
    return [_annotate(suite.spec, case) for case in bad[:SHOWN]]


_LEVELS = {"failed": "error", "skipped": "warning"}


def _annotate(spec: str, case: Case) -> str:
    text = escape_annotation(f"{case.name}: {case.text}")
    return f"::{_LEVELS[case.verdict]} title={escape_property(spec)}::{text}"
