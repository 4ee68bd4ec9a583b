"""Targets: each has an account, a state, a lock file and results of its own, and none pays for another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from aihub_runner.cli.main import cli
from fake_aihub import FakeAIHub
from support.contract import check_journal
from support.world import check_paid_once

from .conftest import SPEC, Outcome, Project

TEXT = f"""{SPEC}\
[targets.test]
context = "trial"
[targets.eu-west]
run.version = "2.0.0"
"""


@pytest.fixture
def other() -> Iterator[FakeAIHub]:
    """Return a second service, for the target eu-west."""
    with FakeAIHub() as server:
        yield server
        check_journal(server.journal)


@pytest.fixture
def targets(project: Project, other: FakeAIHub) -> Project:
    project.write("job.toml", TEXT)
    project.write_files(2)
    project.env |= {
        "AIHUB_TEST_API_KEY": "fake-trial",
        "AIHUB_TEST_API_ROOT": project.fake.root,
        "AIHUB_EU_WEST_API_KEY": "fake-eu",
        "AIHUB_EU_WEST_API_ROOT": other.root,
    }
    return project


def contexts(fake: FakeAIHub) -> list[str]:
    return sorted(run.context for run in fake.world.runs.values())


def names(project: Project) -> set[str]:
    return {path.name for path in project.folder.iterdir() if not path.name.endswith(".lock")}


def expect(outcome: Outcome, code: int, text: str = "") -> None:
    assert outcome.code == code, outcome.text
    assert text in outcome.text


def test_each_target_pays_in_its_account_once_and_keeps_its_own_files(targets: Project, other: FakeAIHub) -> None:
    for target in ("", "test", "eu-west"):
        expect(targets.apply("--target", target) if target else targets.apply(), 0)
    assert (contexts(targets.fake), contexts(other)) == (["acme", "trial"], ["acme"])
    places = {f"job{target}.{end}" for target in ("", "@test", "@eu-west") for end in ("state.db", "lock.toml")}
    assert names(targets) == {"job.toml", "in", "results", *places}
    assert {path.name for path in (targets.folder / "results").iterdir()} == {"job", "job@test", "job@eu-west"}
    targets.forget_requests()
    other.clear_journal()
    for target in ("test", "eu-west"):
        expect(targets.apply("--target", target), 0, "nothing to do")
    assert (targets.fake.journal, other.journal) == ([], [])


def test_variable_names_the_target_and_the_option_beats_it(targets: Project) -> None:
    targets.env["AIHUB_RUNNER_TARGET"] = "test"
    expect(targets.apply(), 0)
    assert contexts(targets.fake) == ["trial"]
    expect(targets.run("status", "--target", "eu-west"), 6, "nothing has been applied yet")


@pytest.mark.slow
def test_commands_follow_the_target(targets: Project) -> None:
    assert targets.apply("--target", "test").code == 0
    for command in ("results", "status", "report", "plan"):
        plain, of_target = targets.run(command), targets.run(command, "--target", "test")
        assert plain.text != of_target.text
        assert "has no results yet" not in of_target.text
    expect(targets.run("plan", "--target", "test"), 0, "on         target test: ")
    expect(targets.run("validate", "--target", "eu-west"), 0)
    expect(targets.run("check", "--target", "test"), 0, "in context trial")
    assert "AIHUB_TEST_API_KEY" in targets.run("code", "--as", "python", "--target", "test").out
    targets.fake.next_run(status="FAILED")
    expect(targets.run("destroy", "--target", "test", "--yes"), 0, "1 batch and 1 run deleted")
    assert targets.apply().code == 3, "the run of no target, which failed"


def test_state_commands_follow_the_target(targets: Project) -> None:
    assert targets.apply("--target", "test").code == 0
    for command in ("show", "verify", "export"):
        arguments = ["state", command, str(targets.spec_path)]
        assert CliRunner().invoke(cli, [*arguments, "--target", "test"], env=targets.env).exit_code == 0
        assert CliRunner().invoke(cli, arguments, env=targets.env).exit_code == 2


def test_unknown_target_sends_nothing_and_lists_the_known_ones(targets: Project) -> None:
    for name in ("../test", "TEST", "prod", "test\n"):
        outcome = targets.apply("--target", name)
        expect(outcome, 2, "only test, eu-west")
    assert targets.fake.journal == []
    assert names(targets) == {"job.toml", "in"}


def test_target_without_its_pair_never_uses_another_token(targets: Project, other: FakeAIHub) -> None:
    targets.env["AIHUB_EU_WEST_API_KEY"] = None
    expect(targets.apply("--target", "eu-west"), 2, "AIHUB_EU_WEST_API_KEY: not set")
    targets.env["AIHUB_EU_WEST_API_ROOT"] = None
    expect(targets.apply("--target", "eu-west"), 2, "AIHUB_EU_WEST_API_ROOT: not set")
    targets.write(".env", f"AIHUB_EU_WEST_API_ROOT={other.root}\n")
    targets.env["AIHUB_EU_WEST_API_KEY"] = "fake-eu"
    outcome = targets.apply("--target", "eu-west")
    expect(outcome, 2, "AIHUB_EU_WEST_API_KEY: comes from the environment, but AIHUB_EU_WEST_API_ROOT from .env")
    assert (targets.fake.journal, other.journal) == ([], [])


@pytest.mark.parametrize("asked", ["test", "twin", ""])
def test_targets_that_are_the_same_work_in_the_same_account_are_refused_by_name(targets: Project, asked: str) -> None:
    targets.change_spec("[targets.eu-west]\n", '[targets.twin]\ncontext = "trial"\n[targets.eu-west]\n')
    targets.env |= {"AIHUB_TWIN_API_KEY": "fake-other", "AIHUB_TWIN_API_ROOT": f"{targets.fake.root}/"}
    outcome = targets.apply("--target", asked) if asked else targets.apply()
    if asked:
        expect(outcome, 2, "target twin and target test have the same root, context, workspace, app and settings")
        assert targets.fake.journal == []
    else:
        expect(outcome, 0)


def test_targets_of_one_account_with_other_versions_each_pay_for_theirs(targets: Project) -> None:
    targets.env |= {"AIHUB_EU_WEST_API_KEY": "fake-test", "AIHUB_EU_WEST_API_ROOT": targets.fake.root}
    expect(targets.apply(), 0)
    expect(targets.apply("--target", "eu-west"), 0)
    assert len(targets.fake.batches()) == 2, "one target never works on the batches of another"
    check_paid_once(targets.fake, 4)
    expect(targets.run("destroy", "--target", "eu-west", "--yes"), 0, "1 batch and 1 run deleted")
    expect(targets.apply(), 0, "nothing to do")


def test_state_of_another_target_is_refused_under_any_name(targets: Project) -> None:
    targets.env |= {"AIHUB_EU_WEST_API_KEY": "fake-test", "AIHUB_EU_WEST_API_ROOT": targets.fake.root}
    assert targets.apply("--target", "test").code == 0
    shutil.copy(targets.folder / "job@test.state.db", targets.folder / "copy.db")
    targets.forget_requests()
    for state in ("job@test.state.db", "copy.db"):
        for command in ("apply", "status", "plan"):
            outcome = targets.run(command, "--target", "eu-west", "--state", str(targets.folder / state))
            expect(outcome, 2, f"{state}: is the state of target test, not of target eu-west")
        expect(
            targets.apply("--state", str(targets.folder / state)), 2, "is the state of target test, not of no target"
        )
    assert targets.fake.journal == []
    assert targets.run("status", "--target", "test", "--state", str(targets.folder / "copy.db")).code == 0


def test_lock_file_of_another_target_neither_pays_nor_saves_anything(targets: Project) -> None:
    assert targets.apply("--target", "test").code == 0
    lock, copy = targets.folder / "job@test.lock.toml", targets.folder / "job.lock.toml"
    shutil.copy(lock, copy)
    outcome = targets.apply()
    expect(outcome, 2, "job.lock.toml: lists only work of another root, context or workspace")
    assert contexts(targets.fake) == ["trial"]
    copy.unlink()
    expect(targets.apply(), 0)
    assert contexts(targets.fake) == ["acme", "trial"]
    copy.write_text(lock.read_text())
    targets.write("in/new.txt", "one more")
    expect(targets.apply(), 0)
    check_paid_once(targets.fake, 5)


def test_fresh_clone_imports_what_its_target_paid(targets: Project) -> None:
    assert targets.apply("--target", "test").code == 0
    clone = targets.clone("fresh", "job@test.lock.toml")
    expect(clone.apply("--target", "test"), 0)
    check_paid_once(targets.fake, 2)
    expect(clone.apply(), 0)
    assert contexts(targets.fake) == ["acme", "trial"]


def test_two_targets_are_applied_at_once_and_one_target_twice_is_not(targets: Project, other: FakeAIHub) -> None:
    targets.fake.next_run(status="RUNNING")
    first = targets.start("apply", "job.toml", "--target", "test")
    try:
        while not targets.fake.runs():
            assert first.poll() is None
        expect(targets.apply("--target", "eu-west"), 0)
        expect(targets.apply("--target", "test"), 5, "another apply is running")
    finally:
        first.kill()
        first.wait()
    assert contexts(other) == ["acme"]


def test_results_folder_of_another_target_is_refused_through_a_symlink_too(targets: Project) -> None:
    assert targets.apply("--target", "test").code == 0
    (targets.folder / "results" / "job").symlink_to("job@test")
    before = (targets.folder / "results/job@test/documents.jsonl").read_bytes()
    expect(targets.apply(), 2, "the results folder job belongs to job.toml, target test")
    assert contexts(targets.fake) == ["trial"]
    assert (targets.folder / "results/job@test/documents.jsonl").read_bytes() == before


def test_renamed_target_is_noticed_before_it_pays(targets: Project) -> None:
    assert targets.apply("--target", "test").code == 0
    targets.change_spec("[targets.test]", "[targets.trial]")
    targets.env |= {"AIHUB_TRIAL_API_KEY": "fake-trial", "AIHUB_TRIAL_API_ROOT": targets.fake.root}
    expect(targets.apply("--target", "trial"), 2, "job@test.lock.toml is here and target test is not")
    for end in ("state.db", "lock.toml"):
        (targets.folder / f"job@test.{end}").rename(targets.folder / f"job@trial.{end}")
    expect(targets.apply("--target", "trial"), 0)
    check_paid_once(targets.fake, 2)


def test_spec_that_is_named_like_the_files_of_a_target_is_refused(targets: Project) -> None:
    targets.write("job@test.toml", TEXT.replace('name = "job"', 'name = "twin"'))
    expect(targets.apply("--target", "test"), 2, "would share the state job@test.state.db with job@test.toml")
    outcome = targets.run_alone("apply", "job@test.toml")
    expect(outcome, 2, "job@test.toml: would share the state job@test.state.db with job.toml")
    assert targets.fake.journal == []


def test_fake_keeps_each_target_apart(targets: Project) -> None:
    for arguments in ([], ["--target", "test"]):
        expect(targets.apply("--fake", *arguments), 0)
    assert {"job.fake", "job@test.fake"} <= names(targets)
    targets.change_spec('"in/**/*"', '"**/*"')
    expect(targets.run("plan", "--fake", "--target", "test"), 0, "2 files")
    assert targets.fake.journal == []


def test_refused_token_of_a_target_is_named(targets: Project) -> None:
    targets.fake.faults.add(operation="listBatches", do="status", status=401)
    outcome = targets.apply("--target", "test")
    assert outcome.code == 4
    assert "check AIHUB_TEST_API_KEY" in outcome.err
    assert "AIHUB_API_KEY" not in outcome.text


def test_results_in_python_are_those_of_the_target(targets: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from aihub_runner import documents

    assert targets.apply("--target", "test").code == 0
    for name, value in targets.env.items():
        monkeypatch.setenv(name, value or "")
    assert len(list(documents(Path("job.toml"), target="test"))) == 2
