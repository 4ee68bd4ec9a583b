"""One spec, ready to apply: its places, its identity and its connection."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from aihub_runner.aihub.connection import Connection
from aihub_runner.errors import InputError, SpecErrors, StateError
from aihub_runner.model import ALL, DOCUMENTS_NAME, UPSTREAM, Allowed, Damage, Goal, Look, Scan, Secret, Target, stem_of
from aihub_runner.outfile import require_file
from aihub_runner.plan.identity import name_include, run_key, run_settings, target_key
from aihub_runner.settings import (
    API_ROOT,
    STDIN,
    Settings,
    identify_root,
    list_secrets,
    load_settings,
    load_spec,
    read_secrets,
)
from aihub_runner.sources.exclude import find_work_tree, is_spec, read_targets
from aihub_runner.spec.kinds import Key
from aihub_runner.spec.model import Spec
from aihub_runner.spec.patterns import compile_globs
from aihub_runner.spec.targets import AS_IT_IS, PLAIN, Choice, Parsed, describe_target, name_places
from aihub_runner.spec.urls import is_url
from aihub_runner.spec.values import name_variable

if TYPE_CHECKING:
    from threading import Event

    from aihub_runner.aihub.client import AIHub
    from aihub_runner.aihub.requestlog import RequestLog
    from aihub_runner.aihub.throttle import Pace
    from aihub_runner.apply.events import Reporter
    from aihub_runner.apply.executors.patience import Patience
    from aihub_runner.plan.planfile import PlanFile
    from aihub_runner.plan.planner import Plan
    from aihub_runner.sources.scan import Selection
    from aihub_runner.state.store import State

Confirm = Callable[["Plan", Scan], bool]
FAKE_TOKEN = "fake-embedded"
FAKE_ROOT = "fake"  # the embedded fake, whose port changes each time


class Options(Struct, frozen=True):
    """Command-line options of one apply."""

    retry_failed: bool = False
    again: bool = False
    adopt: bool = False
    refetch: bool = False
    wait_for_review: bool = False
    wait_timeout_s: float | None = None
    lock_timeout_s: float = 0.0
    max_runs: int | None = None
    again_after: int | None = None
    allow_outside: bool = False
    allow_remote: tuple[str, ...] = ()
    lock_file: Path | None = None
    approved: PlanFile | None = None
    only: tuple[str, ...] = ()
    limit: int | None = None
    no_wait: bool = False
    waiting: frozenset[str] = frozenset()
    refresh: bool = False
    confirm_delete: int = 0
    scheduler: str = ""
    insecure_scheduler: bool = False
    patience: Patience | None = None  # with the workers of a cluster, where the default does not suit
    log: RequestLog | None = None
    paces: dict[str, Pace] = {}  # of the services, as the last of several specs left them

    @property
    def allowed(self) -> Allowed:
        """Where files may be."""
        return Allowed(self.allow_outside, self.allow_remote)


class Job(Struct, frozen=True, dict=True):
    """A spec with its places, its identity and its connection."""

    spec: Spec
    spec_path: Path
    state_path: Path
    own_state_path: Path
    lock_path: Path
    results_path: Path
    target: Target
    connection: Connection
    options: Options
    secrets: Mapping[str, Secret] = {}
    target_name: str = PLAIN
    given: tuple[tuple[Key, str], ...] = ()
    values: Mapping[str, str] = {}  # that variables or the command line gave to keys of the spec
    other_results: Mapping[str, str] = {}  # of its other targets, by name
    damaged: Damage = {}  # as found at the last check
    look: Look | None = None  # at the batch that is kept

    @property
    def folder(self) -> Path:
        """The folder that the spec's paths are relative to."""
        return self.spec_path.parent

    def place_of(self, path: str) -> str:
        """Return where a file is: its path on this machine, or its URL."""
        return path if is_url(path) else f"{self.folder}/{path}"

    @cached_property
    def tree(self) -> str:
        """The work tree that its files must not leave; empty if they may."""
        return "" if self.options.allow_outside else str(find_work_tree(self.folder))

    @property
    def is_remote(self) -> bool:
        """Whether its files lie elsewhere, at URLs."""
        return any(map(is_url, self.spec.files))

    @property
    def shown(self) -> str:
        """The path of the spec, as given; several specs may have the same name."""
        return str(self.spec_path)

    @property
    def is_fake(self) -> bool:
        """Whether this job runs against the embedded fake."""
        return self.target.root == FAKE_ROOT

    @property
    def root_name(self) -> str:
        """The name of the variable with the root."""
        return name_variable(self.target_name, API_ROOT)

    @property
    def lacks_context(self) -> bool:
        """Whether no context is set, so that the community account pays."""
        return not (self.target.context or self.spec.context is not None or self.is_fake)

    @property
    def app(self) -> str:
        """The app as the spec names it."""
        return self.spec.app_name or self.spec.app_id or self.spec.deployment_id or ""

    @property
    def place(self) -> str:
        """Where runs are started, and whose units they spend."""
        return f"target {self.target_name}: {self._account}" if self.target_name else self._account

    @property
    def _account(self) -> str:
        if self.is_fake:
            return "the FAKE AI Hub, where nothing is paid"
        context = f"context {self.target.context}" if self.target.context else "the community account"
        workspace = f", workspace {self.target.workspace}" * bool(self.target.workspace)
        return f"{self.target.root}, {context}{workspace}"

    @property
    def app_and_version(self) -> str:
        """The app, its owner, and its version."""
        spec = self.spec
        kind = "" if spec.app_name else "app " if spec.app_id else "deployment "
        owner = f" of {spec.owner}" if spec.owner else ""
        version = f"version {spec.run.version}" if spec.run.version else "its newest production version"
        return f"{kind}{self.app}{owner}, {version}"

    def command(self, name: str) -> str:
        """Return a command for this job, as you would type it in the current folder."""
        places = ["--target", self.target_name] if self.target_name else []
        places += [word for key, value in self.given for word in ("--set", f"{'.'.join(map(str, key))}={value}")]
        places += [] if self.state_path == self.own_state_path else ["--state", str(self.state_path)]
        places += [word for one in self.options.allow_remote for word in ("--allow-remote", one)]
        places += ["--lock-file", str(self.options.lock_file)] if self.options.lock_file else []
        return shlex.join(
            ["runner", *name.split(), str(self.spec_path), *places, *(["--fake"] if self.is_fake else [])]
        )

    def no_results(self) -> InputError:
        """Return an error for a job without results, with the command that fetches them."""
        return InputError(f"{self.shown}: has no results yet", f"run `{self.command('apply')}`")

    @cached_property
    def goal(self) -> Goal:
        """The goal to plan for."""
        run, results = self.spec.run, self.spec.results
        settings = run_settings(self.spec, self.target)
        return Goal(
            run_key=run_key(settings),
            target=target_key(self.target),
            include=name_include(results.include, post_process_pdf=run.generate_post_process_pdf),
            files_per_batch=self.spec.limits.files_per_batch,
            settings=settings,
            retry_failed=self.options.retry_failed,
            again=self.options.again,
            again_after=ALL if self.options.again_after is None else self.options.again_after,
            refetch=self.options.refetch,
            damaged=frozenset(self.damaged),
            by_folder=self.spec.group_by == "folder",
            only=self._only() if self.options.only or self.options.waiting else None,
            limit=self.options.limit,
            input=self.spec.input_dir or (UPSTREAM if run.manual_upstream_integration else ""),
            kept=self.spec.batch.kind,
            batch_id=self.spec.batch.id or (self.look.remote_id if self.look else 0),
            follows=self.spec.batch.follows,
            exact=self.spec.batch.sync == "exact",
            adopts=self.options.adopt,
        )

    def _only(self) -> Callable[[str], bool]:
        """Return whether --only selects a path, if given. Files that are still being written are not."""
        waiting = self.options.waiting
        if waiting:
            return lambda path: path not in waiting
        take, leave = compile_globs(self.options.only, os.path.realpath(self.folder))
        return lambda path: take.matches(path) and not leave.matches(path)


