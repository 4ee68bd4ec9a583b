"""`certify` finds all promises kept by the fake, and each planted difference; and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import fake_aihub.server.embedded
from fake_aihub import FakeAIHub
from fake_aihub.certify.http import Target
from fake_aihub.certify.promise import Promise, load_promises
from fake_aihub.certify.redaction import Redaction
from fake_aihub.certify.report import make_redaction, render_report
from fake_aihub.certify.runner import Certificate, certify
from fake_aihub.certify.session import Hub, Options
from fake_aihub.server.cli import main
from support.contract import load_operations
from support.differences import DIFFERENCES, Difference

FOLDER = "/acme/docs/fs/drive/in"
EVERYTHING = Options(max_runs=4, app_name="Invoice Extraction", deployment="d-1", folder=FOLDER, settle_s=5)
MARK = "0123456789"


def make_fake() -> FakeAIHub:
    return FakeAIHub(run_seconds=5, page_files=2, part_size=1000)


def make_hub(fake: FakeAIHub, options: Options = EVERYTHING) -> Hub:
    """Make a hub that waits by moving the fake's clock: nothing really does."""
    return Hub(Target(fake.root, fake.token, now=fake.clock.now_s, sleep=fake.clock.advance), options, MARK)


def certify_all(hub: Hub, promises: list[Promise] | None = None) -> Certificate:
    return certify(hub, promises or load_promises(), lambda verdict: None)


def outcomes(certificate: Certificate, outcome: str) -> dict[str, str]:
    return {found.promise.id: found.why for found in certificate.verdicts if found.outcome == outcome}


def promises_named(*ids: str) -> list[Promise]:
    return [promise for promise in load_promises() if promise.id in ids]


def run_certify(*arguments: str, report: Path, token: str = "fake-secret-token", **options: Any) -> Result:
    environment = {"AIHUB_API_KEY": token, "AIHUB_CONTEXT": "acme-context", "AIHUB_WORKSPACE": "Secret Workspace"}
    return CliRunner().invoke(main, ["certify", "--report", str(report), *arguments], env=environment, **options)


@pytest.mark.slow
def test_certify_finds_all_promises_kept_by_the_fake() -> None:
    with make_fake() as fake:
        certificate = certify_all(make_hub(fake))
        assert outcomes(certificate, "broken") == {}
        assert outcomes(certificate, "skipped") == {}
        assert certificate.left_behind == []
        assert (fake.batches(), fake.runs(), fake.world.sessions) == ([], [], {})


@pytest.mark.matrix(most=16)
@pytest.mark.parametrize("planted", DIFFERENCES, ids=lambda planted: planted.name)
def test_certify_finds_a_planted_difference(planted: Difference, monkeypatch: pytest.MonkeyPatch) -> None:
    original = fake_aihub.server.embedded.create_app
    monkeypatch.setattr(fake_aihub.server.embedded, "create_app", lambda service: planted.wrap(original(service)))
    filling = [promise.id for promise in load_promises() if promise.id.startswith("secret-")]  # the audit log
    with make_fake() as fake:
        certificate = certify_all(make_hub(fake), promises_named(*filling, planted.breaks))
        assert planted.breaks in outcomes(certificate, "broken")


def test_certify_plants_differences_for_promises_that_there_are() -> None:
    assert len(DIFFERENCES) >= 20
    assert {planted.breaks for planted in DIFFERENCES} <= {promise.id for promise in load_promises()}


def test_certify_names_operations_that_are_described(openapi: Path) -> None:
    named = {operation for promise in load_promises() for operation in promise.operations}
    assert named <= load_operations(openapi).keys()


@pytest.mark.slow
def test_certify_without_leave_starts_no_run_and_says_what_it_skips() -> None:
    with make_fake() as fake:
        certificate = certify_all(make_hub(fake, Options(app_name="Invoice Extraction")))
        skipped = outcomes(certificate, "skipped")
        assert fake.ledger["runs"] == {}
        assert skipped["results-answer-every-file"] == "needs 1 run, none allowed: see --max-runs and --yes"
        assert outcomes(certificate, "broken") == {}


@pytest.mark.slow
def test_certify_starts_no_more_runs_than_allowed() -> None:
    with make_fake() as fake:
        certificate = certify_all(make_hub(fake, Options(app_name="Invoice Extraction", max_runs=1)))
        assert sum(fake.ledger["runs"].values()) == 1
        assert "runs-are-sorted-by-start" in outcomes(certificate, "skipped")
        assert outcomes(certificate, "broken") == {}


@pytest.mark.slow
def test_certify_counts_a_run_whose_answer_was_lost_and_deletes_it() -> None:
    with make_fake() as fake:
        fake.faults.add(operation="runApp", when="after", do="reset", nth=5, times=9)
        certificate = certify_all(make_hub(fake, Options(app_name="Invoice Extraction", max_runs=1)))
        assert sum(fake.ledger["runs"].values()) == 1
        assert outcomes(certificate, "broken")["run-is-answered-at-once"].startswith("no response")
        assert (fake.batches(), fake.runs()) == ([], [])


