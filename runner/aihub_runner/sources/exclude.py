"""Check where files of a spec may be, and exclude what is never a source, whatever the patterns match."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path

from aihub_runner.errors import InputError
from aihub_runner.model import SPEC_ENDING
from aihub_runner.spec.model import APP_KEYS, MAX_SPEC_BYTES
from aihub_runner.spec.schema import SCHEMA_NAME
from aihub_runner.spec.targets import list_targets
from aihub_runner.system.shortage import explain_shortage

RESULTS_MARKER = ".aihub-results"
MAX_LISTED = 5

# Outside


def find_work_tree(folder: Path) -> Path:
    """Return the Git work tree that contains a folder; the folder itself if there is none."""
    resolved = Path(os.path.realpath(folder))
    return next((place for place in [resolved, *resolved.parents] if os.path.exists(place / ".git")), resolved)


def is_outside(path: Path | str, tree: Path | str) -> bool:
    """Whether a path is outside of a work tree, after resolving symlinks. It need not exist."""
    real = os.path.realpath(path)
    return real != str(tree) and not real.startswith(f"{tree}".rstrip("/") + "/")


def check_inside(path: Path, spec_path: Path, what: str, allow_outside: bool) -> None:
    """Raise InputError for a path outside of the spec's work tree. A spec may come from a pull request.

    `what` is the key that names the path.
    """
    if not allow_outside and is_outside(path, find_work_tree(spec_path.parent)):
        raise lead_outside(spec_path, what, [str(path)])


def lead_outside(spec_path: Path, what: str, paths: Iterable[str]) -> InputError:
    """Return the error that lists the paths outside of the work tree."""
    listed = sorted(paths)
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    shown = ", ".join(listed[:MAX_LISTED])
    return InputError(f"{spec_path}: {what} leads outside, {shown}{more}", "pass --allow-outside to allow it")


# Never sources


_PLAIN = re.compile(
    r"[0-9A-Za-z][\w ,()+-]*\.(pdf|PDF|png|PNG|jpe?g|JPE?G|tiff?|TIFF?|docx?|xlsx?|csv|txt|eml|html)", re.A
)


def is_plain(name: str) -> bool:
    """Whether a glance at the name of a file shows that nothing below excludes it. Most names are plain."""
    return _PLAIN.fullmatch(name) is not None


def is_own_name(name: str) -> bool:
    """Whether the name of a file is one of ours, of Git, or of a file with secrets."""
    lower = name.lower()
    begins, ends = (".env", RESULTS_MARKER, SCHEMA_NAME), (".lock", ".lock.toml", SPEC_ENDING)
    return lower.startswith(begins) or lower.endswith(ends) or ".state.db" in lower or lower == ".git"


_LITTER = (
    r"~\$.*|\.~lock\..*#|\._.*|~wr[ld]\d+\.tmp|.*\.(crdownload|part|partial|opdownload|download|tmp|swp|swo|bak~)|.*~"
    r"|#.*#|\.#.*|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|\.ds_store|\.localized|icon\r|\.directory"
    r"|\.(fuse_hidden|nfs|goutputstream-|syncthing\.).*"
)
_LITTER_FOLDERS = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", ".trashes", ".spotlight-v100", ".fseventsd")
)


def is_litter(name: str) -> bool:
    """Whether the name of a file is one that programs leave beside documents."""
    return re.fullmatch(_LITTER, name.lower()) is not None


def is_litter_folder(name: str) -> bool:
    """Whether the name of a folder is one that systems leave beside documents."""
    lower = name.lower()
    return lower in _LITTER_FOLDERS or lower.startswith(".trash-")


def is_own_folder(folder: str) -> bool:
    """Whether a folder belongs to Git or a fake, or contains results or secrets. No file below it is a source."""
    parent, name = os.path.split(folder)
    stem = name.removesuffix(".fake")
    if name.lower() == ".git" or name.lower().startswith(".env"):
        return True
    specs = [one + ending for one in (stem, stem.rpartition("@")[0]) for ending in (".toml", SPEC_ENDING) if one]
    is_fake = stem != name and any(os.path.lexists(f"{parent}/{spec}") for spec in specs)
    return is_fake or os.path.lexists(f"{folder}/{RESULTS_MARKER}")


def is_spec(path: str) -> bool:
    """Whether a TOML file has the keys of a spec. If it cannot be parsed, its lines decide."""
    text = _read_text(path)
    try:
        keys = set(tomllib.loads(text))
    except (ValueError, RecursionError):
        keys = set(re.findall(r"^\s*(\w+)\s*=", text, re.MULTILINE))
    return "files" in keys and bool(keys & {*APP_KEYS, "targets"})


def read_targets(path: str) -> set[str]:
    """Return the names of the targets of a spec; none where it cannot be parsed."""
    try:
        return {*list_targets(tomllib.loads(_read_text(path)))}
    except (ValueError, RecursionError):
        return set()


def _read_text(path: str) -> str:
    """Return the text of a file that may be a spec; nothing where it cannot be one."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_SPEC_BYTES:
            return ""
        with explain_shortage():
            return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def explain_link(path: str, tree: str) -> str:
    """Say why a file that was selected must not be sent: since then, it or its folder became a link. Else return "".

    On another machine, the work tree itself may be reached by a link.
    """
    target = os.path.realpath(path)
    if is_outside(target, tree) and is_outside(target, os.path.realpath(tree)):
        return "it now leads outside"
    return "it now leads to a file that is never sent" if target != path and leads_to_own(target, Path(tree)) else ""


def leads_to_own(target: str, tree: Path) -> bool:
    """Whether the target of a symlink is never a source. The link is not one either."""
    if is_own_name(os.path.basename(target)) or (target.endswith(".toml") and is_spec(target)):
        return True
    places = [Path(target), *Path(target).parents]
    below = [place for place in places if place.is_relative_to(tree)] or places
    return any(is_own_folder(str(place)) for place in below)
