"""The command line: find the command, and turn errors into exit codes. No other module does the last."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from aihub_runner.cli.completion import VARIABLE, make_stub, needs_options
from aihub_runner.cli.output import print_error, say
from aihub_runner.errors import Interrupted, RunnerError
from aihub_runner.system import interrupt, streams
from aihub_runner.system.shortage import find_shortage, probe_shortage
from aihub_runner.version import VERSION

_COMMANDS = "apply check code destroy diff init plan report resolve results schema state status validate"
COMMANDS = tuple(_COMMANDS.split())


OTHERS = ("init", "schema", "state")  # whose first argument is no spec


class LazyGroup(click.Group):
    """A group whose commands are functions in modules of the same names, imported only if used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        if VARIABLE in os.environ and cmd_name not in OTHERS and not needs_options():
            return make_stub(cmd_name)
        command: click.Command = getattr(import_module(f"aihub_runner.cli.{cmd_name}"), cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command, without importing any."""
        names = [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"runner {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Process documents with Instabase AI Hub, and never pay twice.

    Write a spec, a small TOML file that says which documents to process with which app. `runner apply` uploads what is
    missing, starts the runs, waits for them and fetches the results.
    """


def main() -> None:
    """Run the command line. Only this function turns an error into an exit code."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")  # or pydantic reads the metadata of all that is installed
    atexit.register(gc.freeze)  # or Python looks for cycles among all modules once more: a fifth of a short command
    try:
        streams.speak_utf8()
        streams.open_streams()
        interrupt.listen()
        cli(prog_name="runner", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _exit_interrupted()
    except Interrupted as error:
        print_error(error)
        _exit_interrupted()
    except RunnerError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(_report_crash(error))


def _exit_interrupted() -> NoReturn:
    """Exit with 130.

    `sys.exit` is not enough: if the interrupt came while Python ran code from a string, as dataclasses do at import, it
    ends the process by SIGINT whatever the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(Interrupted.exit_code)


def _report_crash(error: Exception) -> int:
    """Report a shortage of this machine; else report a bug in this tool, and write a file for the maintainers."""
    if shortage := find_shortage(error) or probe_shortage():
        print_error(shortage)
        return shortage.exit_code
    say(f"error: internal error, this is a bug of aihub-runner; the report is in {_write_bug_report()}", err=True)
    say("hint: report the bug with that file, and apply again to continue", err=True)
    return 1


def _write_bug_report() -> str:
    import tempfile  # both are slow to import
    import traceback

    text = traceback.format_exc()
    try:
        descriptor, path = tempfile.mkstemp(prefix="aihub-runner-bug-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        return f"no file, writing it failed ({error.strerror}):\n{text}"
    return path
