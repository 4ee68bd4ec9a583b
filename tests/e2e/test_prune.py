"""Outdated raw pages are removed on request, and nothing else."""

from __future__ import annotations

import pytest

from .conftest import Outcome, Project


def raw(project: Project) -> set[str]:
    """The runs with raw pages on disk."""
    return {path.name for path in (project.folder / "results/job/raw").glob("*")}


def runs(project: Project) -> list[str]:
    """The runs, oldest first."""
    return [run["id"] for run in sorted(project.fake.runs(), key=lambda run: run["start_timestamp"])]


def paths(project: Project) -> list[str]:
    return sorted({one["path"] for one in project.documents})


@pytest.fixture
def changed(project: Project) -> Project:
    """Return a project with three runs: of a file, of the same file changed, and of a file that is gone."""
    project.write("in/a.txt", "one")
    assert project.apply().code == 0
    project.write("in/a.txt", "two")
    assert project.apply().code == 0
    project.write("in/gone.txt", "gone")
    assert project.apply().code == 0
    (project.folder / "in/gone.txt").unlink()
    assert project.apply().code == 0
    assert (len(raw(project)), paths(project)) == (3, ["in/a.txt", "in/gone.txt"])
    project.forget_requests()
    return project


def prune(project: Project, keep: int = 1, *args: str) -> Outcome:
    return project.run("results", "--prune", str(keep), *(args or ["--yes"]))


def test_pages_of_replaced_runs_and_gone_files_are_removed_and_tables_stay_right(changed: Project) -> None:
    lock = changed.lock
    first, second, third = runs(changed)
    outcome = prune(changed)
    assert outcome.code == 0, outcome.text
    assert (raw(changed), paths(changed)) == ({second}, ["in/a.txt"])
    assert "gone.txt" not in (changed.folder / "results/job/fields.csv").read_text()
    assert all(run in outcome.err for run in (first, third))
    assert "in/gone.txt" in outcome.err
    assert changed.lock == lock
    status = changed.run("status", "--json")
    assert (status.code, status.json["documents"]) == (0, len(changed.documents))
    assert changed.apply().code == 0
    assert (raw(changed), changed.sent()) == ({second}, [])
    assert "0 raw pages of 0 runs removed" in prune(changed).out


def test_as_many_runs_of_a_file_are_kept_as_asked_for(changed: Project) -> None:
    first, second, _ = runs(changed)
    assert prune(changed, 2).code == 0
    assert raw(changed) == {first, second}


def test_runs_are_compared_only_where_their_pages_are_here(changed: Project) -> None:
    first, second, third = runs(changed)
    assert changed.run("diff").code == 0
    prune(changed)
    for args in ([], ["--run", first, "--run", second]):
        outcome = changed.run("diff", *args)
        assert (outcome.code, second in outcome.err, third in outcome.err) == (2, True, False)


def test_runs_of_another_setting_are_replaced_by_newer_ones(project: Project) -> None:
    project.write_files(2)
    project.apply()
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert project.apply().code == 0
    assert len(raw(project)) == 2
    project.forget_requests()
    assert prune(project).code == 0
    assert raw(project) == {runs(project)[1]}
    project.change_spec('[run]\nversion = "2"\n', "")
    assert "apply fetches them again" in project.run("plan").out
    assert project.apply().code == 0
    assert (len(raw(project)), project.sent(), len(paths(project))) == (2, [], 2)


def test_file_that_comes_back_gets_its_results_again_for_free(changed: Project) -> None:
    prune(changed)
    changed.write("in/gone.txt", "gone")
    assert changed.apply().code == 0
    assert (paths(changed), changed.sent()) == (["in/a.txt", "in/gone.txt"], [])


def test_file_that_was_moved_is_not_gone(changed: Project) -> None:
    second = runs(changed)[1]
    (changed.folder / "in/a.txt").rename(changed.folder / "in/b.txt")
    assert prune(changed).code == 0
    assert raw(changed) == {second}
    changed.write("in/back.txt", "gone")
    assert changed.apply().code == 0
    assert (paths(changed), changed.sent()) == (["in/b.txt", "in/back.txt"], [])


def test_run_with_a_file_that_still_counts_is_kept_whole(project: Project) -> None:
    project.write_files(2)
    project.apply()
    (project.folder / "in/00000.txt").unlink()
    assert prune(project).code == 0
    assert len(raw(project)) == 1
    assert paths(project) == ["in/00000.txt", "in/00001.txt"]


@pytest.mark.slow
def test_nothing_is_removed_without_a_yes(changed: Project) -> None:
    outcome = prune(changed, 1, "--json")
    assert (outcome.code, len(raw(changed))) == (2, 3)
    code, shown = changed.on_terminal("results", "job.toml", "--prune", "1", answer="n\n")
    assert (code, len(raw(changed))) == (2, 3)
    assert "in/gone.txt" in shown
    code, _ = changed.on_terminal("results", "job.toml", "--prune", "1", answer="y\n")
    assert (code, len(raw(changed))) == (0, 1)


def test_nothing_is_removed_where_no_file_is_found(changed: Project) -> None:
    (changed.folder / "in").rename(changed.folder / "away")
    assert prune(changed).code == 2
    assert len(raw(changed)) == 3


def test_what_somebody_else_wrote_is_left(changed: Project) -> None:
    first, second, _ = runs(changed)
    [page] = (changed.folder / "results/job/raw" / first).rglob("*.json")
    page.write_text("mine")
    changed.write("results/job/raw/mine.txt", "mine")
    outcome = prune(changed)
    assert (outcome.code, "which was changed after it was fetched" in outcome.out) == (3, True)
    assert raw(changed) == {first, second, "mine.txt"}
    assert page.read_text() == "mine"


def test_crash_before_it_is_recorded_costs_nothing(changed: Project) -> None:
    _, second, third = runs(changed)
    [page] = (changed.folder / "results/job/raw" / third).rglob("*.json")
    page.unlink()
    assert prune(changed).code == 0
    assert raw(changed) == {second}
    assert changed.apply().code == 0
    assert (raw(changed), changed.sent()) == ({second}, [])
