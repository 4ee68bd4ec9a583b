"""Patterns that name a place elsewhere, such as `s3://bucket/inbox/**/*.pdf`. Pure.

Where a pattern is a URL, the paths of its files are URLs, too: the scheme, `://`, and the key as the store has it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from aihub_runner.spec.patterns import MAX_EXPANDED, expand_pattern, is_literal, plain_name

# The extra that each scheme needs.
SCHEMES = {"s3": "s3", "gs": "gcs", "az": "azure", "sftp": "sftp", "file": "remote"}
WRITE_SCHEME = "use s3://, gs://, az://, sftp:// or file://, or a path relative to the spec"
NO_CREDENTIALS = "remove it, and set credentials in the environment or a profile, as the store's own tools expect"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_QUERY = re.compile(r"\?[A-Za-z][\w.-]*=")


def is_url(path: str) -> bool:
    """Whether a path or pattern names a place elsewhere. No local path contains `://`: slashes are never doubled."""
    return "://" in path


def scheme_of(pattern: str) -> str:
    """Return the scheme of a pattern; empty for a local one."""
    found = _URL.match(pattern.removeprefix("!"))
    return found[1] if found else ""


def check_url(pattern: str) -> None:
    """Check a pattern without its `!`. Raises ValueError, whose text shows nothing that may be a secret."""
    if not is_url(pattern):
        return
    found = _URL.fullmatch(pattern)
    host, slash, rest = (found[2] if found else pattern.partition("://")[2]).partition("/")
    user, at, _ = host.rpartition("@")
    if at and (":" in user or not found or found[1] != "sftp"):
        raise ValueError("contains a user or password in a URL")
    if _QUERY.search(pattern):
        raise ValueError("contains a query, which may be a secret")
    if "::" in pattern:
        raise ValueError("chains places with ::")
    if found is None or found[1] not in SCHEMES:
        scheme = f", {found[1]}://" if found else ""
        raise ValueError(f"names a place that is not supported{scheme}")
    if found[1] == "file" and host:
        raise ValueError("names a host after file://")
    if found[1] != "file" and not (host and is_literal(host) and "{" not in host):
        raise ValueError("names no bucket or host, or one with wildcards")
    if not slash:
        raise ValueError("names no files in it")
    if rest:
        _check_names(rest)


def _check_names(rest: str) -> None:
    """Check the names of folders: none may be empty, or lead elsewhere."""
    names = [plain_name(one) for part in _expand(rest) for one in part.removesuffix("/").split("/")]
    if {"", ".", ".."} & {*names}:
        raise ValueError("names a folder that is empty, . or ..")


def _expand(rest: str) -> list[str]:
    if "{" not in rest:
        return [rest]
    import bracex  # slow to import

    try:
        return list(bracex.iexpand(rest, keep_escapes=True, limit=MAX_EXPANDED))
    except bracex.ExpansionLimitException:
        return []  # an error of its own


def check_one_place(patterns: Iterable[str]) -> None:
    """Raise ValueError if patterns name several places, or some a place elsewhere and some a local path."""
    places = list(dict.fromkeys(map(place_of, patterns)))
    if len(places) > 1:
        shown = " and ".join(place or "local files" for place in places[:2])
        raise ValueError(f"mixes places, {shown}")


def place_of(pattern: str) -> str:
    """Return scheme and bucket or host of a pattern or path, as in `s3://bucket`; empty for local files."""
    found = _URL.match(pattern.removeprefix("!"))
    if not found:
        return ""
    return f"{found[1]}://{found[2].partition('/')[0]}"


def list_roots(patterns: Iterable[str]) -> list[str]:
    """List the folders that including patterns begin with, before any wildcard, as URLs; none is below another."""
    roots = {show_url(_literal_names(names)) for names in _including(patterns)}
    return sorted(root for root in roots if not any(is_below(root, other) for other in roots - {root}))


def _including(patterns: Iterable[str]) -> list[list[str]]:
    return [names for one in patterns if not one.startswith("!") for names in expand_pattern(one)]


def _literal_names(names: Sequence[str]) -> list[str]:
    """Return the leading names without wildcards, but not that of the file."""
    count = next((i for i, name in enumerate(names[:-1]) if not is_literal(name)), len(names) - 1)
    return [plain_name(name) for name in names[:count]]


def show_url(names: Sequence[str]) -> str:
    """Join names that begin with a scheme and a colon."""
    scheme, *rest = names
    return f"{scheme}//{'/' if scheme == 'file:' else ''}{'/'.join(rest)}"


def parse_prefix(text: str) -> str:
    """Return a prefix to allow, without a slash at its end. Raises ValueError."""
    if not is_url(text):
        raise ValueError("is not a URL")
    text = unicodedata.normalize("NFC", text)
    check_url(text if text.endswith("/") else f"{text}/")
    return text if text == "file:///" else text.removesuffix("/")


def is_below(url: str, prefix: str) -> bool:
    """Whether a URL is a prefix, or lies below it, by whole names."""
    return url == prefix or url.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
