"""Lost responses: what was paid is found again, and the rest is paid only if wanted."""

from __future__ import annotations

import re

import pytest

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import RunInfo
from support.waiting import wait_for

from .conftest import Project

LOST_UNTIL_ASKED = '[run]\non_lost = "stop"\n[limits]'


def lose_a_start(project: Project) -> None:
    """Leave a run of which the state does not know that it was never started, and let it be looked for again."""
    project.change_spec("[limits]", LOST_UNTIL_ASKED)
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    assert project.apply().code == 7
    project.change_spec('on_lost = "stop"', 'on_lost = "look"')


@pytest.mark.slow
def test_start_sent_long_after_its_intent_is_looked_for_as_long(project: Project) -> None:
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 4")
    project.fake.faults.add(operation="runApp", do="status", status=429, headers={"Retry-After": "5"})
    project.fake.faults.add(operation="runApp", nth=2, do="stall", when="after", seconds=30)
    project.fake.faults.add(operation="listRuns", times=999, do="lag", seconds=3)
    process = project.start("apply", "job.toml")
    wait_for(lambda: project.fake.runs())
    process.kill()
    process.communicate()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
def test_starts_do_not_queue_after_their_intents(project: Project) -> None:
    project.write_files(8)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 8")
    project.fake.faults.add(operation="runApp", times=8, do="stall", when="after", seconds=60)
    process = project.start("apply", "job.toml")
    wait_for(lambda: len(project.fake.runs()) == 8)  # all are answered late, and none waits for another
    process.kill()
    process.communicate()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert set(project.fake.ledger["runs"].values()) == {1}


def test_lost_start_of_files_that_changed_is_not_paid(project: Project) -> None:
    project.write_files(2)
    lose_a_start(project)
    project.write("in/00000.txt", "changed meanwhile")
    for _ in range(2):
        outcome = project.apply()
    assert outcome.code == 0, outcome.text
    runs = [sorted(file.name for file in run.files) for run in project.fake.world.runs.values()]
    assert runs == [["00000.txt"], ["00001.txt"]]
    assert len({line["path"] for line in project.documents if line["present"]}) == 2


@pytest.mark.slow
def test_lost_start_whose_password_has_another_variable_is_not_paid(project: Project) -> None:
    project.write("in/a.pdf", "pdf")
    project.env |= {"AIHUB_SECRET_A": "one", "AIHUB_SECRET_B": "two"}
    project.change_spec("[limits]", '[run.pdf_passwords]\n"in/a.pdf" = {env = "AIHUB_SECRET_A"}\n[limits]')
    project.change_spec("[run.pdf_passwords]", '[run]\non_lost = "stop"\n[run.pdf_passwords]')
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    assert project.apply().code == 7
    project.change_spec('on_lost = "stop"', 'on_lost = "look"')
    project.change_spec("AIHUB_SECRET_A", "AIHUB_SECRET_B")
    codes = [project.apply().code for _ in range(2)]
    assert codes[-1] == 0
    assert len(project.fake.runs()) == 1


