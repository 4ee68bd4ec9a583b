"""What the commands share: the decorator that makes a command over specs, its options, and the loop over the specs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click
from click import option
from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.apply.job import Job, Options, open_job
from aihub_runner.cli.completion import complete_specs
from aihub_runner.cli.output import print_error, say, set_quiet, with_output_error
from aihub_runner.cli.types import Duration
from aihub_runner.errors import InputError, Interrupted, RunnerError, StateError, worst_code
from aihub_runner.files import make_folder
from aihub_runner.model import SPEC_ENDING
from aihub_runner.sources.exclude import is_spec
from aihub_runner.spec.kinds import Key
from aihub_runner.spec.patterns import expand_pattern
from aihub_runner.spec.targets import Choice
from aihub_runner.spec.urls import parse_prefix
from aihub_runner.spec.variables import parse_assignment
from aihub_runner.system.streams import find_output_error
from aihub_runner.text.jsontext import render_json

# What a command returns for one spec: text for people, values for JSON, and the exit code.
Answer = tuple[str, dict[str, Any], int]
Option = Callable[[Callable[..., None]], Callable[..., None]]


def _set_no_color(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Set the variable that programs agree on; the bars heed it, too."""
    if wanted:
        os.environ["NO_COLOR"] = "1"


SHOWN = 10
FILE = click.Path(path_type=Path, dir_okay=False)


