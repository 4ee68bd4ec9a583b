"""Several specs in one apply: one question, one pace, one summary, and none that stops another."""

from __future__ import annotations

import json
from threading import Event

import pytest

from aihub_runner.aihub.throttle import Pace
from aihub_runner.apply.begin import apply
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Options, open_job
from support.world import check_paid_once

from .conftest import SPEC, Project, Terminal


@pytest.fixture
def two(project: Project) -> Project:
    """Make two specs, a.aihub.toml with two files and b.aihub.toml with one."""
    (project.folder / "job.toml").unlink()
    for name, count in (("a", 2), ("b", 1)):
        text = SPEC.replace('name = "job"', f'name = "{name}"').replace("in/**/*", f"{name}/*")
        project.write(f"{name}.aihub.toml", text.replace("[limits]", "[limits]\nunit_price = 0.5"))
        for number in range(count):
            project.write(f"{name}/{name}{number}.txt", f"{name} {number}")
    project.spec_name = "a.aihub.toml"
    return project


BOTH = ("apply", "a.aihub.toml", "b.aihub.toml")


def test_one_question_shows_the_cost_of_all_specs_and_pays_for_them(two: Project) -> None:
    code, shown = two.on_terminal("apply", ".", answer="y\n")
    assert code == 0, shown
    assert shown.count("[y/N]") == 1
    assert "a.aihub.toml: 2 files" in shown
    assert "All specs: 3 files to upload (9 bytes), 2 batches, 2 runs to pay for" in shown.replace("\r\n", " ")
    assert "cost at least 1.50" in shown.replace("\r\n", " ")
    assert "Start 2 runs of 2 specs?" in shown
    check_paid_once(two.fake, 3)
    assert two.on_terminal("apply", ".", answer="")[0] == 0, "nothing to pay, no question"


def test_no_pays_for_none_of_them(two: Project) -> None:
    code, shown = two.on_terminal(*BOTH, answer="n\n")
    assert code == 2
    assert shown.count("apply cancelled, nothing was paid") >= 2
    assert two.sent() == []


def test_what_is_more_than_was_shown_is_not_paid(two: Project) -> None:
    with Terminal(two, *BOTH) as terminal:
        terminal.read_until("[y/N]")
        two.write("b/late.txt", "came later")
        terminal.type("y\n")
        code, shown = terminal.end()
    assert code == 2
    assert "b.aihub.toml: would pay for more than was shown before" in shown.replace("\r\n", " ")
    check_paid_once(two.fake, 2)  # those of the other spec


def test_spec_that_fails_stops_no_other_and_the_summary_lists_both(two: Project) -> None:
    two.change_spec('"a/*"', '"none/*"')
    outcome = two.run_alone(*BOTH)
    assert outcome.code == 2
    total = outcome.out[outcome.out.index("2 specs: ") :].splitlines()
    assert total[0] == "2 specs: 1 file, 1 done or in progress; 1 sent (3 bytes), 1 run started now"
    assert total[1].startswith("  exit 2     a.aihub.toml: no file matches none/*")
    assert total[2] == "  exit 0     b.aihub.toml"
    check_paid_once(two.fake, 1)


def test_exit_code_is_the_worst_of_all_and_json_has_the_total(two: Project) -> None:
    two.fake.next_run(status="FAILED")
    outcome = two.run_alone(*BOTH, "--json")
    document = json.loads(outcome.out)
    assert (outcome.code, document["exit_code"]) == (3, 3)
    assert [spec["exit_code"] for spec in document["specs"]] == [3, 0]
    assert document["total"] == {
        "specs": 2,
        "files": 3,
        "files_done": 1,
        "files_sent": 3,
        "bytes_sent": 9,
        "runs_started": 2,
        "documents": 1,
    }


def test_spec_that_is_wrong_stops_all_before_anything_is_paid(two: Project) -> None:
    two.write("b.aihub.toml", "files = 5\napp_name = 5")
    outcome = two.run_alone(*BOTH)
    assert outcome.code == 2
    assert two.fake.journal == []
    assert "exit 2     a.aihub.toml: not applied, another spec is invalid" in outcome.out


@pytest.mark.slow
def test_folder_is_not_paid_for_where_nobody_can_be_asked(two: Project) -> None:
    outcome = two.run_alone("apply", ".")
    assert outcome.code == 2
    assert ".: is a folder, and nobody can be asked here" in outcome.err
    assert two.fake.journal == []
    assert two.run_alone("apply", ".", "--yes").code == 0
    check_paid_once(two.fake, 3)


def test_spec_begins_at_the_pace_that_the_service_asked_of_the_one_before(
    two: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in two.env.items():
        monkeypatch.setenv(name, value or "")
    paces: dict[str, Pace] = {}
    limits = []
    for name in ("a", "b"):
        if name == "a":
            two.fake.faults.add(operation="createBatch", do="status", status=429, headers={"Retry-After": "0"})
        job = open_job(two.folder / f"{name}.aihub.toml", Options(paces=paces))
        assert apply(job, Reporter(), lambda plan, scan: True, Event()).exit_code == 0
        limits.append(paces[two.fake.root].limit)
    assert limits[0] < job.connection.pool_size
    assert limits[1] < job.connection.pool_size
