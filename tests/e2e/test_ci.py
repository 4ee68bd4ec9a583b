"""Applies without a person: the GitHub Action, step by step as GitHub runs it, cron, and systemd."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, SPEC, Project

ACTION = ROOT / ".github" / "actions" / "apply"
STEPS = yaml.safe_load((ACTION / "action.yml").read_text())
INPUTS: dict[str, dict[str, Any]] = STEPS["inputs"]
CI = ROOT / "docs" / "ci"
HOSTILE = "a  b$(touch pwned)`touch pwned`\n\"'; touch pwned; *.toml"
# In place of Python's own installer: writes down what it is asked for.
PYTHON = """#!/bin/bash
printf '%s\\0' "$@" >>"$RUNNER_TEMP/asked"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
"""


def run_steps(project: Project, *names: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run steps of the Action with inputs, as a runner of GitHub does. Returns the last one."""
    values = {name: str(about.get("default", "")) for name, about in INPUTS.items()}
    values |= {name.replace("_", "-"): value for name, value in given.items()}
    temp = project.folder / "temp"
    common = project.environment | {"RUNNER_TEMP": str(temp), "GITHUB_ACTION_PATH": str(ACTION)}
    for step in (step for step in STEPS["runs"]["steps"] if step["name"] in names):
        own = {
            name: re.sub(r"\$\{\{ inputs\.(\S+) \}\}", lambda m: values[m[1]], text)
            for name, text in step["env"].items()
        }
        script = project.write("temp/step.sh", step["run"])
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=project.folder, env=common | own, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return ended


def install(folder: Path) -> Path:
    """Put the command `runner` into a folder."""
    command = folder / "bin" / "runner"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m aihub_runner "$@"\n')
    command.chmod(0o755)
    return command


@pytest.fixture
def action(project: Project) -> Project:
    """Return a project for which the Action has installed the command."""
    install(project.folder / "temp" / "aihub-runner")
    project.write_files(2)
    return project


def apply(project: Project, spec: str = "job.toml", **given: str) -> subprocess.CompletedProcess[str]:
    given = {"api_key": "fake-test", "api_root": project.fake.root, "max_runs": "5"} | given
    return run_steps(project, "Apply", spec=spec, **given)


