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


def test_plugins_of_pydantic_are_not_looked_for(tmp_path: Path) -> None:
    """Another package's code would be imported, and the metadata of all packages read at each start."""
    (tmp_path / "plug.py").write_text("")
    info = tmp_path / "plug-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pydantic]\nplug = plug\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.argv = ["runner", "--version"]
from aihub_runner.cli.main import main
main()
import aihub_runner.aihub.schemas
print("plug" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
