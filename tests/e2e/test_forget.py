"""`runner state forget`: only what is gone, never paid for again, and nothing else lost."""

from __future__ import annotations

import json
import shutil

import pytest

from support.crash import CRASHED
from support.forks import Forks
from support.world import check_paid_once

from .conftest import Outcome, Project


def forget(project: Project, *args: str) -> Outcome:
    return project.run_alone("state", "forget", "job.toml", *args)


def list_raw(project: Project) -> list[str]:
    return sorted(path.name for path in (project.folder / "results/job/raw").glob("*"))


@pytest.fixture
def three(project: Project) -> Project:
    """Return a project with three groups: of two files, the first of which is gone; of one that is gone; the newest."""
    for group in (("in/a.txt", "in/b.txt"), ("in/gone.txt",), ("in/new.txt",)):
        for path in group:
            project.write(path, f"content of {path}")
        assert project.apply().code == 0
    (project.folder / "in/a.txt").unlink()
    (project.folder / "in/gone.txt").unlink()
    assert project.apply().code == 0
    project.forget_requests()
    return project


@pytest.mark.slow
def test_forget_removes_what_is_gone_and_nothing_else(three: Project) -> None:
    raw = list_raw(three)
    assert "gone.txt" in json.dumps(forget_nothing(three).json)
    outcome = forget(three, "--yes")
    assert (outcome.code, outcome.out) == (0, "job.toml: 1 file in 1 group forgotten\n")
    assert three.fake.journal == []
    assert len(list_raw(three)) == len(raw) - 1
    assert {line["path"] for line in three.documents} == {"in/a.txt", "in/b.txt", "in/new.txt"}
    assert "gone.txt" not in three.run_alone("state", "export", "job.toml").out
    assert three.run_alone("state", "verify", "job.toml").code == 0
    assert [run["status"] for run in three.lock].count("FORGOTTEN COMPLETE") == 1
    assert three.apply().code == 0
    assert three.sent() == []


def forget_nothing(project: Project) -> Outcome:
    """Ask what would be forgotten, by an export of the state."""
    return project.run_alone("state", "export", "job.toml")


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("lost", [(), ("job.state.db",)])
@pytest.mark.slow
def test_file_that_is_back_is_not_paid_for_again(three: Project, lost: tuple[str, ...]) -> None:
    assert forget(three, "--yes").code == 0
    for name in lost:
        (three.folder / name).unlink()
    three.write("in/gone.txt", "content of in/gone.txt")
    outcome = three.apply("--adopt")
    assert outcome.code == 0, outcome.text
    check_paid_once(three.fake, 4)
    assert "in/gone.txt" in {line["path"] for line in three.documents if line["present"]}
    assert [run["status"] for run in three.lock] == ["COMPLETE"] * 3


@pytest.mark.slow
def test_another_file_is_paid_for_as_usual_after_forgetting(three: Project) -> None:
    assert forget(three, "--yes").code == 0
    three.write("in/other.txt", "other")
    assert three.apply().code == 0
    check_paid_once(three.fake, 5)
    assert "FORGOTTEN COMPLETE" in [run["status"] for run in three.lock]


@pytest.mark.slow
def test_forget_refuses_while_a_run_is_unconfirmed(three: Project) -> None:
    three.change_spec("[limits]", '[run]\non_lost = "stop"\n[limits]')
    three.write("in/late.txt", "late")
    three.fake.faults.add(operation="runApp", do="reset")
    assert three.apply().code == 7
    before = forget_nothing(three).out
    outcome = forget(three, "--yes")
    assert outcome.code == 2
    assert "unconfirmed whether a run was started, so nothing is forgotten" in outcome.err
    assert forget_nothing(three).out.count("gone.txt") == before.count("gone.txt")


def test_forget_leaves_what_is_still_needed(project: Project) -> None:
    project.write("in/a.txt", "a")
    assert project.apply().code == 0
    project.fake.next_run(hold=True)
    project.write("in/going.txt", "going")
    assert project.apply("--no-wait").code == 6
    for name in ("a", "going"):
        (project.folder / f"in/{name}.txt").unlink()
    project.write("in/stays.txt", "stays")
    outcome = forget(project, "--yes")
    assert outcome.code == 3
    assert "1 file in 1 group forgotten" in outcome.out
    assert "is RUNNING" in outcome.out or "is started" in outcome.out
    assert "going.txt" in forget_nothing(project).out


def test_forget_leaves_the_newest_run(project: Project) -> None:
    project.write("in/a.txt", "a")
    assert project.apply().code == 0
    (project.folder / "in/a.txt").unlink()
    project.write("in/b.txt", "b")
    outcome = forget(project, "--yes")
    assert outcome.code == 3
    assert "is the newest: apply trusts a list of runs only if it shows that one" in outcome.out


