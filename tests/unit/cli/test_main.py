"""How the command line ends."""

from __future__ import annotations

import subprocess
import sys


def test_interrupt_while_code_from_a_string_runs_ends_with_130() -> None:
    """Python would end by SIGINT there, whatever the exit code; dataclasses run code from strings at import."""
    code = """
import aihub_runner.cli.main as main
main.cli = lambda **_: exec("raise KeyboardInterrupt")
main.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "")
