"""`group_by = "folder"`: each folder is one batch and one run; any change makes another."""

from __future__ import annotations

import shutil

import pytest

from support.proxy import Proxy, after
from support.world import lose

from .conftest import ROOT, Project


@pytest.fixture(autouse=True)
def cases(project: Project) -> None:
    """Have two folders, whose files have the same names."""
    project.change_spec('context = "acme"', 'context = "acme"\ngroup_by = "folder"')
    for case in "12":
        for name in "ab":
            project.write(f"in/case-{case}/{name}.txt", f"{name} of case {case}")


def runs(project: Project) -> list[list[str]]:
    """Return the files of each run, in the order of the runs."""
    return [sorted(file.name for file in run.files) for run in project.fake.world.runs.values()]


def apply(project: Project, *args: str) -> int:
    outcome = project.apply(*args)
    assert outcome.code == 0, outcome.text
    return len(project.fake.runs())


def test_each_folder_is_one_batch_and_one_run(project: Project) -> None:
    project.write("in/alone.txt", "alone")
    assert apply(project) == 3
    assert sorted(runs(project)) == [["a.txt", "b.txt"], ["a.txt", "b.txt"], ["alone.txt"]]
    by_run = {line["run_id"]: set() for line in project.documents}
    for line in project.documents:
        by_run[line["run_id"]].add(line["path"].rpartition("/")[0])
    assert sorted(map(sorted, by_run.values())) == [["in"], ["in/case-1"], ["in/case-2"]]
    project.forget_requests()
    assert apply(project) == 3
    assert project.sent() == []


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize(
    ("change", "lines", "files"),
    [
        ("added", ["+ 1 file (in/case-1/c.txt): new", "~ 2 files (in/case-1/a.txt …): {}", "c.txt new; 2"], "abc"),
        (
            "changed",
            ["~ 1 file (in/case-1/b.txt): changed", "~ 1 file (in/case-1/a.txt): {}", "b.txt changed; 1"],
            "ab",
        ),
        ("removed", ["~ 1 file (in/case-1/a.txt): {}, 1 gone", "b.txt gone; 1"], "a"),
    ],
)
def test_change_of_a_folder_pays_for_all_its_files_again(
    project: Project, change: str, lines: list[str], files: str
) -> None:
    apply(project)
    if change == "removed":
        (project.folder / "in/case-1/b.txt").unlink()
    else:
        project.write(f"in/case-1/{'c' if change == 'added' else 'b'}.txt", "other bytes")
    plan = project.run("plan")
    again = "to pay for again because files in their folder changed"
    for line in lines:
        assert line.format(again) in plan.out
    assert "1 run to pay" in plan.out
    assert "  folder     in/case-1: " in plan.out
    assert "<code>folder in/case-1&#58; " in project.run("plan", "--format", "markdown").out
    assert apply(project) == 3
    assert runs(project)[-1] == [f"{name}.txt" for name in files]
    lines = [line for line in project.documents if line["path"].startswith("in/case-1/") and line["present"]]
    newest = list(project.fake.world.runs)[-1]
    assert {line["run_id"] for line in lines} == {newest}
    assert [line["path"] for line in lines] == [f"in/case-1/{name}.txt" for name in files]
    assert apply(project) == 3


def test_folder_as_it_was_before_has_its_old_results_and_pays_nothing(project: Project) -> None:
    apply(project)
    before = project.documents
    project.write("in/case-1/b.txt", "other bytes")
    assert apply(project) == 3
    project.write("in/case-1/b.txt", "b of case 1")
    assert apply(project) == 3
    assert project.documents == before


def test_renamed_folder_pays_nothing_and_a_moved_file_pays_for_both_folders(project: Project) -> None:
    apply(project)
    (project.folder / "in/case-1").rename(project.folder / "in/case-9")
    assert apply(project) == 2
    (project.folder / "in/case-9/b.txt").rename(project.folder / "in/case-2/c.txt")
    assert apply(project) == 4
    assert sorted(runs(project)[2:]) == [["a.txt"], ["a.txt", "b.txt", "c.txt"]]