@pytest.mark.slow
def test_forget_asks_and_changes_nothing_without_an_answer(three: Project) -> None:
    before = forget_nothing(three).out
    outcome = forget(three)
    assert (outcome.code, "pass --yes to forget" in outcome.err) == (2, True)
    assert "1 file (in/gone.txt), batch" in outcome.err
    code, shown = three.on_terminal("state", "forget", "job.toml", answer="n\n")
    assert (code, "cancelled, nothing was forgotten" in shown) == (2, True)
    assert forget_nothing(three).out.count("gone.txt") == before.count("gone.txt")
    assert "FORGOTTEN COMPLETE" not in [run["status"] for run in three.lock]


def test_forget_takes_only_what_is_selected(three: Project) -> None:
    assert forget(three, "--yes", "--only", "in/x*").out == "job.toml: nothing is forgotten\n"


@pytest.mark.slow
def test_forget_refuses_where_a_pattern_matches_nothing_any_more(three: Project) -> None:
    three.change_spec('"in/**/*"', '["in/**/*", "more/*"]')
    three.write("more/one.txt", "one")
    assert three.apply().code == 0
    (three.folder / "more/one.txt").unlink()
    outcome = forget(three, "--yes")
    assert (outcome.code, "matched files before" in outcome.err) == (2, True)


def test_results_that_are_lost_everywhere_stop_counting_once_they_are_forgotten(three: Project) -> None:
    """Nothing else would end the exit code 3 of a job whose file, raw page and run are all gone."""
    gone = next(line for line in three.documents if line["path"] == "in/gone.txt")["run_id"]
    for page in (three.folder / "results/job/raw" / gone).rglob("*.json"):
        page.unlink()
    three.fake.forget_run(gone) if hasattr(three.fake, "forget_run") else three.fake.world.runs.pop(gone)
    assert three.apply().code == 3
    assert forget(three, "--yes").code == 0
    assert three.apply().code == 0


def test_one_file_of_a_forgotten_group_that_is_back_is_not_paid_for_again(project: Project) -> None:
    for path in ("in/a.txt", "in/b.txt"):
        project.write(path, f"content of {path}")
    assert project.apply().code == 0
    for path in ("in/a.txt", "in/b.txt"):
        (project.folder / path).unlink()
    project.write("in/new.txt", "new")
    assert project.apply().code == 0
    assert forget(project, "--yes").code == 0
    project.write("in/b.txt", "content of in/b.txt")
    assert "1 run of the lock file, with 1 of these files, is imported first" in project.run("plan").out
    assert project.apply().code == 0
    check_paid_once(project.fake, 3)


PARTS = 4  # the boundaries are dealt out to this many tests


@pytest.mark.slow
@pytest.mark.matrix(gate=2)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("comes_back", [False, True], ids=["stays away", "comes back"])
@pytest.mark.parametrize("part", range(PARTS))
def test_forget_stopped_at_every_boundary_is_made_good(
    three: Project, forks: Forks, part: int, comes_back: bool
) -> None:
    """Nothing is paid again, no other result is lost, and the next `state forget` forgets the rest."""
    kept = three.folder.parent / f"{three.folder.name}-kept"
    shutil.copytree(three.folder, kept)
    boundary = part + 1
    while forks.run(boundary, three.folder, three.env, "state", "forget", "job.toml", "--yes") == CRASHED:
        where = f"boundary {boundary}"
        assert three.fake.journal == [], where
        if comes_back:
            three.write("in/gone.txt", "content of in/gone.txt")
        outcome = three.apply()
        assert (outcome.code, three.sent()) == (0, []), f"{where}: {outcome.text}"
        present = {line["path"] for line in three.documents if line["present"]}
        assert present == {"in/b.txt", "in/new.txt", *["in/gone.txt"] * comes_back}, where
        if not comes_back:
            check_forgotten(three, where)
        shutil.rmtree(three.folder)
        shutil.copytree(kept, three.folder)
        three.fake.clear_journal()
        boundary += PARTS
    assert boundary > 12, "so few boundaries cannot be all"


def check_forgotten(project: Project, where: str) -> None:
    """Forget what an interrupted `state forget` left, and check that state and lock file agree on what is gone."""
    outcome = forget(project, "--yes")
    assert outcome.code == 0, f"{where}: {outcome.text}"
    assert "gone.txt" not in forget_nothing(project).out, where
    assert [run["status"] for run in project.lock].count("FORGOTTEN COMPLETE") == 1, where
    project.write("in/gone.txt", "content of in/gone.txt")
    assert project.apply().code == 0, where
    assert "in/gone.txt" in {line["path"] for line in project.documents if line["present"]}, where
    check_paid_once(project.fake, 4)
