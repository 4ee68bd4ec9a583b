"""Kills, interrupts, lost responses, two applies at once: nothing is paid twice, and the next apply continues."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.waiting import wait_for

from .conftest import Project


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_in_order_and_the_next_apply_goes_on(project: Project, number: signal.Signals) -> None:
    project.write_files(200)
    project.fake.service.latency_ms = 20
    process = project.start("apply", "job.toml")
    wait_for(lambda: "PUT addFileToBatch" in project.sent())
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert project.fake.runs() == []
    project.fake.service.latency_ms = 0
    assert project.apply().code == 0
    assert list(project.fake.ledger["batches"].values()) == [1]
    assert set(project.fake.ledger["uploads"].values()) == {1}
    assert set(project.fake.ledger["runs"].values()) == {1}


def test_second_signal_stops_at_once(project: Project) -> None:
    project.write_files(3)
    project.fake.faults.add(operation="addFileToBatch", times=99, do="stall", seconds=30)
    process = project.start("apply", "job.toml")
    wait_for(lambda: "PUT " in "".join(entry["method"] + " " for entry in project.fake.journal))
    process.send_signal(signal.SIGINT)
    assert process.stderr
    wait_for(lambda: "press Ctrl-C again" in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("moment", ["createBatch", "addFileToBatch", "runApp", "getRunStatus", "getRunResults"])
def test_kill_at_any_moment_is_made_good_by_the_next_apply(project: Project, moment: str) -> None:
    project.write_files(30)
    project.fake.service.run_seconds = 0.2
    project.fake.faults.add(operation=moment, do="stall", when="after", seconds=30)
    process = project.start("apply", "job.toml")
    wait_for(lambda: any(entry["operation"] == moment for entry in project.fake.journal))
    process.kill()
    process.communicate()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    ledger = project.fake.ledger
    assert len(ledger["batches"]) == 1
    assert set(ledger["batches"].values()) == {1}
    assert set(ledger["runs"].values()) == {1}
    assert all(len(set(digests)) == 1 for digests in ledger["digests"].values())
    assert len({line["path"] for line in project.documents}) == 30


@pytest.mark.matrix(most=8)
@pytest.mark.parametrize("operation", ["createBatch", "runApp"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("do", ["reset", "truncate", "garbage", "status"])
def test_lost_answer_is_looked_for_and_nothing_is_made_twice(
    project: Project, operation: str, when: str, do: str
) -> None:
    project.write_files(2)
    project.fake.faults.add(operation=operation, do=do, when=when, status=502)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.faults.unused() == []
    assert len(project.fake.batches()) == 1
    assert len(project.fake.runs()) == 1


def test_lost_run_with_on_lost_stop_is_unknown_until_a_person_decides(project: Project) -> None:
    project.write_files(2)
    project.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert "runner resolve" in outcome.err
    assert project.apply().code == 7
    assert project.fake.runs() == []
    assert project.run("resolve").code == 7
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1


def test_listing_that_lacks_a_known_run_is_not_trusted(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.write_files(1, start=1)
    project.fake.faults.add(operation="runApp", do="reset", when="after")
    project.fake.faults.add(operation="listRuns", times=99, do="lag", seconds=600)
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert "missing from the list of runs" in outcome.err
    project.fake.faults.scripts.clear()
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 2


def test_two_applies_at_once_one_works_and_the_other_exits_with_5(project: Project) -> None:
    project.write_files(5)
    project.fake.next_run(hold=True)
    process = project.start("apply", "job.toml")
    wait_for(lambda: project.fake.runs())
    outcome = project.apply()
    assert outcome.code == 5
    assert f"pid {process.pid}" in outcome.err
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(project.fake.runs()) == 1


def test_batch_that_is_gone_is_made_again_and_its_files_are_sent_again(project: Project) -> None:
    project.write_files(3)
    project.fake.world.units_left = 0
    assert project.apply().code == 4
    project.fake.world.units_left = None
    project.fake.world.delete_batch(next(iter(project.fake.world.batches.values())))
    project.fake.clock.advance(10)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
def test_file_that_changes_between_scan_and_upload_is_sent_as_it_is(project: Project) -> None:
    project.write_files(1)
    project.fake.faults.add(operation="createBatch", do="status", status=429, headers={"Retry-After": "1"})
    process = project.start("apply", "job.toml")
    wait_for(lambda: "POST createBatch" in project.sent())
    project.write("in/00000.txt", "changed meanwhile, and longer")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "changed since the scan" in err
    project.forget_requests()
    assert project.apply().code == 0
    assert project.fake.journal == []


@pytest.mark.slow
def test_file_that_vanishes_between_scan_and_upload_is_skipped(project: Project) -> None:
    project.write_files(2)
    project.fake.faults.add(operation="createBatch", do="status", status=429, headers={"Retry-After": "1"})
    process = project.start("apply", "job.toml")
    wait_for(lambda: "POST createBatch" in project.sent())
    (project.folder / "in/00000.txt").unlink()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3, err
    assert "in/00000.txt" in out
    assert list(project.arrived()) == ["00001.txt"]
    assert project.apply().code == 0


def test_second_apply_waits_for_the_first_as_long_as_it_is_told(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(hold=True)
    first = project.start("apply", "job.toml")
    wait_for(lambda: project.fake.runs())
    second = project.start("apply", "job.toml", "--lock-timeout", "20s")
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    for process in (first, second):
        process.communicate(timeout=20)
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(project.fake.runs()) == 1


def catches(process: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="cannot see when the other process is ready")
def test_signal_ends_the_wait_for_another_apply(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(hold=True)
    first = project.start("apply", "job.toml")
    wait_for(lambda: project.fake.runs())
    second = project.start("apply", "job.toml", "--lock-timeout", "10m")
    wait_for(lambda: catches(second.pid, signal.SIGTERM))
    second.send_signal(signal.SIGTERM)
    _, err = second.communicate(timeout=20)
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    first.communicate(timeout=20)
    assert second.returncode == 130, err


def test_lost_run_in_another_context_is_not_held_against_runs_of_the_first(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.change_spec('context = "acme"', 'context = "other"')
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2