def _check_globs(ctx: click.Context, param: click.Parameter, patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        try:
            expand_pattern(pattern.removeprefix("!"))
        except ValueError as error:
            raise click.BadParameter(f"{pattern} {error}") from None
    return patterns


def _parse_prefixes(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(parse_prefix(text))
        except ValueError as error:  # the text is not shown: it may hold a password
            raise click.BadParameter(f"one of them {error}") from None
    return tuple(found)


def _parse_assignments(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[Key, str], ...]:
    found: dict[Key, str] = {}
    for text in texts:
        try:
            key, value = parse_assignment(text)
        except ValueError as error:
            raise click.BadParameter(f"{text.partition('=')[0]!r} {error}") from None
        if key in found:
            raise click.BadParameter(f"{text.partition('=')[0]!r} is there twice")
        found[key] = value
    return tuple(found.items())


ALLOW_OUTSIDE = option("--allow-outside", is_flag=True, help="Allow files and results outside the Git work tree.")
ALLOW_REMOTE = option(
    "--allow-remote",
    multiple=True,
    metavar="URL",
    callback=_parse_prefixes,
    help="Allow files at or below this URL, such as s3://bucket/inbox; repeatable.",
)
VERBOSE = option("-v", "--verbose", is_flag=True, help="List all items, not only the first 10.")
ONLY = option("--only", multiple=True, metavar="GLOB", callback=_check_globs, help="Only files that match; repeatable.")
SELECTION = (
    ONLY,
    option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N files that are not done."),
)
LOCK_FILE = option("--lock-file", type=FILE, help="Path of the lock file, the record for Git.")
LOCK_TIMEOUT = option(
    "--lock-timeout",
    "lock_timeout_s",
    type=Duration(),
    default=0.0,
    help="Wait up to this time for another apply to end.",
)
STATE = option("--state", type=click.Path(path_type=Path), help="Path of the state file.")
PLACES = (
    STATE,
    option("--fake", is_flag=True, help="Use the bundled fake AI Hub, with data in <stem>.fake/."),
)
_TARGET = option(
    "--target",
    metavar="NAME",
    default="",
    envvar="AIHUB_RUNNER_TARGET",
    help="Use the values in [targets.NAME] of the spec. Also AIHUB_RUNNER_TARGET.",
)
_SET = option(
    "--set",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_parse_assignments,
    help="Another context, workspace, version, deployment_id, output_workspace or keys.custom.NAME; repeatable.",
)
_JSON = option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
_NO_COLOR: Option = option(
    "--no-color", is_flag=True, expose_value=False, callback=_set_no_color, help="Print no colours."
)
_QUIET = option("-q", "--quiet", is_flag=True, callback=set_quiet, help="Print only errors, and a line at the end.")
# None is required by click, whose message could not name the specs that are there.
_SPECS = click.argument(
    "specs", nargs=-1, type=click.Path(path_type=Path), metavar="SPECS...", shell_complete=complete_specs
)
_SPECS_HERE = click.argument("specs", nargs=-1, type=click.Path(path_type=Path), shell_complete=complete_specs)
_SPEC = click.argument(
    "specs", nargs=1, required=False, type=click.Path(path_type=Path), metavar="SPEC", shell_complete=complete_specs
)


class Asked(Struct, frozen=True):
    """The arguments of a command: its specs, and the options that commands share."""

    specs: tuple[Path, ...]
    options: Options
    as_json: bool = False
    target: str = ""
    given: tuple[tuple[Key, str], ...] = ()
    state: Path | None = None
    fake: bool = False
    verbose: bool = False
    quiet: bool = False
    is_product: bool = False

    def as_product(self) -> Asked:
        """Return what was asked, for a command whose text another program reads: it is whole, or the command failed."""
        return replace(self, quiet=False, is_product=True)

    @property
    def choice(self) -> Choice:
        """How the spec is to be seen."""
        return Choice(self.target, given=self.given)

    def in_full(self) -> Asked:
        """Return what was asked, for a command whose text is its product, which `quiet` does not shorten."""
        return replace(self, quiet=False)

    def each_spec(
        self, act: Callable[[Path], Answer], *, pays: bool = False, also: Callable[[], dict[str, Any]] = dict
    ) -> NoReturn:
        """Call `act` for each spec, print what it returns, and exit with the worst code.

        `also` returns what else is in the JSON document. If the command `pays`, output is best effort: the exit code is
        the job's even where nothing can be printed; and several specs are summed up at the end. With `quiet`, of each
        text only the first line is printed.
        """
        answers: list[dict[str, Any]] = []
        reported: list[BaseException | None] = []
        specs = find_specs(self.specs)
        for spec in specs:
            try:
                text, data, code = act(spec)
            except (RunnerError, KeyboardInterrupt) as raised:
                ended = Interrupted(f"{spec}: interrupted", "run it again")
                error = raised if isinstance(raised, RunnerError) else ended
                print_error(error)
                reported.append(error.__cause__)
                text, data, code = "", {"spec": str(spec), "error": _as_json(error)}, error.exit_code
            if text and not self.as_json:
                say(text.partition("\n")[0] if self.quiet else text)
            answers.append(data | {"exit_code": code})
            if code == Interrupted.exit_code:
                break
        codes = [answer["exit_code"] for answer in answers]
        code = worst_code(codes)
        total = _sum_up(answers, specs, shows=not self.as_json) if pays and len(specs) > 1 else {}
        if self.as_json:
            document = {"format_version": 1, "specs": answers, "exit_code": code} | total | also()
            sys.stdout.write(render_json(document, indent=2, only_ascii=True) + "\n")
        if find_output_error() not in reported:
            code = with_output_error(code, is_product=(self.as_json or self.is_product) and not pays)
        sys.exit(code)

    def each_job(self, act: Callable[[Job], Answer], is_online: Callable[[Job], bool] = lambda job: False) -> NoReturn:
        """Open the job of each spec, and call `act` for it. Sends requests only where `is_online` says so."""

        def act_on(spec: Path) -> Answer:
            job = self.open(spec, offline=True)
            if not is_online(job):
                return act(job)
            with served(self.open(spec)) as reachable:
                return act(reachable)

        self.each_spec(act_on)

    def each_online(
        self,
        act: Callable[[Job], Answer],
        check: Callable[[Job], None] = lambda job: None,
        agree: Callable[[Sequence[Job]], None] | None = None,
    ) -> NoReturn:
        """Open and check the jobs of all specs, then call `act` for each, unless one is wrong. May send requests.

        With several specs, `agree` is called with all jobs before any of them.
        """
        specs = find_specs(self.specs)
        jobs = {spec: self._try_open(spec, check) for spec in specs} if len(specs) > 1 else {}
        is_wrong = any(isinstance(job, RunnerError) for job in jobs.values())

        def act_on(spec: Path) -> Answer:
            job = jobs.get(spec) or self.open(spec)
            if isinstance(job, RunnerError):
                raise job
            if is_wrong:
                raise InputError(f"{spec}: not applied, another spec is invalid", "fix the other spec")
            with served(job) as reachable:
                return act(reachable)

        if agree and jobs and not is_wrong:
            agree([job for job in jobs.values() if isinstance(job, Job)])
        self.each_spec(act_on, pays=True)

    def open(self, spec: Path, *, offline: bool = False) -> Job:
        """Open the job of a spec. Raises InputError."""
        return open_job(spec, self.options, choice=self.choice, state=self.state, fake=self.fake, offline=offline)

    def _try_open(self, spec: Path, check: Callable[[Job], None]) -> Job | RunnerError:
        try:
            job = self.open(spec)
            check(job)
        except RunnerError as error:
            return error
        return job


def _sum_up(answers: list[dict[str, Any]], specs: Sequence[Path], *, shows: bool) -> dict[str, Any]:
    """Print what came of several specs together, and return it for JSON."""
    from aihub_runner.report.total import render_total, sum_up  # not needed for one spec

    if shows:
        say(render_total(answers, [str(spec) for spec in specs[len(answers) :]]))
    return {"total": sum_up(answers)}


def over_specs(
    *options: Option, example: str, many: bool = True, here: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command over specs, or over one, with --json and the given options.

    With `here`, no spec means those of the current folder. The function gets an `Asked` of what commands share, and its
    own options by name.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def call(specs: Any, **given: Any) -> None:
            if not specs and not here:
                raise _no_spec(click.get_current_context().command_path.partition(" ")[2])
            of_job, shared = _take(given, Options), _take(given, Asked)
            asked = Asked((specs or (Path(),)) if many else (specs,), Options(**of_job), **shared)
            for name, place in (("--state", asked.state), ("--lock-file", asked.options.lock_file)):
                if place:
                    require_one(asked, name)
            function(asked, **given)

        command: Callable[..., None] = call
        first: Option = _SPECS_HERE if here else _SPECS if many else _SPEC
        added: tuple[Option, ...] = (first, _TARGET, _SET, _JSON, _QUIET, _NO_COLOR, *options)
        for add in reversed(added):
            command = add(command)
        return click.command(function.__name__, epilog=f"Example: {example}")(command)

    return decorate


def _no_spec(command: str) -> InputError:
    """Return the error about a command that needs a spec, with those of the current folder."""
    here = _specs_of(Path())
    if not here:
        return InputError(f"{command}: no spec given, and none in this folder", "write one with `runner init`")
    shown = ", ".join(map(str, here[:SHOWN])) + " …" * (len(here) > SHOWN)
    runner = f"runner {command} {shlex.quote(str(here[0]))}"
    return InputError(f"{command}: no spec given; in this folder: {shown}", f"name it: {runner}")


def require_one(asked: Asked, option: str) -> None:
    """Raise UsageError if an option that concerns one spec meets several."""
    if len(find_specs(asked.specs)) > 1:
        raise click.UsageError(f"{option} needs exactly one spec")


def _take(given: dict[str, Any], kind: type[Asked] | type[Options]) -> dict[str, Any]:
    """Remove the fields of a class from options, and return them."""
    return {name: given.pop(name) for name in kind.__struct_fields__ if name in given}


def find_specs(given: tuple[Path, ...]) -> list[Path]:
    """List the specs that the arguments name: files as given, and all specs of folders. Lock files are ignored."""
    found = [spec for path in given for spec in (_specs_of(path) if os.path.isdir(path) else [path])]
    specs = [path for path in found if not path.name.endswith(".lock.toml")]
    return list(dict.fromkeys(specs or given))  # loading reports a lock file or an empty folder that stands alone


def _specs_of(folder: Path) -> list[Path]:
    """List the specs in a folder: files named like one, and other TOML files with the keys of one."""
    return [
        path
        for path in sorted(folder.glob("*.toml"))
        if path.name.endswith(SPEC_ENDING) or (path.name != "pyproject.toml" and is_spec(str(path)))
    ]


def _as_json(error: RunnerError) -> list[dict[str, str]]:
    return [{"message": mistake.message, "hint": mistake.hint} for mistake in error.mistakes]


@contextmanager
def served(job: Job) -> Iterator[Job]:
    """Start the embedded fake for a job that uses it, and return the job with its root."""
    if not job.is_fake:
        yield job
        return
    from fake_aihub import FakeAIHub, FolderInUseError

    data = job.results_path.parent / "data"
    make_folder(data)
    try:
        fake_hub = FakeAIHub(data_dir=data, run_seconds=0.2)
    except FolderInUseError:
        raise StateError(
            f"{data}: another command uses the embedded fake AI Hub", "wait until that command ends, and try again"
        ) from None
    with fake_hub as server:
        yield replace(job, connection=replace(job.connection, root=server.root))
