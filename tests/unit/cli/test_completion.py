"""Completion: what is offered, in which shell, and that it imports almost nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from aihub_runner.cli.main import COMMANDS, OTHERS, cli


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "a.aihub.toml",
        "b b.aihub.toml",
        "a.lock.toml",
        "other.toml",
        ".hidden.aihub.toml",
        "x\ny.aihub.toml",
    ):
        (tmp_path / name).touch()
    (tmp_path / "jobs" / "deep").mkdir(parents=True)
    (tmp_path / "jobs" / "c.aihub.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complete(line: str, shell: str = "bash") -> list[str]:
    """Return the lines that a shell gets for a command line with the cursor at its end."""
    words = line.split(" ")
    env = {"_RUNNER_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    shown = CliRunner().invoke(cli, [], prog_name="runner", env=env).output
    return [line for line in shown.splitlines() if line]


def test_specs_and_folders_are_offered_and_nothing_else(folder: Path) -> None:
    assert complete("runner apply ") == ["plain,a.aihub.toml", "plain,b\\ b.aihub.toml", "plain,jobs/"]
    assert complete("runner status jobs/") == ["plain,jobs/c.aihub.toml", "plain,jobs/deep/"]
    assert complete("runner status jo") == ["dir,jo"]
    assert complete("runner status .hid") == ["plain,.hidden.aihub.toml"]
    assert complete("runner status nowhere/") == []


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in OTHERS])
def test_each_command_offers_specs_whether_or_not_it_is_imported(folder: Path, command: str) -> None:
    assert complete(f"runner {command} a") == ["plain,a.aihub.toml"]
    assert complete(f"runner {command} --json a") == ["plain,a.aihub.toml"]


def test_state_offers_its_commands_and_then_specs(folder: Path) -> None:
    assert complete("runner state s") == ["plain,show"]
    assert complete("runner state show a") == ["plain,a.aihub.toml"]


def test_commands_and_options_are_offered() -> None:
    assert complete("runner des") == ["plain,destroy"]
    assert complete("runner apply --retry") == ["plain,--retry-failed"]


def test_other_shells_quote_themselves(folder: Path) -> None:
    assert "b b.aihub.toml" in complete("runner apply b", "zsh")


@pytest.mark.parametrize("line", ["runner ", "runner apply "])
def test_completion_imports_almost_nothing(folder: Path, line: str) -> None:
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*(n for n in sys.modules if n.startswith('aihub_runner.')), file=sys.stderr))\n"
        "from aihub_runner.cli.main import main; sys.argv = ['runner']; main()"
    )
    env = os.environ | {"_RUNNER_COMPLETE": "bash_complete", "COMP_WORDS": line}
    env["COMP_CWORD"] = str(len(line.split(" ")) - 1)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "plain," in done.stdout
    loaded = {name.split(".")[1] for name in done.stderr.split()}
    assert loaded <= {"cli", "errors", "system", "text", "version"}, loaded
