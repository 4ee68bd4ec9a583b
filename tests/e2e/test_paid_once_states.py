"""Restored states, states of other clones, renamed jobs: what the service lists decides what was paid."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.proxy import RUNS, Answer, Call, Proxy, after, answer_instead, before
from support.world import bring_back, check_paid_once, keep, lose, payments

from .conftest import Project

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"
KEPT = [(STATE,), (STATE, LOCK)]


def backup(project: Project) -> Path:
    return project.folder / "backup"


def finish(*projects: Project) -> None:
    """Apply in all clones, and import where that is asked for, until all are done; nothing is paid twice on the way."""
    for project in projects:
        for options in ((), ("--adopt",), ()):
            outcome = project.apply(*options)
            check_paid_once(project.fake)
            if outcome.code == 0:
                break
            assert outcome.code == 7, outcome.text
        assert outcome.code == 0, outcome.text


# A state that comes back


@pytest.mark.parametrize("names", KEPT)
def test_state_that_was_restored_pays_nothing_again(project: Project, names: tuple[str, ...]) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), *names)
    project.write_files(1, start=1)
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), *names)
    project.check_done(2)


@pytest.mark.parametrize("names", KEPT)
def test_state_of_before_the_first_run_pays_nothing_again(
    project: Project, proxy: Proxy, names: tuple[str, ...]
) -> None:
    """It was copied when the files were sent, and the run was about to be started."""
    project.write_files(1)
    proxy.on("PUT", ".*", after(lambda: keep(project.folder, backup(project), *names)))
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), *names)
    project.check_done(1)


@pytest.mark.parametrize("hook", [before, after])
def test_state_of_the_moment_of_a_payment_pays_nothing_again(project: Project, proxy: Proxy, hook: object) -> None:
    project.write_files(1)
    copy = hook(lambda: keep(project.folder, backup(project), STATE))  # type: ignore[operator]
    proxy.on("POST", RUNS, copy)
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), STATE)
    project.check_done(1)


@pytest.mark.parametrize("names", KEPT)
def test_restored_state_whose_files_were_grouped_otherwise_pays_nothing_again(
    project: Project, names: tuple[str, ...]
) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), *names)
    for start in (1, 2):
        project.write_files(1, start=start)
        assert project.apply().code == 0
    bring_back(project.folder, backup(project), *names)
    assert project.apply().code in (0, 3, 7)
    check_paid_once(project.fake, 3)
    finish(project)
    project.check_done(3)


def test_restored_state_whose_files_were_grouped_otherwise_by_the_limit_pays_nothing_again(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), STATE, LOCK)
    project.write_files(4, start=1)
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), STATE, LOCK)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    assert project.apply().code in (0, 3, 7)
    check_paid_once(project.fake, 5)
    finish(project)


@pytest.mark.parametrize("change", ["another is new", "one was changed", "one is gone"])
def test_restored_state_beside_files_that_are_others_pays_nothing_again(project: Project, change: str) -> None:
    """All tags differ: the files in the batches of known runs prove that they were paid."""
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), STATE, LOCK)
    project.write_files(2, start=1)
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), STATE, LOCK)
    match change:
        case "another is new":
            project.write_files(1, start=3)
        case "one was changed":
            project.write("in/00002.txt", "changed meanwhile")
        case "one is gone":
            (project.folder / "in/00002.txt").unlink()
    outcome = project.apply()
    check_paid_once(project.fake)
    assert outcome.code in (0, 3, 7), outcome.text


def test_restored_state_of_before_a_retry_does_not_retry_again(project: Project) -> None:
    project.write_files(1)
    project.fake.next_run(status="FAILED", message="as told")
    assert project.apply().code == 3
    keep(project.folder, backup(project), STATE, LOCK)
    assert project.apply("--retry-failed").code == 0
    bring_back(project.folder, backup(project), STATE, LOCK)
    assert project.apply("--retry-failed").code == 0
    assert len(project.fake.runs()) == 2


def test_state_that_comes_back_again_and_again_pays_nothing_again(project: Project) -> None:
    """A CI cache that is never saved: each job starts with the same old state, and with its own results."""
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), STATE, LOCK)
    for number in range(1, 4):
        bring_back(project.folder, backup(project), STATE, LOCK)
        shutil.rmtree(project.folder / "results")
        project.write_files(1, start=number)
        assert project.apply().code in (0, 3, 7)
        check_paid_once(project.fake)


def test_second_app_in_a_restored_state_pays_nothing_again(project: Project) -> None:
    """Not the first payment of the state, but of the settings."""
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), STATE, LOCK)
    project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]')
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), STATE, LOCK)
    assert project.apply().code == 0
    assert set(payments(project.fake).values()) == {1}
    assert len(project.fake.runs()) == 2


# Other clones


@pytest.mark.parametrize("also", [(), (STATE,)])
@pytest.mark.parametrize("has_lock", [True, False])
def test_clone_that_did_not_pull_pays_nothing_again(project: Project, also: tuple[str, ...], has_lock: bool) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    other = project.clone("other", *also)
    if not has_lock:
        (other.folder / LOCK).unlink()
    for each in (project, other):
        each.write_files(1, start=1)
    assert project.apply().code == 0
    assert other.apply().code in (0, 3, 7)
    check_paid_once(project.fake, 2)
    finish(other, project)


@pytest.mark.slow
def test_two_clones_with_states_of_their_own_take_turns_and_pay_once(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    other = project.clone("other")
    for number in range(1, 5):
        for each in (project, other):
            each.write_files(1, start=number)
        first, second = (project, other) if number % 2 else (other, project)
        assert first.apply().code == 0
        assert second.apply().code == 0
        check_paid_once(project.fake, number + 1)


def test_branches_that_group_otherwise_pay_once(project: Project) -> None:
    """One adds two files at a time, the other one by one; the lock file of neither is merged."""
    project.write_files(1)
    assert project.apply().code == 0
    other = project.clone("other", STATE)
    project.write_files(2, start=1)
    assert project.apply().code == 0
    for number in (1, 2):
        other.write_files(1, start=number)
        assert other.apply().code in (0, 3, 7)
        check_paid_once(project.fake, 3)
    finish(other, project)


def test_state_of_another_folder_with_the_same_files_pays_nothing_again(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    for name in ("one.db", "two.db"):
        assert project.apply("--state", str(project.folder / name)).code in (0, 3, 7)
        check_paid_once(project.fake, 2)


# Names that change


def rename_spec(project: Project) -> None:
    project.spec_path.rename(project.folder / "bills.toml")
    project.spec_name = "bills.toml"
    project.change_spec('name = "job"\n', "")


@pytest.mark.parametrize("how", ["name", "name and case", "spec"])
@pytest.mark.parametrize("grouping", ["same", "more files", "fewer files", "limit"])
def test_changed_name_and_a_lost_state_pay_nothing_again(project: Project, how: str, grouping: str) -> None:
    project.write_files(3)
    assert project.apply().code == 0
    lose(project.folder, STATE, LOCK)
    if how == "spec":
        rename_spec(project)
    else:
        project.change_spec('name = "job"', f'name = "{"Job" if "case" in how else "invoices"}"')
    match grouping:
        case "more files":
            project.write_files(1, start=3)
        case "fewer files":
            (project.folder / "in/00000.txt").unlink()
        case "limit":
            project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    outcome = project.apply()
    check_paid_once(project.fake, 3)
    assert outcome.code == (0 if grouping == "same" else 7), outcome.text


@pytest.mark.parametrize("lost", [(STATE, LOCK), (STATE,), ()], ids=["state and lock", "state", "nothing"])
def test_changed_name_pays_nothing_again_where_only_some_is_grouped_as_before(
    project: Project, lost: tuple[str, ...]
) -> None:
    """What is recognised by its tag makes the rest no less a stranger."""
    project.write_files(1)
    assert project.apply().code == 0
    project.write_files(2, start=1)
    assert project.apply().code == 0
    lose(project.folder, *lost)
    project.change_spec('name = "job"', 'name = "invoices"')
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    for _ in range(2):
        outcome = project.apply()
        check_paid_once(project.fake, 3)
    assert outcome.code == (7 if LOCK in lost else 0), outcome.text


def test_changed_name_beside_an_old_state_pays_nothing_again(project: Project) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    keep(project.folder, backup(project), STATE, LOCK)
    project.write_files(2, start=1)
    assert project.apply().code == 0
    bring_back(project.folder, backup(project), STATE, LOCK)
    lose(project.folder)
    project.change_spec('name = "job"', 'name = "invoices"')
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.apply()
    check_paid_once(project.fake, 3)


def test_changed_name_with_the_state_there_pays_nothing_again(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    project.change_spec('name = "job"', 'name = "invoices"')
    project.write_files(1, start=2)
    assert project.apply().code == 0
    check_paid_once(project.fake, 3)


def test_batch_of_another_name_and_other_settings_is_no_stranger(project: Project) -> None:
    """Anybody may pay for another app on the same files."""
    project.write_files(2)
    assert project.apply().code == 0
    other = project.clone("other")
    (other.folder / LOCK).unlink()
    other.change_spec('name = "job"', 'name = "invoices"')
    other.change_spec("Invoice Extraction", "Another App")
    outcome = other.apply()
    assert outcome.code == 0, outcome.text
    assert list(payments(project.fake).values()) == [1, 1, 1, 1]


def test_batch_of_another_name_with_other_files_is_no_stranger(project: Project) -> None:
    project.write_files(2)
    assert project.apply().code == 0
    other = project.clone("other")
    (other.folder / LOCK).unlink()
    other.change_spec('name = "job"', 'name = "invoices"')
    shutil.rmtree(other.folder / "in")
    other.write("in/mine.txt", "a file of mine")
    outcome = other.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 3)


@pytest.mark.slow
def test_limit_turns_to_no_file_that_a_restored_state_does_not_know_as_paid(
    project: Project, proxy: Proxy, tmp_path: Path
) -> None:
    """Two batches are filled in that state, and not run. Once the run of the first is found, the second is next."""
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(2)

    def act(call: Call) -> Answer | None:
        batch = int(call.path.split("/")[3])
        return answer_instead(500)(call) if project.fake.files(batch) else call.forward()

    proxy.always("GET", "/v2/batches/[0-9]+/files", act)
    project.apply()
    proxy.clear()
    shutil.copy(project.folder / "job.state.db", tmp_path / "old.db")
    assert project.apply().code == 0
    shutil.copy(tmp_path / "old.db", project.folder / "job.state.db")
    (project.folder / "job.lock.toml").unlink()
    for _ in range(2):
        project.apply("--limit", "1")
    assert len(project.fake.runs()) == 2
