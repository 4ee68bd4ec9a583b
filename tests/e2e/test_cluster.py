"""Workers of a Dask cluster send the files. They die, hang, come and go; nothing is paid twice, and nothing is lost."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from aihub_runner.apply import events
from aihub_runner.apply.begin import apply
from aihub_runner.apply.events import Event, Reporter
from aihub_runner.apply.executors.patience import Patience
from aihub_runner.apply.job import Options, open_job
from aihub_runner.report.summary import Report
from fake_aihub import FakeAIHub
from support.cluster import DaskCluster, Worker, kill_child, read_pages
from support.contract import check_journal
from support.waiting import wait_for
from support.world import check_paid_once

from .conftest import Project

PUT = "addFileToBatch"
SHORT = Patience(life_s=1.5, late_s=0.5, silent_s=2.0, nobody_s=8.0, stop_s=1.0)
LONG = Patience(life_s=1.5, late_s=12.0, silent_s=5.0, nobody_s=60.0, stop_s=1.0)  # for a busy machine


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Iterator[FakeAIHub]:
    """A fake that takes a while for each file, so that there is time to disturb an upload."""
    with FakeAIHub(latency_ms=getattr(request, "param", 10)) as server:
        yield server
        check_journal(server.journal)
        assert server.faults.unused() == []


@pytest.fixture
def environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of this process, of workers in it, and of other processes."""
    for name, value in project.env.items():
        monkeypatch.setenv(name, value or "")
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 40\nparallel_uploads = 4")
    return project.environment


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("cluster"), environment) as made:
        yield made


IMPORTS = """
import sys
from aihub_runner.cli.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
print([name for name in sys.modules if name.partition(".")[0] in ("dask", "distributed", "tornado")])
"""


class Watched:
    """An apply in this process through a cluster, its events, and what to do at some of them."""

    def __init__(self, project: Project, options: tuple[str, ...], patience: Patience = SHORT) -> None:
        self.events: list[Event] = []
        self.stop = threading.Event()
        self._at: list[tuple[Callable[[Event], bool], Callable[[], object]]] = []
        self._job = open_job(
            project.spec_path, Options(scheduler=options[1], insecure_scheduler=True, patience=patience)
        )

    def at_file(self, number: int, act: Callable[[], object]) -> None:
        """Do something as soon as so many files were sent."""
        self._at.append((lambda _: self.count(events.FileUploaded) >= number, act))

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def run(self) -> Report:
        return apply(self._job, Reporter(self._take), lambda plan, scan: True, self.stop)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        for due, act in [one for one in self._at if one[0](event)]:
            self._at.remove((due, act))
            act()


@contextmanager
def at_puts(project: Project, number: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something while workers send: once so many PUTs were answered, which is before the first task has ended."""
    project.fake.service.latency_ms = 30

    def wait_and_act() -> None:
        wait_for(lambda: put_count(project) >= number)
        act()

    (thread := threading.Thread(target=wait_and_act)).start()
    yield
    thread.join()


def put_count(project: Project) -> int:
    return sum(entry["operation"] == PUT for entry in project.fake.journal)


class Seen(SchedulerPlugin):
    """Everything that the scheduler is told to do."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def update_graph(self, scheduler: Any, *, keys: Any, **rest: Any) -> None:
        specs = [scheduler.tasks[key].run_spec for key in keys if key in scheduler.tasks]
        self.told.append(pickle.dumps(specs) + repr(keys).encode() + repr(rest).encode())


def test_workers_send_the_files_and_the_scheduler_never_sees_the_token(
    project: Project, environment: dict[str, str]
) -> None:
    project.write_files(90)
    project.write("in/large.txt", "x" * 300_000)
    seen = Seen()
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=None
    ) as workers:
        workers.scheduler.add_plugin(seen)
        outcome = project.apply("--scheduler", workers.scheduler_address, "--insecure-scheduler")
        told = b"".join(seen.told) + repr(workers.scheduler.get_events()).encode()
    assert outcome.code == 0, outcome.text
    assert "2 workers with 4 threads" in outcome.err
    check_paid_once(project.fake, 91)
    assert len(project.fake.runs()) == 3
    assert len({line["path"] for line in project.documents}) == 91
    assert b"in/00007.txt" in told
    assert project.fake.token not in outcome.text
    assert b"fake-test" not in told
    assert put_count(project) == 91


