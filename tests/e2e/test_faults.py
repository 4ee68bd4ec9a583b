"""Every operation of an apply times every fault: everything gets done, and nothing is paid twice."""

from __future__ import annotations

import pytest

from .conftest import Project

pytestmark = pytest.mark.matrix(gate=32)

OPERATIONS = [
    "listBatches",
    "createBatch",
    "addFileToBatch",
    "deleteFileFromBatch",
    "listFiles",
    "runApp",
    "runDeployment",
    "listRuns",
    "getRunStatus",
    "getRunResults",
    "createMultipartUploadSession",
    "uploadMultipartPart",
    "commitMultipartUploadSession",
]
FAULTS = {
    "reset before": {"do": "reset", "when": "before"},
    "reset after": {"do": "reset", "when": "after"},
    "no body": {"do": "truncate", "when": "after", "bytes": 0},
    "truncate": {"do": "truncate", "when": "after", "bytes": 5},
    "stall before": {"do": "stall", "when": "before", "seconds": 3},
    "stall after": {"do": "stall", "when": "after", "seconds": 3},
    "garbage before": {"do": "garbage", "when": "before"},
    "garbage after": {"do": "garbage", "when": "after"},
    "408": {"do": "status", "status": 408, "when": "after"},
    "429": {"do": "status", "status": 429, "when": "before", "headers": {"Retry-After": "0"}},
    "500": {"do": "status", "status": 500, "when": "after"},
    "502": {"do": "status", "status": 502, "when": "after"},
    "503": {"do": "status", "status": 503, "when": "before", "headers": {"Retry-After": "0"}},
    "504": {"do": "status", "status": 504, "when": "before"},
    "gateway's 200": {"do": "status", "status": 200, "when": "after", "body": '{"message": "ok"}'},
    "interim": {"do": "interim", "status": 103, "items": 2},
    "answered twice": {"do": "surplus"},
    "no date": {"do": "no_date", "times": 0},
    "date ahead": {"do": "date", "seconds": 7200, "times": 0},
    "date of years ago": {"do": "date", "seconds": -100_000_000, "times": 0},
    "date that jumps": {"do": "date", "seconds": 86_400, "every": 2, "times": 0},
}
CLOCKS = [fault for fault in FAULTS if "date" in fault]


# Answers of listings that are not lies, but not the whole truth.
WRONG_PAGES = {
    "page that comes twice": {"do": "repeat_page", "nth": 2},
    "page that begins later": {"do": "shift_page", "items": 1},
    "page that begins earlier": {"do": "shift_page", "items": -1, "nth": 2},
}
# How a request that creates may be answered, if the service has not acted, and if nobody knows whether it has.
REFUSALS = [301, 302, 307, 400, 401, 403, 404, 409, 413, 415, 422, 425, 429]
LOSSES = [408, 418, 451, 500, 501, 502, 503, 504, 505]


@pytest.fixture
def with_everything(project: Project) -> Project:
    """A job whose apply uses small pages, parts, and time that passes."""
    project.write_files(3)
    project.write("in/large.pdf", b"x" * 5000)
    project.change_spec("[limits]", "[limits]\npart_threshold_mb = 0.002\nread_timeout_s = 1")
    project.fake.service.part_size = 2000
    project.fake.service.run_seconds = 0.1
    return project


def prepare(project: Project, operation: str) -> None:
    """Bring about what makes an apply use the operation."""
    if operation == "runDeployment":
        project.change_spec('app_name = "Invoice Extraction"\nowner = "instabase"', 'deployment_id = "d-1"')
    if operation == "deleteFileFromBatch":  # a file that was sent, and is not there any more
        project.write("in/gone.txt", "not to be run after all")
        project.fake.faults.add(operation="listFiles", nth=2, do="status", status=400)
        assert project.apply().code == 4
        (project.folder / "in/gone.txt").unlink()


def check_made_good(project: Project) -> None:
    """Apply until all is done, and compare with a world without faults."""
    outcome = project.apply()
    if outcome.code != 0:  # tried often enough for once; the next one goes on
        outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.faults.unused() == []
    ledger = project.fake.ledger
    assert (set(ledger["batches"].values()), set(ledger["runs"].values())) == ({1}, {1})
    assert all(len(set(digests)) == 1 for digests in ledger["digests"].values())
    present = {f"in/{path.name}" for path in (project.folder / "in").iterdir()}
    assert {line["path"] for line in project.documents} == present
    project.forget_requests()
    assert (project.apply().code, project.fake.journal) == (0, [])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_any_operation_is_made_good(with_everything: Project, operation: str, fault: str) -> None:
    prepare(with_everything, operation)
    with_everything.fake.faults.add(operation=operation, **FAULTS[fault])
    check_made_good(with_everything)


