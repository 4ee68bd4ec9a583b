"""Standard input, output and error, whatever their condition: closed, full, gone, slow, or not UTF-8.

Output is best effort: a failed write never ends the work. A failure of standard output is kept as an error, for
commands whose product is their output.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO


class Outlet(io.RawIOBase):
    """A descriptor on which writing never fails. What cannot be written is dropped, and the first error is kept.

    With `whole`, everything after the first error is dropped, too: a truncated document is better than a gap in it.
    """

    def __init__(self, descriptor: int, *, whole: bool) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._descriptor, self._whole = descriptor, whole

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write some of the bytes. Return how many were written or dropped."""
        try:
            if not (self._whole and self.error):
                return self._write(data)
        except OSError as error:
            self.error = self.error or error
        return memoryview(data).nbytes

    def _write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another process made it non-blocking
                select.select((), (self._descriptor,), ())


def speak_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale uses another encoding. File names are bytes; we read them as UTF-8.

    Otherwise the same file would have another name under cron's locale, and would be paid for again. Printed text
    keeps the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    encoding = getattr(sys.stderr or sys.stdout, "encoding", None) or "ascii"
    environment = {"PYTHONIOENCODING": encoding} | os.environ | {"PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)


def open_streams() -> None:
    """Replace closed standard streams, and make writing to them never fail."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    descriptors = [_plug(number, is_there=stream is not None) for number, stream in enumerate(streams)]
    if sys.stdin is None:
        sys.stdin = os.fdopen(descriptors[0], encoding="utf-8", closefd=False)
    else:
        _forgive(sys.stdin, "surrogateescape")
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open(descriptors[1], sys.stdout, whole=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open(descriptors[2], sys.stderr, whole=False)


def _plug(number: int, *, is_there: bool) -> int:
    """Occupy the descriptor of a closed stream, so that no file gets it and receives printed text.

    Writing to it fails, and `find_output_error` reports that.
    """
    if is_there:
        return number
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(descriptor, descriptor == number)
    return descriptor


def _forgive(stream: TextIO, errors: str) -> None:
    if isinstance(stream, io.TextIOWrapper):
        with suppress(io.UnsupportedOperation):  # something was read from it
            stream.reconfigure(errors=errors)


def _open(descriptor: int, replaced: TextIO | None, *, whole: bool) -> TextIO:
    encoding = getattr(replaced, "encoding", None) or "utf-8"
    file = io.BufferedWriter(Outlet(descriptor, whole=whole))
    return io.TextIOWrapper(file, encoding, "backslashreplace", "\n", line_buffering=file.isatty() or not whole)


def find_output_error(*, flush: bool = True) -> OSError | None:
    """Return why writing to standard output failed; None if it did not."""
    if flush:
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, Outlet) else None


def explain(error: OSError) -> str:
    """Describe why a stream cannot be written to."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
