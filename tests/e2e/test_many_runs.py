"""More open runs than are asked for one by one: the list of runs tells which of them to ask for."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from fake_aihub.api import runs as runs_api
from fake_aihub.world.entities import Run

from .conftest import Project

pytestmark = pytest.mark.slow

MANY = "[limits]\nfiles_per_batch = 1\nparallel_runs = 12"


def test_many_open_runs_are_watched_through_the_list_of_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.fake.next_run(hold=True, times=0)
    project.change_spec("[limits]", MANY)
    project.write_files(12)

    def see(run: Run, request: Request) -> bool:
        """End all runs once the list is asked for while all are open."""
        if len(runs := project.fake.runs()) == 12:
            for each in runs:
                project.fake.set_run(each["id"], "COMPLETE")
        return matches(run, request)

    matches = runs_api._matches
    monkeypatch.setattr(runs_api, "_matches", see)
    assert project.apply("--wait-timeout", "20").code == 0
    project.check_done(12)


def test_many_open_runs_are_asked_for_although_the_list_shows_no_change(project: Project) -> None:
    project.fake.next_run(after_polls=2, times=12)
    project.change_spec("[limits]", MANY)
    project.write_files(12)
    assert project.apply().code == 0
    project.check_done(12)