@pytest.mark.parametrize("operation", ["listBatches", "listFiles", "listRuns", "getRunResults"])
@pytest.mark.parametrize("fault", WRONG_PAGES)
def test_pages_that_shift_are_made_good(
    with_everything: Project, monkeypatch: pytest.MonkeyPatch, operation: str, fault: str
) -> None:
    """Each listing has several pages, and is needed: the answers of both requests that create are lost, too."""
    monkeypatch.setattr("aihub_runner.aihub.client.PAGE", 1)  # ten times as many files
    with_everything.write_files(50)
    with_everything.change_spec("[limits]", "[limits]\nfiles_per_batch = 17")
    with_everything.fake.service.page_files = 7
    with_everything.fake.faults.add(operation="createBatch", do="reset", when="after")
    with_everything.fake.faults.add(operation="runApp", do="reset", when="after")
    with_everything.fake.faults.add(operation=operation, **WRONG_PAGES[fault])
    check_made_good(with_everything)


@pytest.mark.parametrize("operation", ["createBatch", "runApp"])
@pytest.mark.parametrize("status", REFUSALS)
def test_refusal_of_what_creates_is_made_good(with_everything: Project, operation: str, status: int) -> None:
    with_everything.fake.faults.add(operation=operation, do="status", status=status, when="before")
    check_made_good(with_everything)


@pytest.mark.parametrize("operation", ["createBatch", "runApp"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("status", LOSSES)
def test_answer_that_tells_nothing_of_what_creates_is_made_good(
    with_everything: Project, operation: str, when: str, status: int
) -> None:
    with_everything.fake.faults.add(operation=operation, do="status", status=status, when=when)
    check_made_good(with_everything)


@pytest.mark.parametrize("operation", ["createBatch", "runApp"])
@pytest.mark.parametrize("status", [303, *REFUSALS])
def test_refusal_of_what_was_made_all_the_same_is_made_good(
    with_everything: Project, operation: str, status: int
) -> None:
    with_everything.fake.faults.add(operation=operation, do="status", status=status, when="after")
    check_made_good(with_everything)


@pytest.mark.parametrize("fault", CLOCKS)
@pytest.mark.parametrize("lost", ["createBatch", "runApp"])
def test_lost_response_is_found_whatever_the_clocks_say(with_everything: Project, lost: str, fault: str) -> None:
    with_everything.fake.faults.add(**FAULTS[fault])
    with_everything.fake.faults.add(operation=lost, do="reset", when="after")
    check_made_good(with_everything)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_clock_that_is_off_by_ten_minutes_makes_no_difference(project: Project, minutes: int) -> None:
    project.write_files(2)
    project.fake.clock.advance(60 * minutes)
    project.fake.faults.add(operation="runApp", do="reset", when="after")
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["listBatches", "listFiles", "listRuns"])
def test_listing_that_lags_less_than_it_may_is_waited_for(with_everything: Project, operation: str) -> None:
    with_everything.change_spec("settle_s = 0.2", "settle_s = 3")
    with_everything.fake.faults.add(operation="createBatch", do="reset", when="after")
    with_everything.fake.faults.add(operation="runApp", do="reset", when="after")
    with_everything.fake.faults.add(operation=operation, times=99, do="lag", seconds=1)
    check_made_good(with_everything)


def test_list_that_never_ends_is_given_up(project: Project) -> None:
    project.write_files(1)
    project.apply()
    (project.folder / "job.state.db").unlink()
    project.write_files(1, start=1)
    project.fake.faults.add(operation="listBatches", do="shift_page", times=100, items=-1_000_000)
    outcome = project.apply()
    assert outcome.code == 4, outcome.text
    assert "keeps returning the same page" in outcome.err
    project.fake.faults.scripts.clear()
    assert project.apply().code == 0


def test_list_of_runs_that_never_ends_is_complete_once_it_holds_the_newest(project: Project) -> None:
    project.write_files(1)
    project.apply()
    (project.folder / "job.state.db").unlink()
    project.write_files(1, start=1)
    project.fake.faults.add(operation="listRuns", do="shift_page", times=100, items=-1_000_000)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2