@pytest.mark.slow
def test_action_applies_a_spec(action: Project) -> None:
    summary = action.write("summary.md", "")
    action.env |= {"AIHUB_API_KEY": None, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    ended = apply(action, only="in/00000.txt\n\nin/none*", wait_timeout="1m", junit="out.xml")
    assert ended.returncode == 0, ended.stderr
    assert [one["path"] for one in action.documents] == ["in/00000.txt"]
    assert (action.folder / "out.xml").exists()
    assert "job.toml" in summary.read_text()


@pytest.mark.slow
def test_action_ends_with_the_code_of_the_apply(action: Project) -> None:
    action.write("in/song.wav", "la")
    assert apply(action).returncode == 3


@pytest.mark.slow
def test_action_applies_files_at_urls_that_it_was_allowed(action: Project) -> None:
    url = (action.folder / "in").as_uri()
    action.change_spec('files = "in/**/*"', f'files = "{url}/*"')
    refused = apply(action)
    assert (refused.returncode, url in refused.stderr) == (2, True), refused.stderr
    ended = apply(action, allow_remote=f"{url}\n")
    assert ended.returncode == 0, ended.stderr
    assert len(action.documents) == 2


def test_action_pays_for_no_more_runs_than_allowed(action: Project) -> None:
    assert apply(action, max_runs="0").returncode == 2
    assert apply(action, max_runs="").returncode == 2
    assert action.sent() == []


@pytest.mark.slow
def test_action_uses_the_fake_without_a_token(action: Project) -> None:
    ended = apply(action, fake="true", api_key="", api_root="")
    assert ended.returncode == 0, ended.stderr
    assert (action.folder / "job.fake" / "results" / "documents.jsonl").exists()
    assert action.fake.journal == []


@pytest.mark.parametrize("name", [name for name in INPUTS if name not in ("extras", "fake")])
@pytest.mark.slow
def test_action_never_executes_an_input(action: Project, name: str) -> None:
    action.write("$(touch pwned).toml", SPEC)
    apply(action, **{name.replace("-", "_"): HOSTILE})
    assert not list(action.folder.rglob("pwned"))


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("spec", [HOSTILE, "-v"], ids=["hostile", "like an option"])
@pytest.mark.slow
def test_action_takes_a_spec_of_any_name(action: Project, spec: str) -> None:
    action.spec_path.rename(action.folder / spec)
    ended = apply(action, spec)
    assert ended.returncode == 0, ended.stderr
    assert len(action.fake.runs()) == 1


def test_action_installs_this_project_with_extras(project: Project) -> None:
    project.write("bin/python3", PYTHON).chmod(0o755)
    project.env["PATH"] = f"{project.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ended = run_steps(project, "Install aihub-runner", extras="xlsx,$(touch pwned)`touch pwned` pdf")
    assert ended.returncode == 0, ended.stderr
    *_, what = (project.folder / "temp" / "asked").read_text().rstrip("\0").split("\0")
    place, _, extras = what.partition("[")
    assert (Path(place).resolve(), extras) == (ROOT, "xlsx,$(touch pwned)`touch pwned` pdf]")
    assert not list(project.folder.rglob("pwned"))


@pytest.mark.parametrize("path", [ACTION / "action.yml", CI / "workflow.yml"], ids=["action", "workflow"])
def test_no_expression_is_in_a_line_of_a_shell(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    steps = found["runs"]["steps"] if "runs" in found else found["jobs"]["apply"]["steps"]
    assert any("run" in step for step in steps)
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_example_workflow_gives_the_inputs_of_the_action() -> None:
    steps = yaml.safe_load((CI / "workflow.yml").read_text())["jobs"]["apply"]["steps"]
    [given] = [step["with"] for step in steps if "aihub-runner" in step.get("uses", "")]
    required = {name for name, about in INPUTS.items() if about.get("required")}
    assert required <= given.keys() <= INPUTS.keys()


def test_example_workflow_commits_the_lock_file_if_it_changed(project: Project) -> None:
    steps = yaml.safe_load((CI / "workflow.yml").read_text())["jobs"]["apply"]["steps"]
    [commands] = [step["run"] for step in steps if step.get("name") == "Commit the lock file"]
    repository = ["git", "-C", str(project.folder), "-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", "init", "-q", "--bare", str(project.folder / "origin")], check=True)
    for command in (
        "init -q",
        "commit -q --allow-empty -m start",
        "remote add origin origin",
        "push -q -u origin HEAD",
    ):
        subprocess.run([*repository, *command.split()], check=True)
    project.write_files(1)
    project.apply()
    for _ in range(2):
        subprocess.run(["bash", "-e", "-c", commands], cwd=project.folder, check=True, capture_output=True)
    log = [*repository, "log", "--format=%s", "--name-only", "@{upstream}"]
    assert subprocess.check_output(log, text=True) == "Record what was paid\n\njob.lock.toml\nstart\n"


def line_of_cron() -> str:
    [line] = [line for line in (CI / "crontab").read_text().splitlines() if line.startswith("15 ")]
    return line.split(maxsplit=5)[5]


def line_of_systemd() -> str:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(CI / "aihub-runner.service")
    return f"cd {unit['Service']['WorkingDirectory']} && {unit['Service']['ExecStart']}"


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("line", [line_of_cron(), line_of_systemd()], ids=["cron", "systemd"])
@pytest.mark.slow
def test_line_applies_with_a_token_from_a_folder_and_almost_no_environment(project: Project, line: str) -> None:
    assert "%" not in line  # cron ends a line there
    project.spec_name = "invoices.aihub.toml"
    project.write("invoices.aihub.toml", SPEC)
    project.write_files(1)
    install(project.folder / "opt")
    project.write("secrets/AIHUB_API_KEY", "fake-test\n")
    project.write("secrets/AIHUB_API_ROOT", project.fake.root)
    line = line.replace("/srv/invoices", str(project.folder)).replace("/opt/aihub-runner", str(project.folder / "opt"))
    env = {
        "PATH": "/usr/bin:/bin",
        "AIHUB_SECRETS_DIR": str(project.folder / "secrets"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    ended = subprocess.run(["/bin/sh", "-c", line], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [one["path"] for one in project.documents] == ["in/00000.txt"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_units_of_systemd_are_valid(tmp_path: Path) -> None:
    install(tmp_path)
    names = sorted(path.name for path in CI.iterdir() if path.suffix in (".service", ".timer"))
    assert names == ["aihub-runner-watch.service", "aihub-runner.service", "aihub-runner.timer"]
    for name in names:
        text = (CI / name).read_text().replace("/opt/aihub-runner", str(tmp_path)).replace("User=invoices", "User=root")
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in names]
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert "aihub-runner" not in ended.stderr, ended.stderr


def test_workflow_of_this_repository_checks_each_supported_python_with_targets_that_exist() -> None:
    checks = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    makefile = (ROOT / "Makefile").read_text()
    assert checks["permissions"] == {"contents": "read"}
    assert " ".join(checks["jobs"]["test"]["strategy"]["matrix"]["python"]) in makefile
    for job in checks["jobs"].values():
        for step in job["steps"]:
            target = step.get("run", "").removeprefix("make ")
            assert "uses" in step or re.search(rf"^{target}:", makefile, re.MULTILINE), step