class Held(Struct, frozen=True):
    """A job whose state is held; its files, if they were just selected; and who hears of it or stops it."""

    job: Job
    state: State
    files: Selection | None
    reporter: Reporter
    stop: Event


class OpenJob(Struct, frozen=True):
    """A job while it is applied: its state is held, its files are scanned, and requests may be sent."""

    job: Job
    state: State
    client: AIHub
    scan: Scan
    reporter: Reporter


def _require_state(path: Path) -> Path:
    """Return the path of a state. Raises StateError for a folder, a pipe or a device."""
    try:
        require_file(path)
    except InputError as error:
        raise StateError(error.message, "use --state with the path of a file") from None
    return path


def load_alone(spec_path: Path, choice: Choice) -> Parsed:
    """Load a spec whose state and lock file no other spec shares. Raises SpecErrors with all mistakes."""
    mistakes = [] if spec_path == STDIN else list(find_twins(spec_path, choice.target))
    try:
        parsed = load_spec(spec_path, choice)
    except InputError as error:
        raise SpecErrors([*error.mistakes, *mistakes]) from None
    if mistakes:
        raise SpecErrors(mistakes)
    return parsed


def find_twins(spec_path: Path, target: str = PLAIN) -> Iterator[InputError]:
    """Yield an error for each other spec that would have the same state and lock file."""
    stem = name_places(spec_path, target)
    before, _, name = stem.rpartition("@")
    for other in sorted([*_list_specs(spec_path, stem), *(_list_specs(spec_path, before) if before else ())]):
        if stem_of(other) == stem or name in read_targets(str(other)):
            yield InputError(
                f"{spec_path}: would share the state {stem}.state.db with {other.name}",
                "rename one of them, or move it elsewhere",
            )


def _list_specs(spec_path: Path, stem: str) -> Iterator[Path]:
    """List the other specs beside a spec that have a stem."""
    for other in (spec_path.parent / name for name in glob.glob(f"{glob.escape(stem)}.*", root_dir=spec_path.parent)):
        is_other = other.name != spec_path.name and stem_of(other) == stem
        if is_other and is_spec(str(other)) and not (spec_path.exists() and other.samefile(spec_path)):
            yield other


