"""The extras that some features need, and whether they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aihub_runner.errors import InputError

# The module that each extra is for, and the package that contains it.
EXTRAS: Mapping[str, tuple[str, str]] = {
    "xlsx": ("xlsxwriter", "XlsxWriter"),
    "parquet": ("pyarrow", "pyarrow"),
    "pdf": ("pypdf", "pypdf"),
    "watch": ("watchfiles", "watchfiles"),
    "remote": ("fsspec", "fsspec"),
    "s3": ("s3fs", "s3fs"),
    "gcs": ("gcsfs", "gcsfs"),
    "azure": ("adlfs", "adlfs"),
    "sftp": ("sshfs", "sshfs"),
    "dask": ("distributed", "distributed"),
}


def find_missing(format: str) -> InputError | None:
    """Return an error if a format needs a package that is not installed; else None."""
    module, package = EXTRAS.get(format, ("", ""))
    if not module or importlib.util.find_spec(module):
        return None
    how = f"run pip install 'aihub-runner[{format}]'"
    return InputError(f"{format} needs {package}, which is not installed", how)


@contextmanager
def explain_broken(format: str) -> Iterator[None]:
    """Raise InputError if the installed package of an extra cannot be imported.

    That is known only once it is imported: a shared library is missing, or `ulimit -v` leaves no room for it.
    """
    try:
        yield
    except ImportError as error:
        how = f"allow more memory, if `ulimit -v` limits it, or run pip install --force-reinstall {EXTRAS[format][1]}"
        raise InputError(f"{format} needs {EXTRAS[format][1]}, which cannot be loaded: {error}", how) from error