def test_certify_interrupted_deletes_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(hub: Hub) -> None:
        hub.new_batch()
        hub.put(hub.batch, "a.txt")
        raise KeyboardInterrupt

    stopping = Promise("stopping", "It stops.", (), 0, (), interrupt)
    with make_fake() as fake:
        certificate = certify_all(make_hub(fake), [stopping])
        assert certificate.ended == "interrupted"
        assert fake.ledger["batches"].keys() == {f"/certify-{MARK}-1", f"/certify-{MARK}-2"}
        assert fake.batches() == []


def test_certify_lists_what_it_could_not_delete() -> None:
    with make_fake() as fake:
        fake.faults.add(operation="deleteBatch", do="status", status=503, times=99)
        certificate = certify_all(make_hub(fake), promises_named("batch-id-is-a-whole-number"))
        assert len(fake.batches()) == 1
        assert certificate.left_behind == [f"batch {fake.batches()[0]['id']}: the service returned 503"]


@pytest.mark.slow
def test_certify_interrupted_from_the_keyboard_deletes_what_it_made_and_exits_with_130(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "fake_aihub", "certify", "--report", str(report), "--settle-seconds", "600"]
    with FakeAIHub() as fake:
        fake.faults.add(operation="listFiles", do="stall", seconds=60, nth=2)
        environment = os.environ | {"AIHUB_API_KEY": "fake-x", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            [*command, "--target", fake.root], env=environment, text=True, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if "file-is-taken-with-204" in line)
            process.send_signal(signal.SIGINT)
            told = process.stdout.read()
        assert (process.returncode, fake.batches()) == (130, [])
    assert "interrupted" in told
    assert json.loads(report.read_text())["ended"] == "interrupted"


@pytest.mark.slow
def test_certify_waits_once_for_a_run_that_does_not_end() -> None:
    with make_fake() as fake:
        fake.next_run(hold=True)
        before = fake.clock.now_s()
        certificate = certify_all(make_hub(fake, Options(app_name="Invoice Extraction", max_runs=1)))
        assert fake.clock.now_s() - before < 2 * 3600
        assert "the run is RUNNING" in outcomes(certificate, "skipped")["results-answer-every-file"]
        assert (outcomes(certificate, "broken"), fake.runs()) == ({}, [])


@pytest.mark.slow
def test_certify_does_not_wait_for_a_review() -> None:
    with make_fake() as fake:
        fake.next_run(status="STOPPED_AT_CHECKPOINT")
        certificate = certify_all(make_hub(fake, Options(app_name="Invoice Extraction", max_runs=1)))
        assert "STOPPED_AT_CHECKPOINT" in outcomes(certificate, "skipped")["results-answer-every-file"]


def test_certify_deletes_a_secret_whose_answer_was_lost() -> None:
    with make_fake() as fake:
        fake.faults.add(operation="createSecret", when="after", do="reset")
        certificate = certify_all(make_hub(fake), promises_named("secret-is-found-by-its-alias"))
        assert (certificate.count("broken"), fake.world.secrets) == (1, {})


@pytest.mark.slow
def test_certify_does_not_try_parts_that_are_too_large() -> None:
    with FakeAIHub(part_size=1 << 40) as fake:
        skipped = outcomes(certify_all(make_hub(fake, Options())), "skipped")
        assert "too large" in skipped["several-parts-make-one-file"]


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"id": 1, "created_at_ms": ' + "9" * 4000 + "}",
        '{"id": "\\ud800"}',
        '{"id": "\\u0007"}',
        '{"id": NaN, "batches": [Infinity, 1e999]}',
        '{"id": null, "batches": null}',
        "null",
    ],
)
@pytest.mark.slow
def test_certify_takes_no_harm_by_hostile_answers(tmp_path: Path, body: str) -> None:
    report = tmp_path / "report.json"
    with make_fake() as fake:
        fake.faults.add(operation="deleteBatch", do="status", status=503, times=999)
        fake.faults.add(operation="createBatch", do="status", status=200, body=body, times=999)
        fake.faults.add(operation="getBatch", do="status", status=200, body=body, times=999)
        found = run_certify("--target", fake.root, "--settle-seconds", "0", report=report)
        assert found.exit_code == 3, found.output
        assert "\a" not in found.output
        assert json.loads(report.read_text(), parse_constant=pytest.fail)["ended"] == "complete"


def test_certify_says_where_the_root_is_none(tmp_path: Path) -> None:
    with make_fake() as fake:
        found = run_certify("--target", f"{fake.root}/nowhere", report=tmp_path / "report.json")
        assert found.exit_code == 4
        assert "API root" in found.output


def test_certify_stops_where_nothing_answers_any_more() -> None:
    with make_fake() as fake:
        fake.faults.add(nth=4, do="reset", times=10_000)
        certificate = certify_all(make_hub(fake))
        assert certificate.ended == "unreachable"
        assert len(certificate.verdicts) < 10


