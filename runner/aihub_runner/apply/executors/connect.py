"""Connect to a Dask scheduler, or start a cluster on this machine."""

from __future__ import annotations

import logging
import math
import tempfile
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import dask
from distributed import Client, LocalCluster, Security

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.events import Reporter, WorkersJoined
from aihub_runner.apply.executors.address import Scheduler, parse_scheduler
from aihub_runner.apply.executors.dask import Cluster
from aihub_runner.apply.executors.patience import Patience
from aihub_runner.apply.executors.wire import Place
from aihub_runner.apply.executors.worker import be_loaded
from aihub_runner.apply.job import Job
from aihub_runner.errors import ClusterLost, InputError
from aihub_runner.settings import API_KEY, API_ROOT
from aihub_runner.spec.values import name_variable
from aihub_runner.text.escape import clean_text

CONNECT_S = 10
SILENT = logging.CRITICAL + 1  # what matters is in our own messages
# Each has a level of its own, or gets one.
_LOGGERS = (
    "distributed",
    "distributed.client",
    "distributed.scheduler",
    "distributed.nanny",
    "tornado",
    "tornado.application",
)
_VARIABLES = "DASK_DISTRIBUTED__COMM__TLS__"


def open_cluster(job: Job, hub: AIHub, reporter: Reporter) -> Cluster:
    """Connect to the cluster that a job names, or start it. Raises InputError, or ClusterLost."""
    scheduler = parse_scheduler(job.options.scheduler, insecure=job.options.insecure_scheduler)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(SILENT)
    limits = job.spec.limits
    place = Place(
        uuid.uuid4().hex,
        job.connection.root,
        job.connection.context,
        job.target_name,
        limits.connect_timeout_s,
        limits.read_timeout_s,
    )
    most = limits.parallel_uploads
    client, close = _start(scheduler, job, most) if scheduler.processes else _connect(scheduler)
    cluster = Cluster(client, scheduler.name, hub, place, most, reporter, job.options.patience or Patience(), close)
    reporter.emit(WorkersJoined(scheduler.name, *cluster.size))
    return cluster


def _connect(scheduler: Scheduler) -> tuple[Client, Callable[[], None]]:
    security = _load_certificates(scheduler) if scheduler.address.startswith("tls:") else Security()
    try:
        client = Client(scheduler.address, timeout=CONNECT_S, set_as_default=False, security=security)
    except Exception as error:  # Dask raises what its layers raise
        why = clean_text(str(error) or type(error).__name__).splitlines()[0]
        hint = "check that a Dask scheduler runs there, and whether it expects tls:// or tcp://"
        raise ClusterLost(f"{scheduler.name}: cannot connect, {why}", hint) from None
    _check_workers(scheduler, client)
    return client, lambda: None


def _check_workers(scheduler: Scheduler, client: Client) -> None:
    """Raise ClusterLost if a worker cannot load this program: with a task that it cannot read, its process ends."""
    asked: Future[Any] = Future()

    def ask() -> None:
        try:
            asked.set_result(client.run(be_loaded, on_error="return"))
        except Exception as error:  # Dask raises what its layers raise
            asked.set_exception(error)

    threading.Thread(target=ask, name="ask", daemon=True).start()
    try:
        answers = asked.result(CONNECT_S)
    except Exception:  # a worker hangs, or just ends: others may do
        return
    for name, error in answers.items():
        if not isinstance(error, Exception) or isinstance(error, OSError):  # an OSError says that it is gone
            continue
        client.close(timeout=2)
        raise ClusterLost(
            f"{scheduler.name}: {clean_text(str(name))}: cannot load aihub-runner, {clean_text(str(error))}",
            "install aihub-runner[dask], the same version as here, where the workers run",
        )


def _load_certificates(scheduler: Scheduler) -> Security:
    """Return the certificates that Dask's own configuration names."""
    security = Security(require_encryption=True)
    needed = {
        "CA_FILE": security.tls_ca_file,
        "CLIENT__CERT": security.tls_client_cert,
        "CLIENT__KEY": security.tls_client_key,
    }
    if missing := [_VARIABLES + name for name, value in needed.items() if not value]:
        raise InputError(
            f"--scheduler {scheduler.name}: {', '.join(missing)}: not set",
            "set them to the files of your certificates, here, at the scheduler and at the workers; see docs/scale.md",
        )
    try:
        security.get_connection_args("client")
    except OSError as error:
        what = error.strerror or str(error)
        raise InputError(
            f"--scheduler {scheduler.name}: a certificate cannot be read, {what}", "check its file"
        ) from None
    return security


def _start(scheduler: Scheduler, job: Job, most: int) -> tuple[Client, Callable[[], None]]:
    """Start processes on this machine, with certificates of their own, and without a dashboard.

    They read the token as this process does: from the same environment and folder.
    """
    environment = {}
    if job.is_fake:  # its token is no secret
        target = job.target_name
        environment[name_variable(target, API_KEY)] = job.connection.token.reveal()
        environment[name_variable(target, API_ROOT)] = job.connection.root
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aihub-runner-", ignore_cleanup_errors=True))
        quiet: Any = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
        try:
            with dask.config.set(quiet):
                cluster = LocalCluster(
                    n_workers=scheduler.processes,
                    threads_per_worker=math.ceil(most / scheduler.processes),
                    processes=True,
                    host="127.0.0.1",
                    security=Security.temporary(),
                    dashboard_address=None,
                    silence_logs=SILENT,
                    memory_limit=0,
                    local_directory=folder,
                    env=environment,
                    preload=["aihub_runner.apply.executors.local"],
                )
            stack.callback(cluster.close, timeout=5)
            client = Client(cluster, timeout=CONNECT_S, set_as_default=False)
        except Exception as error:  # Dask raises what its layers raise
            why = clean_text(str(error) or type(error).__name__).splitlines()[0]
            raise ClusterLost(f"{scheduler.name}: cannot start, {why}", "apply without --scheduler") from None
        return client, stack.pop_all().close
