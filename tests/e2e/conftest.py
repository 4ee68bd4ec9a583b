"""Fixtures: a folder with a spec and documents, a fake AI Hub, and the real command line."""

from __future__ import annotations

import atexit
import functools
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aihub_runner.cli.main import cli
from fake_aihub import FakeAIHub
from support.contract import check_journal
from support.forks import Forks
from support.proxy import Proxy
from support.starts import Started, Starts
from support.stores import S3Server
from support.world import check_paid_once

Process = subprocess.Popen[str] | Started
ROOT = Path(__file__).parent.parent.parent
WRITES = ("POST", "PUT", "DELETE", "PATCH")
QUICK = "settle_s = 0.2\npoll_min_s = 0.01\npoll_max_s = 0.05"
SPEC = f"""\
name = "job"
files = "in/**/*"
app_name = "Invoice Extraction"
owner = "instabase"
context = "acme"
[limits]
{QUICK}
"""


@dataclass
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The part of the JSON document about its only spec."""
        return json.loads(self.out)["specs"][0]

    @property
    def text(self) -> str:
        return self.out + self.err


@functools.cache
def warm_parent() -> Starts:
    """Return the warm parent of all commands that tests start."""
    made = Starts()
    atexit.register(made.stop)
    return made


class Terminal:
    """The command line on its own terminal of 80 columns and 24 lines."""

    def __init__(self, project: Project, *args: str) -> None:
        environment = project.environment | {"TERM": "xterm"}
        self.main, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 80))
        self.process = warm_parent().start_on(terminal, project.folder, environment, args)
        os.close(terminal)
        self._shown = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.main)

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def type(self, keys: str) -> None:
        """Press keys; `\\x03` is Ctrl-C."""
        os.write(self.main, keys.encode())

    def read_until(self, text: str) -> None:
        """Read the output until it contains a text."""
        while text not in self.shown:
            self._shown += os.read(self.main, 65536)

    def end(self) -> tuple[int, str]:
        """Read to the end, and return the exit code and the whole output."""
        try:
            while chunk := os.read(self.main, 65536):
                self._shown += chunk
        except OSError:
            pass  # the other side is closed
        return self.process.wait(timeout=20), self.shown


@dataclass
class Project:
    """A folder with a spec, for the real command line and a fake."""

    folder: Path
    fake: FakeAIHub
    env: dict[str, str | None] = field(default_factory=dict)
    spec_name: str = "job.toml"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of processes."""
        return {name: value for name, value in (os.environ | self.env).items() if value is not None}

    @property
    def spec_path(self) -> Path:
        return self.folder / self.spec_name

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file below the folder."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def write_files(self, count: int, start: int = 0) -> None:
        for number in range(start, start + count):
            self.write(f"in/{number:05}.txt", f"document number {number}")

    def change_spec(self, old: str, new: str) -> None:
        text = self.spec_path.read_text()
        assert old in text
        self.spec_path.write_text(text.replace(old, new))

    def run(self, command: str, *args: str) -> Outcome:
        """Run a command in this process."""
        arguments = [command, str(self.spec_path), *args]
        result = CliRunner().invoke(cli, arguments, env=self.env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def apply(self, *args: str) -> Outcome:
        return self.run("apply", *args)

    def start(self, *args: str, prepare: Callable[[], None] | None = None) -> Process:
        """Start the command line in its own process, which calls `prepare` first."""
        if not prepare:
            return warm_parent().start(self.folder, self.environment, args)
        return subprocess.Popen(
            [sys.executable, "-m", "aihub_runner", *args],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def run_alone(self, *args: str) -> Outcome:
        """Run the command line in its own process, to its end."""
        process = self.start(*args)
        out, err = process.communicate(timeout=60)
        return Outcome(process.returncode, out, err)

    def on_terminal(self, *args: str, answer: str) -> tuple[int, str]:
        """Run the command line on its own terminal, answer its question, and return the whole output."""
        with Terminal(self, *args) as terminal:
            if answer:
                terminal.read_until("[y/N]")
                terminal.type(answer)
            return terminal.end()

    @property
    def documents(self) -> list[dict[str, Any]]:
        path = self.folder / "results" / "job" / "documents.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    @property
    def lock(self) -> list[dict[str, Any]]:
        name = self.spec_name.replace(".toml", ".lock.toml")
        return tomllib.loads((self.folder / name).read_text())["run"]

    def clone(self, name: str, *also: str) -> Project:
        """Make a fresh clone: the spec, the files, the lock file if it exists, and other named files."""
        folder = self.folder / "clones" / name
        folder.mkdir(parents=True)
        shutil.copytree(self.folder / "in", folder / "in")
        for kept in (self.spec_name, self.spec_name.replace(".toml", ".lock.toml"), *also):
            if (self.folder / kept).exists():
                shutil.copy2(self.folder / kept, folder / kept)
        return Project(folder, self.fake, self.env, self.spec_name)

    def check_done(self, files: int, *, refetch: bool = False) -> None:
        """Apply until all is done, three times at most: each file was paid once, and its result is on disk.

        With `refetch`, since the results on disk are those of another state.
        """
        for _ in range(3):
            outcome = self.apply(*["--refetch"] * refetch)
            check_paid_once(self.fake)
            if outcome.code == 0:
                break
        assert outcome.code == 0, outcome.text
        check_paid_once(self.fake, files)
        present = {line["path"] for line in self.documents if line["present"]}
        assert present == {path.relative_to(self.folder).as_posix() for path in (self.folder / "in").rglob("*.*")}

    def sent(self) -> list[str]:
        """The writing requests so far, as `PUT addFileToBatch`."""
        return [f"{e['method']} {e['operation']}" for e in self.fake.journal if e["method"] in WRITES]

    def forget_requests(self) -> None:
        check_journal(self.fake.journal)
        self.fake.clear_journal()

    def arrived(self) -> dict[str, str]:
        """Names and digests of all files in all batches."""
        files: dict[str, str] = {}
        for batch in self.fake.batches():
            files |= self.fake.files(batch["id"])
        return files


def end(processes: list[Process]) -> list[tuple[int, str]]:
    """Wait for processes, and return the exit code and the output of each."""
    ended = [(process.communicate(timeout=60), process.returncode) for process in processes]
    return [(code, out + err) for (out, err), code in ended]


def apply_at_once(*projects: Project, options: tuple[tuple[str, ...], ...] = ()) -> list[tuple[int, str]]:
    """Apply in a process for each project, and return the exit code and the output of each."""
    given = options or ((),) * len(projects)
    return end([each.start("apply", each.spec_name, *more) for each, more in zip(projects, given, strict=True)])


def check_all_done(*projects: Project, options: tuple[str, ...] = ()) -> None:
    """Check that each project can be finished, directly or after `--adopt` imports what another one has paid."""
    for project in projects:
        for more in ((), ("--adopt",), ()):
            outcome = project.apply(*options, *more)
            if outcome.code == 0:
                break
            assert outcome.code == 7, outcome.text
        assert outcome.code == 0, outcome.text


@pytest.fixture
def fake() -> Iterator[FakeAIHub]:
    with FakeAIHub() as server:
        yield server
        check_journal(server.journal)
        assert server.faults.unused() == []


@pytest.fixture
def project(tmp_path: Path, fake: FakeAIHub, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in list(os.environ):
        if name.startswith("AIHUB_") and name != "AIHUB_OPENAPI" and not name.startswith("AIHUB_REQUIRE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path, fake, {"AIHUB_API_KEY": "fake-test", "AIHUB_API_ROOT": fake.root})
    made.write("job.toml", SPEC)
    return made


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Return a warm parent that forks commands which crash at a boundary."""
    made = Forks()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Return a server of S3 for all tests of a process, which use buckets of their own."""
    made = S3Server()
    yield made
    made.close()


@pytest.fixture
def proxy(project: Project) -> Iterator[Proxy]:
    """Return a tampering proxy between the project and the fake."""
    with Proxy(project.fake.root) as made:
        project.env["AIHUB_API_ROOT"] = made.root
        yield made