def test_lost_starts_of_shards_with_the_same_names_and_bytes_are_told_apart(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write("in/x/a.txt", "same")
    project.write("in/y/a.txt", "same")
    project.fake.faults.add(operation="runApp", do="reset", when="after", times=2)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2


@pytest.mark.slow
def test_lost_batches_of_shards_with_the_same_names_and_bytes_are_told_apart(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write("in/x/a.txt", "same")
    project.write("in/y/a.txt", "same")
    project.fake.service.latency_ms = 150  # so that both are looked for at once
    project.fake.faults.add(operation="createBatch", do="reset", when="after", times=2)
    project.fake.faults.add(operation="runApp", do="reset", when="after", times=2)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.batches()) == 2
    assert sorted(run["batch_id"] for run in project.fake.runs()) == sorted(b["id"] for b in project.fake.batches())


def test_lost_start_is_not_repeated_while_something_cannot_be_verified(project: Project) -> None:
    project.write_files(1)
    lose_a_start(project)
    lock = project.folder / "job.lock.toml"
    entry = lock.read_text()[lock.read_text().index("[[") :]
    other = re.sub(r'fingerprint = "[0-9a-f]{64}"', f'fingerprint = "{"ab" * 32}"', entry)
    other = other.replace('status = "UNKNOWN"', 'status = "COMPLETE"\nrun_id = "gone-run"')
    lock.write_text(f"{lock.read_text()}\n{other}")
    outcome = project.apply()
    assert outcome.code == 7, outcome.text
    assert project.fake.runs() == []


def test_lost_start_is_not_repeated_after_units_ran_out(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(2)
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    project.fake.faults.add(operation="runApp", nth=2, do="status", status=403)
    outcome = project.apply()
    assert outcome.code in (4, 7), outcome.text
    assert [entry["operation"] for entry in project.fake.journal].count("runApp") == 2


def test_lost_run_listed_later_than_it_settles_stops_where_the_spec_says_so(project: Project) -> None:
    project.write_files(1)
    project.change_spec("[limits]", LOST_UNTIL_ASKED)
    project.fake.faults.add(operation="runApp", do="reset", when="after")
    project.fake.faults.add(operation="listRuns", do="lag", times=99, seconds=600)
    for _ in range(2):
        outcome = project.apply()
        assert outcome.code == 7, outcome.text
    assert len(project.fake.runs()) == 1
    project.fake.clock.advance(1200)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
def test_lost_start_is_looked_for_until_the_newest_known_run_shows(project: Project) -> None:
    project.write_files(1)
    lose_a_start(project)
    project.fake.clock.advance(60)
    project.write_files(1, start=1)
    project.change_spec('on_lost = "look"', 'on_lost = "stop"')
    assert project.apply().code == 7  # the other file's run was started just now
    project.change_spec('on_lost = "stop"', 'on_lost = "look"')
    project.change_spec("settle_s = 0.2", "settle_s = 5")
    project.fake.faults.add(operation="listRuns", times=99, do="lag", seconds=3)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2


def test_lost_start_is_looked_for_while_others_start_runs_all_the_time(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_runs(client: AIHub, from_s: float) -> list[RunInfo]:
        others.append(RunInfo(id=f"other-{len(others)}", status="RUNNING", batch_id=1))
        return real(client, from_s) + others

    project.write_files(1)
    real, others = AIHub.list_runs, list[RunInfo]()
    monkeypatch.setattr(AIHub, "list_runs", list_runs)
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 1


def test_upload_whose_answer_was_lost_is_repeated_although_the_file_was_changed_back(project: Project) -> None:
    project.write("in/a.txt", "one")
    project.write("in/b.txt", "bbb")
    project.fake.faults.add(operation="addFileToBatch", match="b.txt", times=99, do="status", status=409)
    assert project.apply().code == 4
    project.write("in/a.txt", "two")
    project.fake.faults.add(operation="addFileToBatch", match="a.txt", when="after", do="status", status=409)
    assert project.apply().code == 4
    project.write("in/a.txt", "one")
    project.fake.faults.scripts.clear()
    assert project.apply().code == 0
    project.write("in/c.txt", "one")
    project.apply()
    digests = project.fake.ledger["digests"]
    sent = [kept for key, kept in digests.items() if key.endswith("a.txt")]
    assert len(sent[0]) == 3, digests
    assert sent[0][0] == sent[0][-1]


def test_file_refused_in_another_context_is_left_out_and_the_rest_goes_on(project: Project) -> None:
    project.write_files(3)
    project.apply()
    project.change_spec('context = "acme"', 'context = "other"')
    project.fake.faults.add(operation="addFileToBatch", match="00001", times=99, do="status", status=422)
    codes = [project.apply().code for _ in range(2)]
    assert codes == [4, 3]
    assert [line["path"] for line in project.documents if "00001" not in line["path"]]


def test_moved_file_takes_along_all_that_it_ever_was(project: Project) -> None:
    project.write("in/z.txt", "zzz")
    for content in ("one", "two", "one"):
        project.write("in/a.txt", content)
        project.apply()
    (project.folder / "in/a.txt").rename(project.folder / "in/b.txt")
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []
    assert {(line["path"], line["present"]) for line in project.documents} == {("in/b.txt", True), ("in/z.txt", True)}
