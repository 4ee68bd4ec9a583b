"""Apply committed job specs to Instabase AI Hub: upload, run, poll, fetch, and never pay twice."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

from aihub_runner.version import VERSION

__all__ = ["documents"]
__version__ = VERSION


def documents(spec: str | PathLike[str], *, fake: bool = False, target: str = "") -> Iterator[dict[str, Any]]:
    """Read the results of a spec, a dictionary per document, ordered by path.

    `fake` reads those of `apply --fake`, and `target` those of a target. Files that are not there any more have
    `present` False. Raises RunnerError if the spec is wrong or there are no results yet. Reads only; may be
    repeated.
    """
    from pathlib import Path

    from aihub_runner.apply.job import find_documents
    from aihub_runner.results.documents import read_documents

    return read_documents(find_documents(Path(spec), fake=fake, target=target))
