"""`runner validate`: mistakes as text, as JSON, and as GitHub annotations."""

from __future__ import annotations

import json
import subprocess
import sys

from .conftest import Project

WRONG = """\
files = "in/*"
app_name = "A"
ownr = "me"

[limits]
max_runs = "5"
"""
TEXT = """\
error: sub/bad.aihub.toml:3:1: unknown key 'ownr'
  3 | ownr = "……"
    | ^^^^
hint: did you mean 'owner'?
error: sub/bad.aihub.toml:6:1: limits.max_runs is not an integer, '5'
  6 | max_runs = "5"
    | ^^^^^^^^
hint: write a number without quotes and without a decimal point
"""
GITHUB = """\
::error file=sub/bad.aihub.toml,title=unknown-key in a spec,line=3,col=1,endColumn=5::\
unknown key 'ownr'%0Adid you mean 'owner'?
::error file=sub/bad.aihub.toml,title=wrong-type in a spec,line=6,col=1,endColumn=9::\
limits.max_runs is not an integer, '5'%0Awrite a number without quotes and without a decimal point
"""


def test_mistakes_are_shown_with_path_line_column_and_carets(project: Project) -> None:
    project.write("sub/bad.aihub.toml", WRONG)
    outcome = project.run_alone("validate", "job.toml", "sub/bad.aihub.toml")
    assert (outcome.code, outcome.out, outcome.err) == (2, "job.toml: ok\n", TEXT)


def test_mistakes_as_json_have_ranges_and_codes(project: Project) -> None:
    project.write("sub/bad.aihub.toml", WRONG)
    outcome = project.run_alone("validate", "sub", "job.toml", "none.toml", "--format", "json")
    document = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (2, "")
    assert (document["format_version"], document["error_count"], document["exit_code"]) == (1, 3, 2)
    assert document["diagnostics"][1:] == [
        {
            "file": "sub/bad.aihub.toml",
            "range": {"start": {"line": 6, "column": 1}, "end": {"line": 6, "column": 9}},
            "code": "wrong-type",
            "message": "limits.max_runs is not an integer, '5'",
            "hint": "write a number without quotes and without a decimal point",
        },
        {
            "file": "none.toml",
            "range": None,
            "code": "file",
            "message": "none.toml: cannot be read, No such file or directory",
            "hint": "name a spec, such as invoices.aihub.toml",
        },
    ]
    assert [spec["exit_code"] for spec in document["specs"]] == [2, 0, 2]


def test_json_of_specs_in_order_has_no_diagnostics(project: Project) -> None:
    document = json.loads(project.run_alone("validate", "--json").out)
    assert (document["error_count"], document["diagnostics"], document["exit_code"]) == (0, [], 0)


def test_mistakes_as_annotations_of_github(project: Project) -> None:
    project.write("sub/bad.aihub.toml", WRONG)
    outcome = project.run_alone("validate", "sub", "--format", "github")
    assert (outcome.code, outcome.out, outcome.err) == (2, GITHUB, "")


def test_no_text_of_a_spec_is_a_command_for_github(project: Project) -> None:
    project.write(
        "a%,::b.aihub.toml", 'name = "n"\nfiles = "in/*"\napp_name = "A"\n"x\\n::error::forged\\u2028%" = 1\n'
    )
    outcome = project.run_alone("validate", "a%,::b.aihub.toml", "--format", "github")
    [line] = outcome.out.splitlines()
    assert line.startswith("::error file=a%25%2C%3A%3Ab.aihub.toml,title=")
    assert r"unknown key 'x\n::error::forged\u2028%25'" in line


def test_standard_input_is_validated_like_a_file(project: Project) -> None:
    command = [sys.executable, "-m", "aihub_runner", "validate", "-", "--check-files"]
    project.write_files(2)
    for text, code, shown in (
        ('files = "in/*"\napp_name = "A"\n', 0, "-: ok, 2 files to send\n"),
        ("files = 5\n", 2, "error: -:1:1: files is not a list, 5\n  1 | files = 5\n    | ^^^^^\n"),
        ("", 2, "error: -: exactly one of"),
    ):
        ended = subprocess.run(command, input=text, capture_output=True, text=True, cwd=project.folder, check=False)
        assert (ended.returncode, shown in ended.stdout + ended.stderr) == (code, True), ended


def test_service_is_asked_on_request_and_only_reads(project: Project) -> None:
    project.write_files(1)
    assert project.run("validate", "--check-service").code == 0
    outcome = project.run("validate", "--check-service", "--json")
    assert {one["name"]: one["verdict"] for one in outcome.json["checks"]}["context"] == "ok"
    assert {"token", "root", "spec", "context", "app", "clock"} <= {one["name"] for one in outcome.json["checks"]}
    assert project.sent() == []
    assert not (project.folder / "results").exists()


def test_token_that_the_service_refuses_is_a_mistake_for_programs_too(project: Project) -> None:
    project.write_files(1)
    project.env["AIHUB_API_KEY"] = "real-and-refused"
    outcome = project.run("validate", "--check-service")
    assert (outcome.code, "error: " in outcome.err, "real-and-refused" in outcome.text) == (4, True, False)
    document = json.loads(project.run("validate", "--check-service", "--format", "json").out)
    assert (document["exit_code"], document["error_count"]) == (4, 1)
    assert project.run("validate", "--check-service", "--format", "github").out.startswith("::error file=")


def test_standard_input_cannot_be_checked_with_the_service(project: Project) -> None:
    assert project.run_alone("validate", "-", "--check-service").code == 2
