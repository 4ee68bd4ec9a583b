"""Read labels and values from files: text, CSV, mail, JSON, and PDF files with a text layer.

Files may be hostile: the number of bytes and of function calls per file is limited, and nothing is raised. The file
type is detected from the bytes, not the name, so that the same bytes always give the same result.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from itertools import islice
from typing import Any, TypeVar

MAX_BYTES = 1 << 20
MAX_CALLS = 2_000_000
MAX_MAIL_BYTES = 1 << 16  # some header parsing in the standard library takes quadratic time
MAX_HEADER = 1000
MAX_LINES = 5000
MAX_PAIRS = 200
MAX_LABEL = 60
MAX_VALUE = 200
MAX_PAGES = 800
MAX_PDF_PAGES = 3
_PDF_LIMITS = (
    "zlib_maximum_output_length",
    "lzw_maximum_output_length",
    "run_length_maximum_output_length",
    "array_based_stream_maximum_output_length",
    "maximum_declared_stream_length",
)
_HEADERS = ("from", "subject", "to", "date", "received", "mime-version", "message-id", "return-path")

Pair = tuple[str, str]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Text:
    """Values by normalised label, and the number of pages if known."""

    pairs: Mapping[str, str] = field(default_factory=dict)
    pages: int | None = None

    def find(self, labels: Iterable[str]) -> str | None:
        """Return the value of the first of some normalised labels that has one."""
        return next((self.pairs[label] for label in labels if label in self.pairs), None)


class _TooMuch(BaseException):
    """The call limit was exceeded. Not an Exception, so that no parser catches it as a file error."""


def read_text(head: bytes) -> Text:
    """Return the text of a file's first bytes: at most MAX_BYTES + 1 of them. Never raises."""
    if head.startswith(b"%PDF-"):
        whole = len(head) <= MAX_BYTES  # the page index is at the end of a PDF
        return (_spend(_read_pdf, head) if whole and _has_pypdf() else None) or Text()
    if b"\0" in head or head.lstrip().startswith(b"<"):
        return Text()
    return Text(_keep(_spend(_read_plain, head[:MAX_BYTES]) or []))


def normalise(label: str) -> str:
    """Return a normalised label: `Invoice No.`, `invoice_no` and `invoiceNo` become equal."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", label)
    return " ".join(re.findall(r"\w+", words.casefold()))


def _spend(work: Callable[[bytes], Result], content: bytes) -> Result | None:
    """Run work with a limited number of function calls. Counting instead of timing makes the result repeatable."""
    left = MAX_CALLS
    profiled = sys.getprofile() is not None  # a debugger or coverage tool is tracing; leave it in place

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooMuch

    if not profiled:
        sys.setprofile(count)
    try:
        return work(content)
    except (Exception, _TooMuch):  # a parser may raise anything on hostile bytes
        return None
    finally:
        if not profiled:
            sys.setprofile(None)


def _keep(pairs: Iterable[Pair]) -> dict[str, str]:
    """Keep the first value of each label, shortened and valid in UTF-8."""
    kept: dict[str, str] = {}
    for label, value in pairs:
        name, text = normalise(label[:MAX_LABEL]), value.strip()[:MAX_VALUE]
        if name and text and name not in kept:
            kept[name] = text.encode("utf-8", "replace").decode()
        if len(kept) >= MAX_PAIRS:
            break
    return kept


def _read_plain(content: bytes) -> list[Pair]:
    text = content.decode("utf-8-sig", "replace")
    if text.lstrip()[:1] in ("{", "[") and (pairs := _read_json(text)):
        return pairs
    first = text.partition("\n")[0]
    if first.partition(":")[0].lower() in _HEADERS:
        return _read_mail(content[:MAX_MAIL_BYTES])
    return [*_read_csv(text), *islice(_read_lines(text), MAX_PAIRS)]


def _read_lines(text: str) -> Iterator[Pair]:
    for line in islice(io.StringIO(text), MAX_LINES):
        label, colon, value = line.partition(":")
        if colon and len(label) <= MAX_LABEL:
            yield label, value
        elif not colon and len(line) <= MAX_LABEL + MAX_VALUE:
            yield from _read_bare(line.split())


def _read_bare(words: list[str]) -> Iterator[Pair]:
    """Read a line such as `Invoice 2041` or `Total 12.50 EUR`: up to three words as label, then one with a digit."""
    for count in range(1, min(4, len(words))):
        if any(character.isdigit() for character in words[count]):
            yield " ".join(words[:count]), " ".join(words[count:])
            return


def _read_csv(text: str) -> list[Pair]:
    """Read the first row below the header."""
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), 2))
    return list(zip(*rows, strict=False)) if len(rows) == 2 and delimiter in header else []


def _read_json(text: str) -> list[Pair]:
    """Read every value by its key, at any depth."""
    try:
        waiting = deque([("", json.loads(text, parse_int=str, parse_float=str))])
    except (ValueError, RecursionError):
        return []
    pairs: list[Pair] = []
    for _ in range(MAX_LINES):
        if not waiting:
            break
        key, value = waiting.popleft()
        if isinstance(value, dict):
            waiting.extendleft(reversed([*islice(value.items(), MAX_PAIRS)]))
        elif isinstance(value, list):
            waiting.extendleft((key, item) for item in value[MAX_PAIRS::-1])
        elif isinstance(value, str):
            pairs.append((key, value))
    return pairs


def _read_mail(content: bytes) -> list[Pair]:
    mail = message_from_bytes(content)
    pairs = [
        (name, str(make_header(decode_header(str(value)[:MAX_HEADER]))))
        for name, value in islice(mail.items(), MAX_PAIRS)
    ]
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            body = part.get_payload(decode=True)
            text = body.decode(part.get_content_charset() or "utf-8", "replace") if isinstance(body, bytes) else ""
            return [*pairs, *islice(_read_lines(text), MAX_PAIRS)]
    return pairs


def _has_pypdf() -> bool:
    """Import pypdf, if installed, before counting calls: the import must not count for the first file."""
    try:
        import pypdf
    except ImportError:
        return False
    logger = logging.getLogger(pypdf.__name__)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # otherwise pypdf's warnings about a file go to our standard error
    return True


def _read_pdf(content: bytes) -> Text:
    """Read the first pages of a PDF."""
    import pypdf

    limits: dict[str, Any] = dict.fromkeys(_PDF_LIMITS, 4 * MAX_BYTES)
    with pypdf.apply_configuration(**limits):
        pages = pypdf.PdfReader(io.BytesIO(content)).pages
        lines = "\n".join(page.extract_text() for page in islice(pages, MAX_PDF_PAGES))
        return Text(_keep(_read_lines(lines)), max(1, min(len(pages), MAX_PAGES)))