@pytest.mark.slow
@pytest.mark.parametrize("fake", [100], indirect=True)
def test_dashboard_shows_tasks_and_never_the_token(project: Project, environment: dict[str, str]) -> None:
    project.write_files(100)
    pages: dict[str, str] = {}
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
    ) as workers:
        watched = Watched(project, ("", workers.scheduler_address))
        watched.at_file(1, lambda: pages.update(read_pages(workers.dashboard_link.removesuffix("/status"))))
        assert watched.run().exit_code == 0
    shown = "".join(pages.values())
    assert "aihub-send" in shown
    assert any("/call-stack/" in address for address in pages)
    assert project.fake.token not in shown


def test_workers_send_files_that_lie_elsewhere(
    project: Project, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("store")
    for number in range(20):
        (store / f"{number:02}.txt").write_text(f"object {number}")
    project.change_spec('"in/**/*"', f'"file://{store}/*.txt"')
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=None
    ) as workers:
        options = ("--scheduler", workers.scheduler_address, "--insecure-scheduler")
        outcome = project.apply(*options, "--allow-remote", f"file://{store}")
    assert outcome.code == 0, outcome.text
    assert "1 worker with 2 threads" in outcome.err
    assert "sent from here" not in outcome.err
    assert put_count(project) == 20
    check_paid_once(project.fake, 20)


