"""Tables in the results folder, and `runner results`: from fetched pages, without a request."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.files import digest_file

from .conftest import Project

ALL = 'formats = ["jsonl", "csv", "xlsx", "parquet"]'


def ask_for(project: Project, *lines: str) -> None:
    project.change_spec("[limits]", "\n".join(["[results]", *lines, "[limits]"]))


def tables(project: Project) -> dict[str, bytes]:
    """Every table in the folder of results, by its path."""
    folder = project.folder / "results" / "job"
    paths = [path for path in folder.rglob("*") if path.is_file() and "raw" not in path.parts]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.suffix not in ("", ".json")
    }


def fields(project: Project, name: str = "fields.csv") -> list[dict[str, str]]:
    with (project.folder / "results" / "job" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def change_pages(project: Project, change: Callable[[dict[str, Any]], object]) -> None:
    """Let the service have answered otherwise: change each document in the raw pages, and their digests."""
    folder = project.folder / "results/job"
    with closing(sqlite3.connect(project.folder / "job.state.db")) as state, state:
        for page in (folder / "raw").rglob("*.json"):
            content = json.loads(page.read_bytes())
            for document in (document for file in content["files"] for document in file["documents"]):
                change(document)
            page.write_text(json.dumps(content))
            found = (digest_file(page), page.relative_to(folder).as_posix())
            state.execute("UPDATE pages SET digest = ? WHERE path = ?", found)


def change_first_fields(project: Project, **change: object) -> None:
    change_pages(project, lambda document: document["fields"][0].update(change))


def lines_of(table: bytes) -> str:
    """Return a table as click's runner shows printed text: with other line endings."""
    return table.decode().replace("\r\n", "\n")


def write_again(project: Project) -> None:
    for path in (project.folder / "results/job").glob("*.*"):
        path.unlink()


def test_tables_are_written_as_jsonl_and_csv_where_nothing_else_is_asked_for(project: Project) -> None:
    project.write_files(3)
    assert project.apply().code == 0
    names = {"fields.csv", "fields.jsonl", "documents.jsonl"}
    assert names < tables(project).keys()
    assert {name.rpartition(".")[2] for name in tables(project)} == {"csv", "jsonl"}
    assert [row["path"] for row in fields(project)] == sorted(row["path"] for row in fields(project))
    folder = project.folder / "results/job"
    assert (folder / "fields.csv").stat().st_mode & 0o777 == 0o600
    assert (folder / "documents").stat().st_mode & 0o777 == 0o700


def test_table_that_is_deleted_is_written_again_without_a_request(project: Project) -> None:
    project.write_files(2)
    ask_for(project, ALL)
    project.apply()
    before = tables(project)
    assert {name for name in before if name.startswith("fields.")} == {
        *("fields.csv", "fields.jsonl", "fields.parquet", "fields.xlsx")
    }
    project.forget_requests()
    (project.folder / "results/job/fields.parquet").unlink()
    assert "fields.parquet is missing" in project.run("status").out
    assert project.apply().code == 0
    assert (tables(project), project.fake.journal) == (before, [])


def test_other_formats_are_written_without_a_request_and_those_not_asked_for_removed(project: Project) -> None:
    project.write_files(2)
    project.apply()
    project.forget_requests()
    ask_for(project, 'formats = ["parquet"]')
    assert project.apply().code == 0
    names = set(tables(project))
    assert {name.rpartition(".")[2] for name in names - {"documents.jsonl"}} == {"parquet"}
    assert project.fake.journal == []
    project.change_spec('["parquet"]', "[]")
    assert project.apply().code == 0
    assert set(tables(project)) == {"documents.jsonl"}


