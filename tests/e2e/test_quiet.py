"""Output with --quiet, and the time of each line without a terminal."""

from __future__ import annotations

import re

from .conftest import Project, Terminal

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def test_quiet_apply_prints_one_line_and_no_progress(project: Project) -> None:
    project.write_files(3)
    project.write("in/song.wav", "la")
    outcome = project.apply("--quiet")
    assert outcome.code == 3
    assert outcome.out == f"{project.spec_path}: 4 files, 3 done or in progress, 1 skipped\n"
    assert outcome.err == ""


def test_quiet_apply_prints_errors(project: Project) -> None:
    project.write_files(1)
    outcome = project.apply("-q", "--max-runs", "0")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {project.spec_path}: would start 1 run, 0 are allowed\nhint: ")


def test_quiet_keeps_the_exit_code_and_the_json(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED")
    outcome = project.apply("-q")
    assert (outcome.code, outcome.out) == (3, f"{project.spec_path}: 1 file, 0 done or in progress, 1 not done\n")
    assert project.run("status", "-q", "--json").json == project.run("status", "--json").json


def test_quiet_plan_prints_the_sum(project: Project) -> None:
    project.write_files(2)
    outcome = project.run("plan", "-q")
    assert re.fullmatch(r"Plan: 2 files to upload \(.*\), 1 batch, 1 run to pay; .*\n", outcome.out)


def test_quiet_does_not_shorten_a_product(project: Project) -> None:
    project.write_files(2)
    project.apply()
    for command in (["code", "--as", "curl"], ["results"], ["state", "show"]):
        name, *options = command
        spec = str(project.spec_path)
        arguments = [name, "show", spec] if name == "state" else [name, spec, *options]
        assert project.run_alone(*arguments, "-q").out == project.run_alone(*arguments).out, command


def test_each_line_of_progress_has_its_time_off_a_terminal(project: Project) -> None:
    project.write_files(1)
    lines = project.apply().err.splitlines()
    assert len(lines) >= 3
    assert [line for line in lines if not TIME.match(line)] == []
    assert TIME.sub("", lines[-1]).endswith("results of 1 file fetched")


def test_lines_on_a_terminal_have_no_time(project: Project) -> None:
    project.write_files(1)
    with Terminal(project, "apply", "job.toml", "--yes") as terminal:
        code, shown = terminal.end()
    assert code == 0
    assert "results of 1 file fetched" in shown
    assert not TIME.search(shown)
