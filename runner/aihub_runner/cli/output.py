"""Print text, with control characters escaped, and errors."""

from __future__ import annotations

import os
import re
import select
import sys
from typing import TYPE_CHECKING

import click

from aihub_runner.errors import InputError, RunnerError, SpecMistake, worst_code
from aihub_runner.system.streams import explain, find_output_error
from aihub_runner.text.escape import escape_control_chars

if TYPE_CHECKING:
    from aihub_runner.report.summary import Report


_QUIET = f"{__name__}.quiet"
LOOK_EVERY_S = 0.5  # at a question, for a signal
_SIGNED = re.compile(r"^  ([+~=!]) .*", re.MULTILINE)
_COLOURS = {"+": 32, "~": 33, "=": 2, "!": 31}  # green, yellow, dim, red


def set_quiet(ctx: click.Context, param: click.Parameter | None, wanted: bool) -> bool:
    """Remember for this command that only what is urgent is said."""
    ctx.meta[_QUIET] = wanted
    return wanted


def is_quiet() -> bool:
    """Whether this command says only what is urgent."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_QUIET))


def say(text: str, *, err: bool = False) -> None:
    """Print lines. Escapes control characters, since the text may come from outside. Colours signs on a terminal."""
    stream = sys.stderr if err else sys.stdout
    shown = escape_control_chars(text, keep="\n") + "\n"
    if stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        shown = _SIGNED.sub(lambda match: f"\x1b[{_COLOURS[match[1]]}m{match[0]}\x1b[0m", shown)
    stream.write(shown)
    stream.flush()


def ask(question: str) -> bool:
    """Ask a yes-or-no question. A closed terminal or the end of input counts as no."""
    answer = ""
    try:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        _await_input()
        answer = sys.stdin.readline()
    except (OSError, ValueError):
        pass
    finally:  # after Ctrl-C, too
        if not answer.endswith("\n"):
            say("", err=True)
    return answer.strip().lower() in ("y", "yes")


def ask_to(act: str, done: str, what: str, *, yes: bool, may_ask: bool) -> bool:
    """Ask whether to do what cannot be undone, and was listed. Raises InputError if nobody can be asked."""
    if yes:
        return True
    if not (may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"{what}: nothing was {done}, nobody can be asked here", f"pass --yes to {act}")
    return ask(f"{act.capitalize()} all of this? It cannot be undone.")


def _await_input() -> None:
    """Wait for a line without staying in one system call: a signal may come just before it, and would not end it."""
    while not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
        pass


def print_error(error: RunnerError) -> None:
    """Print what is wrong, and what to do about it."""
    for mistake in error.mistakes:
        say(f"error: {mistake.message}", err=True)
        if isinstance(mistake, SpecMistake) and mistake.excerpt:
            say(mistake.excerpt, err=True)
        if mistake.hint:
            say(f"hint: {mistake.hint}", err=True)


def print_problems(report: Report) -> None:
    """Print the problems of a report."""
    for problem in report.problems:
        print_error(RunnerError(problem.message, problem.hint))


def with_output_error(code: int, *, is_product: bool) -> int:
    """Report that standard output could not be written. The exit code changes only if the output is the product.

    A reader that closes the pipe early, such as `head`, is no error.
    """
    error = find_output_error()
    if error is None or isinstance(error, BrokenPipeError):
        return code
    what = f"standard output: cannot be written, {explain(error)}"
    if is_product:
        print_error(InputError(what, "redirect it to a file or program that accepts it"))
        return worst_code([code, InputError.exit_code])
    say(f"warning: {what}", err=True)
    return code