def test_table_that_was_edited_is_told_of_and_replaced_only_when_told(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = tables(project)
    path = project.folder / "results/job/fields.csv"
    path.write_text("mine\n")
    outcome = project.apply()
    assert (outcome.code, path.read_text()) == (0, "mine\n")
    assert "job/fields.csv was edited by hand and is not overwritten" in outcome.out
    assert "fields.csv was edited by hand" in project.run("status").out
    project.write_files(1, start=2)
    project.apply()
    assert path.read_text() == "mine\n"
    assert len(project.documents) > 2
    assert project.apply("--refetch").code == 0
    assert path.read_bytes() not in (b"mine\n", before["fields.csv"])
    assert "edited by hand" not in project.run("status").out


def test_touched_table_is_not_taken_for_edited(project: Project) -> None:
    project.write_files(1)
    project.apply()
    os.utime(project.folder / "results/job/fields.csv", ns=(1, 1))
    assert "edited" not in project.apply().out


def test_new_and_removed_files_are_in_the_tables_as_in_the_documents(project: Project) -> None:
    project.write_files(2)
    project.apply()
    (project.folder / "in/00000.txt").unlink()
    project.write_files(1, start=5)
    project.apply()
    present = {row["path"]: row["present"] for row in fields(project)}
    assert present == {"in/00000.txt": "false", "in/00001.txt": "true", "in/00005.txt": "true"}


def test_class_that_is_gone_takes_its_table_with_it(project: Project) -> None:
    project.write_files(1)
    project.apply()
    old = {name for name in tables(project) if name.startswith("documents/")}
    change_pages(project, lambda document: document.update(class_name="of another kind"))
    write_again(project)
    project.apply()
    new = {name for name in tables(project) if name.startswith("documents/")}
    assert not old & new
    assert all(name.startswith("documents/of_another_kind~") for name in new)


def test_table_that_cannot_be_written_is_told_of_with_exit_3_and_the_others_are_written(project: Project) -> None:
    project.write_files(2)
    ask_for(project, ALL)
    (project.folder / "results/job/fields.csv").mkdir(parents=True)
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert "fields.csv: cannot be written" in outcome.err
    assert {"fields.jsonl", "fields.xlsx", "fields.parquet", "documents.jsonl"} < set(tables(project))
    (project.folder / "results/job/fields.csv").rmdir()
    assert project.apply().code == 0
    assert len(fields(project)) > 2


def test_table_whose_extra_cannot_be_loaded_is_told_of_with_exit_3_and_the_others_are_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_files(2)
    ask_for(project, ALL)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "aihub_runner.results.writers.parquet", None)  # importing it fails
        outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert "error: parquet needs pyarrow, which cannot be loaded: " in outcome.err
    assert {"fields.jsonl", "fields.csv", "fields.xlsx", "documents.jsonl"} < set(tables(project))
    assert project.apply().code == 0
    assert "fields.parquet" in tables(project)
    assert len(project.fake.runs()) == 1


def test_workbook_that_cannot_hold_the_table_is_refused_by_every_apply_and_status(project: Project) -> None:
    project.write_files(1)
    ask_for(project, ALL)
    project.apply()
    change_first_fields(project, value="x" * 40_000)
    name = project.documents[0]["fields"][0]["name"]
    write_again(project)
    for command in ("apply", "apply", "status"):
        outcome = project.run(command)
        assert outcome.code == 3, outcome.text
        told = f"in/00000.txt, document 0, field {name}, value (row 2, column 9) has 40000 characters"
        assert f"error: fields.xlsx: a text of {told}" in outcome.err
        assert "hint: use parquet" in outcome.err
    assert "fields.xlsx" not in tables(project)
    assert {"fields.jsonl", "fields.csv", "fields.parquet"} < set(tables(project))
    ask = project.spec_path.read_text().replace(', "xlsx"', "")
    project.spec_path.write_text(ask)
    assert project.apply().code == 0


def test_what_an_apply_that_died_left_half_written_is_swept_away(project: Project) -> None:
    project.write_files(1)
    names = (".fields.csv.1.tmp", "documents/.a.csv.2.tmp", "documents/.aihub-runner-x/rows")
    left = [project.write(f"results/job/{name}", "x") for name in names]
    project.apply()
    assert [path for path in left if path.exists()] == []


