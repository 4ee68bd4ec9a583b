"""Generate docs/cli.md from the commands: `python -m aihub_runner.cli.manual > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from aihub_runner.cli.main import cli

_WIDTH = 100
_INTRODUCTION = """\
# Commands

What `runner COMMAND --help` prints. [reference.md](reference.md#exit-codes) lists the exit codes and the variables.
"""


def render_manual() -> str:
    """Render the help of all commands as Markdown."""
    shown = (f"## {path}\n\n```text\n{text}\n```\n" for path, text in _helps(cli, "runner", None))
    return "\n".join([_INTRODUCTION, *shown])


def _helps(command: click.Command, path: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    name = path.rpartition(" ")[2]
    context = click.Context(command, parent, name, terminal_width=_WIDTH, max_content_width=_WIDTH)
    context.help_option_names = ["-h", "--help"]
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            if found := command.get_command(context, child):
                yield from _helps(found, f"{path} {child}", context)


if __name__ == "__main__":
    click.echo(render_manual(), nl=False)
