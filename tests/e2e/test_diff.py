"""Differences between two runs, or two versions of an app, from local results."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.made_results import MadeFile, make_job, make_results

from .conftest import Project


def field(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"field_name": name, "value": value, "type": "TEXT", **more}


def document(*fields: dict[str, Any], kind: str | None = "Invoice") -> dict[str, Any]:
    return {"class_name": kind, "page_numbers": [1], "fields": list(fields)}


BEFORE = {
    "in/a.txt": [document(field("total", "1.00"), field("line", "x"), field("line", "y"), field("gone", "1"))],
    "in/b.txt": [document(field("total", "2.00")), document(field("total", "3.00"))],
    "in/c.txt": [document(field("total", "4.00"))],
}
AFTER = {
    "in/a.txt": [document(field("total", "1.00"), field("line", "x"), field("line", "z"), field("new", "2"))],
    "in/b.txt": [document(field("total", None, error_msg="none\x1b[31m"), kind="Receipt")],
    "in/d.txt": [document(field("total", "4.00"))],
}


@pytest.fixture
def two(project: Project) -> Project:
    """A job whose files were answered by two versions of an app."""
    for version, answers, run in (("1.0", BEFORE, "old"), ("2.0", AFTER, "new")):
        job = make_job(project.folder, version)
        paths = list(answers)
        make_results(
            job,
            len(paths),
            lambda n, a=answers, p=paths: MadeFile(p[n], a[p[n]], p[n].encode()),
            run=f"{run}-{{}}".format,
        )
    project.env |= {"AIHUB_API_KEY": None}
    return project


def diff(project: Project, *args: str) -> Any:
    return project.run("diff", "--fake", *args)


@pytest.mark.parametrize("sides", [("--version", "1.0", "--version", "2.0"), ("--run", "old-0", "--run", "new-1")])
def test_diff_counts_what_changed_appeared_and_vanished(two: Project, sides: tuple[str, ...]) -> None:
    outcome = diff(two, *sides, "--json")
    found = outcome.json
    assert outcome.code == 0
    assert found["files"] == 2
    assert (found["only_before"], found["only_after"]) == (["in/c.txt"], ["in/d.txt"])
    assert found["fields"] == {
        "gone": {"vanished": 1},
        "line": {"same": 1, "changed": 1},
        "new": {"appeared": 1},
        "total": {"same": 1, "changed": 1, "vanished": 1},
    }
    changed = [(c["path"], c["field"], c["occurrence"], c["kind"]) for c in found["changes"]]
    assert changed[0] == ("in/a.txt", "line", 1, "changed")
    assert [(c["path"], c["document_index"], c["kind"]) for c in found["classes"]] == [
        ("in/b.txt", 0, "changed"),
        ("in/b.txt", 1, "vanished"),
    ]
    assert two.fake.journal == []


def test_diff_is_told_in_words_without_control_characters(two: Project) -> None:
    text = diff(two, "--version", "1.0", "--version", "2.0").out
    assert "in/a.txt [0] line [1]: 'y' (TEXT) → 'z' (TEXT)" in text
    assert "\x1b" not in text
    assert r"error: none\x1b[31m" in text


def test_diff_of_a_version_with_itself_finds_nothing(two: Project) -> None:
    found = diff(two, "--version", "2.0", "--version", "2.0", "--json").json
    assert (found["changes"], found["classes"], found["files"]) == ([], [], 3)


def test_diff_prefers_results_of_the_same_bytes(two: Project) -> None:
    job = make_job(two.folder, "2.0")
    make_results(
        job, 1, lambda _: MadeFile("in/a.txt", [document(field("total", "9"))], b"changed"), run="late-{}".format
    )
    by_version = diff(two, "--version", "1.0", "--version", "2.0", "--json").json
    assert by_version["other_bytes"] == []
    by_run = diff(two, "--run", "old-0", "--run", "late-2", "--json").json
    assert by_run["other_bytes"] == ["in/a.txt"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--run", "old-0", "--run", "nope"), "no results of run nope, only of: new-1, old-0"),
        (("--version", "1.0", "--version", "3"), "no results of version 3, only of: version 1.0, version 2.0"),
    ],
)
def test_diff_of_what_is_not_here_names_what_is(two: Project, args: tuple[str, ...], told: str) -> None:
    outcome = diff(two, *args)
    assert outcome.code == 2
    assert told in outcome.err


def test_diff_without_sides_compares_the_last_two_runs_of_the_same_files(two: Project) -> None:
    assert diff(two, "--json").json == diff(two, "--run", "old-0", "--run", "new-1", "--json").json


def test_diff_without_two_runs_of_the_same_file_lists_what_there_is(project: Project) -> None:
    project.write_files(2)
    assert "has no results yet" in project.run("diff").err
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 1")
    project.apply()
    outcome = project.run("diff")
    newest_first = ", ".join(run["id"] for run in reversed(project.fake.runs()))
    assert (outcome.code, f"there are: {newest_first}\n" in outcome.err) == (2, True), outcome.err
    project.apply("--again")
    assert project.run("diff").code == 0


def test_diff_of_one_side_only_is_refused(two: Project) -> None:
    from click.testing import CliRunner

    from aihub_runner.cli.main import cli

    for args in (["--run", "old-0"], ["--run", "a", "--version", "b"]):
        result = CliRunner().invoke(cli, ["diff", str(two.spec_path), "--fake", *args])
        assert result.exit_code == 2
        assert "pass --run twice" in result.stderr


def test_diff_by_the_command_line_after_another_version_was_applied(project: Project) -> None:
    project.write_files(2)
    project.apply()
    project.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')
    project.apply()
    project.forget_requests()
    page = project.folder / "diff.html"
    outcome = project.run("diff", "--version", "", "--version", "2.0", "--html", str(page))
    assert outcome.code == 0, outcome.text
    assert "2 compared, 0 differ" in outcome.out
    assert page.stat().st_mode & 0o777 == 0o600
    assert project.fake.journal == []
    assert json.loads(Path(project.folder / "diff.html").read_text().split('id="data">')[1].split("</script>")[0])


def test_diff_page_beside_the_report_is_a_page_of_it(two: Project) -> None:
    results = two.folder / "job.fake" / "results"
    page = results / 'diff of "1" & 2.html'
    assert diff(two, "--version", "1.0", "--version", "2.0", "--html", str(page)).code == 0
    assert two.run("report", "--fake").code == 0
    report = (results / "report.html").read_text()
    assert '<a href="./diff%20of%20%221%22%20%26%202.html">diff of &#34;1&#34; &amp; 2</a>' in report
    page.unlink()
    assert two.run("report", "--fake").code == 0
    assert "diff%20of" not in (results / "report.html").read_text()


def compared(project: Project, before: list[dict[str, Any]], after: list[dict[str, Any]], *args: str) -> Any:
    """Compare two answers to one file."""
    for version, answer, run in (("1.0", before, "old"), ("2.0", after, "new")):
        job = make_job(project.folder, version)
        make_results(job, 1, lambda _, a=answer: MadeFile("in/a.txt", a, b"a"), run=f"{run}-{{}}".format)
    project.env |= {"AIHUB_API_KEY": None}
    return diff(project, "--version", "1.0", "--version", "2.0", *args)


def invoice(number: int) -> dict[str, Any]:
    return document(field("number", str(number)), field("total", f"{number * 7 % 5}.00"))


def test_document_in_front_is_the_only_one_that_differs(project: Project) -> None:
    before = [invoice(number) for number in range(50)]
    found = compared(project, before, [invoice(-1), *before], "--json").json
    assert [(c["document_index"], c["kind"]) for c in found["classes"]] == [(0, "appeared")]
    assert {(c["document_index"], c["kind"]) for c in found["changes"]} == {(0, "appeared")}
    assert (found["documents"], found["documents_changed"]) == (51, 1)


def test_document_that_changed_is_found_behind_one_in_front(project: Project) -> None:
    before = [invoice(number) for number in range(9)]
    after = [invoice(-1), *(document(*one["fields"], field("new", "x")) for one in before)]
    after[5]["fields"][1] = field("total", "other")
    outcome = compared(project, before, after, "--json")
    changed = [c for c in outcome.json["changes"] if c["kind"] == "changed"]
    assert [(c["field"], c["document_index"], c["document_index_before"]) for c in changed] == [("total", 5, 4)]
    assert outcome.json["fields"]["number"] == {"same": 9, "appeared": 1}


def test_row_in_front_is_the_only_one_that_differs(project: Project) -> None:
    rows = [field("line", f"item {number}") for number in range(30)]
    after = [field("line", "new"), *rows[:20], field("line", "item 20 more"), *rows[21:]]
    outcome = compared(project, [document(*rows)], [document(*after)], "--json")
    told = [(c["kind"], c["occurrence"], c["occurrence_before"]) for c in outcome.json["changes"]]
    assert told == [("appeared", 0, None), ("changed", 21, 20)]
    text = diff(project, "--version", "1.0", "--version", "2.0").out
    assert "in/a.txt [0] line [20→21]: 'item 20' (TEXT) → 'item 20 more' (TEXT)" in text


LONG = "word " * 200
APART: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (field("f", f"{LONG}1.00 EUR"), field("f", f"{LONG}2.00 EUR")),
    (field("f", f"{LONG}1.00 {LONG}"), field("f", f"{LONG}2.00 {LONG}")),
    (field("f", "a b"), field("f", "a\u00a0b")),
    (field("f", "a b"), field("f", "a  b")),
    (field("f", None), field("f", "")),
    (field("f", 1), field("f", "1")),
    (field("f", None), field("f", "null")),
    (field("f", "x", error_msg=f"{LONG}1"), field("f", "x", error_msg=f"{LONG}2")),
    (field("f", "x", error_msg="same"), field("f", "y", error_msg="same")),
    (field("f", "x", error_msg=None), field("f", "x", error_msg="")),
    (field("f", "x") | {"type": "T" * 50 + "A"}, field("f", "x") | {"type": "T" * 50 + "B"}),
    (field("f", "x") | {"type": None}, field("f", "x") | {"type": ""}),
    (field("f", {"a": [LONG, 1]}), field("f", {"a": [LONG, 2]})),
]


@pytest.mark.parametrize(("before", "after"), APART, ids=range(len(APART)))
def test_what_differs_is_seen_in_words_and_on_the_page(
    project: Project, before: dict[str, Any], after: dict[str, Any]
) -> None:
    outcome = compared(project, [document(before)], [document(after)], "--html", "page.html")
    [line] = [line for line in outcome.out.splitlines() if "in/a.txt [0] f: " in line]
    left, right = line.split(" f: ")[1].split(" → ")
    assert left != right
    page = Path("page.html").read_text().split('id="data">')[1].split("</script>")[0]
    *_, left, right = json.loads(page)["tables"]["changes"]["rows"][0]
    assert " ".join(str(left).split()) != " ".join(str(right).split())  # as a browser shows it


def test_classes_and_names_of_fields_that_differ_late_are_told_apart(project: Project) -> None:
    before = document(field(f"{LONG}a", "1"), field(f"{LONG}b", "1"), kind=f"{LONG}1")
    after = document(field(f"{LONG}a", "2"), field(f"{LONG}b", "2"), kind=f"{LONG}2")
    outcome = compared(project, [before], [after], "--html", "page.html")
    told = [line for line in outcome.out.splitlines() if "in/a.txt [0]" in line]
    left, right = told[0].split(" class: ")[1].split(" → ")
    assert (left[-1], right[-1]) == ("1", "2")
    assert len({line.split(": ")[0] for line in told}) == 3


def test_diff_of_a_version_without_results_does_not_name_it_among_those_that_have_some(two: Project) -> None:
    job = make_job(two.folder, "3.0")
    with closing(sqlite3.connect(job.state_path)) as state, state:
        state.execute("INSERT INTO run_keys VALUES (?, ?)", (job.goal.run_key, json.dumps(job.goal.settings)))
    outcome = diff(two, "--version", "1.0", "--version", "3.0")
    assert outcome.code == 2
    assert "no results of version 3.0, only of: version 1.0, version 2.0\n" in outcome.err