def test_format_whose_extra_is_missing_is_refused_by_validate_with_its_line(project: Project, tmp_path: Path) -> None:
    ask_for(project, 'formats = ["csv", "parquet"]')
    blocker = project.write("site/sitecustomize.py", "import sys\nsys.modules['pyarrow'] = None\n").parent
    environment = os.environ | {"PYTHONPATH": f"{blocker}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "aihub_runner", "validate", "job.toml"]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert found.returncode == 2
    assert found.stderr == (
        "error: job.toml:7:1: parquet needs pyarrow, which is not installed\n"
        '  7 | formats = ["csv", "parquet"]\n'
        "    | ^^^^^^^\n"
        "hint: run pip install 'aihub-runner[parquet]'\n"
    )


@pytest.mark.slow
def test_packets_have_a_table_of_their_cross_class_fields(project: Project) -> None:
    project.change_spec('"Invoice Extraction"', '"Loan packet"')
    ask_for(project, ALL, 'include = ["review", "validation"]')
    project.write_files(120)
    assert project.apply().code == 0
    [first, second] = sorted((project.folder / "results/job/raw").rglob("*.json"))
    said = [json.loads(page.read_bytes())["case_info"]["fields"] for page in (first, second)]
    assert said[0] == said[1]
    rows = fields(project, "cases.csv")
    assert [(row["field"], row["value"]) for row in rows] == [(one["name"], one["value"]) for one in said[0]]
    assert {row["run_id"] for row in rows} == {row["run_id"] for row in fields(project)}
    printed = project.run("results", "--table", "cases").out
    assert printed == lines_of(tables(project)["cases.jsonl"])
    classes = {row["class"] for row in fields(project)}
    assert len([name for name in tables(project) if name.startswith("documents/")]) == 4 * len(classes)


# runner results


def test_results_are_printed_as_they_lie_in_the_folder(project: Project) -> None:
    project.write_files(3)
    ask_for(project, ALL)
    project.apply()
    project.forget_requests()
    assert project.run("results").out.encode() == tables(project)["documents.jsonl"]
    for ending in ("csv", "jsonl"):
        out = project.run("results", "--format", ending, "--table", "fields").out
        assert out == lines_of(tables(project)[f"fields.{ending}"])
    for ending in ("csv", "xlsx", "parquet"):
        outcome = project.run("results", "--output", str(project.folder / f"x.{ending}"))
        assert outcome.code == 0, outcome.text
        assert (project.folder / f"x.{ending}").read_bytes() == tables(project)[f"fields.{ending}"]
        assert (project.folder / f"x.{ending}").stat().st_mode & 0o777 == 0o600
    assert project.fake.journal == []


def test_results_of_one_class_are_its_table(project: Project) -> None:
    project.write_files(3)
    project.apply()
    name = min(name for name in tables(project) if name.startswith("documents/") and name.endswith(".csv"))
    kind = name.removeprefix("documents/").removesuffix(".csv")
    out = project.run("results", "--format", "csv", "--table", "documents", "--class", kind).out
    assert out == lines_of(tables(project)[name])
    none = project.run("results", "--class", "no such class")
    assert (none.code, none.out, none.err) == (0, "", "note: no results match\n")


def test_results_with_errors_are_the_fields_and_documents_with_one(project: Project) -> None:
    project.write_files(3)
    project.apply()
    change_first_fields(project, value="ERROR", error_msg="not readable")
    rows = list(csv.DictReader(project.run("results", "--format", "csv", "--only-errors").out.splitlines()))
    assert [(row["field_index"], row["value"], row["error"]) for row in rows] == [("0", "ERROR", "not readable")] * 3
    assert len(project.run("results", "--only-errors").out.splitlines()) == 3


def test_results_below_a_confidence_are_those_of_either_kind(project: Project) -> None:
    project.write_files(3)
    ask_for(project, 'include = ["confidence"]')
    project.apply()
    change_first_fields(project, confidence={"model": 0.9, "ocr": 0.05})
    rows = list(csv.DictReader(project.run("results", "--format", "csv", "--below-confidence", "0.1").out.splitlines()))
    assert [(row["field_index"], row["confidence_ocr"]) for row in rows] == [("0", "0.05")] * 3
    project.change_spec('include = ["confidence"]', "include = []")
    project.apply()
    outcome = project.run("results", "--below-confidence", "0.1")
    assert outcome.code == 2
    assert "no confidences were fetched" in outcome.err


def test_columns_of_a_part_of_the_results_are_named_as_in_the_table(project: Project) -> None:
    project.write_files(3)
    project.apply()
    numbers = iter(range(1000))

    def change(document: dict[str, Any]) -> None:
        number = next(numbers)
        name, error = ("total", None) if number == 0 else ("TOTAL", "none")
        document.update(class_name="A", fields=[{"field_name": name, "value": "1", "error_msg": error}])

    change_pages(project, change)
    write_again(project)
    project.apply()
    for choice in ((), ("--class", "A"), ("--only-errors",), ("--only-errors", "--class", "A")):
        out = project.run("results", "--format", "csv", "--table", "documents", *choice).out
        head, row = out.splitlines()[0], out.splitlines()[-1]
        assert head.split(",")[11:] == (["TOTAL_2"] if "--only-errors" in choice else ["TOTAL_2", "total"])
        assert row.split(",")[11] == "1"


def test_what_is_no_json_is_null_with_a_warning_and_numbers_keep_their_text(project: Project) -> None:
    project.write_files(1)
    project.apply()
    name = project.documents[0]["fields"][0]["name"]
    change_first_fields(project, value="HERE", confidence={"model": "THERE"})
    with closing(sqlite3.connect(project.folder / "job.state.db")) as state, state:
        for page in (project.folder / "results/job/raw").rglob("*.json"):
            text = page.read_text().replace('"HERE"', "NaN").replace('"THERE"', "0.950")
            page.write_text(text)
            state.execute("UPDATE pages SET digest = ?", [digest_file(page)])
    write_again(project)
    told = f"in/00000.txt, document 0, field {name}, value: NaN is invalid JSON, replaced by null"
    outcome = project.apply()
    assert outcome.code == 0
    assert f"  warning    {told}\n" in outcome.out
    assert project.run("status", "--json").json["warnings"] == [told]
    for arguments in ((), ("--json",), ("--table", "fields"), ("--output", "x.jsonl")):
        outcome = project.run("results", *arguments)
        assert outcome.err == f"warning: {told}\n"
        text = Path("x.jsonl").read_text() if "--output" in arguments else outcome.out
        assert "NaN" not in text
        assert '"value": null' in text
        assert "0.950" in text


def test_results_since_a_moment_are_of_runs_that_ended_after_it(project: Project) -> None:
    project.write_files(2)
    project.apply()
    assert len(project.run("results", "--since", "2h").out.splitlines()) == len(project.documents)
    assert project.run("results", "--since", "2999-01-01").out == ""
    assert project.run("results", "--since", "soon").code == 2


def test_results_as_json_are_one_document(project: Project) -> None:
    project.write_files(2)
    project.apply()
    assert project.run("results", "--json").json["rows"] == project.documents
    assert project.run("results", "--json", "--since", "2999-01-01").json["rows"] == []
    outcome = project.run("results", "--json", "--output", str(project.folder / "x.parquet"))
    assert outcome.json["rows"] == len(fields(project))


def test_results_are_there_when_all_their_files_are_gone(project: Project) -> None:
    project.write_files(2)
    project.apply()
    for path in (project.folder / "in").iterdir():
        path.unlink()
    assert {row["present"] for row in project.run("results", "--json").json["rows"]} == {False}
    assert project.run("report").code == 0
    assert project.run("apply").code == 2  # which may as well be a slip in the pattern


def test_results_that_are_not_there_are_an_error_in_json_too(project: Project) -> None:
    outcome = project.run("results", "--json")
    assert outcome.code == 2
    assert "has no results yet" in outcome.json["error"][0]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--table", "nested", "--format", "csv"),
        ("--table", "cases", "--class", "x"),
        ("--json", "--format", "csv"),
        ("--output", "x.doc"),
        ("--below-confidence", "80"),
        ("--below-confidence", "nan"),
    ],
)
def test_results_options_that_do_not_fit_together_are_refused(project: Project, arguments: tuple[str, ...]) -> None:
    assert project.run("results", *arguments).code == 2


