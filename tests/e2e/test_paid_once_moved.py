"""Files that move while an apply imports runs, or cannot pay yet: the record follows them."""

from __future__ import annotations

import shutil

from support.proxy import Proxy, answer_instead
from support.world import bring_back, check_paid_once, keep, lose

from .conftest import Project

STATE, LOCK = "job.state.db", "job.lock.toml"
V2 = "[run]\nversion = '2'\n[limits]"


def move(project: Project, old: str, new: str) -> None:
    target = project.folder / "in" / new
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(project.folder / "in" / old, target)


def test_run_that_is_imported_hides_no_move(project: Project) -> None:
    """The lock file lists a run of another version, with files that moved since the state was copied."""
    project.write_files(2)
    assert project.apply().code == 0
    keep(project.folder, project.folder / "backup", STATE)
    for number in range(2):
        move(project, f"{number:05}.txt", f"sorted/{number:05}.txt")
    project.fake.world.batches.clear()  # so that the other version gets a batch of its own
    project.change_spec("[limits]", V2)
    assert project.apply().code == 0
    project.change_spec(V2, "[limits]")
    lose(project.folder, STATE)
    bring_back(project.folder, project.folder / "backup", STATE)
    assert project.apply().code == 0
    check_paid_once(project.fake, 4)
    assert {line["path"] for line in project.documents} == {"in/sorted/00000.txt", "in/sorted/00001.txt"}


def test_move_is_recorded_though_nothing_may_be_paid(project: Project) -> None:
    """A bill of the same name comes each month, and the last one is put into a folder."""
    project.write("in/bill.txt", "January")
    assert project.apply().code == 0
    move(project, "bill.txt", "2026/bill.txt")
    project.write("in/other.txt", "other")
    assert project.apply("--max-runs", "0").code == 2
    project.write("in/bill.txt", "February")
    assert project.apply().code == 0
    check_paid_once(project.fake, 3)


def test_approved_plan_still_fits_after_an_apply_that_paid_nothing(project: Project, proxy: Proxy) -> None:
    """That apply recorded the move, which changes nothing of what was approved."""
    project.write_files(2)
    assert project.apply().code == 0
    move(project, "00000.txt", "sorted/00000.txt")
    project.write("in/new.txt", "new")
    plan = str(project.folder / "plan.json")
    assert project.run("plan", "--out", plan).code == 0
    proxy.always("GET", "/v2/apps/runs", answer_instead(500))
    assert project.apply("--plan", plan).code == 4
    proxy.clear()
    outcome = project.apply("--plan", plan)
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 3)
