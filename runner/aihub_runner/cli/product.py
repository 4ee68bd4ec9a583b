"""Output that is the product of a command: data as unchanged bytes, unless standard output is a terminal, and pages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from aihub_runner.cli.output import say
from aihub_runner.errors import InputError
from aihub_runner.files import File
from aihub_runner.outfile import is_standard_output
from aihub_runner.system.streams import explain, find_output_error
from aihub_runner.text.escape import show_bytes


def refuse_two_products(page: Path | None, *, as_json: bool) -> None:
    """Raise UsageError if a page and JSON would both go to standard output."""
    if as_json and is_standard_output(page):
        raise click.UsageError("--json and the page cannot both go to standard output")


def say_beside(page: Path | None, text: str) -> str:
    """Return the text to print; empty if the page goes to standard output, and the text to standard error."""
    if not is_standard_output(page):
        return text
    say(text, err=True)
    return ""


class StandardOutput:
    """Standard output as a file of bytes. Raises InputError if writing fails, and lets BrokenPipeError pass."""

    def __init__(self) -> None:
        self._file = sys.stdout.buffer
        self._is_terminal = sys.stdout.isatty()
        self._has_failed = False

    def write(self, chunk: bytes) -> int:
        """Add bytes at the end."""
        self._try(lambda: self._file.write(show_bytes(chunk) if self._is_terminal else chunk))
        return len(chunk)

    def flush(self) -> None:
        """Do nothing: `finish` flushes."""

    closed = False

    def finish(self) -> None:
        """Flush what is buffered."""
        self._try(self._file.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self._has_failed:
            return  # it was reported; a dropped archive still writes its end
        try:
            act()
            if error := find_output_error(flush=False):
                raise error
        except BrokenPipeError:
            self._has_failed = True
            raise  # the reader closed the pipe early
        except OSError as error:
            self._has_failed = True
            raise InputError(f"standard output: cannot be written, {explain(error)}", "pass --output") from error


class JsonArray:
    """Write lines of JSON as the elements of an array, between a prefix and a suffix."""

    def __init__(self, file: File, begin: bytes, end: bytes) -> None:
        self._file = file
        self._before = begin + b"\n"
        self._end = end

    def write(self, line: bytes) -> int:
        """Add an element."""
        self._file.write(self._before + line.rstrip(b"\n"))
        self._before = b",\n"
        return len(line)

    def finish(self) -> None:
        """Write the suffix."""
        self._file.write((b"\n" if self._before == b",\n" else self._before) + self._end)
