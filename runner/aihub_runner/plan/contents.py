"""Work out how a kept batch must change to follow the files of a spec, and which of its files are ours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from aihub_runner.model import OWN, Changes, Goal, Listed, Look, Member, Shard
from aihub_runner.plan.identity import mark_place, short_identity


class Placed(Struct, frozen=True):
    """What this state put into a kept batch under a name: its digest (empty while unconfirmed), and its time there."""

    digest: str
    modified_s: int = 0


class Evidence(Struct, frozen=True):
    """What proves whose the files of a kept batch are.

    `placed` is what this state put there, by name. `known` are digests by mark of a place: what shards or the lock file
    recorded of a run on exactly these files, as shortened identities.
    """

    placed: Mapping[str, Placed]
    known: Mapping[str, str]


def collect_known(shards: Iterable[Shard], remote_id: int, locked: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what runs on a kept batch prove: the identity of a file, shortened, by the mark of its place.

    `locked` are pairs of place and identity from the lock file. A file whose time is not known proves nothing.
    """
    known = dict(locked)
    for shard in shards:
        for batch in shard.batches:
            if batch.kept and batch.remote_id == remote_id:
                known.update(_places(shard, batch.modified))
    return known


def _places(shard: Shard, modified: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for member in shard.members:
        if not (member.is_stale or member.is_listed) and modified.get(member.name):
            yield mark_place(member.name, member.size, modified[member.name]), short_identity(member.identity)


def find_changes(goal: Goal, members: Sequence[Member], look: Look, evidence: Evidence) -> Changes:
    """Return how a batch must change to hold these local files, and what else is in it.

    A file is deleted only if this state put it there, or in our own batch if a run of ours proves it. Everything else
    is somebody else's: it is left, or deleted on request.
    """
    wanted = {member.name: member for member in members}
    add, replace, delete, others, doubtful = [], [], list[str](), list[str](), list[str]()
    for name, member in wanted.items():
        file = look.files.get(name)
        if file is None:
            add.append(member)
        elif not _is_ours(name, file, evidence):
            doubtful.append(name)
        elif not _holds(member, file, evidence):
            replace.append(member)
    for name in sorted(look.files.keys() - wanted.keys()):
        if _may_delete(goal, name, look.files[name], evidence):
            delete.append(name)
        else:
            others.append(name)
    if goal.kept == OWN:  # nobody else has any business there
        doubtful, others = doubtful + others, []
    foreign: list[str] = []
    if goal.exact:
        foreign, others = others + doubtful, []
        delete += foreign[: len(foreign) - len(doubtful)]
    if goal.exact or goal.adopts:
        replace += [wanted[name] for name in doubtful if name in wanted]
        doubtful = [name for name in doubtful if name not in wanted]
    return Changes(
        look.remote_id,
        tuple(add),
        tuple(sorted(replace, key=lambda member: member.name)),
        tuple(delete),
        tuple(others),
        tuple(sorted(foreign)),
        tuple(doubtful),
        look.files,
    )


def _is_ours(name: str, file: Listed, evidence: Evidence) -> bool:
    """Whether this job put a file there: by this state's own record, or by the mark of its place.

    A run may also have had it as somebody else's: then that is what its mark says.
    """
    known = evidence.known.get(_place(name, file), "")
    return name in evidence.placed or known not in ("", short_identity(file.digest))


def _holds(member: Member, file: Listed, evidence: Evidence) -> bool:
    """Whether a file in the batch has the bytes of a local one."""
    placed = evidence.placed.get(member.name)
    if file.size not in (member.size, None):
        return False
    if placed is not None and placed.modified_s == (file.modified_s or 0):
        return placed.digest == member.digest
    return evidence.known.get(_place(member.name, file)) == short_identity(member.identity)


def _is_as_placed(placed: Placed, file: Listed) -> bool:
    """Whether nobody replaced what this state put there, as far as times tell."""
    return placed.modified_s in (0, file.modified_s)


def _may_delete(goal: Goal, name: str, file: Listed, evidence: Evidence) -> bool:
    placed = evidence.placed.get(name)
    if placed is not None:
        return _is_as_placed(placed, file)
    return goal.kept == OWN and _place(name, file) in evidence.known


def _place(name: str, file: Listed) -> str:
    return mark_place(name, file.size, file.modified_s) if file.modified_s else ""