@pytest.mark.slow
def test_without_scheduler_nothing_of_dask_is_imported(project: Project) -> None:
    project.write_files(1)
    project.write("run.py", IMPORTS)
    command = [sys.executable, str(project.folder / "run.py"), "apply", "job.toml"]
    ended = subprocess.run(command, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"
    assert len(project.fake.runs()) == 1


@pytest.mark.slow
def test_cluster_of_two_processes_on_this_machine_sends_the_files(
    project: Project, environment: dict[str, str]
) -> None:
    project.write_files(60)
    outcome = project.run_alone("apply", "job.toml", "--scheduler", "local:2")
    assert outcome.code == 0, outcome.text
    assert outcome.err.count("Traceback") == 0
    check_paid_once(project.fake, 60)
    assert len({line["path"] for line in project.documents}) == 60


@pytest.mark.slow
def test_worker_is_killed_while_it_sends_and_another_one_goes_on(project: Project, cluster: DaskCluster) -> None:
    project.write_files(120)
    cluster.start(2)
    watched = Watched(project, cluster.options, LONG)
    with at_puts(project, 3, cluster.workers[0].kill):
        report = watched.run()
    assert report.exit_code == 0, report.problems
    assert watched.count(events.LateWorkersAwaited) >= 1
    project.check_done(120)
    assert len(project.fake.runs()) == 3


@pytest.mark.slow
def test_worker_is_added_and_the_first_one_retired(project: Project, cluster: DaskCluster) -> None:
    project.write_files(120)
    cluster.start(1)

    def exchange() -> None:
        Worker(cluster)
        cluster.wait_for(2)
        with Client(cluster.address, set_as_default=False) as client:
            first = next(iter(client.scheduler_info()["workers"]))
            client.retire_workers([first])

    watched = Watched(project, cluster.options, LONG)
    watched.at_file(1, exchange)
    report = watched.run()
    assert report.exit_code == 0, report.problems
    project.check_done(120)


@pytest.mark.slow
def test_worker_hangs_and_what_it_had_is_sent_by_another(project: Project, cluster: DaskCluster) -> None:
    project.write_files(120)
    cluster.start(2)
    hung = cluster.workers[0]
    watched = Watched(project, cluster.options, LONG)
    with at_puts(project, 3, lambda: hung.signal(signal.SIGSTOP)):
        report = watched.run()
    assert report.exit_code == 0, report.problems
    assert watched.count(events.LateWorkersAwaited) >= 1
    sent = put_count(project)
    hung.signal(signal.SIGCONT)
    Worker(cluster)
    cluster.wait_for(2)
    assert put_count(project) <= sent + 2  # of each thread, the request that was in flight
    project.check_done(120)


@pytest.mark.slow
def test_file_that_a_hung_worker_may_send_late_changes_and_another_batch_is_run(
    project: Project, cluster: DaskCluster
) -> None:
    project.write_files(40)
    cluster.start(2)
    hung = cluster.workers[0]
    watched = Watched(project, cluster.options)

    def disturb() -> None:
        wait_for(lambda: put_count(project) >= 2)
        hung.signal(signal.SIGSTOP)
        sent = {entry["path"].rpartition("/")[2] for entry in project.fake.journal if entry["operation"] == PUT}
        for path in (project.folder / "in").iterdir():
            if path.name not in sent:
                path.write_text("another content of " + path.name)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    report = watched.run()
    disturbing.join()
    assert report.exit_code == 0, report.problems
    assert watched.count(events.BatchSpoilt) == 1
    hung.signal(signal.SIGCONT)
    assert len(project.fake.runs()) == 1
    project.check_done(40)


@pytest.mark.slow
def test_scheduler_is_lost_and_the_next_apply_goes_on_without_one(project: Project, cluster: DaskCluster) -> None:
    project.write_files(120)
    cluster.start(2)
    watched = Watched(project, cluster.options)
    watched.at_file(1, cluster.stop_scheduler)
    report = watched.run()
    assert report.exit_code == 4
    assert any(cluster.address in problem.message for problem in report.problems)
    assert any("without --scheduler" in problem.hint for problem in report.problems)
    project.check_done(120)


@pytest.mark.slow
def test_scheduler_that_does_not_answer_is_an_error_before_anything_is_sent(
    project: Project, cluster: DaskCluster
) -> None:
    project.write_files(2)
    cluster.stop_scheduler()
    report = Watched(project, cluster.options).run()
    assert report.exit_code == 4
    assert "cannot connect" in report.problems[0].message
    assert project.sent() == []


@pytest.mark.slow
def test_coordinator_is_killed_and_the_next_apply_waits_for_its_workers(project: Project, cluster: DaskCluster) -> None:
    project.write_files(80)
    cluster.start(2)
    process = project.start("apply", "job.toml", *cluster.options)
    wait_for(lambda: put_count(project) > 5)
    process.kill()
    process.communicate()
    with closing(sqlite3.connect(project.folder / "job.state.db")) as state:
        assert state.execute("SELECT count(*) FROM handed_batches").fetchone()[0]
        state.execute("UPDATE handed_batches SET late_s = 1.5")
        state.commit()
    begun_s = time.monotonic()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert time.monotonic() - begun_s > 1.5
    assert "a lost worker may still send" in outcome.err
    project.check_done(80)
    assert len(project.fake.runs()) == 2


@pytest.mark.slow
def test_files_change_after_the_coordinator_was_killed_and_go_into_another_batch(
    project: Project, cluster: DaskCluster
) -> None:
    project.write_files(30)
    cluster.start(1)
    process = project.start("apply", "job.toml", *cluster.options)
    wait_for(lambda: put_count(project) > 5)
    process.kill()
    process.communicate()
    project.write("in/00029.txt", "another content")
    before = {batch["id"] for batch in project.fake.batches()}
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert {run["batch_id"] for run in project.fake.runs()}.isdisjoint(before)
    project.check_done(30)


@pytest.mark.slow
@pytest.mark.parametrize("fake", [100], indirect=True)
def test_one_refusal_slows_all_workers(project: Project, cluster: DaskCluster) -> None:
    project.change_spec("files_per_batch = 40", "files_per_batch = 240")
    project.write_files(240)
    cluster.start(2)
    project.fake.faults.add(operation=PUT, nth=10, do="status", status=429, headers={"Retry-After": "3"})
    report = Watched(project, cluster.options).run()
    assert report.exit_code == 0, report.problems
    assert report.rate_limited == 1
    puts = [entry for entry in project.fake.journal if entry["operation"] == PUT]
    refused_s = next(one["begun_s"] + one["took_s"] for one in puts if one["status"] == 429)
    assert [one for one in puts if 1.0 < one["begun_s"] - refused_s < 3.0] == []
    project.check_done(240)


@pytest.mark.slow
def test_worker_without_token_is_refused_by_name(project: Project, cluster: DaskCluster) -> None:
    project.write_files(2)
    cluster.env.pop("AIHUB_API_KEY")
    cluster.start(1)
    report = Watched(project, cluster.options, LONG).run()
    assert report.exit_code == 4
    assert any("AIHUB_API_KEY: not set on a worker" in problem.message for problem in report.problems)
    assert put_count(project) == 0
    project.check_done(2)


@pytest.mark.slow
def test_worker_never_sends_its_token_to_the_root_of_a_task(project: Project, cluster: DaskCluster) -> None:
    project.write_files(2)
    cluster.env["AIHUB_API_ROOT"] = "http://127.0.0.1:9/api"
    cluster.start(1)
    report = Watched(project, cluster.options, LONG).run()
    assert report.exit_code == 4
    assert any("a worker has the root http://127.0.0.1:9/api" in problem.message for problem in report.problems)
    assert put_count(project) == 0


OTHER_PROGRAMS = {
    "cannot load aihub-runner": "import sys; sys.modules['aihub_runner'] = None",
    "a worker has 9.9": "import aihub_runner.version as it; it.VERSION = '9.9'",
}


@pytest.mark.slow
@pytest.mark.parametrize("said", OTHER_PROGRAMS)
def test_worker_without_this_program_is_refused_by_name(project: Project, cluster: DaskCluster, said: str) -> None:
    project.write_files(2)
    project.write("site/sitecustomize.py", OTHER_PROGRAMS[said])
    Worker(cluster, env={"PYTHONPATH": str(project.folder / "site")}, preload=())
    cluster.wait_for(1)
    outcome = project.run_alone("apply", "job.toml", *cluster.options)
    assert (outcome.code, put_count(project)) == (4, 0)
    assert said in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_process_of_a_local_cluster_is_killed_and_replaced(project: Project, environment: dict[str, str]) -> None:
    project.write_files(200)
    process = project.start("apply", "job.toml", "--scheduler", "local:2")
    wait_for(lambda: put_count(project) > 5, at_most_s=60)
    kill_child(process.pid)
    wait_for(lambda: put_count(project) > 60, at_most_s=60)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    with closing(sqlite3.connect(project.folder / "job.state.db")) as state:
        state.execute("UPDATE handed_batches SET late_s = 0.5")
        state.commit()
    project.check_done(200)


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_lets_the_processes_finish_their_tasks(
    project: Project, environment: dict[str, str]
) -> None:
    project.write_files(200)
    command = [sys.executable, "-m", "aihub_runner", "apply", "job.toml", "--scheduler", "local:2"]
    process = subprocess.Popen(command, cwd=project.folder, env=environment, start_new_session=True)
    wait_for(lambda: put_count(project) > 5, at_most_s=60)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    project.check_done(200)


@pytest.mark.slow
def test_scheduler_elsewhere_is_used_with_certificates_only(project: Project, cluster: DaskCluster) -> None:
    project.write_files(5)
    cluster.stop_scheduler()
    with cluster.encrypted() as of_client:
        cluster.start(1)
        project.env |= of_client
        outcome = project.run_alone("apply", "job.toml", "--scheduler", cluster.address)
        assert outcome.code == 0, outcome.text
        check_paid_once(project.fake, 5)
        project.env |= cluster.other_certificates()
        project.write_files(1, start=5)
        assert project.run_alone("apply", "job.toml", "--scheduler", cluster.address).code == 4
    check_paid_once(project.fake, 5)
    project.env |= dict.fromkeys(of_client)
    project.check_done(6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "tcp://10.0.0.1:8786"), "not encrypted"),
        (("--scheduler", "http://10.0.0.1:8786"), "not an address"),
        (("--scheduler", "tls://user:pass@host:8786"), "not an address"),
        (("--scheduler", "tls://host"), "not an address"),
        (("--scheduler", "local:0"), "1 to 64"),
        (("--scheduler", "local:1000"), "1 to 64"),
        (("--scheduler", "local"), "not an address"),
    ],
)
def test_scheduler_that_must_not_be_used_is_refused(project: Project, options: tuple[str, ...], message: str) -> None:
    project.write_files(1)
    outcome = project.apply(*options)
    assert outcome.code == 2
    assert message in outcome.err
    assert project.fake.journal == []


@pytest.mark.parametrize("key", ["keep = true", "id = 1", "id = 1\nsync = true"])
def test_kept_batches_are_refused_with_a_scheduler(project: Project, key: str) -> None:
    project.write_files(1)
    if key == "id = 1":
        project.change_spec('files = "in/**/*"\n', "")
    project.write("job.toml", project.spec_path.read_text() + f"[batch]\n{key}\n")
    outcome = project.apply("--scheduler", "local:2")
    assert outcome.code == 2
    assert "cannot be combined with --scheduler" in outcome.err
    assert project.fake.journal == []


def test_tls_scheduler_needs_certificates(project: Project) -> None:
    project.write_files(1)
    outcome = project.apply("--scheduler", "tls://127.0.0.1:8786")
    assert outcome.code == 2
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in outcome.err
    assert project.sent() == []
