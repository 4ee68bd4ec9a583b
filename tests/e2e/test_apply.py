"""`runner apply`, from files on disk to results on disk, over real HTTP."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil

import pytest

from fake_aihub import FakeAIHub

from .conftest import SPEC, Project


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def test_apply_sends_runs_and_fetches_then_has_nothing_to_do(project: Project) -> None:
    project.write_files(3)
    first = project.apply()
    assert first.code == 0, first.text
    assert {line["path"] for line in project.documents} == {f"in/{n:05}.txt" for n in range(3)}
    assert project.documents[0]["sha256"] == digest("document number 0")
    assert project.documents[0]["fields"]
    assert sorted(project.sent()) == ["POST createBatch", "POST runApp"] + ["PUT addFileToBatch"] * 3

    project.forget_requests()
    second = project.apply()
    assert second.code == 0
    assert "nothing to do" in second.out
    assert project.fake.journal == []


@pytest.mark.slow
def test_apply_of_2500_files_makes_3_batches_3_runs_and_2500_results(project: Project) -> None:
    project.write_files(2500)
    outcome = project.apply("--json")
    assert outcome.code == 0, outcome.text
    assert len(project.fake.batches()) == 3
    assert len(project.fake.runs()) == 3
    assert len({line["path"] for line in project.documents}) == 2500


def test_apply_sends_a_new_and_a_changed_file_alone(project: Project) -> None:
    project.write_files(3)
    project.apply()
    project.forget_requests()
    project.write("in/new.txt", "new")
    project.write("in/00001.txt", "changed")
    assert project.apply().code == 0
    assert sorted(project.sent()) == ["POST createBatch", "POST runApp"] + ["PUT addFileToBatch"] * 2
    by_path = {line["path"]: line["sha256"] for line in project.documents}
    assert by_path["in/00001.txt"] == digest("changed")
    assert by_path["in/new.txt"] == digest("new")
    assert by_path["in/00000.txt"] == digest("document number 0")


def test_apply_sends_nothing_for_files_touched_moved_or_changed_back(project: Project) -> None:
    project.write_files(3)
    project.apply()
    project.write("in/00001.txt", "changed")
    project.apply()
    project.forget_requests()
    project.write("in/00001.txt", "document number 1")
    (project.folder / "in/00000.txt").touch()
    (project.folder / "in/00002.txt").rename(project.folder / "in/moved.txt")
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.journal == []
    by_path = {line["path"]: line["sha256"] for line in project.documents}
    assert by_path["in/00001.txt"] == digest("document number 1")
    assert by_path["in/moved.txt"] == digest("document number 2")


def test_apply_of_another_version_runs_again_on_the_same_batch(project: Project) -> None:
    project.write_files(3)
    project.apply()
    project.forget_requests()
    project.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')
    assert project.apply().code == 0
    assert project.sent() == ["POST runApp"]
    assert len({run["batch_id"] for run in project.fake.runs()}) == 1
    project.forget_requests()
    project.change_spec('version = "2.0"', "")
    assert project.apply().code == 0
    assert project.sent() == []


def test_apply_of_another_include_only_fetches(project: Project) -> None:
    project.write_files(2)
    project.apply()
    assert "confidence" not in project.documents[0]["fields"][0]
    project.forget_requests()
    project.change_spec("[limits]", '[results]\ninclude = ["confidence"]\n[limits]')
    assert project.apply().code == 0
    assert project.sent() == []
    assert "confidence" in project.documents[0]["fields"][0]


def test_apply_in_a_fresh_clone_with_the_lock_file_pays_nothing(project: Project) -> None:
    project.write_files(5)
    project.apply()
    before = project.documents
    (project.folder / "job.state.db").unlink()
    shutil.rmtree(project.folder / "results")
    project.forget_requests()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.sent() == []
    assert project.documents == before


def test_apply_in_a_fresh_clone_imports_what_is_left_where_a_file_has_changed(project: Project) -> None:
    project.write_files(5)
    project.apply()
    (project.folder / "job.state.db").unlink()
    project.write("in/00001.txt", "changed")
    (project.folder / "in/00002.txt").unlink()
    project.forget_requests()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.sent() == ["POST createBatch", "PUT addFileToBatch", "POST runApp"]


def test_apply_without_state_and_lock_stops_where_batches_of_the_spec_are_found(project: Project) -> None:
    project.write_files(5)
    project.apply()
    (project.folder / "job.state.db").unlink()
    (project.folder / "job.lock.toml").unlink()
    project.forget_requests()
    # The tags prove that exactly this was paid, so it is imported without asking.
    assert project.apply().code == 0
    assert project.sent() == []
    (project.folder / "job.state.db").unlink()
    (project.folder / "job.lock.toml").unlink()
    project.write_files(1, start=5)
    outcome = project.apply()
    assert outcome.code == 7
    assert "--adopt" in outcome.err
    assert project.sent() == []
    assert project.apply("--adopt").code == 0
    assert project.sent() == ["POST createBatch", "PUT addFileToBatch", "POST runApp"]


def test_apply_reports_failed_runs_and_pays_again_only_when_told(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(status="FAILED", message="the app broke")
    first = project.apply()
    assert first.code == 3
    assert "the app broke" in first.text
    project.forget_requests()
    assert project.apply().code == 3
    assert project.sent() == []
    again = project.apply("--retry-failed")
    assert again.code == 0, again.text
    assert project.sent() == ["POST runApp"]
    assert len(project.documents) >= 2


def test_apply_leaves_runs_that_wait_for_a_review_and_looks_again(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="STOPPED_AT_CHECKPOINT")
    assert project.apply().code == 6
    project.forget_requests()
    assert project.apply().code == 6
    assert project.sent() == []
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    assert project.apply().code == 0
    assert project.sent() == []


def test_apply_stops_waiting_when_told_and_goes_on_later(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.1s").code == 6
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []


@pytest.mark.slow
def test_apply_sends_large_files_in_parts_that_arrive_whole(project: Project) -> None:
    content = bytes(range(256)) * (45 * 1024 * 1024 // 1024)
    project.write("in/large.pdf", content)
    project.write("in/small.txt", "small")
    assert project.apply().code == 0
    assert project.arrived()["large.pdf"].removeprefix("sha256:") == hashlib.sha256(content).hexdigest()
    assert project.sent().count("PUT uploadMultipartPart") == 2


def test_apply_skips_what_cannot_be_sent_and_the_rest_goes_on(project: Project) -> None:
    project.write_files(1)
    project.write("in/empty.pdf", b"")
    project.write("in/sound.wav", b"sound")
    project.write("in/huge.csv", b"1," * (6 * 1024 * 1024))
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    for path in ("in/empty.pdf", "in/sound.wav", "in/huge.csv"):
        assert path in outcome.out
    assert list(project.arrived()) == ["00000.txt"]
    project.forget_requests()
    assert project.apply().code == 3
    assert project.fake.journal == []


def test_apply_ignores_unsupported_types_when_told(project: Project) -> None:
    project.write_files(1)
    project.write("in/sound.wav", b"sound")
    project.change_spec("[limits]", '[limits]\non_unsupported = "ignore"')
    assert project.apply().code == 0


@pytest.mark.parametrize(
    "name", ["a b.txt", "a#b.txt", "50%.txt", "what?.txt", "a&b.txt", "请求书.txt", "x" * 251 + ".txt"]
)
def test_apply_sends_names_that_hurt(project: Project, name: str) -> None:
    project.write(f"in/{name}", "content")
    assert project.apply().code == 0
    assert list(project.arrived()) == [name]
    assert project.documents[0]["path"] == f"in/{name}"


def test_apply_tells_files_of_one_basename_apart(project: Project) -> None:
    project.write("in/q1/invoice.pdf", "one")
    project.write("in/q2/invoice.pdf", "two")
    assert project.apply().code == 0
    assert sorted(value.removeprefix("sha256:") for value in project.arrived().values()) == sorted(
        [digest("one"), digest("two")]
    )
    assert {line["path"]: line["sha256"] for line in project.documents} == {
        "in/q1/invoice.pdf": digest("one"),
        "in/q2/invoice.pdf": digest("two"),
    }


def test_apply_of_everything_in_its_own_folder_never_takes_its_own_files(project: Project) -> None:
    project.write_files(2)
    project.change_spec('files = "in/**/*"', 'files = "**/*"')
    assert project.apply().code == 0
    project.forget_requests()
    for _ in range(2):
        assert project.apply().code == 0
        assert project.fake.journal == []


def test_apply_keeps_the_last_lines_of_a_removed_file(project: Project) -> None:
    project.write_files(2)
    project.apply()
    (project.folder / "in/00001.txt").unlink()
    project.forget_requests()
    assert project.apply().code == 0
    assert project.fake.journal == []
    assert {line["path"]: line["present"] for line in project.documents} == {
        "in/00000.txt": True,
        "in/00001.txt": False,
    }


def test_apply_with_the_fake_leaves_the_real_work_alone(project: Project) -> None:
    project.write_files(2)
    project.apply()
    kept = {path: path.read_bytes() for path in sorted(project.folder.glob("results/**/*")) if path.is_file()}
    kept[project.folder / "job.lock.toml"] = (project.folder / "job.lock.toml").read_bytes()
    project.forget_requests()
    fake = project.apply("--fake")
    assert fake.code == 0, fake.text
    assert "FAKE" in fake.out
    assert (project.folder / "job.fake/results/documents.jsonl").exists()
    assert project.apply().code == 0
    assert project.fake.journal == []
    assert kept == {path: path.read_bytes() for path in kept}


def test_apply_with_the_fake_refuses_while_another_command_uses_it(project: Project) -> None:
    project.write_files(1)
    assert project.apply("--fake").code == 0
    with FakeAIHub(data_dir=project.folder / "job.fake/data"):
        outcome = project.apply("--fake")
    assert outcome.code == 5
    assert "another command uses the embedded fake AI Hub" in outcome.err
    assert project.apply("--fake").code == 0


def test_apply_refuses_more_runs_than_allowed_before_anything_is_sent(project: Project) -> None:
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    outcome = project.apply("--max-runs", "1")
    assert outcome.code == 2
    assert "2 runs" in outcome.err
    assert project.sent() == []


def test_apply_of_a_renamed_spec_asks_for_its_state_to_be_moved(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.spec_path.rename(project.folder / "other.toml")
    project.spec_name = "other.toml"
    project.forget_requests()
    outcome = project.apply()
    assert outcome.code == 2
    assert "rename job.state.db and job.lock.toml too" in outcome.err
    assert project.fake.journal == []


def test_apply_refuses_the_results_folder_of_another_spec(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.write("second.toml", SPEC)
    project.spec_name = "second.toml"
    outcome = project.apply()
    assert outcome.code == 2
    assert "belongs to job.toml" in outcome.err


def test_apply_of_a_deployment_uses_its_endpoint(project: Project) -> None:
    project.write_files(1)
    project.change_spec('app_name = "Invoice Extraction"\nowner = "instabase"', 'deployment_id = "d-1"')
    assert project.apply().code == 0
    assert "POST runDeployment" in project.sent()


def test_apply_keeps_no_more_runs_going_than_allowed_and_does_all(project: Project) -> None:
    project.write_files(6)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2\nparallel_runs = 1")
    project.fake.service.run_seconds = 0.1
    assert project.apply().code == 0
    runs = project.fake.runs()
    assert len(runs) == 3
    assert all(b["start_timestamp"] >= a["finish_timestamp"] for a, b in itertools.pairwise(runs))


def test_apply_that_stops_waiting_starts_no_runs_that_have_no_room(project: Project) -> None:
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2\nparallel_runs = 1")
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.3").code == 6
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
def test_apply_waits_for_a_review_in_place_when_told(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="STOPPED_AT_CHECKPOINT")
    with project.start("apply", "job.toml", "--wait-for-review") as process:
        assert process.stderr
        while "STOPPED_AT_CHECKPOINT" not in process.stderr.readline():
            assert process.poll() is None
        project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_apply_with_json_prints_one_document_and_nothing_else(project: Project) -> None:
    project.write_files(2)
    for command in (["plan"], ["apply"], ["status"], ["validate"], ["resolve"]):
        outcome = project.run(*command, "--json")
        document = json.loads(outcome.out)
        assert (document["exit_code"], len(document["specs"])) == (outcome.code, 1)


def test_plan_tells_of_changes_by_its_exit_code_only_when_asked(project: Project) -> None:
    project.write_files(2)
    assert project.run("plan").code == 0
    assert project.run("plan", "--exit-code").code == 10
    project.apply()
    assert project.run("plan", "--exit-code").code == 0


def test_plan_in_a_fresh_clone_counts_what_the_lock_file_has_as_paid(project: Project) -> None:
    project.write_files(3)
    project.apply()
    (project.folder / "job.state.db").unlink()
    project.write_files(1, start=3)
    project.forget_requests()
    plan = project.run("plan", "--json").json
    assert plan["send"] == ["in/00003.txt"]
    assert project.fake.journal == []


def test_apply_on_a_terminal_asks_before_it_starts_a_refused_run_again(project: Project) -> None:
    project.write_files(1)
    project.fake.faults.add(operation="runApp", do="status", status=403)
    assert project.apply().code == 4
    code, shown = project.on_terminal("apply", "job.toml", answer="n\n")
    assert (code, project.fake.runs()) == (2, []), shown
    assert "Start 1 run" in shown
    code, shown = project.on_terminal("apply", "job.toml", answer="y\n")
    assert (code, len(project.fake.runs())) == (0, 1), shown


def test_apply_on_a_terminal_shows_the_plan_and_takes_no_for_an_answer(project: Project) -> None:
    project.write_files(2)
    code, shown = project.on_terminal("apply", "job.toml", answer="n\n")
    assert code == 2
    assert "1 run to pay; " in shown
    assert project.sent() == []
    code, shown = project.on_terminal("apply", "job.toml", answer="y\n")
    assert code == 0, shown
    assert "uploading" in shown


def test_context_that_nobody_gave_is_warned_of(project: Project) -> None:
    project.write_files(1)
    project.change_spec('context = "acme"\n', "")
    assert "community account" in project.apply().err
    project.change_spec("[limits]", "[limits]")
    project.env["AIHUB_CONTEXT"] = "acme"
    (project.folder / "job.state.db").unlink()
    assert "community account" not in project.apply().err


@pytest.mark.slow
def test_apply_against_a_server_that_allows_few_requests_sends_everything(project: Project) -> None:
    project.write_files(500)
    project.fake.service.requests_per_s = 15
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.arrived()) == 500
    assert {entry["status"] for entry in project.fake.journal} >= {204, 429}
    assert set(project.fake.ledger["runs"].values()) == {1}


@pytest.mark.slow
def test_apply_uploads_one_shard_while_another_runs(project: Project) -> None:
    project.write_files(4)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "2s").code == 6
    assert len(project.arrived()) == 4
    assert sorted(run["status"] for run in project.fake.runs()) == ["COMPLETE", "RUNNING"]


def test_apply_keeps_its_state_where_it_is_told(project: Project) -> None:
    project.write_files(1)
    other = project.folder / "elsewhere.state.db"
    assert project.apply("--state", str(other)).code == 0
    assert other.exists()
    assert not (project.folder / "job.state.db").exists()
    project.forget_requests()
    assert project.apply("--state", str(other)).code == 0
    assert project.fake.journal == []


def test_apply_of_several_specs_exits_with_the_code_that_tells_most(project: Project) -> None:
    project.write_files(1)
    project.write("other.toml", SPEC.replace('"job"', '"other"').replace("in/**/*", "none/*"))
    project.spec_name = "."
    outcome = project.apply("--json", "--yes")
    assert [spec["exit_code"] for spec in json.loads(outcome.out)["specs"]] == [0, 2]
    assert outcome.code == 2


def test_apply_without_state_and_lock_stops_even_where_a_part_is_recognised(project: Project) -> None:
    project.write_files(3)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    project.apply()
    (project.folder / "job.state.db").unlink()
    (project.folder / "job.lock.toml").unlink()
    project.write_files(1, start=3)
    project.forget_requests()
    for _ in range(2):
        assert project.apply().code == 7
    assert project.sent() == []
    assert project.apply("--adopt").code == 0
    assert project.sent() == ["POST createBatch", "PUT addFileToBatch", "POST runApp"]
    assert len({line["path"] for line in project.documents}) == 4