def open_job(
    spec_path: Path,
    options: Options,
    *,
    choice: Choice = AS_IT_IS,
    state: Path | None = None,
    fake: bool = False,
    offline: bool = False,
) -> Job:
    """Load a spec and the settings of a target, and determine the job's places.

    With `fake`, all files are in `<stem>.fake/`, no setting counts, and the root is added when the embedded fake runs.
    `offline` needs no token and no secrets. Raises InputError.
    """
    parsed, target = load_alone(spec_path, choice), choice.target
    spec, stem = parsed.spec, name_places(spec_path, target)
    home = spec_path.parent / f"{stem}.fake" if fake else spec_path.parent
    if fake:
        settings, results = Settings(Secret(FAKE_TOKEN), "", None, target=target), home / "results"
        account = Target(FAKE_ROOT, spec.context or "", spec.workspace or "")
    else:
        settings, results = load_settings(target), home / spec.results.dir_for(spec.name)
        account = _find_account(spec, settings)
        if not offline and settings.api_key is None:
            raise InputError(
                f"{settings.key_name}: not set", "set it in the environment, .env or a secrets folder; or use --fake"
            )
        _check_others(spec_path, target, run_key(run_settings(spec, account)), parsed.others)
    secrets = {} if offline else _read_secrets(spec, fake=fake)
    _refuse_secrets(spec_path, parsed.values, [*secrets.values(), *([settings.api_key] if settings.api_key else [])])
    return Job(
        spec=spec,
        spec_path=spec_path,
        state_path=_require_state(state or home / f"{stem}.state.db"),
        own_state_path=home / f"{stem}.state.db",
        lock_path=require_file(options.lock_file) if options.lock_file else home / f"{stem}.lock.toml",
        results_path=results,
        target=account,
        connection=_connect(spec, settings, account.context, tuple(secrets.values())),
        options=options,
        secrets=secrets,
        target_name=target,
        given=choice.given,
        values=parsed.values,
        other_results={name: _place_results(spec_path, name, other, fake) for name, other in parsed.others.items()},
    )


def _find_account(spec: Spec, settings: Settings) -> Target:
    """Return the root, context and workspace that a spec and settings name."""
    context = spec.context if spec.context is not None else settings.context or ""
    return Target(identify_root(settings.api_root), context, spec.workspace or "")


def _place_results(spec_path: Path, target: str, spec: Spec, fake: bool) -> str:
    """Return where a target has its results, relative to the spec, as a state records it."""
    place = f"{name_places(spec_path, target)}.fake/results" if fake else spec.results.dir_for(spec.name)
    return Path(os.path.relpath(spec_path.parent / place, spec_path.parent)).as_posix()


def _check_others(spec_path: Path, target: str, key: str, others: Mapping[str, Spec]) -> None:
    """Raise InputError if another target, as far as its settings are there, is the same work in the same account."""
    for name, spec in others.items():
        try:
            settings = load_settings(name)
        except InputError:
            continue
        if settings.api_key and run_key(run_settings(spec, _find_account(spec, settings))) == key:
            one, other = sorted((target, name), reverse=True)
            raise InputError(
                f"{spec_path}: {describe_target(one)} and {describe_target(other)} have the same root, context, "
                "workspace, app and settings, so each would do what the other one did",
                "change one of them, or remove it",
            )


def _refuse_secrets(spec_path: Path, values: Mapping[str, str], secrets: Iterable[Secret]) -> None:
    """Raise InputError if a value that is shown would hold a secret."""
    known = [*list_secrets(), *(secret.reveal() for secret in secrets)]
    for key, value in values.items():
        if any(secret and secret in value for secret in known):
            raise InputError(
                f"{spec_path}: the value of {key} contains a secret, and it would be shown",
                "set its variable, or --set, to another value",
            )


def _connect(spec: Spec, settings: Settings, context: str, secrets: tuple[Secret, ...]) -> Connection:
    return Connection(
        settings.api_root,
        settings.api_key or Secret(""),
        context,
        spec.limits.connect_timeout_s,
        spec.limits.read_timeout_s,
        pool_size=spec.limits.parallel_uploads + spec.limits.parallel_runs,
        secrets=secrets,
        settings=settings,
    )


def _read_secrets(spec: Spec, *, fake: bool) -> Mapping[str, Secret]:
    refs = [*spec.run.pdf_passwords.values(), *(spec.run.webhook.headers.values() if spec.run.webhook else ())]
    names = sorted({ref.env for ref in refs})
    return {name: Secret("fake") for name in names} if fake else read_secrets(names)


def find_documents(spec_path: Path, *, fake: bool, target: str = PLAIN) -> Path:
    """Return the documents of a spec. Raises InputError if there are none yet."""
    job = open_job(spec_path, Options(), fake=fake, choice=Choice(target), offline=True)
    path = job.results_path / DOCUMENTS_NAME
    if not path.exists():
        raise job.no_results()
    return path
