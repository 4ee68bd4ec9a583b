"""What this tool wrote into a folder of results, remembered there: a state that was restored does not know it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aihub_runner.errors import RunnerError
from aihub_runner.files import write_file

FILE = ".aihub-written"


def load_written(folder: Path) -> dict[str, str]:
    """Load the digest of each file as it was last written, by its path in the folder; nothing where there is none."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {path: digest for digest, _, path in pairs}


def note_written(folder: Path, digests: Mapping[str, str]) -> None:
    """Remember what was written; failing to is no failure, since a person is only asked once more."""
    before = load_written(folder)
    after = before | dict(digests)
    if after != before:
        lines = "".join(f"{digest} {path}\n" for path, digest in sorted(after.items()))
        with suppress(RunnerError, OSError):
            write_file(folder / FILE, [lines.encode("utf-8", "replace")])
