"""The README's own commands and their output, in a copy of this project's examples."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from aihub_runner.cli.main import cli
from support.pages import TEXTS, recipe_of

from .conftest import ROOT

README = TEXTS["README.md"]
SPEC = "specs/invoices.aihub.toml"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the examples, and with this environment as its `.venv`, as after `make demo`: no extras."""
    unwanted = shutil.ignore_patterns("*.fake", "results", "*.state.db*")
    shutil.copytree(ROOT / "specs", tmp_path / "specs", ignore=unwanted)
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, module in (("runner", "aihub_runner"), ("fake-aihub", "fake_aihub"), ("zensical", "zensical")):
        code = f"import runpy, sys; sys.modules['pypdf'] = None; runpy.run_module('{module}', run_name='__main__')"
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
        (commands / name).chmod(0o755)
    return tmp_path


def run(command: str, folder: Path, more: Mapping[str, str] | None = None) -> str:
    """Run a command line, and return all that it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIHUB_")} | (more or {})
    result = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}"
    return result.stdout


@pytest.mark.slow
def test_readme_commands_print_what_it_shows(clone: Path) -> None:
    [session] = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for part in session.removeprefix("$ ").split("\n$ "):
        command, *shown = part.strip("\n").splitlines()
        printed = run(recipe_of("demo") if command == "make demo" else command, clone).splitlines()
        printed = [re.sub(r" in \d+\.\d s$", "", line) for line in printed]  # how long an upload took, if it took long
        printed = [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line) for line in printed]  # none on a terminal
        for line in shown:  # in this order; the README leaves lines out
            assert line in printed, f"{command}: {line!r} is not in, or not in this order:\n" + "\n".join(printed)
            printed = printed[printed.index(line) + 1 :]


def test_readme_lists_every_command_and_each_works(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    monkeypatch.chdir(clone)
    listed = re.findall(r"^\| `runner (\w+)( SPEC| FOLDER| show SPEC)?` \|", README, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(cli.list_commands(None))  # type: ignore[arg-type]
    call("validate", SPEC)
    assert "1 run to pay" in call("plan", SPEC, "--fake")
    call("apply", SPEC, "--fake", "--yes")
    for command in ("status", "results", "report", "resolve"):
        call(command, SPEC, "--fake")


def test_page_of_the_examples_lists_each() -> None:
    page = (ROOT / "specs" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[\w+\]\(([^)]+)\) \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "specs").glob("*.aihub.toml"))
    assert "(specs/README.md)" in README


@pytest.mark.slow
def test_python_example_reads_documents(clone: Path) -> None:
    run(recipe_of("demo"), clone)
    text = (ROOT / "docs" / "apply.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (clone / "example.py").write_text(example)
    assert "invoices/alder-1180.txt" in run(f"{sys.executable} example.py", clone)
