"""Another spelling of the API root, or a lock file of another service: nothing is paid again unasked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aihub_runner.apply.job import Options, open_job
from aihub_runner.errors import InputError
from fake_aihub import FakeAIHub
from support.proxy import Proxy
from support.world import check_paid_once, lose

from .conftest import Project

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"


def spell(proxy: Proxy, how: str) -> str:
    return how.format(port=proxy.port)


ROOTS = [
    "http://localhost:{port}/api",
    "http://127.0.0.1:{port}/api/",
    "http://127.0.0.1:{port}/api//",
    "HTTP://127.0.0.1:{port}/api",
    "http://LOCALHOST:{port}/api",
    "http://LocalHost:{port}/api/",
    "http://127.0.0.1:0{port}/api",
    "http://127.0.0.2:{port}/api",
]


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("lost", [(), (STATE,), (STATE, LOCK)], ids=["nothing", "state", "state and lock"])
def test_root_that_is_spelled_otherwise_pays_nothing_again(
    project: Project, proxy: Proxy, root: str, lost: tuple[str, ...]
) -> None:
    """It is the same, or another that is refused; never one where all is paid again without a word."""
    project.write_files(1)
    assert project.apply().code == 0
    if lost:
        lose(project.folder, *lost)
    project.write_files(1, start=1)
    project.env["AIHUB_API_ROOT"] = spell(proxy, root)
    plan = project.run("plan")
    outcome = project.apply()
    is_refused = outcome.code in (2, 4, 7)
    check_paid_once(project.fake, 1 if is_refused else 2)
    assert outcome.code in (0, 2, 4, 7), outcome.text
    if outcome.code == 2:
        assert plan.code == 2 or "lock" in plan.text, plan.text


SPELLINGS = [
    "https://aihub.example:443/api",
    "https://AIHUB.example/api",
    "https://aihub.example/api/",
    "https://aihub.example:/api",
    "https://aihub.example//api",
    "https://aihub.example/api/./",
    "https://aihub.example./api",
    "HTTPS://AiHub.Example:0443/api//",
]


@pytest.mark.parametrize("root", SPELLINGS)
def test_root_of_any_spelling_is_one_target_or_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", "fake-test")
    monkeypatch.setenv("AIHUB_API_ROOT", "https://aihub.example/api")
    usual = open_job(project.spec_path, Options(), offline=True).goal
    monkeypatch.setenv("AIHUB_API_ROOT", root)
    try:
        other = open_job(project.spec_path, Options(), offline=True).goal
    except InputError:
        return
    assert (other.target, other.run_key) == (usual.target, usual.run_key)


def test_lock_file_of_other_targets_only_stops(project: Project, proxy: Proxy, second_fake: FakeAIHub) -> None:
    project.write_files(1)
    assert project.apply().code == 0
    lose(project.folder, STATE)
    project.env["AIHUB_API_ROOT"] = second_fake.root
    plan, outcome = project.run("plan"), project.apply()
    assert outcome.code == 2, outcome.text
    assert plan.code == 2 or "lock" in plan.text, plan.text
    assert second_fake.batches() == []


@pytest.fixture
def second_fake() -> Iterator[FakeAIHub]:
    with FakeAIHub() as server:
        server.world.set_seed(7)  # so that its runs have other ids
        yield server


@pytest.mark.slow
def test_batches_of_other_targets_in_the_lock_are_not_known_here(project: Project, second_fake: FakeAIHub) -> None:
    """Both services number their batches alike."""
    project.write_files(1)
    other = project.clone("other")
    other.env = project.env | {"AIHUB_API_ROOT": second_fake.root}
    for each in (project, other):
        assert each.apply().code == 0
    early = (other.folder / LOCK).read_text()
    for each in (project, other):
        each.write_files(1, start=1)
        assert each.apply().code == 0
    third = project.clone("third")
    third.env = other.env
    whole = (third.folder / LOCK).read_text() + "\n" + early[early.index("[[run]]") :]
    third.write(LOCK, whole)  # of the first service both runs, of the second one
    third.write_files(1, start=2)
    outcome = third.apply()
    check_paid_once(second_fake, 2)
    assert outcome.code == 7, outcome.text
