"""A Dask cluster of processes for tests: workers can be killed, stopped, continued, and added."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urljoin

from distributed import Client, Security

from support.waiting import wait_for

QUIET = {
    "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
}


PAGES = ("info/main/workers.html", "info/main/logs.html", "json/counts.json", "metrics", "sitemap.json")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Worker:
    """A worker process. `before` goes before its command, to start it in a namespace for instance."""

    def __init__(
        self,
        cluster: DaskCluster,
        threads: int = 2,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        preload: Sequence[str] = ("--preload", "aihub_runner.apply.executors.worker"),
    ) -> None:
        command = ["-m", "distributed.cli.dask_worker", cluster.address, "--no-nanny", "--no-dashboard"]
        options = [
            *preload,
            "--nthreads",
            str(threads),
            "--memory-limit",
            "0",
            "--local-directory",
            str(cluster.folder),
        ]
        self.log = cluster.folder / f"worker-{len(cluster.workers)}.log"
        self.process = subprocess.Popen(
            [*before, sys.executable, *command, *options],
            cwd=cluster.folder,
            env=cluster.env | (env or {}),
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        cluster.workers.append(self)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class DaskCluster:
    """A scheduler on this machine, and its workers, each a process with this environment."""

    protocol = "tcp"

    def __init__(
        self, folder: Path, env: Mapping[str, str], host: str = "127.0.0.1", before: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.env = folder, dict(env) | QUIET
        self.host, self.port, self.before = host, free_port(), before
        self.workers: list[Worker] = []
        self.start_scheduler()

    @property
    def address(self) -> str:
        return f"{self.protocol}://{self.host}:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `runner apply` that use it."""
        return ("--scheduler", self.address, "--insecure-scheduler")

    @contextmanager
    def encrypted(self) -> Iterator[dict[str, str]]:
        """Start the scheduler with certificates, which workers have, too; yield what a client needs."""
        self.protocol = "tls"
        found = self.other_certificates()
        self.env |= found
        self.start_scheduler()
        yield found

    def other_certificates(self) -> dict[str, str]:
        """Make an authority with a certificate for all roles, and return the variables that name their files."""
        made, place = Security.temporary(), self.folder / f"tls-{uuid.uuid4().hex}"
        place.mkdir()
        for name, text in (("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key)):
            (place / name).write_text(text)
        roles = ("CLIENT", "SCHEDULER", "WORKER")
        files = {f"{role}__{name.upper()}": place / name for role in roles for name in ("cert", "key")}
        files["CA_FILE"] = place / "ca"
        return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in files.items()}

    def start_scheduler(self) -> None:
        command = ["-m", "distributed.cli.dask_scheduler", "--host", self.host, "--port", str(self.port)]
        command += ["--protocol", self.protocol]
        self.scheduler = subprocess.Popen(
            [*self.before, sys.executable, *command, "--no-dashboard", "--dashboard-address", f"{self.host}:0"],
            cwd=self.folder,
            env=self.env,
            stdout=(self.folder / "scheduler.log").open("ab"),
            stderr=subprocess.STDOUT,
        )

    def start(self, workers: int, threads: int = 2) -> DaskCluster:
        """Start workers, and wait until they are there."""
        for _ in range(workers):
            Worker(self, threads)
        self.wait_for(workers)
        return self

    @property
    def security(self) -> Security:
        """The certificates of this cluster."""
        names = {"ca_file": "CA_FILE", "client_cert": "CLIENT__CERT", "client_key": "CLIENT__KEY"}
        found = {f"tls_{key}": self.env.get(f"DASK_DISTRIBUTED__COMM__TLS__{name}") for key, name in names.items()}
        return Security(require_encryption=self.protocol == "tls", **found)

    def wait_for(self, workers: int) -> None:
        with Client(self.address, set_as_default=False, timeout=30, security=self.security) as client:
            client.wait_for_workers(workers, timeout=60)

    def stop_scheduler(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.kill()
        self.stop_scheduler()

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kill_child(parent: int) -> int:
    """Kill a child process of a process that sends files for it, and return its id."""
    children: list[int] = []

    def find() -> list[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _parent_of(entry) == parent and b"spawn_main" in _command_of(entry):
                children.append(int(entry.name))
        return children

    wait_for(find)
    os.kill(children[0], signal.SIGKILL)
    return children[0]


def _parent_of(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command_of(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def read_pages(place: str) -> dict[str, str]:
    """Read what a scheduler shows, with all pages that its pages link to: of workers, call stacks and tasks."""
    pages: dict[str, str] = {}
    waiting = [f"{place}/{path}" for path in PAGES]
    while waiting:
        address = waiting.pop()
        with suppress(urllib.error.HTTPError), urllib.request.urlopen(address) as page:
            pages[address] = page.read().decode()
        links = re.findall(r'href="([^"#]+\.html)"', pages.setdefault(address, ""))
        waiting += {urljoin(address, link) for link in links} - {*pages, *waiting}
    return pages
