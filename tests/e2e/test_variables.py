"""Variables in a spec and `--set`: what they pay for, where they are shown, and no secret in them."""

from __future__ import annotations

import pytest

from support.world import check_paid_once

from .conftest import SPEC, Project


@pytest.fixture
def filled(project: Project) -> Project:
    project.write("job.toml", SPEC.replace('context = "acme"', 'context = "${ACCOUNT}"\nrun.version = "${V}"'))
    project.write_files(2)
    project.env |= {"AIHUB_VAR_ACCOUNT": "acme", "AIHUB_VAR_V": "1.0.0"}
    return project


def test_values_are_shown_by_the_plan_and_decide_what_is_paid(filled: Project) -> None:
    shown = filled.run("plan").out
    assert '  value      context = "acme"\n' in shown
    assert '  value      run.version = "1.0.0"\n' in shown
    assert filled.run("plan", "--json").json["values"] == {"context": "acme", "run.version": "1.0.0"}
    assert filled.apply().code == 0
    assert "nothing to do" in filled.apply().out
    filled.env["AIHUB_VAR_V"] = "2.0.0"
    assert filled.apply().code == 0
    check_paid_once(filled.fake, 4)
    assert len(filled.fake.runs()) == 2


def test_set_is_another_value_and_its_command_can_be_repeated(filled: Project) -> None:
    assert filled.apply("--set", "version=3.0.0").code == 0
    assert "nothing to do" in filled.apply("--set", "run.version=3.0.0").out
    assert "Plan: 0 files to upload (0 bytes), 0 batches, 1 run to pay" in filled.run("plan").out
    filled.fake.faults.add(operation="runApp", do="reset")
    filled.change_spec("[limits]", 'run.on_lost = "stop"\n[limits]')
    outcome = filled.apply("--set", "context=it's mine")
    assert outcome.code == 7
    assert "--set 'context=it'\"'\"'s mine'" in outcome.text


def test_unset_variable_pays_nothing_and_is_told_by_every_command(filled: Project) -> None:
    filled.env["AIHUB_VAR_V"] = None
    for command in ("apply", "plan", "status", "validate", "results", "destroy"):
        outcome = filled.run(command)
        assert outcome.code == 2
        assert "job.toml:6:1: AIHUB_VAR_V is not set" in outcome.err
    assert filled.fake.journal == []


def test_env_file_gives_values_and_a_secrets_folder_gives_none(filled: Project) -> None:
    filled.env |= {"AIHUB_VAR_V": None, "AIHUB_SECRETS_DIR": str(filled.folder / "secrets")}
    filled.write("secrets/AIHUB_VAR_V", "1.0.0")
    assert "AIHUB_VAR_V is not set" in filled.run("plan").err
    filled.write(".env", "AIHUB_VAR_V=9.0.0\n")
    assert '"9.0.0"' in filled.run("plan").out


@pytest.mark.parametrize("place", ["token", "secret", "another target's token", "set"])
def test_secret_as_a_value_is_refused_and_not_shown(filled: Project, place: str) -> None:
    filled.env |= {"AIHUB_SECRET_HOOK": "s3cret", "AIHUB_EU_API_KEY": "s3cret-of-eu"}
    value = {"token": "fake-test", "another target's token": "x s3cret-of-eu"}.get(place, "s3cret")
    filled.env["AIHUB_VAR_V"] = value if place != "set" else "1"
    for command in ("plan", "apply"):
        outcome = filled.run(command, *(["--set", f"version={value}"] if place == "set" else []))
        assert outcome.code == 2
        assert "the value of run.version contains a secret" in outcome.err
        assert "s3cret" not in outcome.text
        assert "fake-test" not in outcome.text
    assert filled.fake.journal == []


def test_header_cannot_be_smuggled_in(filled: Project) -> None:
    for name, arguments in (("AIHUB_VAR_ACCOUNT", []), ("OTHER", ["--set", "context=a\r\nX-Evil: 1"])):
        filled.env[name] = "a\r\nX-Evil: 1"
        outcome = filled.apply(*arguments)
        assert (outcome.code, filled.fake.journal) == (2, [])
        assert "context contains invalid characters" in outcome.err
        filled.env["AIHUB_VAR_ACCOUNT"] = "acme"


def test_set_of_another_key_is_a_usage_error(filled: Project) -> None:
    for arguments in (["--set", "files=x"], ["--set", "context"], ["--set", "context=a", "--set", "context=b"]):
        outcome = filled.run("plan", *arguments)
        assert outcome.code == 2
        assert "Invalid value for '--set'" in outcome.err


def test_value_of_a_target_that_makes_two_the_same_work_is_refused(filled: Project) -> None:
    filled.change_spec("[limits]", '[targets.a]\ncontext = "${A}"\n[targets.b]\ncontext = "trial"\n[limits]')
    for name in ("A", "B"):
        filled.env |= {f"AIHUB_{name}_API_KEY": "fake-x", f"AIHUB_{name}_API_ROOT": filled.fake.root}
    assert filled.run("plan", "--target", "b").code == 0
    filled.env["AIHUB_VAR_A"] = "trial"
    assert "target b and target a have the same root" in filled.run("plan", "--target", "b").err
    outcome = filled.run("plan", "--target", "a", "--set", "context=other")
    assert outcome.code == 0, outcome.text
