"""`--only`, `--limit` and `--no-wait`: what is selected is done, and the rest is pending, never gone."""

from __future__ import annotations

import pytest

from support.world import check_paid_once

from .conftest import Project


def done(project: Project) -> list[str]:
    return sorted({line["path"] for line in project.documents if line["present"]})


def test_limit_pays_for_the_first_files_that_are_not_done(project: Project) -> None:
    project.write_files(5)
    shown = project.run("plan", "--limit", "2").out
    assert "  + 2 files (in/00000.txt …): new" in shown
    assert "1 run to pay; 0 skipped, 0 unchanged, 3 not selected" in shown
    first = project.apply("--limit", "2")
    assert (first.code, done(project)) == (0, ["in/00000.txt", "in/00001.txt"])
    assert "left       3 files that --only or --limit did not select" in first.out
    second = project.apply("--limit", "2")
    assert (second.code, len(done(project))) == (0, 4)
    assert project.run("status").code == 6
    project.check_done(5)
    assert len(project.fake.runs()) == 3


def test_only_pays_for_files_that_match_and_takes_several_patterns(project: Project) -> None:
    for name in ("a/1.txt", "a/2.txt", "b/1.txt", "c/1.txt"):
        project.write(f"in/{name}", f"document {name}")
    assert project.apply("--only", "in/a/**", "--only", "!**/2.txt", "--only", "in/{b,x}/*.txt").code == 0
    assert done(project) == ["in/a/1.txt", "in/b/1.txt"]
    assert project.apply("--only", "in/a/*").code == 0
    assert done(project) == ["in/a/1.txt", "in/a/2.txt", "in/b/1.txt"]
    check_paid_once(project.fake, 3)


def test_selected_files_that_are_done_need_nothing_and_exit_with_0(project: Project) -> None:
    project.write_files(3)
    project.apply("--limit", "1")
    project.forget_requests()
    outcome = project.apply("--only", "in/00000.txt", "--json")
    assert (outcome.code, outcome.json["files_unselected"], project.sent()) == (0, 2, [])


def test_only_that_matches_nothing_is_refused_and_so_is_a_bad_pattern(project: Project) -> None:
    project.write_files(1)
    for command in ("plan", "apply"):
        outcome = project.run(command, "--only", "in/*.pdf")
        assert (outcome.code, "no file matches --only in/*.pdf" in outcome.err) == (2, True)
        assert project.run(command, "--only", "*/../b").code == 2
    assert project.sent() == []


def test_files_that_are_not_selected_stay_in_the_batch_of_an_unfinished_apply(project: Project) -> None:
    project.write_files(4)
    project.fake.faults.add(operation="listFiles", do="status", status=403, nth=2)
    assert project.apply().code == 4  # the files are sent, and no run is started
    before = project.arrived()
    assert len(before) == 4
    project.forget_requests()
    assert project.apply("--only", "in/00003.txt").code == 0
    assert "DELETE deleteFileFromBatch" not in project.sent()
    assert before.items() <= project.arrived().items()
    project.check_done(4)


def test_limit_with_a_new_version_tries_it_on_a_few_files_first(project: Project) -> None:
    project.write_files(4)
    project.apply()
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert project.apply("--limit", "1").code == 0
    assert len(done(project)) == 1
    assert project.apply().code == 0
    assert len(done(project)) == 4
    assert project.sent().count("POST runApp") == 3


def test_limits_of_runs_count_only_what_is_selected(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nmax_runs = 1\nfiles_per_batch = 1")
    project.write_files(2)
    assert project.apply().code == 2
    assert project.apply("--limit", "1").code == 0


def test_approved_plan_holds_the_selection(project: Project) -> None:
    project.write_files(3)
    assert project.run("plan", "--limit", "1", "--out", "plan.json").code == 0
    assert project.apply("--plan", "plan.json").code == 2
    assert project.apply("--plan", "plan.json", "--limit", "1").code == 0
    check_paid_once(project.fake, 1)


def test_no_wait_starts_what_may_run_at_once_and_ends(project: Project) -> None:
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1\nparallel_runs = 2")
    project.write_files(3)
    for _ in range(3):
        project.fake.next_run(after_polls=2)
    outcome = project.apply("--no-wait", "--json")
    assert (outcome.code, outcome.json["runs_started"], outcome.json["going"]) == (6, 2, 2)
    assert outcome.json["files_left"] == 1
    assert "GET getRunStatus" not in [f"{e['method']} {e['operation']}" for e in project.fake.journal]
    codes = [project.apply("--no-wait").code for _ in range(6)]
    assert codes[0] == 6
    assert codes[-1] == 0
    check_paid_once(project.fake, 3)


@pytest.mark.parametrize("option", ["--only", "--limit"])
def test_selection_is_never_read_from_the_environment(project: Project, option: str) -> None:
    project.write_files(2)
    project.env[f"AIHUB_RUNNER_{option[2:].upper()}"] = "1"
    assert project.apply().code == 0
    check_paid_once(project.fake, 2)


def test_limit_and_only_count_folders_where_these_are_cases(project: Project) -> None:
    project.change_spec("app_name", 'group_by = "folder"\napp_name')
    for name in ("a/1.txt", "a/2.txt", "b/1.txt", "c/1.txt", "c/2.txt"):
        project.write(f"in/{name}", f"document {name}")
    assert project.apply("--limit", "1").code == 0
    assert done(project) == ["in/a/1.txt", "in/a/2.txt"]
    assert project.apply("--only", "in/c/1.txt").code == 0
    assert done(project) == ["in/a/1.txt", "in/a/2.txt", "in/c/1.txt", "in/c/2.txt"]
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 3
