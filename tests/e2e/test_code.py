"""`runner code`: the scripts do the job as apply does, with each parameter, and contain only literals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest
import requests

from aihub_runner.codegen.script import ENDINGS

from .conftest import ROOT, Project
from .test_batch_id import make_batch, put

STARTS = {"python-sdk": [sys.executable], "python": [sys.executable], "curl": ["bash"], "javascript": ["node"]}
PROGRAMS = {"curl": ("bash", "curl", "jq"), "javascript": ("node",)}
# Each means something in one of the languages, in a URL, in JSON or in a template.
NAMES = (
    'in/it\'s "q" $(touch x) `touch y` ${HOME} !x.txt',
    "in/back\\slash \\(1+1) %41 #{1} [1-2] {a,b}.txt",
    "in/-n.txt",
    "in/{{ 1 }} {% raw %} </script> '@ ::x.txt",
    "in/é \u2028\u202e\U000e0041 \U0001f600.txt",
    "in/a/same.txt",
    "in/b/same.txt",
)
FULL = """\
name = "job"
files = "in/**/*"
deployment_id = "01902d6f-bb35-74cb-bd27-c09b38bbf20a"
context = "acme"
workspace = "it's $(x)"
[run]
version = "3.1 '\\"`"
output_dir = "/acme/it's \\"here\\"/fs/$HOME/"
tags = ["it's \\"a\\" $(tag)", "a\u2028b"]
generate_post_process_pdf = true
[run.keys.custom]
"it's" = {a = [1, 2.5, true], b = "`x`"}
[run.keys.secret]
login = "ledger"
[run.pdf_passwords]
"in/*.pdf" = { env = "AIHUB_SECRET_PDF" }
[run.webhook]
url = "http://127.0.0.1:9/it's?a=$(x)"
headers.Authorization = { env = "AIHUB_SECRET_HOOK" }
[results]
include = ["confidence", "validation", "review"]
[limits]
files_per_batch = 3
part_threshold_mb = 0.001
settle_s = 0.2
poll_min_s = 0.01
poll_max_s = 0.05
"""

UPSTREAM = """\
name = "job"
deployment_id = "01902d6f-bb35-74cb-bd27-c09b38bbf20a"
context = "acme"
[run]
manual_upstream_integration = true
from_timestamp = 1750000000000
to_timestamp = 1750000600000
"""


@pytest.fixture(params=ENDINGS)
def language(request: pytest.FixtureRequest) -> str:
    """Return a language whose programs are here."""
    for program in PROGRAMS.get(request.param, ()):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    return str(request.param)


def start(project: Project, language: str) -> subprocess.CompletedProcess[str]:
    """Generate a script, and run it where its spec is."""
    script = project.folder / f"job.{ENDINGS[language]}"
    outcome = project.run("code", "--as", language, "--output", str(script))
    assert outcome.code == 0, outcome.text
    environment = {k: v for k, v in (os.environ | project.env).items() if v is not None}
    return subprocess.run(
        [*STARTS[language], script.name],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_script(project: Project, language: str) -> dict[str, Any]:
    """Run the script, and return what it printed for each path."""
    done = start(project, language)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert len({line["path"] for line in lines}) == len(lines)
    return {line["path"]: line["documents"] for line in lines}


def find_raw(project: Project) -> dict[str, Any]:
    """Return what apply fetched for each path."""
    paths = {(line["run_id"], line["file_name"]): line["path"] for line in project.documents}
    found = {}
    for page in sorted((project.folder / "results/job/raw").rglob("*.json")):
        content = json.loads(page.read_text())
        found |= {paths[content["id"], file["original_file_name"]]: file["documents"] for file in content["files"]}
    return found


def bare(value: Any) -> Any:
    """Leave out what is null, which the SDK does, too."""
    if isinstance(value, dict):
        return {key: bare(entry) for key, entry in value.items() if entry is not None}
    return [bare(entry) for entry in value] if isinstance(value, list) else value


def requests_of(project: Project, since: int) -> list[dict[str, Any]]:
    """Return the requests of runs, but for the tag that only apply adds."""
    found = []
    for run in list(project.fake.world.runs.values())[since:]:
        request = json.loads(json.dumps(run.request)) | {"batch_id": sorted(file.name for file in run.files)}
        tags = request["settings"].get("tags", [])
        request["settings"]["tags"] = [tag for tag in tags if not tag.startswith("aihub-runner:")]
        found.append(request)
    return sorted(found, key=lambda request: request["batch_id"])


@pytest.mark.matrix(most=2)
@pytest.mark.slow
def test_script_gives_the_results_of_apply_for_names_that_need_quoting(project: Project, language: str) -> None:
    for number, name in enumerate(NAMES):
        project.write(name, f"Invoice number: {number}")
    assert project.apply().code == 0
    assert bare(run_script(project, language)) == bare(find_raw(project))
    assert {path.name for path in project.folder.iterdir()} & {"x", "y"} == set()


@pytest.mark.slow
def test_script_sends_every_parameter_that_apply_sends(project: Project, language: str) -> None:
    project.spec_path.write_text(FULL)
    project.env |= {"AIHUB_SECRET_PDF": "pass'\"$(x)\\", "AIHUB_SECRET_HOOK": "Bearer it's"}
    for number, name in enumerate(NAMES):
        project.write(name, f"Invoice number: {number}. " * (200 if number % 2 else 1))
    project.write("in/locked.pdf", (ROOT / "specs/mixed/letter.pdf").read_bytes())
    assert project.apply().code == 0
    mine = requests_of(project, 0)
    assert len(mine) == 3
    found = run_script(project, language)
    theirs = requests_of(project, 3)
    if language == "python-sdk":
        for request in mine:
            del request["settings"]["webhook_config"]
            request["settings"]["tags"] = []
    assert theirs == mine
    assert bare(found) == bare(find_raw(project))
    assert [batch["workspace"] for batch in project.fake.batches()] == ["it's $(x)"] * 6


def test_script_holds_no_secret(project: Project, language: str) -> None:
    project.spec_path.write_text(FULL)
    project.env |= {"AIHUB_SECRET_PDF": "pass-word", "AIHUB_SECRET_HOOK": "hook-secret"}
    project.write("in/locked.pdf", (ROOT / "specs/mixed/letter.pdf").read_bytes())
    code = project.run("code", "--as", language).out
    assert "AIHUB_SECRET_PDF" in code
    assert "AIHUB_SECRET_HOOK" in code
    assert not any(secret in code for secret in ("pass-word", "hook-secret", "fake-test"))


@pytest.mark.matrix(most=1)
@pytest.mark.slow
def test_script_stops_where_its_run_fails(project: Project, language: str) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED", message="the app broke")
    done = start(project, language)
    assert done.returncode == 1
    assert "the app broke" in done.stderr
    assert done.stdout == ""


@pytest.mark.matrix(most=1)
@pytest.mark.slow
def test_script_stops_where_a_request_is_refused(project: Project, language: str) -> None:
    project.write_files(1)
    project.fake.faults.add(operation="addFileToBatch", do="status", status=413)
    done = start(project, language)
    assert done.returncode == 1
    assert project.fake.runs() == []


@pytest.mark.matrix(most=1)
@pytest.mark.slow
def test_script_without_a_context_reads_the_variable(project: Project, language: str) -> None:
    project.change_spec('context = "acme"\n', "")
    project.env["AIHUB_CONTEXT"] = "other"
    project.write_files(1)
    run_script(project, language)
    assert [run.context for run in project.fake.world.runs.values()] == ["other"]


def test_code_refuses_more_runs_than_allowed(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nmax_runs = 1")
    project.write_files(2)
    outcome = project.run("code", "--as", "curl")
    assert outcome.code == 2
    assert "would start 2 runs, max_runs is 1" in outcome.err


def test_code_names_the_files_that_it_does_not_send(project: Project) -> None:
    project.write("in/a.txt", "text")
    project.write("in/b.svg", "drawing")
    assert "# Not sent: in/b.svg (unsupported type)" in project.run("code", "--as", "curl").out
    (project.folder / "in/a.txt").unlink()
    assert project.run("code", "--as", "curl").code == 2


FOLDER = "/acme/it's $(touch x)/fs/Inv {{ 1 }}/in box"


def put_in_drive(project: Project, name: str, body: str) -> None:
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    url = f"{project.fake.root}/v2/files{quote(FOLDER)}/{quote(name)}"
    requests.put(url, data=body.encode(), headers=headers, timeout=10).raise_for_status()


@pytest.mark.slow
def test_script_runs_a_folder_of_a_drive_as_apply_does(project: Project, language: str) -> None:
    project.change_spec('files = "in/**/*"', f'input_dir = "{FOLDER}/"')
    put_in_drive(project, "a 'b'.txt", "Invoice number: 1")
    put_in_drive(project, "2026/c.txt", "Invoice number: 2")
    assert project.apply().code == 0
    batches = len(project.fake.batches())
    found = run_script(project, language)
    assert bare(found) == bare(find_raw(project))
    assert set(found) == {f"{FOLDER}/a 'b'.txt", f"{FOLDER}/2026/c.txt"}
    mine, theirs = (run.request for run in project.fake.world.runs.values())
    assert "batch_id" not in theirs
    assert theirs["input_dir"] == mine["input_dir"]
    assert len(project.fake.batches()) == batches  # only apply needs an empty one, against clones
    assert {path.name for path in project.folder.iterdir()} & {"x", "y"} == set()


@pytest.mark.slow
def test_script_runs_a_batch_that_exists_as_apply_does(project: Project, language: str) -> None:
    batch = make_batch(project, a="Invoice number: 1", b="Invoice number: 2")
    put(project, batch, "it's %24(x) é {{ 1 }}.txt", "Invoice number: 3")
    project.change_spec('files = "in/**/*"', "")
    project.change_spec("[limits]", f'[run]\nversion = "2"\n[batch]\nid = {batch}\n[limits]')
    assert project.apply().code == 0
    before = project.fake.files(batch)
    project.forget_requests()
    assert bare(run_script(project, language)) == bare(find_raw(project))
    assert (project.sent(), project.fake.files(batch)) == (["POST runApp"], before)
    mine, theirs = requests_of(project, 0)
    assert (mine, [run.request["batch_id"] for run in project.fake.world.runs.values()]) == (theirs, [batch, batch])


@pytest.mark.parametrize("how", ["keep = true", "id = 5\nsync = true", 'id = 5\nsync = "exact"'])
def test_script_for_a_batch_that_follows_files_is_refused(project: Project, how: str) -> None:
    project.write_files(1)
    project.change_spec("[limits]", f"[batch]\n{how}\n[limits]")
    outcome = project.run("code", "--as", "curl")
    assert (outcome.code, outcome.out) == (2, "")
    word = "keep" if "keep" in how else "sync"
    assert f"cannot keep a batch in step with your files ({word} of [batch])" in outcome.err
    assert f"/job.toml`, or remove {word} from a copy of the spec" in outcome.err


@pytest.mark.matrix(most=1)
@pytest.mark.slow
def test_script_asks_a_deployment_for_its_upstream_integration(project: Project, language: str) -> None:
    project.spec_path.write_text(UPSTREAM)
    done = start(project, language)
    assert (done.returncode, "no upstream integration" in done.stderr) == (1, True)  # the fake has none
    [asked] = [entry for entry in project.fake.journal if entry["operation"] == "runDeployment"]
    sent = {key: value for key, value in asked["request_json"].items() if key != "settings"}
    window = {"from_timestamp": 1750000000000, "to_timestamp": 1750000600000}
    assert sent == {"manual_upstream_integration": True, **window}
