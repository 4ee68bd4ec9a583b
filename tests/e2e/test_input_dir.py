"""`input_dir`, and deployments with an upstream integration: one run for each run key, and no guesses."""

from __future__ import annotations

import shutil

import pytest
import requests

from support.world import lose

from .conftest import QUICK, ROOT, Project

FOLDER = "/acme/Accounting/fs/Invoices/inbox"


def put(project: Project, name: str, body: str) -> None:
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    url = f"{project.fake.root}/v2/files{FOLDER}/{name}"
    requests.put(url, data=body.encode(), headers=headers, timeout=10).raise_for_status()


@pytest.fixture
def drive(project: Project) -> Project:
    """Return a project that runs on a folder of a drive with two files."""
    project.change_spec('files = "in/**/*"', f'input_dir = "{FOLDER}/"')
    put(project, "a.txt", "Invoice number: 1")
    put(project, "2026/b.txt", "Invoice number: 2")
    return project


def paid(project: Project) -> int:
    return len(project.fake.runs())


def paths(project: Project) -> list[str]:
    return [line["path"] for line in project.documents if line["present"]]


def test_folder_of_a_drive_runs_once(drive: Project) -> None:
    plan = drive.run("plan")
    assert f"{FOLDER}/: not run yet with these settings" in plan.out
    assert "1 batch, 1 run to pay" in plan.out
    assert drive.apply().code == 0
    [run] = drive.fake.world.runs.values()
    assert run.request["input_dir"] == FOLDER
    assert "batch_id" not in run.request
    assert paths(drive) == [f"{FOLDER}/2026/b.txt", f"{FOLDER}/a.txt"]
    assert drive.run("status").code == 0
    put(drive, "c.txt", "Invoice number: 3")
    drive.forget_requests()
    assert drive.apply().code == 0
    assert drive.sent() == []
    assert drive.run("plan", "--exit-code").code == 0


def test_results_of_files_that_left_the_folder_stay(drive: Project) -> None:
    assert drive.apply().code == 0
    before = drive.documents
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme"}
    for name in ("a.txt", "2026/b.txt"):
        requests.delete(f"{drive.fake.root}/v2/files{FOLDER}/{name}", headers=headers, timeout=10).raise_for_status()
    put(drive, "c.txt", "Invoice number: 3")
    assert drive.apply("--again").code == 0
    assert paid(drive) == 2
    assert [line["path"] for line in drive.documents] == [
        f"{FOLDER}/{name}" for name in ("2026/b.txt", "a.txt", "c.txt")
    ]
    assert drive.documents[:2] == before
    drive.forget_requests()
    assert (drive.apply().code, drive.sent()) == (0, [])
    lose(drive.folder, "job.state.db")
    assert drive.apply().code == 0
    assert paid(drive) == 2
    assert len(drive.documents) == 3


def test_status_counts_the_files_that_the_results_name(drive: Project) -> None:
    drive.fake.next_run(hold=True)
    assert drive.apply("--no-wait").code == 6
    assert drive.run("status").out.splitlines()[0].endswith(f"job.toml: {FOLDER}/, done or in progress")
    drive.fake.release(drive.fake.runs()[0]["id"])
    shown = f"{FOLDER}/ (2 files in its results), done or in progress"
    assert drive.apply().out.splitlines()[0].endswith(f"job.toml: {shown}")
    assert drive.run("status").out.splitlines()[0].endswith(f"job.toml: {shown}")
    assert drive.run("status", "-q").out.endswith(f"job.toml: {shown}\n")
    told = drive.run("status", "--json").json
    assert [told[name] for name in ("files", "files_done", "input", "has_input_run")] == [2, 2, f"{FOLDER}/", True]
    drive.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert drive.run("status").out.splitlines()[0].endswith(f"job.toml: {FOLDER}/, not run yet")
    drive.fake.next_run(status="FAILED", message="no")
    assert drive.apply().out.splitlines()[0].endswith(f"job.toml: {FOLDER}/, failed")


def test_destroy_leaves_the_folder_of_the_drive(drive: Project) -> None:
    assert drive.apply().code == 0
    tree = {path: set(files) for path, files in drive.fake.world.trees.items()}
    outcome = drive.run("destroy", "--yes")
    assert (outcome.code, drive.fake.runs(), drive.fake.batches()) == (0, [], []), outcome.text
    assert {path: set(files) for path, files in drive.fake.world.trees.items()} == tree
    assert any("a.txt" in path for files in tree.values() for path in files)
    drive.forget_requests()
    assert (drive.apply().code, drive.sent()) == (0, [])


def test_folder_runs_again_on_request_or_with_other_settings_only(drive: Project) -> None:
    drive.apply()
    put(drive, "c.txt", "Invoice number: 3")
    assert drive.apply("--again").code == 0
    assert paid(drive) == 2
    assert f"{FOLDER}/c.txt" in paths(drive)
    drive.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert drive.apply().code == 0
    assert paid(drive) == 3
    drive.change_spec('[run]\nversion = "2"\n', "")
    assert drive.apply().code == 0
    assert paid(drive) == 3
    assert len(paths(drive)) == 3


def test_failed_run_is_repeated_on_request_only(drive: Project) -> None:
    drive.fake.next_run(status="FAILED", message="no")
    assert drive.apply().code == 3
    assert drive.apply().code == 3
    assert drive.run("status").code == 3
    assert paid(drive) == 1
    assert drive.apply("--retry-failed").code == 0
    assert paid(drive) == 2