def test_renamed_folders_with_a_file_in_common_pay_nothing(project: Project) -> None:
    project.write("in/case-2/b.txt", "b of case 1")
    project.write("in/case-3/b.txt", "b of case 1")
    apply(project)
    for old, new in (("3", "6"), ("2", "7"), ("1", "8")):
        (project.folder / f"in/case-{old}").rename(project.folder / f"in/case-{new}")
    assert apply(project) == 3
    cases = {line["path"]: line["run_id"] for line in project.documents if line["present"]}
    assert all(cases[f"in/case-{number}/a.txt"] == cases[f"in/case-{number}/b.txt"] for number in "78")


def test_folder_that_grew_before_its_run_goes_into_another_batch_whole(project: Project) -> None:
    shutil.rmtree(project.folder / "in/case-2")
    project.fake.faults.add(operation="addFileToBatch", match="b.txt", do="status", status=401)
    assert project.apply().code == 4
    project.write("in/case-1/c.txt", "late")
    assert apply(project) == 1
    assert runs(project) == [["a.txt", "b.txt", "c.txt"]]


@pytest.mark.slow
@pytest.mark.parametrize("arrives", ["after", "before"])
def test_lost_start_of_a_folder_that_grew_is_found_or_dropped_and_the_new_packet_paid(
    project: Project, arrives: str
) -> None:
    shutil.rmtree(project.folder / "in/case-2")
    project.fake.faults.add(operation="runApp", do="reset", when=arrives)
    project.fake.faults.add(operation="listRuns", nth=3, times=7, do="status", status=500)
    assert project.apply().code == 7
    assert len(project.fake.runs()) == (arrives == "after")
    project.write("in/case-1/c.txt", "late")
    apply(project)
    assert runs(project) == [["a.txt", "b.txt"]] * (arrives == "after") + [["a.txt", "b.txt", "c.txt"]]


def test_fresh_clone_with_the_lock_file_pays_nothing_and_plans_whole_folders(project: Project) -> None:
    apply(project)
    lose(project.folder, "job.state.db")
    assert "nothing to do" in project.run("plan").out
    project.write("in/case-1/c.txt", "new")
    plan = project.run("plan")
    assert "Plan: 3 files to upload" in plan.out
    assert apply(project) == 3
    assert runs(project)[-1] == ["a.txt", "b.txt", "c.txt"]


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("lost", [["job.state.db"], ["job.state.db", "job.lock.toml"]])
@pytest.mark.parametrize("is_renamed", [False, True])
def test_cases_with_a_file_in_common_are_imported_whole(project: Project, lost: list[str], is_renamed: bool) -> None:
    for case in "23":
        project.write(f"in/case-{case}/b.txt", "b of case 1")
    project.write("in/case-3/a.txt", "a of case 3")
    apply(project)
    lose(project.folder, *lost)
    if is_renamed:
        for old, new in (("3", "6"), ("2", "7"), ("1", "8")):
            (project.folder / f"in/case-{old}").rename(project.folder / f"in/case-{new}")
    assert apply(project) == 3
    cases = [(line["path"].rpartition("/")[0], line["run_id"]) for line in project.documents]
    assert len(set(cases)) == 3


def test_folder_with_a_file_that_cannot_be_read_now_waits(project: Project) -> None:
    apply(project)
    (project.folder / "in/case-1/b.txt").unlink()
    (project.folder / "in/case-1/b.txt").symlink_to("nowhere.txt")
    project.write("in/case-1/c.txt", "new")
    assert "in/case-1: not run while in/case-1/b.txt cannot be read" in project.run("plan").out
    assert project.apply().code == 3
    assert len(project.fake.runs()) == 2


def test_files_that_were_paid_for_in_other_groups_are_paid_for_again_as_packets(project: Project) -> None:
    project.change_spec('group_by = "folder"\n', "")
    assert apply(project) == 1
    project.change_spec('context = "acme"', 'context = "acme"\ngroup_by = "folder"')
    assert apply(project) == 3
    project.change_spec('group_by = "folder"\n', "")
    assert apply(project) == 3


