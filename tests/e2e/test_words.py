"""Messages: of questions and plans, of an apply while another one runs, with none, one and many."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.waiting import wait_for

from .conftest import Project, Terminal


@contextmanager
def at_work(project: Project) -> Iterator[int]:
    """Run an apply whose first start has no response yet, and return its pid."""
    project.write_files(2)
    project.fake.faults.add(operation="runApp", do="stall", when="after", seconds=20)
    process = project.start("apply", "job.toml")
    try:
        wait_for(lambda: project.fake.runs())
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_status_while_an_apply_is_at_work_names_it_and_calls_nothing_unknown(project: Project) -> None:
    with at_work(project) as pid:
        for command in ("status", "plan"):
            outcome = project.run(command)
            assert outcome.code == 6, outcome.text
            assert f"  now        apply is running, pid {pid} on " in outcome.out
            [now] = [line for line in outcome.out.splitlines() if line.startswith("  now")]
            assert now.count("apply") == now.count("running") == now.count("now") == 1
            assert "unknown" not in outcome.out.lower().replace("not known", "unknown")
            assert json.loads(project.run(command, "--json").out)["exit_code"] == 6
        assert f"apply is running, pid {pid}" in project.run("results").err
        assert project.run("results").code == 6
        assert project.apply().code == 5
    assert project.run("status").code == 7
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1


def test_who_looks_at_the_lock_keeps_nobody_from_it(project: Project) -> None:
    import fcntl

    project.write_files(1)
    project.apply()
    with (project.folder / "job.state.db.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert project.run("status").code == 0
        assert project.run("plan").code == 0


def test_question_names_what_is_at_stake(project: Project) -> None:
    project.write_files(2)
    project.change_spec("[limits]", '[run]\nversion = "3.0"\n[limits]')
    with Terminal(project, "apply", "job.toml") as terminal:
        terminal.read_until("[y/N]")
        terminal.type("n\n")
        _, shown = terminal.end()
    question = " ".join(shown[shown.index("Send 2 files") : shown.index("[y/N]")].split())
    assert question == (
        "Send 2 files (34 bytes) and start 1 run of Invoice Extraction of instabase, version 3.0, "
        f"on {project.fake.root}, context acme?"
    )
    with Terminal(project, "apply", "job.toml", "--fake") as terminal:
        terminal.read_until("[y/N]")
        terminal.type("n\n")
        _, shown = terminal.end()
    assert "on the FAKE AI Hub" in shown
    assert project.fake.root not in shown


def test_plan_and_plan_on_the_fake_tell_where(project: Project) -> None:
    project.write_files(1)
    real, fake = project.run("plan").out, project.run("plan", "--fake").out
    assert f"  on         {project.fake.root}, context acme\n" in real
    assert "  on         the FAKE AI Hub" in fake
    assert "  app        Invoice Extraction of instabase, its newest production version\n" in real
    project.change_spec('context = "acme"', 'context = ""')
    assert f"{project.fake.root}, the community account" in project.run("plan").out


def test_one_is_one_and_two_are_two(project: Project) -> None:
    project.write_files(1)
    assert "would start 1 run, 0 are allowed" in project.apply("--max-runs", "0").err
    project.write_files(2)
    project.change_spec("[limits]\n", "[limits]\nfiles_per_batch = 1\n")
    assert "would start 2 runs, 1 is allowed" in project.apply("--max-runs", "1").err


def test_nothing_to_do_is_not_followed_by_zeros(project: Project) -> None:
    project.write_files(1)
    project.apply()
    shown = project.apply().out
    assert "1 file, nothing to do; 1 done" in shown
    assert " 0" not in shown.replace(str(project.folder), "")
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["results"]


def test_skipped_files_are_one_line_by_reason_and_all_with_v(project: Project) -> None:
    project.write_files(1)
    for number in range(12):
        project.write(f"in/song{number:02}.wav", "la")
    project.write("in/film.mov", "la")
    project.write("in/empty.txt", b"")
    of_plan = (
        "13 files (in/film.mov …): skipped, unsupported type, .wav (12), .mov (1)",
        "(in/empty.txt): skipped, empty",
    )
    told = (
        "in/film.mov and 12 more: unsupported type, .wav (12), .mov (1); to list all, pass -v",
        "in/empty.txt: empty",
    )
    for command, lines in (("plan", of_plan), ("apply", told), ("status", told)):
        shown = project.run(command).out
        assert shown.count("unsupported type") == 1
        assert [line in shown for line in lines] == [True, True], shown
        assert project.run(command, "-v").out.count(": unsupported type, .") == 13
        assert len(project.run(command, "--json").json["skipped"]) == 14


@pytest.mark.parametrize("operation", ["createBatch", "addFileToBatch", "runApp"])
def test_reason_after_a_refusal_claims_no_run(project: Project, operation: str) -> None:
    project.write_files(2)
    project.fake.faults.add(operation=operation, do="status", status=403)
    project.apply()
    assert project.fake.runs() == []
    [work] = project.run("plan", "--json").json["work"]
    assert "again" not in work["reason"]
    assert "changed" not in work["reason"]
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    [work] = project.run("plan", "--json").json["work"]
    assert "again" not in work["reason"]
    assert "changed" not in work["reason"]


def test_text_and_json_agree_on_the_number_of_files(project: Project) -> None:
    project.write_files(2)
    project.write("in/song.wav", "la")
    assert "job.toml: 3 files, " in project.run("plan").out
    assert project.run("plan", "--json").json["files"] == 3
    assert project.run("status", "--json").json["files"] == 3
    assert project.apply("--json").json["files"] == 3


@pytest.mark.slow
def test_time_of_sending_is_that_of_the_upload(project: Project) -> None:
    project.write_files(1)
    project.fake.service.run_seconds = 1.5
    told = project.apply("--json").json
    assert told["upload_seconds"] < 1.5 <= told["seconds"]


@pytest.mark.parametrize("command", ["validate", "plan", "apply", "status"])
def test_messages_name_a_spec_by_the_path_that_was_given(project: Project, command: str) -> None:
    project.write("a/job.toml", "files = 1\n")
    project.spec_name = "./a/../a/job.toml"
    assert f"error: {project.spec_path}:1:1: " in project.run(command).err


def test_plan_with_v_names_every_file_of_a_group(project: Project) -> None:
    project.write_files(15)
    assert "15 files (in/00000.txt …)" in project.run("plan").out
    shown = project.run("plan", "-v").out
    assert [line.strip() for line in shown.splitlines() if "in/" in line] == [f"in/{n:05}.txt" for n in range(15)]


def test_batch_that_turns_out_to_be_another_was_not_called_created(project: Project) -> None:
    other = Project(project.folder / "other", project.fake, project.env)
    other.write("job.toml", project.spec_path.read_text().replace('"job"', '"other"'))
    other.write("in/more.txt", "more words")
    assert other.apply().code == 0
    [foreign] = project.fake.batches()
    project.write_files(1)
    project.fake.faults.add(operation="createBatch", do="another", name=str(foreign["id"]))
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert f"batch {foreign['id']} created" not in outcome.err


@pytest.mark.slow
def test_interrupt_during_a_slow_start_says_that_it_is_unconfirmed(project: Project) -> None:
    project.write_files(2)
    project.fake.faults.add(operation="runApp", do="stall", when="after", seconds=20)
    process = project.start("apply", "job.toml")
    wait_for(lambda: project.fake.runs())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "0 runs started, 1 start unconfirmed; the next apply checks before it pays" in out
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1


def test_batch_of_another_spec_is_named_with_what_fits_and_the_choices(project: Project) -> None:
    project.write_files(2)
    project.change_spec("[limits]", '[run]\nversion = "1"\n[limits]')
    project.apply()
    other = Project(project.folder / "other", project.fake, project.env)
    other.write("job.toml", project.spec_path.read_text().replace('"1"', '"2"'))
    for name in ("00000.txt", "00001.txt"):
        other.write(f"in/{name}", (project.folder / "in" / name).read_bytes())
    outcome = other.apply()
    assert outcome.code == 7, outcome.text
    [batch] = project.fake.batches()
    told = (
        f"batch {batch['id']} on the service, {batch['name']}, holds 2 files that are also in this spec, in/00000.txt"
    )
    assert told in outcome.err
    assert "another spec that is also named job" in outcome.err
    assert "set a different name in this one" in outcome.err
    other.change_spec('name = "job"', 'name = "other"')
    assert other.apply().code == 0


def test_batch_of_another_name_is_not_said_to_have_this_name(project: Project) -> None:
    project.write_files(1)
    project.apply()
    [batch] = project.fake.batches()
    other = Project(project.folder / "other", project.fake, project.env)
    other.write("job.toml", project.spec_path.read_text().replace('"job"', '"other"'))
    other.write("in/more.txt", "more words")
    outcome = other.apply()
    assert outcome.code == 0, outcome.text
    assert f"batch {batch['id']}, {batch['name']}, holds other files; skipped" in outcome.err


@pytest.mark.parametrize(
    ("status", "told", "number"), [(500, "; trying again in ", "retries"), (429, "asks to slow down, ", "rate_limited")]
)
def test_request_that_is_repeated_is_told_of_and_counted(project: Project, status: int, told: str, number: str) -> None:
    project.write_files(1)
    project.fake.faults.add(operation="addFileToBatch", do="status", status=status, headers={"Retry-After": "0"})
    outcome = project.apply("--json")
    assert outcome.code == 0, outcome.text
    assert outcome.err.count(told) == 1
    assert outcome.json[number] == 1
