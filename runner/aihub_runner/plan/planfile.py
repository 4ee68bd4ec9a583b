"""A plan in a file: what was approved, to be compared with a plan computed afresh. Nothing in it is executed. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from aihub_runner.errors import InputError
from aihub_runner.model import Scan, Shard
from aihub_runner.plan.planner import PAYS, Action, Goal, Plan
from aihub_runner.text.shown import count

FORMAT_VERSION = 1
_MADE = "make another one with `runner plan SPEC --out FILE`"
_OF_RUNS = PAYS | {Action.FIND_RUN}


class PlanFile(Struct, frozen=True):
    """What a plan binds: the account, what changes the outcome, the files, the state, and what is paid for.

    `files` maps the path of each file to its identity. `paid` lists the paths that runs are paid for, and `runs` how
    many runs. `batch` lists how a batch that is kept changes. `revision` identifies what the state and the lock file
    recorded.
    """

    spec: str
    root: str
    context: str
    workspace: str
    run_key: str
    again: bool
    retry_failed: bool
    revision: str
    files: Mapping[str, str]
    paid: Sequence[str]
    runs: int
    format_version: int = FORMAT_VERSION
    batch: Sequence[str] = []

    def render(self) -> bytes:
        """Render the file."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    def find_changes(self, now: PlanFile) -> list[str]:
        """List what differs from a plan computed afresh, in words."""
        names = ("spec", "root", "context", "workspace", "run_key", "again", "retry_failed")
        words = {"run_key": "the app or its settings", "retry_failed": "--retry-failed", "again": "--again"}
        changes = [f"{words.get(name, name)} changed" for name in names if getattr(self, name) != getattr(now, name)]
        changed = sorted(path for path in self.files.keys() | now.files.keys() if _differs(path, self.files, now.files))
        if changed:
            changes.append(f"{count(len(changed), 'file')} changed ({changed[0]}{' …' * (len(changed) > 1)})")
        if self.revision != now.revision:
            changes.append("the state or the lock file changed")
        if not changes and (self.runs, list(self.paid)) != (now.runs, list(now.paid)):
            changes.append("it would pay for other files or runs")
        if not changes and list(self.batch) != list(now.batch):
            changes.append("it would change the batch in another way")
        return changes

    def allows(self, plan: Plan) -> bool:
        """Whether a plan pays for no other files and no more runs than this one."""
        paid, runs = list_paid(plan)
        batch = plan.changes.list_lines()
        return runs <= self.runs and set(paid) <= set(self.paid) and set(batch) <= set(self.batch)


def _differs(path: str, before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    return before.get(path) != now.get(path)


def list_paid(plan: Plan) -> tuple[list[str], int]:
    """Return the paths that a plan may pay runs for, and how many runs."""
    runs = [work for work in plan.work if work.action in _OF_RUNS]
    return sorted(member.path for work in runs for member in work.shard.members), len(runs)


def bind_plan(name: str, goal: Goal, scan: Scan, plan: Plan, revision: str) -> PlanFile:
    """Return what a plan binds."""
    settings = goal.settings
    paid, runs = list_paid(plan)
    return PlanFile(
        spec=name,
        root=settings.get("root", ""),
        context=settings.get("context", ""),
        workspace=settings.get("workspace", ""),
        run_key=goal.run_key,
        again=goal.again,
        retry_failed=goal.retry_failed,
        revision=revision,
        files={source.path: source.identity for source in scan.sources},
        paid=paid,
        runs=runs,
        batch=plan.changes.list_lines(),
    )


def compute_revision(shards: Iterable[Shard], entries: Collection[object]) -> str:
    """Return what identifies the recorded facts, and the entries of the lock file that are not imported yet."""
    digest = hashlib.sha256()
    for fact in (*shards, *entries):
        digest.update(f"{fact!r}\n".encode())
    return digest.hexdigest()


def parse_plan(text: bytes, name: str) -> PlanFile:
    """Parse a plan file. Raises InputError."""
    try:
        content = json.loads(text)
        version = content["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(f"{name}: is not a plan", _MADE) from None
    if version != FORMAT_VERSION:
        raise InputError(f"{name}: a plan of format {version!r}, not {FORMAT_VERSION}", _MADE)
    try:
        return _check_kinds(PlanFile(**content))
    except (TypeError, ValueError):
        raise InputError(f"{name}: is not a complete plan", _MADE) from None


def _check_kinds(plan: PlanFile) -> PlanFile:
    """Return the plan. Raises ValueError for values of other kinds."""
    given: dict[str, Any] = asdict(plan)
    kinds = {"again": bool, "retry_failed": bool, "files": dict, "runs": int, "format_version": int}
    kinds |= {"paid": list, "batch": list}
    if any(not isinstance(value, kinds.get(name, str)) for name, value in given.items()):
        raise ValueError
    if not all(isinstance(one, str) for one in (*plan.files, *plan.files.values(), *plan.paid, *plan.batch)):
        raise ValueError
    return plan