def test_folder_with_more_files_than_a_batch_may_hold_is_an_error(project: Project) -> None:
    for number in range(1001):
        project.write(f"in/case-3/{number}.txt", f"{number}")
    for command in ("plan", "apply"):
        outcome = project.run(command)
        assert outcome.code == 2
        assert "in/case-3 has 1001 files, at most 1000 can be one batch" in outcome.err
    assert project.sent() == []


def test_failed_folder_is_paid_for_again_on_request_only(project: Project) -> None:
    project.fake.next_run(status="FAILED", message="no")
    assert project.apply().code == 3
    assert project.apply().code == 3
    assert len(project.fake.runs()) == 2
    assert apply(project, "--retry-failed") == 3


def test_example_of_packets_compares_the_documents_of_a_case(project: Project) -> None:
    shutil.copytree(ROOT / "specs/loans", project.folder / "loans")
    project.spec_path.write_text((ROOT / "specs/loans.aihub.toml").read_text())
    assert apply(project) == 2
    assert sorted(runs(project)) == [["application.txt", "identity-card.txt"], ["application.txt", "payslip.txt"]]


def test_lost_start_of_a_folder_whose_files_were_paid_for_before_is_started_again(project: Project) -> None:
    shutil.rmtree(project.folder / "in/case-2")
    apply(project)
    project.write("in/case-1/c.txt", "late")
    project.fake.faults.add(operation="runApp", do="reset", when="before")
    assert apply(project) == 2
    assert runs(project)[-1] == ["a.txt", "b.txt", "c.txt"]


def test_folder_with_a_file_that_cannot_be_read_while_it_is_sent_waits(project: Project, proxy: Proxy) -> None:
    shutil.rmtree(project.folder / "in/case-2")
    late = project.folder / "in/case-1/b.txt"

    def move_away() -> None:
        late.rename(project.folder / "kept")
        late.symlink_to(late.name)

    proxy.on("POST", "/v2/batches", after(move_away))
    assert project.apply().code == 3
    assert project.fake.runs() == []
    (project.folder / "kept").rename(late)
    assert apply(project) == 1
    assert runs(project) == [["a.txt", "b.txt"]]


def test_folder_with_a_refused_file_waits_and_is_paid_for_once(project: Project) -> None:
    project.fake.faults.add(operation="addFileToBatch", do="status", status=400)
    for _ in range(2):
        assert project.apply().code == 3
        assert runs(project) == [["a.txt", "b.txt"]]
    [waits] = [line for line in project.run("plan").out.splitlines() if "not run while" in line]
    assert waits.endswith(".txt is refused by the service")
    assert apply(project, "--retry-failed") == 2
    assert runs(project) == [["a.txt", "b.txt"]] * 2


@pytest.mark.slow
def test_folder_is_run_without_a_refused_file_once_that_is_excluded(project: Project) -> None:
    shutil.rmtree(project.folder / "in/case-2")
    project.fake.faults.add(operation="addFileToBatch", do="status", status=413)
    outcome = project.apply("--json")
    assert outcome.code == 3
    assert project.fake.runs() == []
    [refused] = [item["path"] for item in outcome.json["skipped"]]
    project.change_spec('files = "in/**/*"', f'files = ["in/**/*", "!{refused}"]')
    assert apply(project) == 1
    assert len(runs(project)[0]) == 1


def test_folder_that_lost_what_a_whole_pattern_matched_waits(project: Project) -> None:
    project.change_spec('files = "in/**/*"', 'files = ["in/**/*.txt", "in/**/*.csv"]')
    project.write("in/case-1/c.csv", "number,1")
    assert apply(project) == 2
    (project.folder / "in/case-1/c.csv").unlink()
    outcome = project.apply()
    assert outcome.code == 3
    assert "in/case-1 is not run without files that a pattern matched before" in outcome.text
    assert len(project.fake.runs()) == 2
    project.change_spec("[limits]", "allow_empty = true\n[limits]")
    assert apply(project) == 3


def test_code_makes_one_batch_of_each_folder(project: Project) -> None:
    code = project.run("code", "--as", "javascript").out
    assert 'name: "job 1 of 2"' in code
    assert 'name: "job 2 of 2"' in code
