"""Completion in the shell: specs and folders. Imports almost nothing, since a person waits for each press of a key."""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import CompletionItem

ENDING = ".aihub.toml"
VARIABLE = "_RUNNER_COMPLETE"
_ODD = re.compile(r"([^\w./~@%+=:,-])")


def complete_specs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the specs and folders whose path begins with what is typed."""
    start, name = os.path.split(incomplete)
    try:
        with os.scandir(os.path.expanduser(start) or ".") as found:
            entries = [entry for entry in found if _is_offered(entry.name, name)]
            folders = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
    specs = sorted(entry.name for entry in entries if entry.name.endswith(ENDING) and entry.name not in folders)
    if folders and not specs:
        return [CompletionItem(incomplete, "dir")]  # the shell itself adds no blank behind a folder
    paths = [os.path.join(start, one) for one in specs] + [os.path.join(start, one, "") for one in folders]
    return [CompletionItem(_quote(path)) for path in paths]


def _is_offered(found: str, typed: str) -> bool:
    """Whether a name fits what is typed. Names that would break the line of an answer are left out."""
    return found.startswith(typed) and found.isprintable() and (typed.startswith(".") or not found.startswith("."))


def _quote(path: str) -> str:
    """Quote a path for bash; the other shells do so themselves."""
    return _ODD.sub(r"\\\1", path) if os.environ.get(VARIABLE, "").startswith("bash") else path


def needs_options() -> bool:
    """Whether an option, or the value of one, may be typed now: then the command itself must be imported."""
    return any(word.startswith("-") for word in os.environ.get("COMP_WORDS", "").split()[-2:])


def make_stub(name: str) -> click.Command:
    """Return a command that takes any specs, instead of one that takes long to import."""
    specs = click.Argument(["specs"], nargs=-1, shell_complete=complete_specs)
    return click.Command(name, params=[specs], context_settings={"ignore_unknown_options": True})
