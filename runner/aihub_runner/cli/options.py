"""What the commands share: common options, the loop over specs, and the display of errors.

Heavy modules are imported inside functions, to keep `runner --version` fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aihub_runner.errors import InputError, Interrupted, RunnerError, SpecErrors, StateError
from aihub_runner.system.streams import explain, find_output_error
from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import escape_control_chars

if TYPE_CHECKING:
    from aihub_runner.apply.job import Job, Options

PLAN_HAS_CHANGES = 10

# What a command returns for one spec: text for people, values for JSON, and the exit code.
Answer = tuple[str, dict[str, Any], int]


_SPECS = click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
_PLACES = (
    click.option("--state", type=click.Path(path_type=Path), help="Path of the state file."),
    click.option("--fake", is_flag=True, help="Use the bundled fake AI Hub, with data in <stem>.fake/."),
    click.option("--allow-outside", is_flag=True, help="Allow files and results outside the Git work tree."),
)


LOCK_FILE = click.option(
    "--lock-file", type=click.Path(path_type=Path, dir_okay=False), help="Path of the lock file, the record for Git."
)


def _add(command: Callable[..., None], *options: Callable[..., Any]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of every command: the specs, and --json."""
    return _add(command, _SPECS, _JSON)


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that reads the state."""
    return _add(command, _SPECS, _JSON, *_PLACES)


def verbosely(command: Callable[..., None]) -> Callable[..., None]:
    """Add --verbose."""
    return _add(command, click.option("-v", "--verbose", is_flag=True, help="List all items, not only the first 10."))


def placed_one(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that reads the state of one spec."""
    return _add(command, _SPEC, _JSON, *_PLACES)


def find_specs(given: tuple[Path, ...]) -> list[Path]:
    """List the specs that the arguments name: files as given, and all specs of folders. Lock files are ignored."""
    found = [spec for path in given for spec in (_specs_of(path) if path.is_dir() else [path])]
    specs = [path for path in found if not path.name.endswith(".lock.toml")]
    return list(dict.fromkeys(specs or given))  # loading reports a lock file or an empty folder that stands alone


def _specs_of(folder: Path) -> list[Path]:
    """List the specs in a folder: files named like one, and other TOML files with the keys of one."""
    from aihub_runner.model import SPEC_ENDING
    from aihub_runner.sources.exclude import is_spec

    return [
        path
        for path in sorted(folder.glob("*.toml"))
        if path.name.endswith(SPEC_ENDING) or (path.name != "pyproject.toml" and is_spec(str(path)))
    ]


def each(given: tuple[Path, ...], as_json: bool, act: Callable[[Path], Answer], *, pays: bool = False) -> None:
    """Call `act` for each spec, print what it returns, and exit with the worst code.

    If the command `pays`, output is best effort: the exit code is the job's even where nothing can be printed.
    """
    answers: list[dict[str, Any]] = []
    reported: list[BaseException | None] = []
    for spec in find_specs(given):
        try:
            text, data, code = act(spec)
        except (RunnerError, KeyboardInterrupt) as raised:
            error = raised if isinstance(raised, RunnerError) else Interrupted(f"{spec}: interrupted", "run it again")
            print_error(error)
            reported.append(error.__cause__)
            text, data, code = "", {"spec": str(spec), "error": _error_as_json(error)}, error.exit_code
        if text and not as_json:
            say(text)
        answers.append(data | {"exit_code": code})
        if code == Interrupted.exit_code:
            break
    from aihub_runner.report.summary import worst_code

    codes = [answer["exit_code"] for answer in answers]
    code = PLAN_HAS_CHANGES if set(codes) == {PLAN_HAS_CHANGES} else worst_code(codes)
    if as_json:
        sys.stdout.write(render_json({"specs": answers, "exit_code": code}, indent=2, only_ascii=True) + "\n")
    if find_output_error() not in reported:
        code = _with_output(code, is_product=as_json and not pays)
    sys.exit(code)


def _with_output(code: int, *, is_product: bool) -> int:
    """Report that standard output could not be written. The exit code changes only if the output is the product.

    A reader that closes the pipe early, such as `head`, is no error.
    """
    from aihub_runner.report.summary import worst_code

    error = find_output_error()
    if error is None or isinstance(error, BrokenPipeError):
        return code
    what = f"standard output: cannot be written, {explain(error)}"
    if is_product:
        print_error(InputError(what, "redirect it to a file or program that accepts it"))
        return worst_code([code, InputError.exit_code])
    say(f"warning: {what}", err=True)
    return code


@contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Ignore that the reader of a pipe closes it early, as `head` does. The exit code stays."""
    with suppress(BrokenPipeError):
        yield


def _error_as_json(error: RunnerError) -> list[dict[str, str]]:
    mistakes = error.mistakes if isinstance(error, SpecErrors) else [error]
    return [{"message": mistake.message, "hint": mistake.hint} for mistake in mistakes]


def say(text: str, *, err: bool = False) -> None:
    """Print lines. Escapes control characters, since the text may come from outside."""
    stream = sys.stderr if err else sys.stdout
    stream.write(escape_control_chars(text, keep="\n") + "\n")
    stream.flush()


def print_error(error: RunnerError) -> None:
    for mistake in _error_as_json(error):
        say(f"error: {mistake['message']}", err=True)
        if mistake["hint"]:
            say(f"hint: {mistake['hint']}", err=True)


@contextmanager
def opened_job(spec: Path, options: Options, state: Path | None, fake: bool, offline: bool = False) -> Iterator[Job]:
    """Open a job. Starts the embedded fake if the command asks for it and sends requests."""
    from aihub_runner.apply.job import open_job

    if not fake or offline:
        yield open_job(spec, options, state=state, fake_root="" if fake else None, offline=offline)
        return
    from aihub_runner.files import make_folder
    from fake_aihub import FakeAIHub, FolderInUseError

    job = open_job(spec, options, state=state, fake_root="", offline=True)
    data = job.results_path.parent / "data"
    make_folder(data)
    try:
        fake_hub = FakeAIHub(data_dir=data, run_seconds=0.2)
    except FolderInUseError:
        raise StateError(
            f"{data}: another command uses the embedded fake AI Hub", "wait until that command ends, and try again"
        ) from None
    with fake_hub as server:
        yield open_job(spec, options, state=state, fake_root=server.root)
