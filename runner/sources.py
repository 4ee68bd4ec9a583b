"""Scan the local files that a spec selects: what they are, what cannot be sent, and what is never a source."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import bracex
from wcmatch import glob

from runner.errors import InputError
from runner.model import MB, CachedDigest, Scan, SetAside, Source, Stat
from runner.spec import Spec

SUPPORTED = frozenset(
    [
        ".bat",
        ".bashc",
        ".c",
        ".cc",
        ".chtml",
        ".cmake",
        ".cmd",
        ".cpp",
        ".cs",
        ".css",
        ".csv",
        ".cxx",
        ".cy",
        ".dockerfile",
        ".doc",
        ".docx",
        ".eml",
        ".gdoc",
        ".go",
        ".gsheet",
        ".gslides",
        ".h++",
        ".hpp",
        ".html",
        ".java",
        ".jpeg",
        ".jpg",
        ".js",
        ".json",
        ".mht",
        ".mhtml",
        ".mkfile",
        ".msg",
        ".pdf",
        ".perl",
        ".php",
        ".plsql",
        ".png",
        ".pptx",
        ".py",
        ".pxi",
        ".pyx",
        ".r",
        ".rd",
        ".rs",
        ".rtf",
        ".ruby",
        ".tif",
        ".tiff",
        ".ts",
        ".txt",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
        ".zsh",
    ]
)
SPREADSHEETS = frozenset({".csv", ".xls", ".xlsx"})
RESULTS_MARKER = ".aihub-results"
CHUNK_BYTES = MB
RACY_NS = 2_000_000_000
HASH_TRIES = 3
_FLAGS = glob.GLOBSTAR | glob.CASE | glob.FORCEUNIX

Progress = Callable[[int, int, int, int], None]


def scan_sources(
    spec: Spec,
    spec_path: Path,
    cache: Mapping[str, CachedDigest],
    *,
    allow_outside: bool = False,
    now_ns: int,
    on_progress: Progress | None = None,
) -> Scan:
    """Find and digest the files of a spec.

    `cache` saves hashing files whose stat is unchanged; the digest decides. `on_progress` is told of files done, files
    in all, bytes done and bytes in all. Raises InputError where nothing is found, or a pattern leads outside.
    """
    folder = spec_path.parent.absolute()
    _check_patterns(spec, spec_path, allow_outside)
    found = sorted(_find(spec, folder, spec_path, allow_outside))
    kept: dict[str, Stat] = {}
    aside: list[SetAside] = []
    for path in found:
        judged = _judge(spec, folder, path)
        if isinstance(judged, Stat):
            kept[path] = judged
        elif judged is not None:
            aside.append(judged)
    fresh = _digest_all(folder, kept, cache, now_ns, aside, on_progress)
    passwords = [(_compile([pattern]), ref.env) for pattern, ref in spec.run.pdf_passwords.items()]
    sources = tuple(
        Source(path, fresh[path].stat.size, fresh[path].digest, _password(path, passwords)) for path in sorted(fresh)
    )
    if not sources and not aside:
        patterns = ", ".join(spec.files)
        raise InputError(f"{spec_path.name}: no file matches {patterns}", "check files, and where the spec lies")
    return Scan(sources, tuple(sorted(aside, key=lambda item: item.path)), fresh)


# Patterns


def _expand(pattern: str) -> Iterator[str]:
    """Expand braces, drop `./`, and let a literal extension match without regard to case."""
    for plain in bracex.iexpand(unicodedata.normalize("NFC", pattern), limit=10_000):
        yield re.sub(r"\.([A-Za-z0-9]+)$", lambda match: "." + _any_case(match[1]), posixpath.normpath(plain))


def _any_case(text: str) -> str:
    return "".join(f"[{char.lower()}{char.upper()}]" if char.isalpha() else char for char in text)


def _compile(patterns: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """Compile patterns into one expression over NFC paths with `/`."""
    expressions, _ = glob.translate([plain for given in patterns for plain in _expand(given)], flags=_FLAGS | flags)
    return re.compile("|".join(f"(?:{expression})" for expression in expressions) or r"(?!)")


def _check_patterns(spec: Spec, spec_path: Path, allow_outside: bool) -> None:
    for pattern in spec.files:
        plain = pattern.removeprefix("!")
        if plain.startswith("/") and not allow_outside:
            raise InputError(f"{spec_path.name}: files leads outside, {pattern}", "give --allow-outside to mean it")


def _prefix(pattern: str) -> str:
    """Give the folders that a pattern names literally, before its first wildcard."""
    parts = []
    for part in pattern.split("/")[:-1]:
        if re.search(r"[*?\[\]{}!\\]", part):
            break
        parts.append(part)
    return "/".join(parts)


def _find(spec: Spec, folder: Path, spec_path: Path, allow_outside: bool) -> set[str]:
    """Find the paths that the patterns select, relative to the spec's folder."""
    take = _compile(pattern for pattern in spec.files if not pattern.startswith("!"))
    leave = _compile((pattern[1:] for pattern in spec.files if pattern.startswith("!")), glob.DOTGLOB)
    starts = {_prefix(plain) for given in spec.files if not given.startswith("!") for plain in _expand(given)}
    # Hidden folders are entered only where a pattern names them.
    hidden = any(part.startswith(".") and part not in (".", "..") for p in spec.files for part in p.split("/"))
    found: set[str] = set()
    for start in sorted(starts):
        check_inside(folder / start, spec_path, "files", allow_outside)
        for path in _walk(folder, start, hidden):
            plain = unicodedata.normalize("NFC", path)
            if take.match(plain) and not leave.match(plain):
                if (folder / path).is_symlink():
                    check_inside(folder / path, spec_path, "files", allow_outside)
                found.add(path)
    return found


