"""Read the page count of a document, if its file has one. PDF files need the extra `pdf`."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

MAX_PAGES = 800  # of one file, as AI Hub documents
MAX_PAGES_POST_PROCESSED = 100  # the same with generate_post_process_pdf
_IMAGES = frozenset({".png", ".jpg", ".jpeg"})
SILENT = 0  # the page count of a file that has none
HEAD_BYTES, TAIL_BYTES = 1 << 10, 1 << 16  # where a PDF file says that it is one, and where it ends
COUNT_S = 2.0  # for one file: some are made to keep a reader busy


class _TimeUp(BaseException):
    """A file took too long. Not an Exception, which a reader may catch."""


def count_pages(path: Path) -> int:
    """Return how many pages a file has by its own account, or SILENT. Reads its end, not its pages.

    SILENT also if that takes longer than `COUNT_S` in the main thread; no other can be interrupted.
    """
    kind = path.suffix.lower()
    if kind in _IMAGES:
        return 1
    if kind != ".pdf" or not importlib.util.find_spec("pypdf"):
        return SILENT
    import pypdf  # slow to import

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as file, _at_most(COUNT_S):
            if not _is_whole(file):  # a reader would search all of it
                return SILENT
            pages = pypdf.PdfReader(file).root_object["/Pages"]["/Count"]  # type: ignore[index]
            return int(pages) if isinstance(pages, int) and pages > 0 else SILENT
    except (Exception, _TimeUp):  # of a damaged or encrypted file: the service says what is wrong with it
        return SILENT


def _is_whole(file: BinaryIO) -> bool:
    """Whether a file begins and ends as a PDF file does."""
    begins = b"%PDF-" in file.read(HEAD_BYTES)
    file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
    return begins and b"%%EOF" in file.read(TAIL_BYTES)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise _TimeUp in the main thread after so many seconds."""

    def end(number: int, frame: object) -> NoReturn:
        raise _TimeUp

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, end)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)  # of somebody else, such as a test runner
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, *timer)
