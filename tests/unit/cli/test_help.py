"""The help of each command fits a terminal, and its example works."""

import re
import shlex

import pytest
from click import Context
from click.testing import CliRunner

from aihub_runner.cli.main import COMMANDS, cli
from support.commands import HELP_NAMES


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal_of_80_columns(command: str) -> None:
    shown = CliRunner().invoke(cli, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert [line for line in shown.output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_that_the_command_accepts(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"], env={"COLUMNS": "80"}).output
    [example] = re.findall(rf"\n\n  Example: runner ({command}\b.*)\n$", shown)
    name, *arguments = shlex.split(example)
    found = cli.get_command(Context(cli), name)
    assert found
    words = arguments[: arguments.index(">")] if ">" in arguments else arguments
    given = found.make_context(name, words, help_option_names=HELP_NAMES).params
    assert given.get("specs", True)
