"""What differs between two runs, or two versions of an app, by what is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from made_results import MadeFile, make_job, make_results

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
        (("--run", "old-0", "--run", "nope"), "no results of run nope are here, only of: new-1, old-0"),
        (("--version", "1.0", "--version", "3"), "no results of version 3 are here, only of: version 1.0, version 2.0"),
    ],
)
def test_diff_of_what_is_not_here_names_what_is(two: Project, args: tuple[str, ...], told: str) -> None:
    outcome = diff(two, *args)
    assert outcome.code == 2
    assert told in outcome.err


def test_diff_of_one_side_only_is_refused(two: Project) -> None:
    from click.testing import CliRunner

    from runner.cli import cli

    for args in (["--run", "old-0"], ["--run", "a", "--version", "b"], []):
        result = CliRunner().invoke(cli, ["diff", str(two.spec_path), "--fake", *args])
        assert result.exit_code == 2
        assert "give --run twice" in result.stderr


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
    assert '<a href="./diff%20of%20%221%22%20%26%202.html">diff of &quot;1&quot; &amp; 2</a>' in report
    page.unlink()
    assert two.run("report", "--fake").code == 0
    assert "diff%20of" not in (results / "report.html").read_text()
