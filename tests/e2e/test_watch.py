"""`apply --watch`: real applies, with scripted events; and once as a process, with a real file system and signals."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from aihub_runner.apply.job import Job, Options, open_job
from aihub_runner.apply.watch import Pace, Woken, World, look_at_files, watch
from aihub_runner.cli.options import Answer
from aihub_runner.cli.rounds import FileEvents, Rounds
from aihub_runner.errors import InputError
from support.waiting import wait_for
from support.world import check_paid_once

from .conftest import Project

LIMITS = ("--yes", "--max-runs", "100", "--quiet-for", "0.2s")


class Arrivals:
    """Writes files one after the other, each as soon as all is quiet, and ends the watch then. Time is virtual."""

    def __init__(self, project: Project, batches: Iterable[Iterable[str]]) -> None:
        self._project, self._batches = project, iter(batches)
        self.now_s = 0.0

    def wait(self, seconds: float) -> Woken:
        self.now_s += seconds
        if seconds < 60:
            return Woken.TIME_OUT
        paths = next(self._batches, None)
        if paths is None:
            return Woken.STOPPED
        for path in paths:
            self._project.write(path, f"content of {path}")
        return Woken.CHANGED


def watch_arrivals(
    project: Project, batches: Iterable[Iterable[str]], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[int, int]:
    """Watch while files arrive. Return the exit code, and how many rounds there were."""
    for name, value in project.env.items():
        monkeypatch.setenv(name, value or "")
    state = project.folder / "state.txt"  # a name that the pattern of a spec may match
    job = open_job(project.spec_path, Options(**{"max_runs": 10_000} | options), state=state)
    rounds, done = Rounds(job, apply_once), []

    def act(unfinished: frozenset[str]) -> int:
        done.append(unfinished)
        return rounds.act(unfinished)

    arrivals = Arrivals(project, batches)
    world = World(look=lambda: look_at_files(job), wait=arrivals.wait, act=act, clock=lambda: arrivals.now_s)
    return watch(world, Pace(5.0, 300.0)), len(done)


def apply_once(job: Job) -> Answer:
    from aihub_runner.apply.begin import apply
    from aihub_runner.apply.events import Reporter
    from aihub_runner.report.summary import render_briefly

    report = apply(job, Reporter(), lambda plan, scan: True, threading.Event())
    return render_briefly(report), report.as_json(), report.exit_code


def test_each_arrival_is_applied_once_and_our_own_files_are_no_arrival(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.change_spec('"in/**/*"', '["**/*.txt", "**/*.toml", "**/*.db"]')
    code, rounds = watch_arrivals(project, [["a.txt", "b.txt"], [], ["c.txt"], [], []], monkeypatch)
    assert (code, rounds) == (0, 2)
    assert len(project.fake.runs()) == 2
    check_paid_once(project.fake, 3)


def test_limit_counts_over_all_rounds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = [[f"in/{number}.txt"] for number in range(5)]
    code, rounds = watch_arrivals(project, arrivals, monkeypatch, max_runs=2)
    assert (code, rounds) == (2, 3)
    assert len(project.fake.runs()) == 2


def test_failed_run_does_not_end_the_watch_and_is_not_paid_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.fake.next_run(status="FAILED")
    code, rounds = watch_arrivals(project, [["in/a.txt"], ["in/b.txt"]], monkeypatch)
    assert (code, rounds) == (3, 2)
    assert len(project.fake.runs()) == 2
    check_paid_once(project.fake, 2)


def test_unconfirmed_run_ends_the_watch(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    project.fake.faults.add(operation="runApp", do="reset")
    code, rounds = watch_arrivals(project, [["in/a.txt"], ["in/b.txt"]], monkeypatch)
    assert (code, rounds) == (7, 1)


def test_service_that_is_away_for_a_while_does_not_end_the_watch(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.fake.faults.add(operation="listBatches", do="status", status=403, times=1)
    code, rounds = watch_arrivals(project, [["in/a.txt"], [], []], monkeypatch)
    assert (code, rounds) == (0, 2)
    check_paid_once(project.fake, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rounds", [200, pytest.param(1000, marks=pytest.mark.torture)])
def test_many_rounds_leave_no_thread_and_no_open_file(
    project: Project, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    last = rounds - 1
    counts: list[tuple[int, int, int]] = []
    touched = project.write("in/touched.txt", "the same bytes each time")

    def count_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def arrive() -> Iterator[list[str]]:
        for number in range(1, rounds):
            if number == last:  # the fake, in this process, closes its ends of connections a little later than we do
                wait_for(lambda: count_files() <= counts[0][1])
            if number in (50, last):
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                counts.append((threading.active_count(), count_files(), memory))
            os.utime(touched, ns=(number, number))
            yield [f"in/{number}.txt"] if number % 50 == 0 else []

    assert watch_arrivals(project, arrive(), monkeypatch) == (0, rounds)
    (threads, _, memory), (threads_after, _, memory_after) = counts
    assert threads_after <= threads
    assert memory_after < memory * 1.5
    check_paid_once(project.fake, rounds // 50)


# What a watch needs


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--max-runs", "1"], "it needs --yes"),
        (["--yes"], "nothing limits how much"),
        (["--yes", "--max-runs", "1", "--again"], "cannot be used with --again"),
        (["--yes", "--max-runs", "1", "--retry-failed"], "cannot be used with --retry-failed"),
        (["--yes", "--max-runs", "1", "--limit", "1"], "cannot be used with --limit"),
    ],
)
def test_watch_refuses_what_could_pay_without_a_limit(project: Project, args: list[str], said: str) -> None:
    project.write_files(1)
    outcome = project.apply("--watch", *args)
    assert (outcome.code, said in outcome.err) == (2, True), outcome.text
    assert project.fake.journal == []


def test_watch_without_its_package_says_what_to_install(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="watch needs watchfiles, which is not installed") as raised:
        project.apply("--watch", *LIMITS)
    assert raised.value.hint == "run pip install 'aihub-runner[watch]'"


def test_daily_limit_is_a_limit(project: Project) -> None:
    from aihub_runner.cli.rounds import check_limit

    spec = project.spec_path.read_text()
    job = open_job(project.spec_path, Options(), offline=True)
    with pytest.raises(InputError, match="nothing limits how much"):
        check_limit(job)
    project.spec_path.write_text(spec + "max_runs_per_day = 3\n")
    check_limit(open_job(project.spec_path, Options(), offline=True))


def test_folder_of_a_drive_cannot_be_watched(project: Project) -> None:
    project.change_spec('files = "in/**/*"', 'input_dir = "/acme/drive/fs/a/b/"')
    outcome = project.apply("--watch", *LIMITS)
    assert (outcome.code, "has no files on this machine to watch" in outcome.err) == (2, True), outcome.text


# As a process


def read_until(process: Any, text: str) -> str:
    """Read lines of standard error until one has a text."""
    for line in process.stderr:
        if text in line:
            return str(line)
    raise AssertionError(f"{text} never came")


@pytest.mark.slow
def test_watch_applies_what_arrives_and_ends_on_sigterm(project: Project) -> None:
    project.write("in/a.txt", "a")
    process: Any = project.start("apply", "job.toml", "--watch", *LIMITS, "--json")
    line = read_until(process, "round 1")
    assert re.fullmatch(
        r"\d{4}-\S+Z round 1: job.toml: 1 file, 1 done or in progress, 1 run started \(exit code 0\)\n", line
    )
    project.write("in/b.txt", "b")
    assert "2 files, 2 done or in progress, 1 run started" in read_until(process, "round 2")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert '"runs_started": 1' in out
    check_paid_once(project.fake, 2)


@pytest.mark.slow
def test_signal_during_a_round_finishes_it_in_order(project: Project) -> None:
    project.write("in/a.txt", "a")
    project.fake.next_run(hold=True)
    process: Any = project.start("apply", "job.toml", "--watch", "-v", *LIMITS)
    read_until(process, "RUNNING")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    project.fake.release(project.fake.runs()[0]["id"])
    project.check_done(1)


@pytest.mark.slow
def test_events_tell_of_files_and_not_of_our_own(project: Project) -> None:
    project.write("in/a.txt", "a")
    (project.folder / "results/job").mkdir(parents=True)
    project.change_spec('"in/**/*"', '"**/*.txt"')
    job = open_job(project.spec_path, Options(), offline=True)
    stop = threading.Event()
    events = FileEvents(job, stop)
    assert events.wait(0.01) is Woken.TIME_OUT
    project.write("results/job/x.txt", "ours")
    project.write("job.state.db", "ours")
    assert events.wait(1.0) is Woken.TIME_OUT
    project.write("in/b.txt", "b")
    assert events.wait(30.0) is Woken.CHANGED
    stop.set()
    assert events.wait(30.0) is Woken.STOPPED
    events.close()
