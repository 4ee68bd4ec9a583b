"""A terminal of tmux: what a person sees, on a screen of a size that changes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

PATIENCE_S = 30.0
LOOK_EVERY_S = 0.05


class Screen:
    """A shell in a tmux server of its own, in a folder, whose screen can be read."""

    def __init__(self, place: Path, folder: Path, env: Mapping[str, str], columns: int, lines: int) -> None:
        self._socket = place / "tmux"
        given = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        size = ["-x", str(columns), "-y", str(lines)]
        # The size is the terminal's, not that of the test's.
        shell = "unset COLUMNS LINES; PS1='> ' exec bash --norc --noprofile"
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, *given, "-c", str(folder), shell)
        self._tmux("set-option", "-g", "history-limit", "10000")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    def _tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *args], capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        return done.stdout

    def type(self, text: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press a key, such as `C-c`."""
        self._tmux("send-keys", key)

    def resize(self, columns: int, lines: int) -> None:
        """Make the window larger or smaller."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def read(self, *, colours: bool = False, joined: bool = True) -> str:
        """Return all that was shown and is still there, without trailing blanks; wrapped lines are `joined`."""
        shown = self._tmux("capture-pane", "-p", "-S", "-", *["-J"] * joined, *["-e"] * colours)
        return "\n".join(line.rstrip() for line in shown.splitlines()).rstrip("\n")

    @property
    def columns(self) -> int:
        """How wide the screen is."""
        return int(self._tmux("display-message", "-p", "#{pane_width}"))

    @property
    def cursor_is_visible(self) -> bool:
        """Whether the cursor is shown."""
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def wait_for(self, text: str) -> str:
        """Wait until a text is shown, and return all that is."""
        return self._wait(lambda shown: text in shown)

    def wait_for_last(self, line: str) -> str:
        """Wait until a line is the last one that is shown, and return all that is."""
        return self._wait(lambda shown: shown.endswith(f"\n{line}"))

    def _wait(self, is_there: Callable[[str], object]) -> str:
        until_s = time.monotonic() + PATIENCE_S
        while not is_there(shown := self.read()):
            assert time.monotonic() < until_s, shown
            time.sleep(LOOK_EVERY_S)
        return shown

    def clear(self) -> None:
        """Forget all that was shown."""
        self.type("clear")

        def is_empty(shown: str) -> bool:
            self._tmux("clear-history")
            return shown.strip() == ">"

        self._wait(is_empty)

    def start(self, *command: str) -> None:
        """Start the command line of the runner, and afterwards tell its exit code."""
        self.type(f'{shlex.join([sys.executable, "-m", "aihub_runner", *command])}; echo "[exit $?]"')

    def end(self) -> tuple[int, str]:
        """Wait for the end of what was started, and return its exit code and all that was shown."""
        shown = self._wait(lambda shown: re.search(r"^\[exit \d+\]$", shown, re.MULTILINE))
        return int(re.findall(r"^\[exit (\d+)\]$", shown, re.MULTILINE)[-1]), shown

    def run(self, *command: str) -> tuple[int, str]:
        """Run the command line of the runner to its end."""
        self.start(*command)
        return self.end()
