"""Standard input, output and error, whatever they are: closed, full, gone, slow, or not UTF-8.

Talking is best effort: nothing that is written ever ends the work. What standard output did not take is kept as an
error, for those commands whose product it is.
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
    """A descriptor to write to that never fails: what it does not take is dropped, and the first error kept.

    With `whole`, nothing follows what was dropped: half a document is better than one with a hole.
    """

    def __init__(self, descriptor: int, *, whole: bool) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._descriptor, self._whole = descriptor, whole

    def writable(self) -> bool:
        """Say that it is for writing."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write some of the bytes, and tell how many are dealt with."""
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
            except BlockingIOError:  # somebody else made it non-blocking
                select.select((), (self._descriptor,), ())


def speak_utf8() -> None:
    """Begin anew in Python's UTF-8 mode where the locale is another: names of files are bytes, and ours are UTF-8.

    Else the same file would have another name, and be paid for again, under cron's locale. What is printed stays as
    the locale wants it.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    encoding = getattr(sys.stderr or sys.stdout, "encoding", None) or "ascii"
    environment = {"PYTHONIOENCODING": encoding} | os.environ | {"PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)


def open_streams() -> None:
    """Let the three streams be there, and let writing to them never fail."""
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
    """Keep the place of a closed stream, so that no file of ours is opened there and written over.

    It cannot be written to, which is noticed where it matters.
    """
    if is_there:
        return number
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(descriptor, descriptor == number)
    return descriptor


def _forgive(stream: TextIO, errors: str) -> None:
    if isinstance(stream, io.TextIOWrapper):
        with suppress(io.UnsupportedOperation):  # it was read from already
            stream.reconfigure(errors=errors)


def _open(descriptor: int, replaced: TextIO | None, *, whole: bool) -> TextIO:
    encoding = getattr(replaced, "encoding", None) or "utf-8"
    file = io.BufferedWriter(Outlet(descriptor, whole=whole))
    return io.TextIOWrapper(file, encoding, "backslashreplace", "\n", line_buffering=file.isatty() or not whole)


def find_output_error(*, flush: bool = True) -> OSError | None:
    """Find why standard output did not take all that was written to it, if that is so."""
    if flush:
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, Outlet) else None


def explain(error: OSError) -> str:
    """Say why a stream cannot be written."""
    return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
