"""A service that was restored from a backup gives ids again: a run may come under an id that the state has already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.proxy import (
    BATCHES,
    RUN_LIST,
    RUNS,
    Act,
    Proxy,
    after,
    answer_instead,
    forward_and_drop,
    rewrite,
    rewrite_each,
)
from support.world import check_paid_once

from .conftest import Project

pytestmark = pytest.mark.matrix

STATE = "job.state.db"


def restore(project: Project, proxy: Proxy) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
    """Pay for two files; then the service forgets the second run. Return how it gives that id to the next one."""
    for number in range(2):
        project.write_files(1, start=number)
        assert project.apply().code == 0
    gone = str(project.fake.runs()[1]["id"])
    proxy.always("GET", f"/v2/apps/runs/{gone}", answer_instead(404))
    project.write_files(1, start=2)

    def show(run: dict[str, Any]) -> dict[str, Any] | None:
        at = [one["id"] for one in project.fake.runs()].index(run["id"])
        return None if at == 1 else run | {"id": gone} if at == 2 else run

    return show


@pytest.mark.parametrize("is_answered", [True, False])
def test_run_under_an_id_of_an_earlier_run_is_paid_once(project: Project, proxy: Proxy, is_answered: bool) -> None:
    again = restore(project, proxy)
    answered: Act = rewrite(again) if is_answered else forward_and_drop
    proxy.on("POST", RUNS, answered)
    proxy.always("GET", RUN_LIST, rewrite_each("runs", again))
    for _ in range(2):
        outcome = project.apply()
        assert outcome.code == 7
        assert "this id is already recorded for another run" in outcome.text
    check_paid_once(project.fake, 3)
    assert [line["path"] for line in project.documents] == ["in/00000.txt", "in/00001.txt"]


def test_run_under_an_id_of_an_earlier_run_is_paid_again_on_request(project: Project, proxy: Proxy) -> None:
    test_run_under_an_id_of_an_earlier_run_is_paid_once(project, proxy, is_answered=False)
    assert project.run("resolve", "--resubmit").code == 0
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 4
    assert len(project.documents) == 3
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 4


def test_restored_state_that_lacks_a_run_under_an_earlier_id_pays_nothing(
    project: Project, proxy: Proxy, tmp_path: Path
) -> None:
    again = restore(project, proxy)
    proxy.clear()
    backup = tmp_path / "backup.db"
    # the last copy is made right before the intent: the batch is recorded, and its run is not
    proxy.always("GET", BATCHES, after(lambda: shutil.copy(project.folder / STATE, backup)))
    assert project.apply().code == 0
    shutil.copy(backup, project.folder / STATE)
    (project.folder / "job.lock.toml").unlink()
    proxy.clear()
    proxy.always("GET", RUN_LIST, rewrite_each("runs", again))
    outcome = project.apply()
    assert outcome.code == 7
    assert "this id is already recorded for another run" in outcome.text
    check_paid_once(project.fake, 3)
