"""Group files into shards, and name them so that names in a batch are unique."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import PurePosixPath

from aihub_runner.model import Member, Source
from aihub_runner.plan.packets import find_packets

MAX_NAME = 255
_HASH = re.compile(r"~(?:[0-9a-f]{8}){1,8}(?=(?:\.[^.]+)?$)")


def fold_name(name: str) -> str:
    """Return a name in NFC and case-folded, as case-insensitive file systems compare it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def plain_name(path: str) -> str:
    """Return the basename of a path, in NFC."""
    return unicodedata.normalize("NFC", path.rpartition("/")[2])


def hashed_name(path: str, hex_digits: int = 8) -> str:
    """Return a unique name for a file whose basename is not: stem, `~`, a hash of the path, extension."""
    pure = PurePosixPath(plain_name(path))
    mark = "~" + hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:hex_digits]
    room = MAX_NAME - len(mark) - len(pure.suffix.encode())
    if room < 1:  # an overlong extension is cut, too
        return _cut(pure.name, MAX_NAME - len(mark)) + mark
    return _cut(pure.stem, room) + mark + pure.suffix


def unhashed_name(name: str) -> str:
    """Return the basename of the file that a name in a batch was made for, unless it was cut; see `hashed_name`."""
    return _HASH.sub("", name)


def _cut(text: str, size_bytes: int) -> str:
    return text.encode()[:size_bytes].decode(errors="ignore")


def _fits(name: str) -> bool:
    return len(name.encode()) <= MAX_NAME


def assign_names(paths: Sequence[str]) -> dict[str, str]:
    """Return a name in the batch for each path of one shard: the basename where it is unique and short enough."""
    plain = {path: plain_name(path) for path in paths}
    seen = Counter(fold_name(name) for name in plain.values())
    names = {path: name for path, name in plain.items() if seen[fold_name(name)] == 1 and _fits(name)}
    taken = {fold_name(name) for name in names.values()}
    for path in sorted(set(paths) - names.keys()):
        names[path] = next(
            name for digits in range(8, 65, 8) if fold_name(name := hashed_name(path, digits)) not in taken
        )
        taken.add(fold_name(names[path]))
    return names


def group_sources(
    sources: Iterable[Source], files_per_batch: int, *, by_folder: bool = False
) -> list[tuple[Member, ...]]:
    """Group files, in the order of their paths, into the members of new shards."""
    if by_folder:
        return [_as_members(group) for _, group in sorted(find_packets(sources).items())]
    ordered = iter(sorted(sources, key=lambda source: source.path))
    groups = []
    while group := list(islice(ordered, files_per_batch)):
        groups.append(_as_members(group))
    return groups


def _as_members(group: Iterable[Source]) -> tuple[Member, ...]:
    group = sorted(group, key=lambda source: source.path)
    names = assign_names([source.path for source in group])
    return tuple(source.as_member(names[source.path]) for source in group)