def _walk(folder: Path, start: str, hidden: bool) -> Iterator[str]:
    """List the files below a folder; symlinked folders are not entered, nor those that hold our own files."""
    stack = [start]
    while stack:
        at = stack.pop()
        try:
            with os.scandir(folder / at) as entries:
                listed = list(entries)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        names = {entry.name for entry in listed}
        if RESULTS_MARKER in names:
            continue
        for entry in listed:
            path = f"{at}/{entry.name}" if at else entry.name
            if entry.is_dir(follow_symlinks=False):
                if _may_enter(entry.name, names, hidden):
                    stack.append(path)
            elif not _is_never_source(entry, folder):
                yield path


def _may_enter(name: str, beside: set[str], hidden: bool) -> bool:
    if name == ".git" or (name.startswith(".") and not hidden):
        return False
    return not (name.endswith(".fake") and name.removesuffix(".fake") + ".toml" in beside)


def _is_never_source(entry: os.DirEntry[str], folder: Path) -> bool:
    name = entry.name
    if name.startswith(".env") or ".state.db" in name or name.endswith((".lock", ".lock.toml")):
        return True
    return name.endswith(".toml") and _is_spec(Path(entry.path))


def _is_spec(path: Path) -> bool:
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8")).keys()
    except (OSError, ValueError):
        return False
    return "files" in keys and bool(keys & {"app_name", "app_id", "deployment_id"})


# Outside


def find_work_tree(folder: Path) -> Path:
    """Find the Git work tree that holds a folder; the folder itself where there is none."""
    resolved = folder.resolve()
    return next((place for place in [resolved, *resolved.parents] if (place / ".git").exists()), resolved)


def check_inside(path: Path, spec_path: Path, what: str, allow_outside: bool) -> None:
    """Refuse a path that leads out of the spec's work tree; a spec may come from a pull request."""
    tree = find_work_tree(spec_path.parent)
    if not allow_outside and not path.resolve().is_relative_to(tree):
        raise InputError(f"{spec_path.name}: {what} leads outside, {path}", "give --allow-outside to mean it")


# One file


def _judge(spec: Spec, folder: Path, path: str) -> Stat | SetAside | None:
    """Tell a file's stat, why it is set aside, or None where it is left out without a word."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return SetAside(path.encode("utf-8", "backslashreplace").decode(), "name", "its name is not UTF-8")
    if any(unicodedata.category(char) == "Cc" for char in path):
        return SetAside(path.encode("unicode_escape").decode(), "name", "its name has control characters")
    try:
        info = (folder / path).stat()
    except OSError as error:
        return SetAside(
            path, "vanished" if isinstance(error, FileNotFoundError) else "unreadable", error.strerror or ""
        )
    if not stat.S_ISREG(info.st_mode):
        return None
    return _judge_size(spec, path, Stat(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino))


def _judge_size(spec: Spec, path: str, found: Stat) -> Stat | SetAside | None:
    limits, suffix = spec.limits, PurePosixPath(path).suffix.lower()
    if suffix not in SUPPORTED and limits.on_unsupported != "send":
        detail = suffix or "no extension"
        return None if limits.on_unsupported == "ignore" else SetAside(path, "unsupported type", detail)
    if found.size == 0:
        return SetAside(path, "empty")
    if suffix in SPREADSHEETS and found.size >= limits.spreadsheet_size_mb * MB:
        return SetAside(
            path, "too large", f"{found.size} bytes, spreadsheets stay under {limits.spreadsheet_size_mb:g} MB"
        )
    if found.size > limits.file_size_mb * MB:
        return SetAside(path, "too large", f"{found.size} bytes, at most {limits.file_size_mb:g} MB")
    return found


def _password(path: str, passwords: Iterable[tuple[re.Pattern[str], str]]) -> str:
    if not path.lower().endswith(".pdf"):
        return ""
    plain = unicodedata.normalize("NFC", path)
    return next((name for pattern, name in passwords if pattern.match(plain)), "")


# Digests


def _digest_all(
    folder: Path,
    kept: Mapping[str, Stat],
    cache: Mapping[str, CachedDigest],
    now_ns: int,
    aside: list[SetAside],
    on_progress: Progress | None,
) -> dict[str, CachedDigest]:
    fresh = {path: known for path, found in kept.items() if (known := _cached(cache.get(path), found)) is not None}
    to_hash = [path for path in kept if path not in fresh]
    total, done = sum(kept[path].size for path in to_hash), 0
    for number, path in enumerate(to_hash, 1):
        digested = _digest(folder / path, path, now_ns)
        if isinstance(digested, SetAside):
            aside.append(digested)
        else:
            fresh[path] = digested
        done += kept[path].size
        if on_progress:
            on_progress(number, len(to_hash), done, total)
    return fresh


def _cached(known: CachedDigest | None, found: Stat) -> CachedDigest | None:
    """Use a cached digest only for the same stat, and not where the file was touched just when it was scanned."""
    if known is None or known.stat != found:
        return None
    touched = max(found.mtime_ns, found.ctime_ns)
    return None if abs(known.scanned_ns - touched) < RACY_NS else known


def _digest(path: Path, name: str, now_ns: int) -> CachedDigest | SetAside:
    """Hash a file; one that changes meanwhile is hashed again, a few times."""
    for _ in range(HASH_TRIES):
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                after = os.fstat(file.fileno())
        except OSError as error:
            reason = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
            return SetAside(name, reason, error.strerror or "")
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            found = Stat(after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino)
            return CachedDigest(found, f"sha256:{digest}", now_ns)
    return SetAside(name, "vanished", "it keeps changing")
