"""Output files: written whole, with their mode; links followed; pipes and devices written directly."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from aihub_runner.outfile import find_descriptor, find_place, is_standard_output
from support.made_results import MadeFile, make_documents, make_job, make_results

from .conftest import Project

WRITERS = {
    "results": ("results", "--format", "csv", "--output"),
    "report": ("report", "--output"),
    "diff": ("diff", "--run", "run-0", "--run", "run-0", "--html"),
}
BEGINS = {"results": "path,present", "report": "<!DOCTYPE html>", "diff": "<!DOCTYPE html>"}


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def made(project: Project) -> Project:
    job = make_job(project.folder)
    make_results(job, 3, lambda number: MadeFile(f"in/{number}.txt", make_documents(number), b"%d" % number))
    project.env |= {"AIHUB_API_KEY": None}
    return project


def write(project: Project, writer: str, output: Path | str) -> None:
    command, *options = WRITERS[writer]
    outcome = project.run(command, *options, str(output), "--fake")
    assert outcome.code == 0, outcome.text


def refused(project: Project, writer: str, output: Path | str) -> str:
    command, *options = WRITERS[writer]
    outcome = project.run(command, *options, str(output), "--fake")
    assert outcome.code == 2, outcome.text
    return outcome.err


def test_file_that_is_replaced_keeps_its_mode_and_a_new_one_is_its_owners(made: Project, writer: str) -> None:
    old = made.write("out/old.csv", "old")
    old.chmod(0o644)
    inode = old.stat().st_ino
    write(made, writer, old)
    write(made, writer, made.folder / "out/new.csv")
    assert old.read_text().startswith(BEGINS[writer])
    assert old.stat().st_mode & 0o7777 == 0o644
    assert old.stat().st_ino != inode  # it was replaced at once, not written over
    assert (made.folder / "out/new.csv").stat().st_mode & 0o7777 == 0o600
    assert sorted(path.name for path in (made.folder / "out").iterdir()) == ["new.csv", "old.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_file_that_is_replaced_keeps_its_owner(made: Project, writer: str) -> None:
    old = made.write("out/old.csv", "old")
    os.chown(old, 1234, 4321)
    write(made, writer, old)
    assert (old.stat().st_uid, old.stat().st_gid) == (1234, 4321)


def test_table_in_the_folder_of_results_keeps_its_mode(project: Project) -> None:
    project.write_files(1)
    project.apply()
    documents = project.folder / "results/job/documents.jsonl"
    documents.chmod(0o640)
    project.write_files(2)
    assert project.apply().code == 0
    assert len(documents.read_text().splitlines()) > 1
    assert documents.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("exists", [True, False])
def test_link_stays_and_what_it_leads_to_is_replaced(made: Project, writer: str, exists: bool) -> None:
    target = made.folder / "else/where.csv"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    (made.folder / "one").symlink_to("two")
    (made.folder / "two").symlink_to(target)
    write(made, writer, made.folder / "one")
    assert (made.folder / "one").is_symlink()
    assert (made.folder / "two").is_symlink()
    assert not target.is_symlink()
    assert target.read_text().startswith(BEGINS[writer])
    assert [path.name for path in target.parent.iterdir()] == ["where.csv"]


def test_reader_of_a_pipe_gets_it_all(made: Project, writer: str) -> None:
    pipe = made.folder / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(made, writer, pipe)
    reader.join(10)
    assert read
    assert read[0].startswith(BEGINS[writer])
    assert pipe.is_fifo()


def test_reader_of_a_pipe_who_leaves_early_makes_nothing_fail(made: Project, writer: str) -> None:
    pipe = made.folder / "pipe"
    os.mkfifo(pipe)
    reader = Thread(target=lambda: os.close(os.open(pipe, os.O_RDONLY)))
    reader.start()
    write(made, writer, pipe)
    reader.join(10)


def read_terminal(main: int, into: list[bytes]) -> None:
    try:
        while chunk := os.read(main, 65536):
            into.append(chunk)
    except OSError:
        pass  # nobody writes any more


def test_device_is_written_through(made: Project, writer: str) -> None:
    """Try it on a terminal, in whose folder no file can be made: a mistake of ours must not replace /dev/null."""
    main, terminal = os.openpty()
    name, read = os.ttyname(terminal), list[bytes]()
    reader = Thread(target=read_terminal, args=(main, read))
    reader.start()
    write(made, writer, name)
    os.close(terminal)
    reader.join(10)
    os.close(main)
    assert b"".join(read).decode().startswith(BEGINS[writer])


def run_in_shell(project: Project, line: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in (os.environ | project.env).items() if v is not None}
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable], capture_output=True, text=True, cwd=project.folder, env=env
    )


@pytest.mark.slow
def test_standard_output_by_its_name_gets_the_bytes_and_nothing_else(made: Project, writer: str) -> None:
    (made.folder / "stdout").symlink_to("/proc/self/fd/1")  # as /dev/stdout is, which a mistake must not replace
    (made.folder / "link").symlink_to("stdout")
    command, *options = WRITERS[writer]
    for output in ("/proc/self/fd/1", "stdout", "link"):
        line = f'echo first > all; "$1" -m aihub_runner {command} job.toml --fake {" ".join(options)} {output} >> all'
        outcome = run_in_shell(made, line)
        assert outcome.returncode == 0, outcome.stderr
        text = (made.folder / "all").read_text()
        assert text.startswith(f"first\n{BEGINS[writer]}")
        assert text.rstrip().endswith("</html>") or (writer == "results" and text.count("\n") == 1 + 1 + 3 * 5)


def test_name_of_standard_output_stands_for_it(tmp_path: Path) -> None:
    assert is_standard_output(Path("/dev/stdout"))
    assert find_descriptor(Path("/dev/stderr")) == 2
    assert find_place(Path("/dev/null")) is None
    assert not is_standard_output(tmp_path / "stdout")


@pytest.mark.slow
def test_another_open_file_by_its_number_is_written_where_it_stands(made: Project, writer: str) -> None:
    command, *options = WRITERS[writer]
    program = f'"$1" -m aihub_runner {command} job.toml --fake'
    line = f"{{ echo first >&3; {program} {' '.join(options)} /proc/self/fd/3; }} 3> all"
    outcome = run_in_shell(made, line)
    assert outcome.returncode == 0, outcome.stderr
    assert (made.folder / "all").read_text().startswith(f"first\n{BEGINS[writer]}")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Path.mkdir, "directory"),
        (bound_socket, "is a socket"),
        (lambda path: path.symlink_to(path), "links"),
        (lambda path: path.symlink_to("job.toml"), "own"),
        (lambda path: path.symlink_to("in/0.txt"), "would send it"),
        (lambda path: path.symlink_to("job.fake/job.state.db"), "own"),
    ],
)
def test_what_cannot_or_must_not_be_written_is_refused_and_left(
    made: Project, writer: str, make: Callable[[Path], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)
    make(Path("out"))
    before = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    assert told in refused(made, writer, "out")
    assert {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()} == before


def test_name_as_long_as_a_name_can_be_is_written(made: Project, writer: str) -> None:
    write(made, writer, made.folder / ("x" * 255))


@pytest.mark.parametrize("command", ["apply", "plan", "status"])
def test_lock_file_that_is_named_must_be_a_file(project: Project, command: str) -> None:
    project.write_files(1)
    os.mkfifo(project.folder / "pipe")
    for name, told in (("pipe", "is a pipe or a device"), ("in", "is a directory")):
        outcome = project.run(command, "--lock-file", str(project.folder / name))
        assert outcome.code == 2, outcome.text
        assert told in outcome.err
    assert (project.folder / "pipe").is_fifo()
    assert project.sent() == []


def test_lock_file_that_is_named_by_a_link_is_written_where_it_leads(project: Project) -> None:
    project.write_files(1)
    (project.folder / "keep").mkdir()
    (project.folder / "mine.toml").symlink_to("keep/real.toml")
    assert project.apply("--lock-file", "mine.toml").code == 0
    assert (project.folder / "mine.toml").is_symlink()
    assert "[[run]]" in (project.folder / "keep/real.toml").read_text()
