"""Find what stands in the way of an apply: settings, spec, connection, account, clock, places. Pays for nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from requests.utils import select_proxy

from aihub_runner.aihub import schemas
from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.session import name_authorities, open_session
from aihub_runner.apply.job import Job
from aihub_runner.apply.places import check_renamed, is_on_network, try_state
from aihub_runner.errors import RunnerError, Shortage
from aihub_runner.files import try_place
from aihub_runner.model import MB
from aihub_runner.settings import Settings, load_settings
from aihub_runner.sources.exclude import check_inside
from aihub_runner.sources.scan import check_files
from aihub_runner.sources.stores import Object, ObjectChanged
from aihub_runner.spec.urls import place_of
from aihub_runner.state.lock import is_locked
from aihub_runner.state.lockfile import load_lockfile, try_lockfile
from aihub_runner.text.shown import count, render_size

LITTLE_BYTES = 100 * MB
CLOCK_S = 60  # a difference that people should know of


class Check(Struct, frozen=True):
    """What came of one check. `verdict` is `ok`, `warning`, `failed`, or `unknown` where the service does not say."""

    name: str
    verdict: str
    text: str
    hint: str = ""
    exit_code: int = 0


Found = str | Check
Act = Callable[[], Found]


def check_up(open_it: Callable[[bool], Job] | None, target: str = "") -> Iterator[Check]:
    """Yield what each check found, causes before effects. `open_it` opens the job of a spec; True is offline."""
    job = yield from check_account(open_it, target)
    yield from _check_places(job)


def check_account(open_it: Callable[[bool], Job] | None, target: str = "") -> Generator[Check, None, Job | None]:
    """Yield what each check of settings, service, token and app found, and return the job. Writes nothing."""
    settings, problem = _load(partial(load_settings, target))
    if problem:
        yield from _fail("settings", problem)
    if settings:
        yield _check_token(settings)
        yield Check("root", "ok", f"{settings.api_root}, from {settings.root_from}")
    job = None
    if open_it and settings:
        job, problem = _load(partial(open_it, True))
        yield from _fail("spec", problem) if problem else [Check("spec", "ok", _describe(job))]
    if open_it and job and settings.api_key:
        with_secrets, problem = _load(partial(open_it, False))
        job = with_secrets or job
        yield from _fail("secrets", problem) if problem else []
    if settings and (connection := _connect(settings, job)):
        yield from _check_service(connection, job)
    return job


def _load(act: Callable[[], Any]) -> tuple[Any, RunnerError | None]:
    try:
        return act(), None
    except RunnerError as error:
        return None, error


def _fail(name: str, error: RunnerError) -> list[Check]:
    return [Check(name, "failed", one.message, one.hint, error.exit_code) for one in error.mistakes]


def _try(name: str, act: Act) -> Iterator[Check]:
    found, problem = _load(act)
    if problem:
        yield from _fail(name, problem)
    else:
        yield found if isinstance(found, Check) else Check(name, "ok", found)


def _check_token(settings: Settings) -> Check:
    if settings.api_key:
        return Check("token", "ok", f"set, from {settings.key_from}")
    hint = f"set {settings.key_name} in the environment, .env or a secrets folder"
    return Check("token", "failed", f"{settings.key_name} is not set", hint, exit_code=2)


def _describe(job: Job) -> str:
    return f"{job.shown}: valid, {job.app_and_version}"


# The service


def _connect(settings: Settings, job: Job | None) -> Connection | None:
    if not settings.api_key:
        return None
    return job.connection if job else Connection(settings.api_root, settings.api_key, settings.context or "")


def _check_service(connection: Connection, job: Job | None) -> Iterator[Check]:
    session, problem = _load(lambda: open_session(connection))
    if problem:  # of the certificates
        yield from _fail("CA", problem)
        return
    with closing(session):
        yield Check("proxy", "ok", _describe_proxy(select_proxy(connection.root, session.proxies)))
        is_plain = connection.root.startswith("http:")
        yield Check("CA", "ok", "not needed, the root is on this machine" if is_plain else name_authorities(session))
    with closing(AIHub(connection)) as client:
        checks = list(_try("context", partial(_check_context, client, job)))
        yield from checks
        if any(check.verdict == "failed" for check in checks):
            return
        if job:
            yield from _try("app", partial(_check_app, client, job))
        yield _check_clock(client.clock_offset_s)


def _describe_proxy(proxy: str | None) -> str:
    """Name a proxy without its user and password."""
    return urlsplit(proxy if "://" in proxy else f"//{proxy}").netloc.rpartition("@")[2] if proxy else "none"


def _check_context(client: AIHub, job: Job | None) -> Found:
    """Ask for one batch: that needs the service, the token, the context and the workspace."""
    workspace = job.target.workspace if job else ""
    params: Mapping[str, Any] = {"limit": 1, "offset": 0} | ({"workspace": workspace} if workspace else {})
    client.get(schemas.BatchList, "/v2/batches", params)
    context = client.connection.context
    where = f"the service accepts the token in {f'context {context}' if context else 'the community account'}"
    where += f", workspace {workspace}" * bool(workspace)
    if context or (job and not job.lacks_context):
        return where
    variable = "" if job and job.target_name else ", or AIHUB_CONTEXT"
    return Check("context", "warning", where, f"set context in the spec{variable}, unless that account should pay")


def _check_app(client: AIHub, job: Job) -> Found:
    """Ask for the newest run of the app. The API has no list of apps."""
    spec = job.spec
    named = {"app_name": spec.app_name, "app_id": spec.app_id, "deployment_id": spec.deployment_id}
    params = {name: value for name, value in named.items() if value} | {"from_timestamp": 1, "limit": 1}
    runs = client.get(schemas.RunList, "/v2/apps/runs", params).runs
    if runs:
        return f"{job.app}: visible, a run of it is listed"
    hint = "the API has no list of apps; the first apply shows whether the name and the owner are right"
    return Check("app", "unknown", f"{job.app}: no run of it is listed", hint)


def _check_clock(offset_s: float) -> Check:
    seconds = round(abs(offset_s))
    where = "behind" if offset_s > 0 else "ahead of"
    text = f"{count(seconds, 'second')} {where} the service's" if seconds > 1 else "agrees with the service's"
    if seconds <= CLOCK_S:
        return Check("clock", "ok", text)
    return Check("clock", "warning", text, "set this machine's clock: certificates and times of runs depend on it")


# Places


def _check_places(job: Job | None) -> Iterator[Check]:
    folder = job.folder if job else Path()
    if job and job.is_remote:
        yield from _try("store", partial(_check_store, job))
    if job:
        yield from _try("state", partial(_check_state, job))
        yield from _try("lock file", partial(_check_lockfile, job))
        yield from _try("results", partial(_check_results, job))
    yield from _try("disk", partial(_check_disk, folder))


def _check_store(job: Job) -> Found:
    """List the files elsewhere, and read the first one."""
    sources = check_files(job.spec, job.spec_path, job.options.allowed).sources
    for source in sources[:1]:
        try:
            with Object(source.path, time.sleep) as first:
                first.read(0, 1)
        except (FileNotFoundError, ObjectChanged):
            pass  # just now; the store answers
    return f"{place_of(job.spec.files[0])}: lists {count(len(sources), 'file')}, and shows them"


def _check_state(job: Job) -> Found:
    check_renamed(job)
    try_state(job)
    if is_locked(job.state_path):
        return Check("state", "warning", f"{job.state_path}: another apply uses it", "wait for it, or stop it")
    if is_on_network(job):
        hint = "keep the state on a local disk, with --state, or let only one machine apply"
        return Check("state", "warning", f"{job.state_path}: on a network file system, whose locks may fail", hint)
    return f"{job.state_path} {'is there' if job.state_path.exists() else 'can be written'}"


def _check_lockfile(job: Job) -> Found:
    runs = count(len(load_lockfile(job.lock_path)), "run")
    try_lockfile(job.lock_path)
    return f"{job.lock_path} {f'lists {runs}' if job.lock_path.exists() else 'can be written'}"


def _check_results(job: Job) -> Found:
    """Check that the results can be written, without creating their folder."""
    check_inside(job.results_path, job.spec_path, "results.dir", job.options.allow_outside)
    there = next(place for place in (job.results_path, *job.results_path.absolute().parents) if place.exists())
    try_place(there / ".aihub-tried")
    return f"{job.results_path} can be written"


def _check_disk(folder: Path) -> Found:
    free = shutil.disk_usage(folder).free
    if free < LITTLE_BYTES:
        raise Shortage(f"only {render_size(free)} are free on the disk of {folder.absolute()}", "make room")
    return f"{render_size(free)} free"
