"""Read the page count of a document, if its file has one. PDF files need the extra `pdf`."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

MAX_PAGES = 800  # of one file, as AI Hub documents
MAX_PAGES_POST_PROCESSED = 100  # the same with generate_post_process_pdf
_IMAGES = frozenset({".png", ".jpg", ".jpeg"})
SILENT = 0  # the page count of a file that has none


def count_pages(path: Path) -> int:
    """Return how many pages a file has by its own account, or SILENT. Reads its end, not its pages."""
    kind = path.suffix.lower()
    if kind in _IMAGES:
        return 1
    if kind != ".pdf" or not importlib.util.find_spec("pypdf"):
        return SILENT
    import pypdf  # slow to import

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        with path.open("rb") as file:
            pages = pypdf.PdfReader(file).root_object["/Pages"]["/Count"]  # type: ignore[index]
            return int(pages) if isinstance(pages, int) and pages > 0 else SILENT
    except Exception:  # of a damaged or encrypted file: the service says what is wrong with it
        return SILENT