def test_lost_run_is_found_by_its_tag(drive: Project) -> None:
    drive.fake.faults.add(operation="runApp", do="reset", when="after")
    assert drive.apply().code == 0
    assert paid(drive) == 1


def test_lost_run_that_is_not_found_is_unknown_until_a_person_decides(drive: Project) -> None:
    drive.fake.faults.add(operation="runApp", do="reset", when="before")
    assert drive.apply().code == 7
    assert drive.apply().code == 7
    assert drive.run("status").code == 7
    assert paid(drive) == 0
    assert drive.run("resolve", "--resubmit").code == 0
    assert drive.apply().code == 0
    assert paid(drive) == 1


def test_refused_run_is_started_once_it_is_confirmed_absent(drive: Project) -> None:
    drive.fake.faults.add(operation="runApp", do="status", status=403)
    assert drive.apply().code == 4
    assert drive.apply().code == 0
    assert paid(drive) == 1


@pytest.mark.parametrize("gone", [("job.state.db",), ("job.state.db", "job.lock.toml")])
def test_lost_state_pays_nothing_again(drive: Project, gone: tuple[str, ...]) -> None:
    drive.apply()
    before = paths(drive)
    lose(drive.folder, *gone)
    assert drive.apply().code == 0
    assert paid(drive) == 1
    assert paths(drive) == before
    assert drive.apply().code == 0


def test_missing_results_are_fetched_again(drive: Project) -> None:
    drive.apply()
    before = drive.documents
    shutil.rmtree(drive.folder / "results")
    assert drive.run("status").code == 6
    assert drive.apply().code == 0
    assert drive.documents == before
    assert paid(drive) == 1


def test_folder_that_is_not_there_is_refused(drive: Project) -> None:
    drive.change_spec("/inbox/", "/nowhere/")
    assert drive.apply().code == 4
    assert paid(drive) == 0


def test_deployment_is_asked_to_use_its_upstream_integration(project: Project) -> None:
    project.spec_path.write_text(
        f"""\
name = "job"
deployment_id = "d-1"
context = "acme"
[run]
manual_upstream_integration = true
from_timestamp = 1767225600000
to_timestamp = 1769904000000
[limits]
{QUICK}
"""
    )
    outcome = project.apply()
    assert outcome.code == 4
    assert "The deployment has no upstream integration" in outcome.text  # the fake has none
    [asked] = [entry for entry in project.fake.journal if entry["operation"] == "runDeployment"]
    sent = {key: value for key, value in asked["request_json"].items() if key != "settings"}
    window = {"from_timestamp": 1767225600000, "to_timestamp": 1769904000000}
    assert sent == {"manual_upstream_integration": True, **window}


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ('app_name = "A"', "files is missing"),
        (f'app_name = "A"\nfiles = "a"\ninput_dir = "{FOLDER}"', "files and input_dir cannot be combined"),
        ('app_name = "A"\ninput_dir = "inbox/"', "input_dir is not a folder of a drive"),
        ('app_name = "A"\n[run]\nmanual_upstream_integration = true', "needs a deployment"),
        ('app_name = "A"\nfiles = "a"\n[run]\nfrom_timestamp = 1', "from_timestamp needs"),
        (f'app_name = "A"\ninput_dir = "{FOLDER}"\ngroup_by = "folder"', "group_by needs files"),
        (f'app_name = "A"\ninput_dir = "{FOLDER}"\n[cleanup]\ndelete_input = true', "delete_input needs files"),
    ],
)
def test_mistakes_about_the_input_are_named(project: Project, lines: str, mistake: str) -> None:
    project.spec_path.write_text(f"{lines}\n")
    outcome = project.run("validate")
    assert outcome.code == 2
    assert mistake in outcome.err


def test_example_runs_on_a_drive(drive: Project) -> None:
    drive.spec_path.write_text((ROOT / "specs/drive.aihub.toml").read_text())
    assert drive.apply().code == 0
    assert (drive.folder / "results/drive/documents.jsonl").exists()


def test_person_can_name_the_run_that_was_lost(drive: Project) -> None:
    drive.fake.faults.add(operation="runApp", do="reset", when="before")
    assert drive.apply().code == 7
    body = {"app_name": "Invoice Extraction", "owner": "instabase", "input_dir": FOLDER}
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme"}
    run = requests.post(f"{drive.fake.root}/v2/apps/runs", json=body, headers=headers, timeout=10).json()["id"]
    assert drive.apply().code == 7
    assert drive.run("resolve", "--adopt", run).code == 0
    assert drive.apply().code == 0
    assert paid(drive) == 1
    assert len(paths(drive)) == 2


def test_options_that_select_files_are_refused(drive: Project) -> None:
    for option in (("--limit", "1"), ("--only", "*")):
        outcome = drive.apply(*option)
        assert outcome.code == 2
        assert "this job has none" in outcome.err
    assert paid(drive) == 0


def test_destroy_leaves_the_folder_alone_and_pays_nothing_again(drive: Project) -> None:
    drive.apply()
    assert drive.run("destroy", "--yes").code == 0
    assert drive.fake.batches() == []
    assert len(drive.fake.world.trees["acme"]) == 2
    before = drive.fake.ledger["runs"].copy()
    drive.apply()
    assert drive.fake.ledger["runs"] == before
    assert paid(drive) == 0