def pipe(project: Project, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose output another reads; the exit code is the last of both that is not 0."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m aihub_runner {command}"],
        capture_output=True,
        text=True,
        env={k: v for k, v in (os.environ | project.env).items() if v is not None},
        cwd=project.folder,
    )


@pytest.mark.slow
def test_results_end_quietly_where_the_reader_has_seen_enough(project: Project) -> None:
    project.write_files(400)
    project.apply()
    found = pipe(project, "results job.toml --format csv | head -n 2")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[0].startswith("path,present,")
    assert len(found.stdout.splitlines()) == 2


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("option", ["", "--json"])
@pytest.mark.slow
def test_exit_code_is_the_same_where_nobody_reads(project: Project, option: str) -> None:
    project.write_files(1)
    project.write("in/empty.txt", b"")
    project.apply()
    found = pipe(project, f"status job.toml {option} | true")
    assert (found.returncode, found.stderr) == (3, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.slow
def test_results_that_cannot_be_printed_are_told_of_once(project: Project) -> None:
    project.write_files(1)
    project.apply()
    environment = {k: v for k, v in (os.environ | project.env).items() if v is not None}
    command = [sys.executable, "-m", "aihub_runner", "results", "job.toml", "--format", "xlsx"]
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, cwd=project.folder)
    assert found.stderr == b"error: standard output: cannot be written, No space left on device\nhint: pass --output\n"


def test_results_on_a_terminal_are_harmless(project: Project) -> None:
    project.write_files(1)
    project.apply()
    change_first_fields(project, value="\x1b]0;owned\x07 \u202egpj \x9b31m")
    for ending in ("csv", "jsonl"):
        code, shown = project.on_terminal("results", "job.toml", "--format", ending, answer="")
        assert code == 0
        assert "\\u001b]0;owned\\u0007 \\u202egpj \\u009b31m" in shown
        assert not any(text in shown for text in ("\x1b]", "\x07", "\u202e", "\x9b"))
    code, shown = project.on_terminal("results", "job.toml", "--format", "parquet", answer="")
    assert (code, "refusing to write parquet to a terminal" in shown) == (2, True)
