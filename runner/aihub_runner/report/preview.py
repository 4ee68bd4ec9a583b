"""Describe what applying would do: as text, as Markdown, as JSON, and as a question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import asdict

from aihub_runner.model import SkippedFile
from aihub_runner.plan.kept import AGAIN
from aihub_runner.plan.packets import FOLDER
from aihub_runner.plan.planner import NEW, Plan
from aihub_runner.report.summary import WHEN_LAPSED, Lines, Pages, because, explain_skipped, hint_skipped
from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import are, count, render_size
from aihub_runner.text.sinks import escape_markdown

if TYPE_CHECKING:
    from aihub_runner.plan.planfile import PlanFile


class Change(Struct, frozen=True):
    """A kind of change, and its files. `symbol`: `+` new, `~` changed or to finish, `-` deleted, `!` not sent."""

    symbol: str
    what: str
    files: tuple[str, ...]


class Preview(Struct, frozen=True):
    """What applying would do. `spec` is the path as given; `place` says where, and whose units are spent."""

    spec: str
    app: str
    place: str
    target: str
    plan: Plan
    files: int
    skipped: tuple[SkippedFile, ...] = ()
    at_work: str = ""
    idle: tuple[str, ...] = ()
    lapsed: tuple[str, ...] = ()
    bound: PlanFile | None = None
    pages: Pages = field(default_factory=Pages)
    values: Mapping[str, str] = {}

    @property
    def set_values(self) -> list[str]:
        """The values that variables or --set gave to keys of the spec."""
        return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in self.values.items()]

    def ask(self) -> str:
        """Return the question to ask before anything is paid."""
        plan, changes = self.plan, self.plan.changes
        parts = [f"send {self.to_send}"] * bool(plan.uploads(self.target))
        parts += [f"delete {count(len(changes.delete), 'file')} from batch {changes.remote_id}"] * bool(changes.delete)
        parts += [f"start {count(plan.runs_to_confirm, 'run')} of {self.app}"] * bool(plan.runs_to_confirm or not parts)
        question = f"{', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]}, on {self.place}?"
        question = question[0].upper() + question[1:]
        again = sum(word == AGAIN for work in self.plan.work for word in work.words)
        if again:
            question = f"{count(again, 'file')} {are(again)} paid for again although they did not change. {question}"
        return escape_control_chars(question)

    @property
    def to_send(self) -> str:
        """The files to send, as a count and a size."""
        sent = self.plan.uploads(self.target)
        return f"{count(len(sent), 'file')} ({render_size(sum(member.size for member in sent))})"

    def list_changes(self) -> list[Change]:
        """List the kinds of change: what is sent and finished, then what is not."""
        files: dict[tuple[str, str], list[str]] = {}
        for work in self.plan.work:
            of_all = repeat(f"{work.reason}; next: {work.action.value}")
            for member, word in zip(work.shard.members, work.words or of_all, strict=False):
                files.setdefault(("+" if word == NEW else "~", word), []).append(member.path or member.name)
        self._add_changes(files)
        if self.plan.failed:
            files["!", "failed, not run again without --retry-failed"] = list(self.plan.failed)
        for reason in dict.fromkeys(item.reason for item in self.skipped):
            items = [item for item in self.skipped if item.reason == reason]
            files["!", f"skipped, {explain_skipped(items)}"] = [item.path for item in items]
        changes = [Change(symbol, what, tuple(paths)) for (symbol, what), paths in files.items()]
        return sorted(changes, key=lambda change: "+~-=!".index(change.symbol))

    def _add_changes(self, files: dict[tuple[str, str], list[str]]) -> None:
        """Add how a kept batch changes, each file by its name there."""
        changes, foreign = self.plan.changes, {*self.plan.changes.foreign}
        batch = f"batch {changes.remote_id}" if changes.remote_id else "a new batch"
        for symbol, what, names in (
            ("+", f"to upload to {batch}", [one.name for one in changes.add]),
            ("~", f"to replace in {batch}", [one.name for one in changes.replace if one.name not in foreign]),
            ("-", f"of others, to replace in {batch}", [one.name for one in changes.replace if one.name in foreign]),
            ("-", f"to delete from {batch}", [name for name in changes.delete if name not in foreign]),
            ("-", f"of others, to delete from {batch}", [name for name in changes.delete if name in foreign]),
            ("=", f"of others in {batch}, left as they are", changes.others),
        ):
            if names:
                files[symbol, what] = list(names)

    def list_folders(self) -> list[str]:
        """List the folders that are paid for again as a whole, each with its reason. New folders are left out."""
        changed = [work for work in self.plan.work if work.words and any(word != NEW for word in work.words)]
        return [name for work in changed if (name := work.reason.removeprefix(FOLDER)) != work.reason]

    def sum_up(self) -> str:
        """Return what applying would send, create and pay for, in one line."""
        plan = self.plan
        to_do = [f"{self.to_send.replace(' (', ' to upload (', 1)}", count(plan.batches_to_create, "batch")]
        pages = self.pages.render()
        to_do.append(f"{count(plan.runs_to_pay, 'run')} to pay{f' for {pages}' * bool(pages)}")
        if plan.changes.delete:
            to_do.insert(1, f"{count(len(plan.changes.delete), 'file')} to delete")
        if plan.open_intents:
            to_do.append(f"{count(plan.open_intents, 'run')} whose start is unconfirmed")
        rest = f"{len(self.skipped)} skipped, {plan.done} unchanged" + f", {len(plan.left)} not selected" * bool(
            plan.left
        )
        return f"Plan: {'nothing to do' if plan.is_empty else ', '.join(to_do)}; {rest}"


def render_plan(found: Preview, *, verbose: bool = False) -> str:
    """Render a plan as text: a line for each kind of change, the account, and a sum. `verbose` lists the files."""
    show, plan = Lines(verbose), found.plan
    nothing = "nothing to do; " if plan.is_empty else ""
    show.lines.append(f"{found.spec}: {count(found.files, 'file')}, {nothing}{plan.done} done or in progress")
    show.listed("now", [found.at_work] * bool(found.at_work))
    details = {item.path: f"{item.path}: {because(item)}" for item in found.skipped}
    for change in found.list_changes():
        show.lines += _render_change(change, details, verbose)
    show.listed("folder", found.list_folders())
    show.lines += [f"  = {count(plan.done, 'file')}: unchanged"] * bool(plan.done)
    show.listed("hint", [hint_skipped(found.skipped)] * bool(found.skipped))
    show.listed("moved", [f"{move.old} is now {move.new}" for move in plan.moves])
    show.listed("pattern", found.idle, WHEN_LAPSED * bool(found.lapsed))
    show.listed("note", plan.notes)
    show.listed("value", found.set_values)
    show.listed("app", [found.app])
    show.listed("on", [found.place])
    show.lines.append(found.sum_up())
    return "\n".join(show.lines)


def _render_change(change: Change, details: dict[str, str], verbose: bool) -> Iterator[str]:
    files = change.files
    verbose = verbose or change.symbol == "-"  # nobody can agree to what is not shown
    first = "" if verbose else f" ({files[0]}{' …' * (len(files) > 1)})"
    yield escape_control_chars(f"  {change.symbol} {count(len(files), 'file')}{first}: {change.what}")
    if verbose:
        yield from (escape_control_chars(f"      {details.get(path, path)}") for path in files)


def render_markdown(found: Preview) -> str:
    """Render a plan as Markdown, for a pull request."""
    rows = [(one.symbol, one.what, one.files) for one in found.list_changes()]
    lines = [f"### {escape_markdown(found.spec)}", "", f"**{found.sum_up()}**", ""]
    lines += ["| | files | change | first file |", "| --- | ---: | --- | --- |"] * bool(rows)
    lines += [
        f"| `{symbol}` | {len(files)} | {escape_markdown(what)} | {escape_markdown(files[0])} |"
        for symbol, what, files in rows
    ]
    lines += [f"- {escape_markdown(value)}" for value in found.set_values]
    lines += ["", f"App: {escape_markdown(found.app)}", "", f"Account: {escape_markdown(found.place)}", ""]
    folders = [f"{FOLDER}{one}" for one in found.list_folders()]
    lines += [f"- {escape_markdown(note)}" for note in (*folders, *found.idle, *found.plan.notes)]
    return "\n".join(lines)


def plan_as_json(found: Preview) -> dict[str, Any]:
    """Return a plan as JSON values."""
    plan, sent = found.plan, found.plan.uploads(found.target)
    return {
        "spec": found.spec,
        "on": found.place,
        "app": found.app,
        "values": dict(found.values),
        "files": found.files,
        "done": plan.done,
        "send": [member.path for member in sent],
        "send_bytes": sum(member.size for member in sent),
        "batches": plan.batches_to_create,
        "runs": plan.runs_to_pay,
        "pages": asdict(found.pages),
        "open_intents": 0 if found.at_work else plan.open_intents,
        "left": sorted(plan.left),
        "changes": [asdict(change) for change in found.list_changes()],
        "work": [
            {
                "files": len(work.shard.members),
                "attempt": work.attempt,
                "next": work.action.value,
                "reason": work.reason,
            }
            for work in plan.work
        ],
        "moved": [asdict(move) for move in plan.moves],
        "delete": list(plan.changes.delete),
        "replace": [member.name for member in plan.changes.replace],
        "failed": list(plan.failed),
        "skipped": [asdict(item) for item in found.skipped],
        "idle": list(found.idle),
        "lapsed": list(found.lapsed),
        "at_work": found.at_work,
        "notes": list(plan.notes),
    }
