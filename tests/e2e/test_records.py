"""Records of an apply for CI and for programs: events, JUnit, the step summary, annotations."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from support.raw_server import RawServer, answer

from .conftest import Project

EVIL = "in/`x` $(y) '@ ::error::|<b>&.txt"


@pytest.fixture
def mixed(project: Project) -> Project:
    """Return a project with a file of a hostile name that fails, and one that is skipped."""
    project.write(EVIL, "words")
    project.write("in/song.wav", "la")
    project.fake.next_run(status="FAILED", message="no\n::error::units")
    return project


@pytest.mark.slow
def test_each_event_is_a_line_of_json_as_it_happens(project: Project) -> None:
    project.write_files(2)
    assert project.run_alone("apply", "job.toml", "--json-into", "events.jsonl").code == 0
    lines = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    names = [line["event"] for line in lines]
    assert [names.count(name) for name in ("BatchCreated", "FileUploaded", "RunStarted", "Tick")] == [1, 2, 1, 0]
    assert all(line["time"].endswith("+00:00") for line in lines)
    [started] = [line for line in lines if line["event"] == "RunStarted"]
    assert started["run"] == project.fake.runs()[0]["id"]


def test_junit_has_a_case_for_each_file_that_is_not_done(mixed: Project) -> None:
    outcome = mixed.run_alone("apply", "job.toml", "--junit", "out.xml")
    assert outcome.code == 3
    [suite] = ElementTree.parse(mixed.folder / "out.xml").getroot()
    assert (suite.get("name"), suite.get("failures"), suite.get("skipped")) == ("job.toml", "1", "1")
    cases = {case.get("name"): [inner.tag for inner in case] for case in suite}
    assert cases == {"0 files done or in progress": [], EVIL: ["failure"], "in/song.wav": ["skipped"]}


def test_junit_tells_why_a_spec_was_not_applied(project: Project) -> None:
    project.write_files(1)
    outcome = project.run("apply", "--max-runs", "0", "--junit", "out.xml")
    assert outcome.code == 2
    [suite] = ElementTree.parse(project.folder / "out.xml").getroot()
    [failure] = suite.findall("testcase/failure")
    assert "would start 1 run, 0 are allowed" in str(failure.get("message"))


def test_workflow_of_github_gets_a_summary_and_annotations(mixed: Project) -> None:
    summary = mixed.write("summary.md", "# Before\n")
    mixed.env |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    outcome = mixed.run_alone("apply", "job.toml")
    assert outcome.code == 3
    text = summary.read_text()
    assert text.startswith("# Before\n### <code>job.toml</code>: exit code 3\n")
    escaped = "in/&#96;x&#96; &#36;(y) &#39;&#64; &#58;&#58;error&#58;&#58;&#124;&#60;b&#62;&#38;.txt"
    assert f"- failed: <code>{escaped}</code>" in text
    commands = [line for line in outcome.err.splitlines() if line.startswith("::")]
    assert [command.split("::")[1] for command in commands] == ["error title=job.toml", "warning title=job.toml"]
    assert commands[1] == "::warning title=job.toml::in/song.wav: unsupported type, .wav"


def test_without_them_nothing_is_left(project: Project) -> None:
    project.write_files(1)
    project.apply()
    assert sorted(path.name for path in project.folder.iterdir()) == [
        "in",
        "job.lock.toml",
        "job.state.db",
        "job.state.db.lock",
        "job.toml",
        "results",
    ]


def test_record_that_cannot_be_written_does_not_end_the_work(project: Project) -> None:
    project.write_files(1)
    project.env |= {"GITHUB_STEP_SUMMARY": str(project.folder)}
    outcome = project.apply()
    assert (outcome.code, "GITHUB_STEP_SUMMARY" in outcome.err) == (3, True)
    assert len(project.fake.runs()) == 1
    assert project.documents


@pytest.mark.parametrize("option", ["--junit", "--json-into", "--log-file"])
def test_record_is_not_written_where_the_next_apply_would_send_it(project: Project, option: str) -> None:
    project.write_files(1)
    assert project.apply(option, "in/record.txt").code == 2
    assert not (project.folder / "in/record.txt").exists()
    assert project.sent() == []


def last_apply(project: Project) -> dict[str, Any]:
    return json.loads((project.folder / "results/job/last-apply.json").read_text())


def test_last_apply_says_what_the_summary_says(mixed: Project) -> None:
    shown = mixed.run("apply", "--json").json
    left = last_apply(mixed)
    assert (left.pop("format_version"), left.pop("ended")[-6:]) == (1, "+00:00")
    assert left == shown
    assert left["exit_code"] == 3


def test_last_apply_keeps_warnings(project: Project) -> None:
    project.write_files(1)
    project.change_spec('context = "acme"\n', "")
    project.env["AIHUB_CONTEXT"] = None
    project.apply()
    [warning] = last_apply(project)["warnings"]
    assert warning.startswith("no context: ")


def test_last_apply_tells_why_nothing_was_done(project: Project) -> None:
    project.write_files(1)
    assert project.apply("--max-runs", "0").code == 2
    left = last_apply(project)
    assert (left["name"], left["exit_code"], len(left["problems"])) == ("job", 2, 1)
    assert "would start 1 run, 0 are allowed" in left["problems"][0]["message"]
    project.apply()
    assert last_apply(project)["exit_code"] == 0


def test_last_apply_is_current_after_an_apply_with_nothing_to_do(project: Project) -> None:
    project.write_files(1)
    project.apply()
    before = last_apply(project)
    assert project.apply().code == 0
    assert last_apply(project) == before
    project.write("in/new.txt", "new")
    assert project.apply("--max-runs", "0").code == 2
    (project.folder / "in/new.txt").unlink()
    assert project.apply().code == 0
    assert last_apply(project)["nothing_to_do"]


def test_last_apply_that_cannot_be_written_changes_nothing_else(project: Project) -> None:
    project.write_files(1)
    project.write("results/job/last-apply.json/in-the-way", "")
    outcome = project.apply()
    assert (outcome.code, "warning: last-apply.json: not written" in outcome.err) == (0, True)
    assert project.documents


def test_last_apply_is_never_sent(project: Project) -> None:
    project.write_files(1)
    project.change_spec("in/**/*", "**/*.*")
    project.apply()
    project.forget_requests()
    assert project.apply().code == 0
    assert project.sent() == []


def test_url_is_told_how_an_apply_ended(mixed: Project) -> None:
    mixed.write_files(150)
    for number in range(150):
        mixed.write(f"in/{number}.wav", "la")
    with closing(RawServer([[answer(b"")]])) as server:
        mixed.env |= {"AIHUB_RUNNER_NOTIFY_URL": f"http://127.0.0.1:{server.port}/secret?key=hidden"}
        mixed.env |= {"AIHUB_RUNNER_NOTIFY_TOKEN": "t0ken"}
        outcome = mixed.apply()
        [head], [body] = server.heads, map(json.loads, server.bodies)
    assert (head.split()[:2], "Authorization: Bearer t0ken" in head) == (["POST", "/secret?key=hidden"], True)
    left = last_apply(mixed)
    assert (len(body["skipped"]), len(left["skipped"])) == (100, 151)
    assert body == left | {name: left[name][:100] for name in ("skipped", "failed")}
    assert "fake-test" not in head + json.dumps(body)
    assert not any(secret in outcome.text + json.dumps(left) for secret in ("hidden", "t0ken"))


def test_url_is_told_of_an_apply_that_did_nothing_and_of_one_that_could_not(project: Project) -> None:
    project.write_files(1)
    with closing(RawServer([[answer(b"")]])) as server:
        project.env |= {"AIHUB_RUNNER_NOTIFY_URL": f"http://127.0.0.1:{server.port}/"}
        assert [project.apply("--max-runs", "0").code, project.apply().code, project.apply().code] == [2, 0, 0]
        told = [json.loads(body) for body in server.bodies]
    assert [(one["exit_code"], one.get("nothing_to_do")) for one in told] == [(2, None), (0, False), (0, True)]


def test_notification_that_fails_changes_nothing_else(project: Project) -> None:
    project.write_files(1)
    with closing(RawServer([[answer(b"", "410 Gone")]])) as server:
        project.env |= {"AIHUB_RUNNER_NOTIFY_URL": f"http://127.0.0.1:{server.port}/secret"}
        outcome = project.apply()
    assert outcome.code == 0
    assert "warning: AIHUB_RUNNER_NOTIFY_URL: the notification was not delivered, HTTP 410\n" in outcome.err
    assert "secret" not in outcome.text


def test_url_to_notify_never_comes_from_a_file(project: Project) -> None:
    project.write_files(1)
    with closing(RawServer([[answer(b"")]])) as server:
        project.write(".env", f"AIHUB_RUNNER_NOTIFY_URL=http://127.0.0.1:{server.port}/\n")
        assert project.apply().code == 0
        assert server.requests == []


def read_log(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder / "log.jsonl").read_text().splitlines()]


def test_log_has_a_line_for_each_request(project: Project) -> None:
    project.write_files(2)
    project.fake.faults.add(operation="addFileToBatch", do="status", status=500, times=1)
    assert project.run_alone("apply", "job.toml", "--log-file", "log.jsonl").code == 0
    lines = read_log(project)
    sent = sorted((entry["method"], entry["path"].split("?")[0], entry["status"]) for entry in project.fake.journal)
    assert sorted((line["method"], f"/api{line['path']}", line["status"]) for line in lines) == sent
    sizes = {path.name: path.stat().st_size for path in (project.folder / "in").iterdir()}
    put = [line for line in lines if line["method"] == "PUT"]
    assert (len(put), {line["sent_bytes"] for line in put}) == (3, set(sizes.values()))
    assert all(line["time"].endswith("+00:00") and line["ms"] >= 0 for line in lines)
    assert "fake-test" not in (project.folder / "log.jsonl").read_text()


def test_log_named_in_the_environment_is_appended_to(project: Project) -> None:
    project.write_files(1)
    project.env["AIHUB_RUNNER_LOG_FILE"] = str(project.write("log.jsonl", '{"before": 1}\n'))
    assert project.apply().code == 0
    assert read_log(project)[0] == {"before": 1}
    assert len(read_log(project)) == len(project.fake.journal) + 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("option", ["--json-into", "--log-file"])
def test_full_disk_ends_only_the_record(project: Project, option: str) -> None:
    project.write_files(1)
    outcome = project.apply(option, "/dev/full")
    assert outcome.code == 0, outcome.text
    assert f"warning: {option} /dev/full: cannot be written, No space left on device\n" in outcome.err
    assert project.documents


@pytest.mark.parametrize("option", ["--json-into", "--log-file", "--junit"])
@pytest.mark.parametrize(
    "name",
    [
        *("documents.jsonl", "last-apply.json", "raw/a/plain/0.json", ".aihub-written"),
        *("fields.csv", "cases.xlsx", "documents/Invoice.csv"),
    ],
)
def test_record_never_takes_the_place_of_results(project: Project, option: str, name: str) -> None:
    project.write_files(1)
    outcome = project.apply(option, f"results/job/{name}")
    assert (outcome.code, project.sent()) == (2, [])
    assert f"results/job/{name}: is where apply keeps results" in outcome.err


def test_records_in_one_file_are_refused(project: Project) -> None:
    project.write_files(1)
    (project.folder / "link").symlink_to("one.log")
    outcome = project.run_alone("apply", "job.toml", "--log-file", "one.log", "--junit", "link")
    assert (outcome.code, project.sent()) == (2, [])
    assert "link: is named by --log-file and by --junit" in outcome.err


@pytest.mark.parametrize("option", ["--json-into", "--log-file", "--junit"])
@pytest.mark.parametrize(
    "name",
    [
        "results/job/.aihub-results",
        "job.toml",
        "job.state.db",
        "job.lock.toml",
        "other.aihub.toml",
        "job@test.state.db",
        "job.state.db.lock",
    ],
)
def test_record_never_takes_the_place_of_a_file_of_our_own(project: Project, option: str, name: str) -> None:
    project.write("other.aihub.toml", project.spec_path.read_text())
    project.write_files(1)
    before = {path.name: path.read_bytes() for path in project.folder.glob("*.toml")}
    outcome = project.apply(option, name)
    assert (outcome.code, project.sent()) == (2, [])
    assert f"{name}: is one of aihub-runner's own files" in outcome.err
    assert {path.name: path.read_bytes() for path in project.folder.glob("*.toml")} == before


@pytest.mark.parametrize("option", ["--json-into", "--log-file", "--junit"])
def test_record_never_takes_the_place_of_a_table(project: Project, option: str) -> None:
    project.change_spec("[limits]", '[results]\nformats = ["csv"]\n[limits]')
    project.write_files(1)
    assert project.apply().code == 0
    tables = [path.relative_to(project.folder) for path in (project.folder / "results/job").rglob("*.csv")]
    before = [path.read_bytes() for path in tables]
    assert tables
    for table in tables:
        outcome = project.apply(option, str(table))
        assert (outcome.code, "is where apply keeps results" in outcome.err) == (2, True), table
    assert [path.read_bytes() for path in tables] == before
