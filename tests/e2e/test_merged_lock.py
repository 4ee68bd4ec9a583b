"""A lock file in which a merge mixed up the lines of entries: nothing is paid twice, or given to the wrong document."""

from __future__ import annotations

import pytest

from aihub_runner.state.lockfile import Entry, render_lockfile
from support.world import lose

from .conftest import Project

LOCK, STATE = "job.lock.toml", "job.state.db"
KEYS = ("fingerprint", "batch_id", "run_id", "members")  # what differs from entry to entry


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
