"""Printing never ends the work: streams that are closed, full, gone, or not UTF-8, and undecodable file names."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Project

FULL = Path("/dev/full").exists()
LATIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(project: Project, command: str, **extra: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line of a shell; `runner` in it is ours, and the exit code that of the first one of a pipe."""
    environment = {k: v for k, v in (os.environ | project.env | extra).items() if v is not None}
    script = f'runner() {{ "{sys.executable}" -m aihub_runner "$@"; }}; {command}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(["bash", "-c", script], cwd=project.folder, env=environment, capture_output=True, timeout=60)


@pytest.mark.matrix(most=5)
@pytest.mark.parametrize(
    "redirection",
    [
        "<&-",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "2>&1 | head -n 1",
        "2>&1 | true",
        pytest.param(">/dev/full", marks=pytest.mark.skipif(not FULL, reason="there is no device that is always full")),
        pytest.param("2>/dev/full", marks=pytest.mark.skipif(not FULL, reason="there is no such device")),
        pytest.param(">/dev/full 2>&1", marks=pytest.mark.skipif(not FULL, reason="there is no such device")),
        "2</dev/null 2>&0",
    ],
)
@pytest.mark.slow
def test_apply_goes_on_whatever_its_streams_are(project: Project, redirection: str) -> None:
    project.write_files(3)
    project.write("in/empty.txt", b"")
    done = shell(project, f"runner apply job.toml {redirection}")
    assert done.returncode == 3, done
    assert len(project.fake.runs()) == 1
    assert len({line["path"] for line in project.documents}) == 3
    assert (project.folder / "job.lock.toml").read_text().startswith("#")
    assert (project.folder / "job.state.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.slow
@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", ">/dev/full", "| true"])
@pytest.mark.skipif(not FULL, reason="there is no device that is always full")
def test_exit_code_is_the_jobs_whatever_the_streams_are(project: Project, redirection: str) -> None:
    project.write_files(1)
    project.apply()
    for command in ("validate", "plan", "status", "report", "resolve"):
        done = shell(project, f"runner {command} job.toml {redirection}")
        assert done.returncode == 0, done
        assert b"bug" not in done.stderr


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("command", ["results job.toml", "results job.toml --json", "plan job.toml --json"])
@pytest.mark.skipif(not FULL, reason="there is no device that is always full")
@pytest.mark.slow
def test_product_that_cannot_be_written_is_told_by_the_exit_code(
    project: Project, command: str, redirection: str
) -> None:
    project.write_files(2)
    project.apply()
    done = shell(project, f"runner {command} {redirection}")
    assert done.returncode == 2, done
    assert done.stderr.count(b"error: standard output: cannot be written") == 1


@pytest.mark.matrix(most=2)
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", ">/dev/full 2>&1", "| true"])
@pytest.mark.skipif(not FULL, reason="there is no device that is always full")
@pytest.mark.slow
def test_exit_code_of_what_pays_is_the_jobs_with_json_too(project: Project, redirection: str) -> None:
    project.write_files(2)
    for code in (0, 3):
        done = shell(project, f"runner apply job.toml --json {redirection}")
        assert done.returncode == code, done
        project.write("in/empty.txt", b"")
    assert shell(project, f"runner resolve job.toml --json {redirection}").returncode == 0
    assert len(project.fake.runs()) == 1


@pytest.mark.matrix(most=2)
@pytest.mark.parametrize("command", ["--version", "apply --help"])
@pytest.mark.parametrize("redirection", [">&-", "| true"])
def test_help_fails_with_no_stream(project: Project, command: str, redirection: str) -> None:
    done = shell(project, f"runner {command} {redirection}")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_terminal_that_is_gone_ends_nothing(project: Project) -> None:
    project.write_files(3)
    project.fake.next_run(hold=True)
    main, terminal = pty.openpty()
    environment = {k: v for k, v in (os.environ | project.env).items() if v is not None} | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "aihub_runner", "apply", "job.toml", "--yes"],
        cwd=project.folder,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while b"uploading" not in shown or not project.fake.runs():
        shown += os.read(main, 65536)
    os.close(main)
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    assert process.wait(timeout=30) == 0
    assert len(project.documents) >= 3


@pytest.mark.slow
@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("locale", [LATIN, ASCII, LATIN | {"PYTHONIOENCODING": "ascii:strict"}])
def test_files_have_the_same_names_in_every_locale(project: Project, locale: dict[str, str]) -> None:
    project.write("in/Übergröße — 日本.txt", "words")
    project.write("in/plain.txt", "more words")
    done = shell(project, "runner apply job.toml", **locale)
    assert done.returncode == 0, done
    assert set(project.arrived()) == {"Übergröße — 日本.txt", "plain.txt"}
    project.forget_requests()
    assert project.apply().code == 0
    assert project.fake.journal == []
    told = shell(project, "runner status job.toml --json", **locale)
    assert json.loads(told.stdout)["exit_code"] == 0


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("locale", [LATIN, ASCII, {}])
@pytest.mark.slow
def test_whether_a_name_is_utf8_is_decided_from_its_bytes(project: Project, locale: dict[str, str]) -> None:
    project.write_files(1)
    Path(os.fsdecode(os.fsencode(project.folder) + b"/in/caf\xe9.txt")).write_text("words")
    done = shell(project, "runner apply job.toml", **locale)
    assert done.returncode == 3, done
    assert rb"in/caf\xe9.txt: name, the name is not UTF-8" in done.stdout
    assert set(project.arrived()) == {"00000.txt"}


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("locale", [LATIN, ASCII, {}])
@pytest.mark.slow
def test_messages_are_written_as_far_as_the_stream_can(project: Project, locale: dict[str, str]) -> None:
    project.write("in/日本.txt", b"")
    done = shell(project, "runner plan job.toml", **locale)
    assert done.returncode == 0, done
    assert (r"in/\u65e5\u672c.txt" if locale else "in/日本.txt").encode() in done.stdout
