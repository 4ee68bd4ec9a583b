"""Packets: all files of a folder, where a spec groups by folder. Any change of the folder makes another packet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from aihub_runner.model import Member, Scan, Shard, SkippedFile, Source
from aihub_runner.text.shown import count

REFUSED = "refused"
RETRY_REFUSED = "exclude that file, or apply with --retry-failed to send it again"
FOLDER = "folder "  # what the reason for running a folder begins with


def folder_of(path: str) -> str:
    """Return the folder that a file is in; `.` for that of the spec."""
    return path.rpartition("/")[0] or "."


def suffix_of(path: str) -> str:
    """Return the extension of a path, in lower case."""
    return PurePosixPath(path).suffix.lower()


def find_packets(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """Return the files of each folder."""
    packets: dict[str, list[Source]] = {}
    for source in sources:
        packets.setdefault(folder_of(source.path), []).append(source)
    return packets


def whole_packets(shards: Iterable[Shard], sources: Iterable[Source]) -> list[Shard]:
    """List the shards that hold exactly the files of a folder, as they are now."""
    packets = {frozenset((one.path, one.identity) for one in group) for group in find_packets(sources).values()}
    return [shard for shard in shards if shard.files in packets]


def pair_packets(shards: Iterable[Shard], fresh: Iterable[Source], lost: Collection[str]) -> dict[str, str]:
    """Return the new path of each file in a folder that moved completely. `fresh` are new files, `lost` old paths."""
    gone: dict[object, dict[str, Sequence[Member]]] = {}  # by content, then by folder
    for shard in shards:
        if shard.members and all(member.path in lost for member in shard.members):
            gone.setdefault(_content(shard.members), {})[folder_of(shard.members[0].path)] = shard.members
    moves: dict[str, str] = {}
    for _, group in sorted(find_packets(fresh).items()):
        folders = gone.get(_content(group), {})
        free = next((folder for folder in sorted(folders) if folders[folder][0].path not in moves), None)
        if free is not None:
            pairs = zip(_by_content(folders[free]), _by_content(group), strict=True)
            moves.update((old.path, new.path) for old, new in pairs)
    return moves


def _content(files: Iterable[Member | Source]) -> tuple[tuple[str, str], ...]:
    return tuple((one.digest, suffix_of(one.path)) for one in _by_content(files))


def _by_content(files: Iterable[Member | Source]) -> list[Member | Source]:
    return sorted(files, key=lambda one: (one.digest, suffix_of(one.path), one.path))


def is_packet(kept: Sequence[Member], shard: Shard, pending: Mapping[str, Source]) -> bool:
    """Whether an open shard has all files of a folder and no other, whatever their bytes."""
    folder = folder_of(kept[0].path)
    there = {path for path in pending if folder_of(path) == folder}
    return len(kept) == len(shard.members) and {one.path for one in kept} == there


def list_gone(shards: Iterable[Shard], present: Collection[str], members: Sequence[Member]) -> list[str]:
    """List the files that the newest packet of the same folder had, and that are gone."""
    folder = folder_of(members[0].path)
    ran = [shard for shard in shards if shard.runs and any(folder_of(one.path) == folder for one in shard.members)]
    return [one.path or one.name for one in ran[-1].members if one.path not in present] if ran else []


def explain_packet(folder: str, files: Mapping[str, Sequence[str]], again: int) -> str:
    """Return why a folder is run: `files` by what became of them, and how many are paid for `again` because of it."""
    parts = [f"{_name_some(paths)} {word}" for word, paths in files.items() if paths]
    also = f"; {count(again, 'unchanged file')} to pay for again because of it" * bool(again)
    return f"{FOLDER}{folder}: {', '.join(parts)}{also}"


def _name_some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" * (len(paths) > 1)
    return f"{paths[0].rpartition('/')[2]}{more}"


def describe_waits(scan: Scan) -> list[str]:
    """Return a note for each folder with a file that may follow: without it, its packet is another."""
    first = {folder_of(item.path): item for item in reversed(scan.skipped) if may_follow(item)}
    return [f"{folder}: not run while {item.path} {explain_wait(item)}" for folder, item in sorted(first.items())]


def list_waiting(scan: Scan, held: Collection[str]) -> list[str]:
    """List the files whose folder holds one that may have been paid for, or that may follow."""
    folders = {folder_of(path) for path in held} | {folder_of(one.path) for one in scan.skipped if may_follow(one)}
    return [source.path for source in scan.sources if folder_of(source.path) in folders]


def may_follow(item: SkippedFile) -> bool:
    """Whether a skipped file may be sent later, as it is. Its folder waits: else all of it is paid for again then."""
    return item.reason in (REFUSED, "unreadable", "vanished")


def explain_wait(item: SkippedFile) -> str:
    """Return why a file that may follow is missing."""
    return "is refused by the service" if item.reason == REFUSED else "cannot be read"
