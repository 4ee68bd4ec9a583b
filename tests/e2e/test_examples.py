"""Each example spec in specs/ can be applied to the fake unchanged, and then has nothing left to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from aihub_runner.cli.main import cli
from aihub_runner.sources.exclude import read_targets

from .conftest import ROOT, Project

# What these run on is on the service, where the embedded fake has nothing.
ON_SERVICE = ("batch.aihub.toml", "drive.aihub.toml", "upstream.aihub.toml")
PATHS = sorted(path for path in (ROOT / "specs").glob("*.aihub.toml") if path.name not in ON_SERVICE)
EXAMPLES = [(path.name, target) for path in PATHS for target in ("", *sorted(read_targets(str(path))))]


@pytest.mark.matrix(most=4)
@pytest.mark.parametrize(("name", "target"), EXAMPLES)
def test_example_is_applied_and_then_done(
    tmp_path: Path, name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwanted = shutil.ignore_patterns("*.fake", "results", "*.state.db*")
    shutil.copytree(ROOT / "specs", tmp_path / "specs", ignore=unwanted)
    monkeypatch.chdir(tmp_path)
    for variable in ("ACCOUNT", "QUARTER"):  # of variables.aihub.toml
        monkeypatch.setenv(f"AIHUB_VAR_{variable}", "acme")
    first = CliRunner().invoke(cli, ["apply", f"specs/{name}", "--fake", "--yes", "--target", target])
    assert first.exit_code == 0, first.output
    assert list((tmp_path / "specs").rglob("documents.jsonl"))
    second = CliRunner().invoke(cli, ["apply", f"specs/{name}", "--fake", "--yes", "--target", target])
    assert second.exit_code == 0, second.output
    assert "nothing to do" in second.output


def take_example(project: Project, name: str) -> None:
    project.spec_name = name
    project.write(name, (ROOT / "specs" / name).read_text())


def check_done(project: Project) -> None:
    """Apply twice: one run is paid for, and has results."""
    assert project.apply().code == 0
    again = project.apply()
    assert (again.code, "nothing to do" in again.out, len(project.fake.world.runs)) == (0, True, 1), again.text
    assert list((project.folder / "results").rglob("documents.jsonl"))


def test_example_of_a_drive_is_applied_and_then_done(project: Project) -> None:
    take_example(project, "drive.aihub.toml")
    url = f"{project.fake.root}/v2/files/acme/Accounting/fs/Invoices/inbox/a.txt"
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    requests.put(url, data=b"words", headers=headers, timeout=10).raise_for_status()
    check_done(project)


def test_example_of_a_batch_that_exists_is_applied_and_then_done(project: Project) -> None:
    take_example(project, "batch.aihub.toml")
    batch = project.fake.world.create_batch("acme", "made elsewhere", "", "somebody").id
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    url = f"{project.fake.root}/v2/batches/{batch}/files/a.txt"
    requests.put(url, data=b"words", headers=headers, timeout=10).raise_for_status()
    project.change_spec("id = 1024", f"id = {batch}")
    with project.spec_path.open("a") as spec:
        spec.write("\n[limits]\nsettle_s = 0.2\n")
    check_done(project)


def test_example_of_an_upstream_integration_asks_for_it(project: Project) -> None:
    take_example(project, "upstream.aihub.toml")
    assert project.apply().code != 0  # the deployments of the fake have no upstream integration
    [asked] = [entry for entry in project.fake.journal if entry["operation"] == "runDeployment"]
    assert asked["request_json"]["manual_upstream_integration"] is True
