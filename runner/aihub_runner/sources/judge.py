"""Judge a file by its name and its size: whether it can be sent, or why it is skipped."""

from __future__ import annotations

import os

from aihub_runner.model import MB, SkippedFile
from aihub_runner.spec.model import Limits
from aihub_runner.text.escape import escape_control_chars, has_control_chars

_SUPPORTED = """
    .bat .bashc .c .cc .chtml .cmake .cmd .cpp .cs .css .csv .cxx .cy .dockerfile .doc .docx .eml .gdoc .go .gsheet
    .gslides .h++ .hpp .html .java .jpeg .jpg .js .json .mht .mhtml .mkfile .msg .pdf .perl .php .plsql .png .pptx .py
    .pxi .pyx .r .rd .rs .rtf .ruby .tif .tiff .ts .txt .xls .xlsx .xml .yaml .yml .zsh
"""
SUPPORTED = frozenset(_SUPPORTED.split())
SPREADSHEETS = frozenset({".csv", ".xls", ".xlsx"})


def judge_name(limits: Limits, path: str) -> SkippedFile | bool:
    """Return why a file is skipped for its name, True if it is not, or False if it is ignored."""
    if not (path.isascii() and path.isprintable()) and (unfit := _unfit_name(path)):
        return unfit
    suffix = _suffix(path)
    if suffix not in SUPPORTED and limits.on_unsupported != "send":
        ignored = limits.on_unsupported == "ignore"
        return False if ignored else SkippedFile(path, "unsupported type", suffix or "no extension")
    return True


def _suffix(path: str) -> str:
    dot, slash = path.rfind("."), path.rfind("/")
    if dot > slash + 1 and path[slash + 1] != ".":
        return path[dot:].lower()
    return os.path.splitext(path[slash + 1 :])[1].lower()


def _unfit_name(path: str) -> SkippedFile | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        return SkippedFile(escape_control_chars(shown), "name", "the name is not UTF-8")
    if has_control_chars(path):
        return SkippedFile(escape_control_chars(path), "name", "the name contains control characters")
    return None


def judge_size(limits: Limits, path: str, size: int) -> SkippedFile | None:
    """Return why a file is skipped for its size."""
    if size == 0:
        return SkippedFile(path, "empty")
    if size >= limits.spreadsheet_size_mb * MB and _suffix(path) in SPREADSHEETS:
        return SkippedFile(
            path, "too large", f"{size} bytes, spreadsheets must be under {limits.spreadsheet_size_mb:g} MB"
        )
    if size > limits.file_size_mb * MB:
        return SkippedFile(path, "too large", f"{size} bytes, at most {limits.file_size_mb:g} MB")
    return None
