"""Exits of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_interrupt_while_code_from_a_string_runs_ends_with_130(tmp_path: Path) -> None:
    """With `-m`, Python would end by SIGINT there, whatever the exit code; dataclasses run code from strings."""
    (tmp_path / "interrupted.py").write_text("""
import aihub_runner.cli.main as main
main.cli = lambda **_: exec("raise KeyboardInterrupt")
main.main()
""")
    command = [sys.executable, "-m", "interrupted"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "")
