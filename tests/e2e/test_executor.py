"""Steps that may be repeated also work in other processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

import pytest

from aihub_runner.aihub.factory import ClientFactory
from aihub_runner.apply.begin import apply
from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Options, open_job
from aihub_runner.apply.pool import do_step_here
from aihub_runner.apply.steps import Failed
from aihub_runner.apply.tasks.run import PollRun
from aihub_runner.errors import ServiceError

from .conftest import Project


class Counting(Executor):
    """Passes steps to another process, and remembers what kinds they were."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.kinds: set[str] = set()

    def submit(self, function: Any, /, *args: Any, **how: Any) -> Future[Any]:
        self.kinds.add(type(args[-1]).__name__)
        return self.pool.submit(function, *args, **how)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.slow
def test_job_is_done_where_another_process_sends_files_and_fetches_results(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_files(3)
    project.fake.next_run(after_polls=1)
    for name, value in project.env.items():
        monkeypatch.setenv(name, value or "")
    executor = Counting()
    job = open_job(project.spec_path, Options())
    report = apply(job, Reporter(), lambda plan, scan: True, threading.Event(), executor)
    assert report.exit_code == 0
    assert executor.kinds == {"VerifyBatch", "SendFile", "CheckBatch", "PollRun", "FetchResults"}
    assert len(project.documents) == 3


def test_failure_comes_back_from_another_process_as_it_was(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in project.env.items():
        monkeypatch.setenv(name, value or "")
    project.write_files(1)
    factory = pickle.loads(pickle.dumps(ClientFactory(open_job(project.spec_path, Options()).connection)))
    assert factory() is factory()
    outcome = pickle.loads(pickle.dumps(do_step_here(factory, PollRun(1, 1, "none", 0.0, 0.0, frozenset({"other"})))))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ServiceError)
    assert outcome.error.status == 404
    assert outcome.error.hint
    assert os.environ["AIHUB_API_KEY"] not in repr(outcome)