def test_certify_waits_where_the_service_asks_to() -> None:
    with make_fake() as fake:
        before = fake.clock.now_s()
        fake.faults.add(operation="listBatches", do="status", status=429, headers={"Retry-After": "7"})
        assert certify_all(make_hub(fake), promises_named("answers-have-a-date")).count("kept") == 1
        assert fake.clock.now_s() - before >= 7


def test_certify_calls_an_answer_of_another_shape_broken() -> None:
    with make_fake() as fake:
        fake.faults.add(operation="listBatches", do="garbage", times=99)
        certificate = certify_all(make_hub(fake), promises_named("offset-beyond-the-end-gives-no-batches"))
        assert certificate.count("broken") == 1


@pytest.mark.slow
def test_certify_report_tells_nothing_of_others_nor_of_the_account(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with make_fake() as fake:
        fake.world.create_batch("acme-context", "Their Merger", "Secret Workspace", "jane.doe@example.com")
        found = run_certify("--target", fake.root, "--app-name", "Secret App", report=report)
        assert found.exit_code == 0, found.output
        told, text = json.loads(report.read_text()), report.read_text() + found.output
        for hidden in (
            "fake-secret-token",
            "acme-context",
            "Secret Workspace",
            "Secret App",
            "Their Merger",
            "jane.doe",
        ):
            assert hidden not in text
        assert fake.root not in text
        assert (told["format"], told["target"]) == ("aihub-certify-report/1", "fake")
        assert told["counts"]["broken"] == 0
        assert [batch["name"] for batch in fake.batches()] == ["Their Merger"]


def test_certify_tells_of_what_it_made_and_counts_what_it_did_not() -> None:
    ours = [{"id": 1001, "name": "a"}, {"id": 7, "name": f"certify-{MARK}-1"}]
    theirs = [{"id": 8, "name": "Their Merger", "created_at_ms": 1710011234}]
    told = Redaction(MARK, ["1001"]).clean({"batches": ours + theirs})
    assert told == {"batches": [*ours, "<1 of others>"]}


def test_certify_redacts_people_wherever_they_stand() -> None:
    with make_fake() as fake:
        hub = make_hub(fake)
        certificate = certify_all(hub, promises_named("batch-has-its-path"))
        exchanges = [one for verdict in certificate.verdicts for one in verdict.exchanges]
        redaction = make_redaction(hub, fake.token, exchanges)
        assert redaction.clean("asked by fake-user, a.b@example.org") == "asked by <repo_owner>, <email>"
        assert "fake-user" not in json.dumps(render_report(hub, certificate, redaction))


@pytest.mark.slow
def test_certify_exits_with_3_where_a_promise_is_broken(tmp_path: Path) -> None:
    with make_fake() as fake:
        fake.faults.add(operation="listBatches", do="status", status=200, body='{"batches": 5}', nth=2, times=9)
        found = run_certify("--target", fake.root, report=tmp_path / "report.json")
        assert found.exit_code == 3
        assert "broken  wrong-token-is-401" in found.output


def test_certify_exits_with_4_where_the_token_is_refused(tmp_path: Path) -> None:
    with make_fake() as fake:
        found = run_certify("--target", fake.root, report=tmp_path / "report.json", token="real")
        assert (found.exit_code, fake.batches()) == (4, [])
        assert "rejected by the target" in found.output


def test_certify_exits_with_4_where_nobody_answers(tmp_path: Path) -> None:
    found = run_certify("--target", "http://127.0.0.1:9/api", report=tmp_path / "report.json")
    assert (found.exit_code, (tmp_path / "report.json").exists()) == (4, False)


@pytest.mark.parametrize(
    ("target", "token", "message"),
    [
        ("http://aihub.instabase.com/api", "t", "not https"),
        ("https://me:secret@aihub.instabase.com/api", "t", "not a plain URL"),
        ("aihub.instabase.com", "t", "not a plain URL"),
        ("https://aihub.instabase.com/api", "", "AIHUB_API_KEY"),
        ("https://aihub.instabase.com/api", "a\nb", "AIHUB_API_KEY"),
    ],
)
def test_certify_refuses_wrong_use(tmp_path: Path, target: str, token: str, message: str) -> None:
    found = run_certify("--target", target, report=tmp_path / "report.json", token=token)
    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize(("said", "runs"), [("n\n", 0), ("", 0), ("y\n", 1)])
@pytest.mark.slow
def test_certify_asks_before_runs_are_paid(tmp_path: Path, said: str, runs: int) -> None:
    with FakeAIHub(part_size=1000) as fake:
        arguments = ("--target", fake.root, "--app-name", "Invoices", "--max-runs", "1")
        found = run_certify(*arguments, report=tmp_path / "report.json", input=said)
        assert found.exit_code == 0
        assert sum(fake.ledger["runs"].values()) == runs
        assert ("no terminal to ask on" in found.output) == (said == "")
