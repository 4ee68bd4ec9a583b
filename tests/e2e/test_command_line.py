"""The command line: several specs, the arguments of `resolve`, warnings, and bugs in the runner."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import aihub_runner.apply.begin
import aihub_runner.cli.main
import fake_aihub.server.cli

from .conftest import SPEC, Project


def test_nothing_is_paid_where_a_later_spec_is_wrong(project: Project) -> None:
    project.write_files(1)
    for name, text in {"good": SPEC.replace('name = "job"', 'name = "good"'), "bad": "files = 1"}.items():
        project.write(f"{name}.toml", text)
    outcome = project.run("apply", "good.toml", "bad.toml", "missing.toml")
    assert outcome.code == 2
    assert "good.toml: not applied, another spec is invalid" in outcome.err
    assert project.fake.journal == []


def test_specs_that_share_a_results_folder_are_refused_before_anything_is_paid(project: Project) -> None:
    project.write_files(1)
    project.write("twin.toml", SPEC)
    outcome = project.run("apply", "job.toml", "twin.toml")
    assert outcome.code == 2
    assert project.fake.journal == []


def test_resolve_says_what_there_is_to_decide_by(project: Project) -> None:
    project.write_files(2)
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    project.fake.faults.add(operation="runApp", do="reset")
    assert project.apply().code == 7
    outcome = project.run("resolve")
    assert outcome.code == 7
    assert re.search(r"a run on batch \d+ of 2 files \(in/00000.txt …\), begun 20.. ?", outcome.out)
    assert f"runner resolve {project.spec_path} --resubmit" in outcome.out
    assert project.run("resolve", "--resubmit").code == 0
    assert project.run("resolve").out.strip() == "nothing is unconfirmed"


def test_status_of_a_fresh_clone_tells_what_the_lock_file_holds(project: Project) -> None:
    project.write_files(2)
    project.apply()
    (project.folder / "job.state.db").unlink()
    project.write("in/late.txt", "one more")
    outcome = project.run("status")
    assert outcome.code == 6
    assert "3 files, 2 done or in progress" in outcome.out
    assert "1 run of the lock file, with 2 of these files, is imported first" in outcome.out
    assert "nothing has been applied yet" not in outcome.out


def test_status_counts_files_alike_before_and_after_an_apply(project: Project) -> None:
    project.write_files(1)
    project.write("in/song.wav", "la")
    assert "job.toml: 2 files, 0 done" in project.run("status").out
    project.apply()
    assert "job.toml: 2 files, 1 done" in project.run("status").out


def test_what_is_not_done_is_shown_with_what_to_do_about_it(project: Project) -> None:
    project.write_files(1)
    project.write("in/song.wav", "la")
    assert 'hint       exclude them with "!…" in files' in project.run("plan").out
    project.fake.next_run(status="FAILED")
    outcome = project.apply()
    assert 'hint       exclude them with "!…" in files' in outcome.out
    assert "hint       to run them again, which is paid, pass --retry-failed" in outcome.out
    project.fake.next_run(status="STOPPED_AT_CHECKPOINT")
    assert "hint       apply again after the review" in project.apply("--retry-failed").out


@pytest.mark.parametrize("program", [aihub_runner.cli.main.cli, fake_aihub.server.cli.main])
def test_help_is_there_by_its_short_name_and_cuts_no_sentence_off(program: click.Command) -> None:
    shown = CliRunner().invoke(program, ["-h"])
    assert shown.exit_code == 0
    assert not re.search(r"\w\.\.\.$", shown.output, re.MULTILINE)


def test_documents_of_files_that_are_gone_are_told_apart(project: Project) -> None:
    project.write_files(3)
    all_of_them = project.apply("--json").json["documents"]
    (project.folder / "in/00000.txt").unlink()
    of_one = sum(document["path"] == "in/00000.txt" for document in project.documents)
    project.apply()
    assert f"documents  {all_of_them} ({of_one} of removed files)" in project.run("status").out


def test_a_hint_names_the_command_for_this_place_and_spec(project: Project) -> None:
    project.write_files(1)
    spec, state = project.spec_path, project.folder / "o t.db"
    assert project.run("results").err.endswith(f"hint: run `runner apply {spec}`\n")
    assert project.run("report", "--fake").err.endswith(
        f"hint: run `runner apply {spec} --fake`\n"
    )  # not one that pays
    hint = project.run("diff", "--state", str(state), "--run", "a", "--run", "b").err
    assert hint.endswith(f"hint: run `runner apply {spec} --state '{state}'`\n")


def test_resolve_works_on_the_fake_of_its_own(project: Project) -> None:
    project.write_files(1)
    project.apply("--fake")
    outcome = project.run("resolve", "--fake", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["specs"][0]["unknown"] == []


def test_status_tells_nothing_of_an_apply(project: Project) -> None:
    project.write_files(1)
    project.apply()
    shown = project.run("status").out
    assert "1 COMPLETE" in shown
    assert "sent" not in shown


def test_state_on_a_network_file_system_is_warned_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"1 2 0:1 / / rw - ext4 disk rw\n3 1 0:2 / {project.folder.resolve()} rw - nfs4 server:/home rw\n"
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: mounts if path.name == "mountinfo" else real(path, *a, **k)
    )
    project.write_files(1)
    outcome = project.apply()
    assert outcome.code == 0
    assert "is on a network file system (nfs4)" in outcome.err


def test_report_of_a_bug_holds_no_secret(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    project.write_files(1)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("AIHUB_API_KEY", "fake-very-secret-token")
    monkeypatch.setenv("AIHUB_API_ROOT", str(project.env["AIHUB_API_ROOT"]))
    monkeypatch.setattr(aihub_runner.apply.begin, "claim_results", break_down)
    monkeypatch.setattr("sys.argv", ["runner", "apply", "job.toml"])
    with pytest.raises(SystemExit) as end:
        aihub_runner.cli.main.main()
    assert end.value.code == 1
    printed = capsys.readouterr().err
    found = re.search(r"the report is in (\S+)", printed)
    assert found
    report = Path(found[1])
    text = report.read_text()
    report.unlink()
    assert "ZeroDivisionError" in text
    assert "very-secret" not in text + printed
