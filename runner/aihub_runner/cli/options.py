"""What the commands share: their options, the loop over specs, and how an error is shown.

Everything heavy is imported where it is used, so that `runner --version` answers at once.
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

# What a command says of one spec: for people, for programs, and as an exit code.
Answer = tuple[str, dict[str, Any], int]


_SPECS = click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
_PLACES = (
    click.option("--state", type=click.Path(path_type=Path), help="Keep the state in another file."),
    click.option("--fake", is_flag=True, help="Use the bundled fake AI Hub; all of it lies in <stem>.fake/."),
    click.option("--allow-outside", is_flag=True, help="Allow files and results outside the Git work tree."),
)


LOCK_FILE = click.option(
    "--lock-file", type=click.Path(path_type=Path, dir_okay=False), help="Keep the lock file for Git in another file."
)


def _add(command: Callable[..., None], *options: Callable[..., Any]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every command takes: specs, and --json."""
    return _add(command, _SPECS, _JSON)


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every command takes that looks at the state."""
    return _add(command, _SPECS, _JSON, *_PLACES)


def verbosely(command: Callable[..., None]) -> Callable[..., None]:
    """Add -v, for what is shown to people."""
    return _add(command, click.option("-v", "--verbose", is_flag=True, help="List all files, not only the first."))


def placed_one(command: Callable[..., None]) -> Callable[..., None]:
    """Add the same, for one spec."""
    return _add(command, _SPEC, _JSON, *_PLACES)


def find_specs(given: tuple[Path, ...]) -> list[Path]:
    """List the specs that are meant: files as given, of folders all; lock files are passed over."""
    found = [spec for path in given for spec in (_specs_of(path) if path.is_dir() else [path])]
    specs = [path for path in found if not path.name.endswith(".lock.toml")]
    return list(dict.fromkeys(specs or given))  # a lock file or empty folder alone is told of when it is loaded


def _specs_of(folder: Path) -> list[Path]:
    """List what a folder holds of specs: what is named as one, and other TOML files that have the keys of one."""
    from aihub_runner.model import SPEC_ENDING
    from aihub_runner.sources.exclude import is_spec

    return [
        path
        for path in sorted(folder.glob("*.toml"))
        if path.name.endswith(SPEC_ENDING) or (path.name != "pyproject.toml" and is_spec(str(path)))
    ]


def each(given: tuple[Path, ...], as_json: bool, act: Callable[[Path], Answer]) -> None:
    """Do something for each spec, print what came of it, and exit with the code that tells most."""
    answers: list[dict[str, Any]] = []
    told: list[BaseException | None] = []
    for spec in find_specs(given):
        try:
            text, data, code = act(spec)
        except (RunnerError, KeyboardInterrupt) as raised:
            error = raised if isinstance(raised, RunnerError) else Interrupted(f"{spec}: interrupted", "run it again")
            print_error(error)
            told.append(error.__cause__)
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
    if find_output_error() not in told:
        code = _with_output(code, is_product=as_json)
    sys.exit(code)


def _with_output(code: int, *, is_product: bool) -> int:
    """Return of output that could not be written; it changes the exit code only where it is what was asked for.

    Who reads a pipe only in part, as `head` does, makes nothing fail.
    """
    from aihub_runner.report.summary import worst_code

    error = find_output_error()
    if error is None or isinstance(error, BrokenPipeError):
        return code
    what = f"standard output: cannot be written, {explain(error)}"
    if is_product:
        print_error(InputError(what, "send it to a file or program that takes it"))
        return worst_code([code, InputError.exit_code])
    say(f"warning: {what}", err=True)
    return code


@contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Print something; who reads a pipe only in part, as `head` does, makes nothing fail and changes no exit code."""
    with suppress(BrokenPipeError):
        yield


def _error_as_json(error: RunnerError) -> list[dict[str, str]]:
    mistakes = error.mistakes if isinstance(error, SpecErrors) else [error]
    return [{"message": mistake.message, "hint": mistake.hint} for mistake in mistakes]


def say(text: str, *, err: bool = False) -> None:
    """Print lines, so that nothing that came from outside acts on the terminal."""
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
    """Open a job, with the embedded fake running where it is asked for and needed."""
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
            f"{data}: another command uses the embedded fake AI Hub", "wait until it has ended, and try again"
        ) from None
    with fake_hub as server:
        yield open_job(spec, options, state=state, fake_root=server.root)
