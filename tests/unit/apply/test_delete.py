"""How long deletions are waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aihub_runner.apply.tasks.delete import JOB_WAIT_S, Patience, wait_for_jobs

PAUSES_S = (0.4, 30.0)


class Service:
    """A service whose jobs end as `states` say, and whose time passes only in pauses."""

    def __init__(self, states: dict[str, str]) -> None:
        self.now_s, self._states = 0.0, states

    def get_job(self, job_id: str) -> Any:
        return SimpleNamespace(state=self._states[job_id], message="busy")

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize("jobs", [1, 50])
def test_service_whose_jobs_never_end_is_waited_for_once(jobs: int) -> None:
    service: Any = Service({str(number): "RUNNING" for number in range(jobs)})
    patience = Patience(JOB_WAIT_S, lambda: service.now_s)
    whys = [wait_for_jobs(service, (str(number),), PAUSES_S, patience) for number in range(jobs)]
    assert whys == [f"its job {number} is RUNNING, busy" for number in range(jobs)]
    assert JOB_WAIT_S <= service.now_s <= JOB_WAIT_S + PAUSES_S[1]


def test_patience_begins_anew_when_something_is_confirmed() -> None:
    service: Any = Service({"a": "RUNNING", "b": "COMPLETE"})
    patience = Patience(JOB_WAIT_S, lambda: service.now_s)
    assert wait_for_jobs(service, ("a",), PAUSES_S, patience)
    assert (wait_for_jobs(service, ("b",), PAUSES_S, patience), patience.is_over) == ("", True)
    patience.renew()
    assert not patience.is_over
