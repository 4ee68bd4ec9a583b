"""Which options have variables: only those listed here. What pays or permits never comes from the environment."""

from __future__ import annotations

from typing import Any

import click
import pytest

from support.commands import HELP_NAMES, list_commands

VARIABLES = {
    "--target": "AIHUB_RUNNER_TARGET",
    "--scheduler": "AIHUB_RUNNER_SCHEDULER",
    "--log-file": "AIHUB_RUNNER_LOG_FILE",
}
NEVER = frozenset(
    {
        *(
            "--yes",
            "--again",
            "--retry-failed",
            "--resubmit",
            "--adopt",
            "--fake",
            "--allow-outside",
            "--allow-remote",
            "--max-runs",
        ),
        *("--confirm-delete", "--discard-unfetched", "--refetch", "--plan", "--prune", "--watch", "--set", "--only"),
    }
)
COMMANDS = list_commands()


def options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def parse(name: str, words: list[str]) -> dict[str, Any]:
    command = COMMANDS[name]
    with command.make_context(name, words, resilient_parsing=True, help_option_names=HELP_NAMES) as context:
        return context.params


def test_options_with_variables_are_the_listed_ones() -> None:
    found = {(option.opts[-1], option.envvar) for one in COMMANDS.values() for option in options(one) if option.envvar}
    assert found == {*VARIABLES.items()}
    assert not any(one.context_settings.get("auto_envvar_prefix") for one in COMMANDS.values())


def test_options_that_pay_or_permit_are_there_and_have_no_variable() -> None:
    there = {name: option for one in COMMANDS.values() for option in options(one) for name in option.opts}
    assert there.keys() >= NEVER
    assert [name for name in NEVER if there[name].envvar] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_no_variable_sets_another_option(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a name that click, or somebody who guesses, could make of the option and the command either."""
    before = parse(command, [])
    for option in options(COMMANDS[command]):
        words = option.opts[-1].lstrip("-").replace("-", "_").upper()
        of_command = command.replace(" ", "_").upper()
        for prefix in ("AIHUB_RUNNER_", "RUNNER_", f"RUNNER_{of_command}_", f"AIHUB_RUNNER_{of_command}_", "AIHUB_"):
            if f"{prefix}{words}" not in VARIABLES.values():
                monkeypatch.setenv(f"{prefix}{words}", "1")
    assert parse(command, []) == before
