"""Write files so that they are never half-written, and name them so that they stay in their folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import InputError, StateError

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def safe_segment(text: str) -> str:
    """Turn an id from the server into a name for a path: itself where that is harmless, else a hash."""
    if _SAFE.fullmatch(text) and text.strip("."):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def explain_disk(path: Path) -> Iterator[None]:
    """Turn an OSError over a file that we write into words; a full disk is a StateError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # or a quota or limit is reached
            message = f"{path.name}: cannot be written, the disk is full"
            raise StateError(message, "make room and apply again; nothing is lost") from error
        message = f"{path}: cannot be written, {error.strerror or error}"
        raise InputError(message, "check the folder's permissions") from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, readable by its owner only; one that is there keeps its mode."""
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)


def write_file(path: Path, chunks: Iterable[bytes], announce: Callable[[str], None] = lambda digest: None) -> str:
    """Replace a file at once by other bytes, on disk when this returns, and give their digest.

    `announce` is told the digest right before the file takes its place.
    """
    digest = hashlib.sha256()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explain_disk(path):
        make_folder(path.parent)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            announce("sha256:" + digest.hexdigest())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    return "sha256:" + digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Compute the digest of a file, or an empty string where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
