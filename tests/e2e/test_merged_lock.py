"""A lock file in which a merge mixed up the lines of entries: nothing is paid twice, or given to the wrong document."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest

from aihub_runner.state.lockfile import Entry, render_lockfile
from support.world import check_paid_once, lose

from .conftest import Project

LOCK, STATE = "job.lock.toml", "job.state.db"
KEYS = ("fingerprint", "batch_id", "run_id", "members")  # what differs from entry to entry
MIXES = [mix for mix in itertools.product((0, 1), repeat=len(KEYS)) if len({*mix}) == 2]


def mix_up(project: Project, mix: tuple[int, ...], *, whole: bool) -> None:
    """Lose the state, and mix up the two entries of the lock file: `mix` says from which of them the first gets a key.

    The `whole` file has both entries; else the second is lost.
    """
    two = project.lock
    assert len(two) == 2
    taken = [{key: two[(at + number) % 2][key] for key, at in zip(KEYS, mix, strict=True)} for number in range(2)]
    entries = [Entry(**(one | more)) for one, more in zip(two, taken, strict=True)]
    lose(project.folder, STATE)
    (project.folder / LOCK).write_text(render_lockfile(entries[: 1 + whole]))


def runs_of(project: Project) -> dict[str, str]:
    return {line["path"]: line["run_id"] for line in project.documents if line["present"]}


@pytest.fixture
def paid(project: Project) -> Project:
    """Return a project with two files, which two runs paid for."""
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write("in/a.txt", "document a")
    project.write("in/b.txt", "document b, longer")
    assert project.apply().code == 0
    return project


@pytest.mark.matrix(most=4, gate=1)
@pytest.mark.parametrize("options", [(), ("--adopt",)])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("mix", MIXES)
def test_mixed_entries_pay_nothing_and_do_no_lasting_harm(
    paid: Project, mix: tuple[int, ...], whole: bool, options: tuple[str, ...]
) -> None:
    right, good = runs_of(paid), (paid.folder / LOCK).read_text()
    mix_up(paid, mix, whole=whole)
    assert paid.apply(*options).code in (0, 7)
    check_paid_once(paid.fake, 2)
    (paid.folder / LOCK).write_text(good)  # restored from Git
    outcome = paid.apply()
    assert outcome.code == 0, outcome.text
    assert (runs_of(paid), len(paid.fake.runs())) == (right, 2)


@pytest.mark.parametrize("by_folder", [False, True])
@pytest.mark.parametrize("is_same_size", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_entry_with_the_members_of_another_is_recognised_by_its_fingerprint(
    project: Project, by_folder: bool, is_same_size: bool, whole: bool
) -> None:
    """The files of both runs have the same names."""
    project.change_spec("[limits]", 'group_by = "folder"\n[limits]' if by_folder else "[limits]\nfiles_per_batch = 1")
    for folder in "ab":
        for name in "xyz" if by_folder else "x":
            longer = "" if is_same_size else 3 * folder * ord(folder)
            project.write(f"in/{folder}/{name}.txt", f"document {name} of {folder}{longer}")
    assert project.apply().code == 0
    right = runs_of(project)
    mix_up(project, (0, 0, 0, 1), whole=whole)
    for options in ((), ("--adopt",), ()):
        outcome = project.apply(*options)
    assert outcome.code == 0, outcome.text
    assert (runs_of(project), len(project.fake.runs())) == (right, 2)


def test_run_that_contradicts_its_entry_is_not_adopted(paid: Project) -> None:
    good, first = (paid.folder / LOCK).read_text(), paid.lock[0]["run_id"]
    mix_up(paid, (0, 1, 0, 0), whole=True)
    outcome = paid.apply()
    assert outcome.code == 7
    assert f"run {first} has another tag or another batch" in outcome.err
    assert f"if {LOCK} was merged wrongly, restore it from Git" in outcome.err
    assert f"if a merge mixed up the lines of {LOCK}: restore it from Git, then apply" in paid.run("resolve").out
    outcome = paid.run("resolve", "--adopt", first)
    assert outcome.code == 2
    assert "than the lock file says" in outcome.err
    (paid.folder / LOCK).write_text(good)
    assert paid.apply().code == 0
    check_paid_once(paid.fake, 2)


def git(folder: Path, *args: str, check: bool = True) -> str:
    whole = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@localhost", *args]
    return subprocess.run(whole, check=check, capture_output=True, text=True).stdout


@pytest.mark.parametrize("side", ["ours", "theirs", "both", "union"])
@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.slow
def test_conflict_of_two_branches_that_both_applied(project: Project, side: str, has_state: bool) -> None:
    project.write(".gitignore", "*.state.db*\nresults/\nclones/\n")
    project.write(".gitattributes", "*.lock.toml merge=union\n" if side == "union" else "")
    project.write_files(2)
    assert project.apply().code == 0
    git(project.folder, "init", "-q")
    commit(project)
    other = project.folder / "clones/other"
    git(project.folder, "clone", "-q", ".", str(other))
    project.fake.clock.advance(5)  # both append to the lock file, which is in the order of time
    for each in (project, theirs := Project(other, project.fake, project.env)):
        each.write(f"in/{each.folder.name}.txt", f"added in {each.folder.name}")
        assert each.apply().code == 0
        commit(each)
    git(project.folder, "pull", "-q", "--no-rebase", str(other), check=False)
    if not has_state:
        lose(project.folder, STATE)
    for command in ("plan", "apply", "resolve", "destroy"):
        outcome = project.run(command)
        assert outcome.code == 2
        assert f"{LOCK}: is damaged" in outcome.err
    if side in ("both", "union"):
        mine = git(project.folder, "show", f"HEAD{'^' * (side == 'union')}:{LOCK}")
        project.write(LOCK, f"{mine}\n[[run]]{(other / LOCK).read_text().rpartition('[[run]]')[2]}")
    else:
        git(project.folder, "checkout", f"--{side}", LOCK)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 4)
    assert runs_of(theirs).items() < runs_of(project).items()


def commit(project: Project) -> None:
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "applied")
