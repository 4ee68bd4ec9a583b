"""Each command where cron and containers start it: no terminal, home, locale or path, or closed streams."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from support.commands import list_commands

from .conftest import Project

# What each command ends with, after an apply; `destroy` last, since it deletes.
COMMANDS = {
    "validate job.toml": 0,
    "check job.toml": 0,
    "plan job.toml": 0,
    "apply job.toml": 0,
    "status job.toml": 0,
    "results job.toml --format csv": 0,
    "report job.toml": 0,
    "code job.toml --as python": 0,
    "diff job.toml": 2,
    "resolve job.toml": 0,
    "state show job.toml": 0,
    "state export job.toml": 0,
    "state verify job.toml": 0,
    "state forget job.toml": 0,
    "results job.toml --prune 1": 0,
    "schema": 0,
    "init bills --app-name Bills": 0,
    "plan job.toml --format markdown": 0,
    "validate job.toml --format github": 0,
    "destroy job.toml": 2,
    "destroy job.toml --yes": 0,
    "apply job.toml ": 0,
}
SHORT = {"plan job.toml": 0, "apply job.toml": 0, "status job.toml": 0, "destroy job.toml --yes": 0}
IN_FULL = ("nothing set", "no PATH")
# Commands that fail where what they print is lost: another program reads it.
PRODUCTS = {
    "results job.toml --format csv": 2,
    "plan job.toml --format markdown": 2,
    "validate job.toml --format github": 2,
    "code job.toml --as python": 2,
    "state export job.toml": 2,
    "schema": 2,
}
# How a command line is started: a line of a shell around `runner`, which is "$@".
PLACES = {
    "no terminal": 'exec "$@" </dev/null',
    "nothing set": 'exec env -i AIHUB_API_KEY="$AIHUB_API_KEY" AIHUB_API_ROOT="$AIHUB_API_ROOT" "$@"',
    "no HOME": 'unset HOME; exec "$@"',
    "HOME that is gone": 'HOME=/nonexistent exec "$@"',
    "HOME that cannot be written": 'chmod 500 home; HOME=$PWD/home exec "$@"',
    "LANG=C": 'LC_ALL=C LANG=C exec "$@"',
    "no PATH": 'unset PATH; exec "$@"',
    "umask 077": 'umask 077; exec "$@"',
    "umask 000": 'umask 000; exec "$@"',
    "no input": 'exec "$@" <&-',
    "dumb": 'TERM=dumb exec "$@"',
}


def test_each_command_is_tried() -> None:
    """A command of click that is missing here would work nowhere but on our own machines."""
    names = list_commands()
    assert {name for name in names for line in COMMANDS if f"{line} ".startswith(f"{name} ")} == {*names}


def run(project: Project, line: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the runner by a line of a shell."""
    (project.folder / "home").mkdir(exist_ok=True)
    words = ["/bin/sh", "-c", line, "sh", sys.executable, "-m", "aihub_runner", *command.split()]
    environment = project.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        words, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_commands_work_where_little_is_set(project: Project, place: str) -> None:
    project.write_files(2)
    for command, code in (COMMANDS if place in IN_FULL else SHORT).items():
        done = run(project, PLACES[place], command)
        assert (done.returncode, "Traceback" in done.stderr, "bug" in done.stderr) == (code, False, False), done
    assert len(project.fake.world.runs) == 0  # destroyed, and not paid for again
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in project.folder.rglob("*") if path.is_file()}
    assert modes["job.state.db"] == modes["documents.jsonl"] == 0o600
    assert not modes["job.lock.toml"] & 0o133


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_commands_end_as_they_should_with_closed_streams(project: Project, streams: str) -> None:
    project.write_files(2)
    for command, code in (COMMANDS | PRODUCTS).items():
        done = run(project, f'exec "$@" {streams}', command)
        assert done.returncode == code, (command, done)
    assert len(project.fake.world.runs) == 0
