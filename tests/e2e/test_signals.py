"""Ctrl-C and SIGTERM: at a question, on a terminal, twice, and while reading something endless."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.waiting import wait_for

from .conftest import Project, Terminal

SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_at_the_question_ends_at_once_and_lets_go_of_the_lock(project: Project, number: signal.Signals) -> None:
    project.write_files(2)
    with Terminal(project, "apply", "job.toml") as terminal:
        terminal.read_until("[y/N]")
        if number == signal.SIGINT:
            terminal.type("\x03")
        else:
            terminal.process.send_signal(number)
        code, shown = terminal.end()
    assert code == 130, shown
    assert "interrupted" in shown
    assert "[y/N]: \r\n" in shown.replace("^C", "")
    assert project.sent() == []
    assert project.apply().code == 0


def test_ctrl_c_says_on_the_terminal_what_happens_and_in_the_end_what_was_done(project: Project) -> None:
    project.write_files(40)
    project.fake.next_run(hold=True)
    with Terminal(project, "apply", "job.toml", "--yes") as terminal:
        wait_for(lambda: project.fake.runs())
        terminal.read_until("runs")
        terminal.type("\x03")
        terminal.read_until("finishing requests in flight; press Ctrl-C again to quit now")
        code, shown = terminal.end()
    assert code == 130, shown
    end = shown[shown.index("finishing requests") :].replace("\r\n", "\n")
    assert "interrupted after 40 files (" in end
    assert "1 run started" in end
    assert "runner apply job.toml" in end
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1


def test_closed_terminal_ends_the_work_in_order(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(hold=True)
    process = project.start("apply", "job.toml")
    wait_for(lambda: project.fake.runs())
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted after 2 files" in out


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
@pytest.mark.slow
def test_signal_that_is_ignored_from_the_start_stays_so(project: Project, number: signal.Signals) -> None:
    project.write_files(2)
    project.fake.next_run(hold=True)
    process = project.start("apply", "job.toml", prepare=lambda: signal.signal(number, signal.SIG_IGN))
    wait_for(lambda: project.fake.runs())
    process.send_signal(number)
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


def test_second_ctrl_c_gives_the_terminal_back_as_it_was(project: Project) -> None:
    project.write_files(3)
    project.fake.faults.add(operation="addFileToBatch", times=99, do="stall", seconds=30)
    with Terminal(project, "apply", "job.toml", "--yes") as terminal:
        terminal.read_until(HIDE)
        wait_for(lambda: "PUT addFileToBatch" in project.sent())
        terminal.type("\x03")
        terminal.read_until("press Ctrl-C again")
        terminal.type("\x03")
        code, shown = terminal.end()
    assert code == 130, shown
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert "interrupted" in shown[shown.rindex(SHOW) :]
    assert shown.endswith("\n")


def make_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def make_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.matrix(most=7)
@pytest.mark.parametrize("make", [make_fifo, make_folder, make_device])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("job.toml", 2),
        (".env", 2),
        ("secrets/AIHUB_CONTEXT", 2),
        ("job.lock.toml", 2),
        ("results/job/.aihub-results", 2),
        ("job.state.db", 5),
        ("in/odd.txt", 3),
    ],
)
def test_what_is_no_regular_file_is_told_of_at_once(project: Project, name: str, code: int, make: object) -> None:
    project.write_files(1)
    if name.startswith("secrets/"):
        project.env["AIHUB_SECRETS_DIR"] = "secrets"
    assert callable(make)
    make(project.folder / name)
    if make is make_folder and name in (".env", "in/odd.txt"):  # a virtual environment, and what may hold more files
        code = 0
    if make is make_device and name == "in/odd.txt":  # it leads out of the folder
        code = 2
    process = project.start("apply", "job.toml")
    try:
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, out + err
    if code in (2, 5):
        assert err.startswith(f"error: {name.removeprefix('results/job/')}") or name in err, err
        assert project.sent() == []
