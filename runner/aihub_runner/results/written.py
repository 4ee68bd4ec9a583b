"""Record in the results folder what we wrote there. A state file restored from a backup does not know it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aihub_runner.errors import RunnerError
from aihub_runner.files import read_regular, write_file

FILE = ".aihub-written"


def load_written(folder: Path) -> dict[str, str]:
    """Load the digest of each file as we last wrote it, by its path in the folder; empty if there is no record."""
    try:
        lines = read_regular(folder / FILE).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {path: digest for digest, _, path in pairs}


def note_written(folder: Path, digests: Mapping[str, str]) -> None:
    """Record what was written. Errors are ignored: without the record, a file only counts as edited."""
    before = load_written(folder)
    after = before | dict(digests)
    if after != before:
        lines = "".join(f"{digest} {path}\n" for path, digest in sorted(after.items()))
        with suppress(RunnerError, OSError):
            write_file(folder / FILE, [lines.encode("utf-8", "replace")])
