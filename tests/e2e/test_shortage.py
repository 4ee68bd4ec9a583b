"""A shortage of the machine is never blamed on a file, nor a file's fault on a disk."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.system.shortage import find_shortage
from support.waiting import wait_for

from .conftest import Outcome, Project


def limited_to(descriptors: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def apply_limited(project: Project, descriptors: int, *args: str) -> Outcome:
    """Apply in a process with a low limit of open files."""
    process = project.start("apply", "job.toml", *args, prepare=limited_to(descriptors))
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


@pytest.mark.matrix(most=2)
@pytest.mark.parametrize("descriptors", [48, 64, 100])
@pytest.mark.slow
def test_uploads_are_lowered_to_what_may_be_open(project: Project, descriptors: int) -> None:
    project.write_files(60)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 10\nparallel_uploads = 60\nparallel_runs = 20")
    outcome = apply_limited(project, descriptors)
    assert outcome.code == 0, outcome.text
    assert f"instead of 60, because `ulimit -n` is {descriptors}" in outcome.err
    assert len({line["path"] for line in project.documents}) == 60
    ledger = project.fake.ledger
    assert list(ledger["runs"].values()) == [1] * 6
    assert set(ledger["uploads"].values()) == {1}


@pytest.mark.slow
def test_few_descriptors_limit_no_runs_in_progress(project: Project) -> None:
    project.write_files(6)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 6")
    for _ in range(6):
        project.fake.next_run(hold=True)
    process = project.start("apply", "job.toml", prepare=limited_to(48))
    wait_for(lambda: len(project.fake.runs()) == 6)
    for run in project.fake.runs():
        project.fake.set_run(run["id"], status="COMPLETE")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "parallel_runs" not in err


@pytest.mark.slow
def test_files_in_parts_are_sent_with_few_descriptors(project: Project) -> None:
    for number in range(12):
        project.write(f"in/{number}.txt", bytes([65 + number]) * 60_000)
    project.change_spec("[limits]", "[limits]\nparallel_uploads = 12\npart_threshold_mb = 0.01")
    project.fake.service.part_size = 6_000
    outcome = apply_limited(project, 64)
    assert outcome.code == 0, outcome.text
    assert "parallel_uploads: " in outcome.err
    assert len({line["path"] for line in project.documents}) == 12


@pytest.mark.matrix
@pytest.mark.parametrize("descriptors", range(6, 36, 3))
def test_too_few_descriptors_end_with_5_and_name_the_limit_and_blame_no_file(
    project: Project, descriptors: int
) -> None:
    project.write_files(5)
    outcome = apply_limited(project, descriptors)
    if "runner" in outcome.err and "Fatal Python error" in outcome.err:
        pytest.skip("the interpreter itself cannot begin")
    assert outcome.code == 5, outcome.text
    assert "ulimit -n" in outcome.err
    assert "skipped" not in outcome.text
    assert project.sent() == []
    assert project.apply().code == 0
    assert list(project.fake.ledger["runs"].values()) == [1]


def fail(monkeypatch: pytest.MonkeyPatch, number: int, *paths: Path, when: Callable[[], object] = lambda: True) -> None:
    """Let the system answer with an error where these files are opened or looked at."""
    places = {str(path) for path in paths}

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(path: Any, *args: Any, **how: Any) -> Any:
            if str(path) in places and when():
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *args, **how)

        return act

    for name in ("open", "stat"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_one_file_that_its_disk_does_not_give_is_skipped(
    project: Project, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    project.write_files(3)
    fail(monkeypatch, number, project.folder / "in/00001.txt")
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert f"in/00001.txt: unreadable, {os.strerror(number)}" in outcome.out
    assert len(project.arrived()) == 2


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_several_files_that_their_disk_does_not_give_end_with_5(
    project: Project, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    project.write_files(4)
    fail(monkeypatch, number, project.folder / "in/00001.txt", project.folder / "in/00003.txt")
    outcome = project.apply()
    assert outcome.code == 5, outcome.text
    assert f"in/00003.txt: cannot be read, like in/00001.txt: {os.strerror(number)}" in outcome.err
    assert project.fake.journal == []


def test_disk_that_gives_no_file_ends_with_5(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_files(1)
    fail(monkeypatch, errno.EIO, project.folder / "in/00000.txt")
    assert project.apply().code == 5
    assert project.fake.journal == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_shortage_while_files_are_read_ends_with_5_and_blames_none(
    project: Project, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    project.write_files(3)
    fail(monkeypatch, number, project.folder / "in/00001.txt")
    outcome = project.apply()
    assert outcome.code == 5, outcome.text
    assert outcome.err.startswith("error: this machine: ")
    assert project.fake.journal == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_file_that_its_disk_does_not_give_when_it_is_sent_is_skipped_and_with_several_it_ends_with_5(
    project: Project, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    project.write_files(3)
    bad = [project.folder / "in/00001.txt"]
    with monkeypatch.context() as patched:
        fail(patched, number, *bad, when=project.fake.batches)
        outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert f"in/00001.txt: unreadable, {os.strerror(number)}" in outcome.out
    project.write_files(4, start=3)
    bad = [project.folder / f"in/0000{number}.txt" for number in (3, 4)]
    with monkeypatch.context() as patched:
        fail(patched, number, *bad, when=lambda: len(project.fake.batches()) > 1)
        outcome = project.apply()
    assert outcome.code == 5, outcome.text
    assert "check its disk or mount" in outcome.err
    assert len(project.fake.runs()) == 1
    assert project.apply().code == 0
    assert len({line["path"] for line in project.documents}) == 7


@pytest.mark.slow
def test_shortage_while_files_are_sent_is_waited_for_with_fewer_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_files(8)
    times = iter(range(6))
    fail(
        monkeypatch,
        errno.EMFILE,
        *(project.folder / "in").iterdir(),
        when=lambda: project.fake.batches() and next(times, None) is not None,
    )
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len({line["path"] for line in project.documents}) == 8
    assert list(project.fake.ledger["runs"].values()) == [1]


@pytest.mark.slow
def test_shortage_that_stays_while_files_are_sent_ends_with_5_and_the_next_apply_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_files(8)
    with monkeypatch.context() as patched:
        fail(patched, errno.EMFILE, project.folder / "in/00005.txt", when=project.fake.batches)
        outcome = project.apply()
    assert outcome.code == 5, outcome.text
    assert "ulimit -n" in outcome.err
    assert "skipped" not in outcome.text
    assert project.fake.runs() == []
    assert project.apply().code == 0
    assert len({line["path"] for line in project.documents}) == 8
    assert list(project.fake.ledger["batches"].values()) == [1]


@pytest.mark.slow
def test_table_that_the_disk_has_no_room_for_stops_no_other(project: Project) -> None:
    project.write_files(150)
    project.change_spec("[limits]", '[results]\ninclude = ["confidence"]\nformats = ["jsonl", "csv"]\n[limits]')
    assert project.apply().code == 0
    folder = project.folder / "results/job"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    limit = (sizes["fields.jsonl"] + sizes["documents.jsonl"]) // 2
    assert sizes["documents.jsonl"] < limit or sizes["fields.csv"] < limit < sizes["fields.jsonl"]
    for name in ("fields.jsonl", "fields.csv"):
        (folder / name).unlink()

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = project.start("apply", "job.toml", prepare=with_little_room)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert f"fields.jsonl: cannot be written, it would exceed the largest size of a file, {limit:,} bytes" in err
    assert (folder / "fields.csv").exists()
    assert project.apply().code == 0
    assert (folder / "fields.jsonl").exists()


@pytest.mark.matrix(most=2)
@pytest.mark.parametrize("name", ["look", "work", "pay"])
@pytest.mark.parametrize("started", [0, 1])
def test_too_few_threads_end_with_5_and_the_next_apply_pays_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, started: int
) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(3)
    start, left = threading.Thread.start, [started]

    def failing(thread: threading.Thread) -> None:
        if thread.name.startswith(f"{name}_"):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", failing)
        outcome = project.apply()
    assert outcome.code == 5 or (outcome.code == 0 and started), outcome.text  # idle threads take more than one step
    assert "too many threads" in outcome.err or outcome.code == 0
    project.check_done(3)


def test_too_little_memory_for_a_lock_is_a_shortage_and_the_next_apply_pays_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_files(1)

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("can't allocate read lock")  # as `ulimit -v` makes it

    with monkeypatch.context() as patched:
        patched.setattr("aihub_runner.aihub.response.FinalResponse.__init__", failing)
        with pytest.raises(RuntimeError) as raised:
            project.apply()
    assert "this machine: not enough memory" in str(find_shortage(raised.value))
    project.check_done(1)


@pytest.mark.slow
def test_state_that_may_not_grow_is_called_so(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    limit = (project.folder / "job.state.db").stat().st_size

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    project.write_files(900, start=1)
    process = project.start("apply", "job.toml", prepare=with_little_room)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert f"job.state.db: it would exceed the largest size of a file, {limit:,} bytes, as `ulimit -f` says" in err
    assert "raise the limit and apply again" in err
    assert project.apply().code == 0


def test_full_disk_under_an_output_is_no_reason_to_apply_again(project: Project) -> None:
    project.write_files(1)
    project.apply()
    outcome = project.run("results", "--output", "/dev/full", "--format", "csv")
    assert outcome.code == 5
    assert "full: cannot be written, the disk is full\nhint: free some space and run the command again\n" in outcome.err
