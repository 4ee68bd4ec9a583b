"""Every operation that an apply uses, times every fault: in the end all is done, and nothing was paid twice."""

from __future__ import annotations

import pytest

from .conftest import Project

OPERATIONS = [
    "listBatches",
    "createBatch",
    "addFileToBatch",
    "listFiles",
    "runApp",
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
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_any_operation_is_made_good(project: Project, operation: str, fault: str) -> None:
    project.write_files(3)
    project.write("in/large.pdf", b"x" * 5000)
    project.change_spec("[limits]", "[limits]\npart_threshold_mb = 0.002\nread_timeout_s = 1")
    project.fake.service.part_size = 2000
    project.fake.service.run_seconds = 0.1
    # Runs are listed before a first payment of a new state; batches before every first one.
    project.fake.faults.add(operation=operation, **FAULTS[fault])
    outcome = project.apply()
    if outcome.code != 0:  # tried often enough for once; the next one goes on
        outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.faults.unused() == []
    ledger = project.fake.ledger
    assert (list(ledger["batches"].values()), list(ledger["runs"].values())) == ([1], [1])
    assert all(len(set(digests)) == 1 for digests in ledger["digests"].values())
    assert len({line["path"] for line in project.documents}) == 4
    project.forget_requests()
    assert (project.apply().code, project.fake.journal) == (0, [])


@pytest.mark.parametrize("minutes", [-10, 10])
def test_clock_that_is_off_by_ten_minutes_makes_no_difference(project: Project, minutes: int) -> None:
    project.write_files(2)
    project.fake.clock.advance(60 * minutes)
    project.fake.faults.add(operation="runApp", do="reset", when="after")
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1


def test_listing_that_lags_less_than_it_may_is_waited_for(project: Project) -> None:
    project.write_files(2)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    project.fake.faults.add(operation="runApp", do="reset", when="after")
    project.fake.faults.add(operation="listRuns", times=99, do="lag", seconds=1)
    assert project.apply().code == 0
    assert len(project.fake.runs()) == 1
