"""What some formats need beyond the base installation, and whether it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from aihub_runner.errors import InputError

# What each format needs to be installed, and the package that brings it.
EXTRAS: Mapping[str, tuple[str, str]] = {"xlsx": ("xlsxwriter", "XlsxWriter"), "parquet": ("pyarrow", "pyarrow")}


def find_missing(format: str) -> InputError | None:
    """Find out whether a format needs what is not installed, and give the words for it."""
    module, package = EXTRAS.get(format, ("", ""))
    if not module or find_spec(module):
        return None
    return InputError(f"{format} needs {package}, which is not installed", f"pip install 'aihub-runner[{format}]'")
