"""Each example spec in specs/ can be applied to the fake as it is, and then has nothing left to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from aihub_runner.cli.main import cli
from aihub_runner.sources.exclude import read_targets

from .conftest import ROOT

NO_FILES = "drive.aihub.toml"  # the drive of the embedded fake is empty; see test_input_dir.py
PATHS = sorted(path for path in (ROOT / "specs").glob("*.aihub.toml") if path.name != NO_FILES)
EXAMPLES = [(path.name, target) for path in PATHS for target in ("", *sorted(read_targets(str(path))))]


@pytest.mark.parametrize(("name", "target"), EXAMPLES)
def test_example_is_applied_and_then_done(
    tmp_path: Path, name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwanted = shutil.ignore_patterns("*.fake", "results", "*.state.db*")
    shutil.copytree(ROOT / "specs", tmp_path / "specs", ignore=unwanted)
    monkeypatch.chdir(tmp_path)
    for variable in ("ACCOUNT", "QUARTER"):  # of variables.aihub.toml
        monkeypatch.setenv(f"AIHUB_VAR_{variable}", "acme")
    first = CliRunner().invoke(cli, ["apply", f"specs/{name}", "--fake", "--yes", "--target", target])
    assert first.exit_code == 0, first.output
    assert list((tmp_path / "specs").rglob("documents.jsonl"))
    second = CliRunner().invoke(cli, ["apply", f"specs/{name}", "--fake", "--yes", "--target", target])
    assert second.exit_code == 0, second.output
    assert "nothing to do" in second.output
