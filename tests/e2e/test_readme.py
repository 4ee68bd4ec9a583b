"""The README's own commands, in a copy of this project's examples."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .conftest import ROOT


def test_readme_commands_do_what_they_say(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "specs", tmp_path / "specs", ignore=shutil.ignore_patterns("*.fake", "results", "*.state.db*")
    )
    (tmp_path / ".venv").symlink_to(sys.prefix)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIHUB_")}
    printed = []
    for line in block.strip().splitlines():
        result = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"
        printed.append(result.stdout)
    assert "specs/invoices.aihub.toml: ok" in printed[0]
    assert "to pay     1 run" in printed[1]
    assert "nothing to do" in printed[3]
    assert "'path': 'invoices/" in printed[7]


def test_readme_spec_is_a_spec() -> None:
    from aihub_runner.spec.model import parse_spec

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [spec] = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert parse_spec(spec, Path("invoices.toml")).context == "acme"
