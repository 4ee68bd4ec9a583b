"""State and lock files of every release plan to no change: an upgrade pays for nothing again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import ROOT, Project

RELEASES = sorted(path.parent for path in (ROOT / "tests" / "data").glob("*/state.db"))
ROOT_THEN = "http://127.0.0.1:8831/api"


def lay_out(project: Project, release: Path) -> None:
    shutil.copytree(release / "in", project.folder / "in")
    shutil.copy(release / "job.toml", project.folder / "job.toml")
    project.env["AIHUB_API_ROOT"] = ROOT_THEN


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
@pytest.mark.parametrize("kept", ["state.db", "lock.toml"])
def test_what_a_release_left_plans_to_no_change(project: Project, release: Path, kept: str) -> None:
    lay_out(project, release)
    shutil.copy(release / kept, project.folder / f"job.{kept}")
    outcome = project.run("plan", "--exit-code")
    assert outcome.code == 0, outcome.text
    assert "3 done" in outcome.out


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_release_test_can_fail(project: Project, release: Path) -> None:
    lay_out(project, release)
    shutil.copy(release / "state.db", project.folder / "job.state.db")
    project.change_spec('version = "1.2"', 'version = "1.3"')
    assert project.run("plan", "--exit-code").code == 10
