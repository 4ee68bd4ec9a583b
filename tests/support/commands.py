"""All commands of the runner, as click knows them."""

from __future__ import annotations

import click

from aihub_runner.cli.main import cli

# For a context of our own: a command keeps the names of its help option from the first one.
HELP_NAMES = ["-h", "--help"]


def list_commands() -> dict[str, click.Command]:
    """Return each command by the words that it is called with, such as `state show`."""
    found: dict[str, click.Command] = {}

    def add(group: click.Group, words: tuple[str, ...]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command
            if isinstance(command, click.Group):
                add(command, (*words, name))
            else:
                found[" ".join((*words, name))] = command

    add(cli, ())
    return found
