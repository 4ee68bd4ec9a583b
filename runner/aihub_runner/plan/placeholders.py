"""What stands for the names of files in a deleted batch: the lock file has only their order. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from aihub_runner.model import Member
from aihub_runner.plan.identity import short_identity

_PLACEHOLDER = re.compile("[0-9]{5,6}-([0-9a-f]{16})")


def placeholder(at: int, mark: str) -> str:
    """Return what stands for the name of a file: its place in the order of names, and its mark."""
    return f"{at:06}-{mark}"


def mark_of(member: Member) -> str:
    """Return the mark of a file in the lock file. Of a stale one, only that is known."""
    return member.digest if member.is_stale else short_identity(member.identity)


def is_placeholder(member: Member) -> bool:
    """Whether a name stands for that of a file with this mark."""
    return member.name[7:] == mark_of(member)


def mark_in(name: str) -> str:
    """Return the mark in what may stand for a name that is not known; else nothing."""
    return found[1] if (found := _PLACEHOLDER.fullmatch(name)) else ""


def have_placeholders(members: Iterable[Member]) -> bool:
    """Whether the names of files are not known."""
    ordered = _in_order(members)
    return bool(ordered) and all(one.name == placeholder(at, mark_of(one)) for at, one in enumerate(ordered))


def name_members(members: Sequence[Member], names: Iterable[str]) -> tuple[Member, ...]:
    """Return files under their names, which are in the same order as the placeholders.

    Empty if the files have names already, or if there are more or fewer of them than names.
    """
    ordered = sorted(set(names))
    if len(ordered) != len(members) or not have_placeholders(members):
        return ()
    return tuple(replace(one, name=name) for one, name in zip(_in_order(members), ordered, strict=True))


def _in_order(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.name)
