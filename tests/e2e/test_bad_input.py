"""Bad input and a bad service: a clear error, nothing lost, and no secret shown."""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import sqlite3
import sys

import pytest

from support.proxy import BATCHES, Proxy, after

from .conftest import Project


@pytest.fixture
def filled(project: Project) -> Project:
    project.write_files(2)
    return project


def test_no_token_is_told_before_anything_is_sent(filled: Project) -> None:
    filled.env["AIHUB_API_KEY"] = None
    outcome = filled.apply()
    assert (outcome.code, filled.fake.journal) == (2, [])
    assert "error: AIHUB_API_KEY: not set" in outcome.err
    assert "hint: " in outcome.err


def test_token_that_is_refused_ends_with_4_and_goes_on_with_a_good_one(filled: Project) -> None:
    filled.env["AIHUB_API_KEY"] = "refused-token"
    outcome = filled.apply()
    assert outcome.code == 4
    assert "401" in outcome.err
    assert "AIHUB_API_KEY" in outcome.err
    assert filled.sent() == []
    filled.env["AIHUB_API_KEY"] = "fake-test"
    assert filled.apply().code == 0


def test_no_units_ends_with_4_and_the_uploads_are_kept(filled: Project) -> None:
    filled.fake.world.units_left = 0
    outcome = filled.apply()
    assert outcome.code == 4
    assert "Not enough consumption units" in outcome.err
    assert filled.fake.runs() == []
    filled.fake.world.units_left = None
    filled.forget_requests()
    assert filled.apply().code == 0
    assert filled.sent() == ["POST runApp"]


@pytest.mark.slow
def test_host_that_cannot_be_reached_ends_with_4(filled: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    filled.env["AIHUB_API_ROOT"] = f"http://127.0.0.1:{port}/api"
    outcome = filled.apply()
    assert outcome.code == 4
    assert f"127.0.0.1:{port} cannot be reached" in outcome.err


@pytest.mark.slow
def test_html_of_a_gateway_ends_with_4(filled: Project) -> None:
    filled.fake.faults.add(operation="listBatches", times=100, do="garbage")
    filled.change_spec("settle_s", "read_timeout_s = 1\nsettle_s")
    outcome = filled.apply()
    assert outcome.code == 4
    assert "an HTML page instead of JSON" in outcome.err
    assert filled.sent() == []


def test_spec_mistakes_are_all_printed_with_their_lines(filled: Project) -> None:
    filled.write("job.toml", 'files = "in/*"\napp_name = "A"\napp_id = "B"\nownr = "me"\n[limits]\nsettle_s = "x"\n')
    outcome = filled.apply()
    assert outcome.code == 2
    assert f"error: {filled.spec_path}:4:1: unknown key 'ownr'" in outcome.err
    assert "hint: did you mean 'owner'?" in outcome.err
    assert f"error: {filled.spec_path}:6:" in outcome.err


def test_no_file_at_all_ends_with_2(project: Project) -> None:
    outcome = project.apply()
    assert (outcome.code, project.fake.journal) == (2, [])
    assert "no file matches in/**/*" in outcome.err


def test_files_that_lead_outside_are_refused_unless_allowed(filled: Project) -> None:
    filled.change_spec('"in/**/*"', '"../**/*.txt"')
    assert filled.apply().code == 2
    assert filled.fake.journal == []


def test_results_that_lead_outside_are_refused(filled: Project) -> None:
    filled.change_spec("[limits]", '[results]\ndir = "../elsewhere"\n[limits]')
    outcome = filled.apply()
    assert outcome.code == 2
    assert "results.dir leads outside" in outcome.err


def test_results_folder_that_cannot_be_written_ends_with_2(filled: Project) -> None:
    (filled.folder / "results").mkdir(mode=0o500)
    with filled.start("apply", "job.toml", prepare=_obey_permissions) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "cannot be written" in err
    assert filled.fake.journal == []


def _obey_permissions() -> None:
    """Drop the capabilities that let root read and write everywhere, from the next program on. Linux only."""
    if sys.platform == "linux":
        drop_capability = 24  # PR_CAPBSET_DROP of the kernel
        for may_write_or_read_everywhere in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(drop_capability, may_write_or_read_everywhere)


@pytest.mark.parametrize("command", [("apply", "--yes"), ("status",), ("validate",), ("destroy", "--yes")])
@pytest.mark.slow
def test_spec_in_a_folder_that_may_not_be_entered_ends_with_2(filled: Project, command: tuple[str, ...]) -> None:
    filled.write("closed/job.toml", filled.spec_path.read_bytes())
    (filled.folder / "closed").chmod(0o400)
    with filled.start(command[0], "closed/job.toml", *command[1:], prepare=_obey_permissions) as process:
        _, err = process.communicate(timeout=60)
    (filled.folder / "closed").chmod(0o700)
    assert (process.returncode, err.splitlines()[0]) == (2, "error: closed/job.toml: cannot be read, Permission denied")


def test_folder_of_the_spec_that_may_not_be_entered_ends_with_2(filled: Project) -> None:
    filled.folder.chmod(0o400)
    with filled.start("apply", "job.toml", "--yes", prepare=_obey_permissions) as process:
        _, err = process.communicate(timeout=60)
    filled.folder.chmod(0o700)
    assert process.returncode == 2, err
    assert "job.toml: cannot be read, Permission denied" in err


@pytest.mark.parametrize("command", ["apply", "validate", "status", "check", "destroy"])
def test_spec_whose_name_is_too_long_ends_with_2(project: Project, command: str) -> None:
    outcome = project.run_alone(command, "x" * 300)
    assert outcome.code == 2, outcome.text
    assert "cannot be read, File name too long" in outcome.text


def test_pattern_with_a_name_that_is_too_long_matches_nothing(filled: Project) -> None:
    filled.change_spec('"in/**/*"', f'"{"x" * 300}"')
    outcome = filled.run("plan")
    assert outcome.code == 2
    assert f"no file matches {'x' * 300} in {filled.folder}" in outcome.err


def test_results_folder_that_is_a_file_ends_with_2(filled: Project) -> None:
    filled.write("results", "not a folder")
    outcome = filled.apply()
    assert outcome.code == 2, outcome.text
    assert "results: is not a folder" in outcome.err
    assert filled.fake.journal == []


def test_state_of_a_newer_version_ends_with_5(filled: Project) -> None:
    filled.apply()
    with sqlite3.connect(filled.folder / "job.state.db") as db:
        db.execute("PRAGMA user_version = 99")
    outcome = filled.apply()
    assert outcome.code == 5
    assert "written by aihub-runner" in outcome.err


def test_state_that_is_damaged_ends_with_5_and_is_left_alone(filled: Project) -> None:
    damaged = filled.write("job.state.db", b"this is no database, but long enough to be taken for one" * 100)
    before = damaged.read_bytes()
    outcome = filled.apply()
    assert outcome.code == 5
    assert "job.state.db" in outcome.err
    assert damaged.read_bytes() == before
    assert filled.fake.journal == []


def test_state_of_another_root_ends_with_2_and_names_the_root_to_set(filled: Project) -> None:
    filled.apply()
    root = filled.env.pop("AIHUB_API_ROOT")
    for command in (["report"], ["results"], ["status"], ["diff", "--version", "1", "--version", "2"], ["apply"]):
        outcome = filled.run(*command)
        assert outcome.code == 2
        assert f"hint: set AIHUB_API_ROOT={root}; to start over, pass --state" in outcome.err


def test_lock_file_is_no_spec_and_is_passed_over(filled: Project) -> None:
    filled.apply()
    filled.spec_name = "job.lock.toml"
    outcome = filled.run("validate")
    assert outcome.code == 2
    filled.spec_name = "."
    assert filled.run("validate").code == 0


def test_two_spec_errors_do_not_hide_the_good_one(filled: Project) -> None:
    filled.write("broken.aihub.toml", "files = ")
    filled.spec_name = "."
    outcome = filled.run("validate", "--json")
    assert outcome.code == 2
    assert "broken.aihub.toml" in outcome.out
    assert '"name": "job"' in outcome.out


def test_file_refused_by_the_service_is_skipped_and_not_sent_again(filled: Project) -> None:
    filled.fake.faults.add(operation="addFileToBatch", match="00001", times=9, do="status", status=400)
    outcome = filled.apply()
    assert outcome.code == 3
    assert "in/00001.txt: refused" in outcome.out
    assert "--retry-failed; or exclude them" in outcome.out
    assert "--retry-failed; or exclude them" in filled.run("plan").out
    filled.forget_requests()
    assert filled.apply().code == 3
    assert filled.fake.journal == []
    filled.fake.faults.scripts.clear()
    assert filled.apply("--retry-failed").code == 0


def test_symlink_that_leads_outside_is_refused(filled: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "passwd.txt"
    outside.write_text("secret")
    (filled.folder / "in/link.txt").symlink_to(outside)
    outcome = filled.apply()
    assert outcome.code == 2
    assert "leads outside" in outcome.err
    assert filled.apply("--allow-outside").code == 0


@pytest.mark.parametrize("options", ["", "[batch]\nkeep = true\n"], ids=["a new batch", "a batch that is kept"])
def test_file_that_becomes_a_link_to_the_outside_while_apply_works_is_not_sent(
    filled: Project, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory, options: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "passwd.txt"
    outside.write_text("secret")
    path = filled.folder / "in/00000.txt"

    def swap() -> None:
        path.unlink()
        path.symlink_to(outside)

    filled.change_spec("[limits]", f"{options}[limits]")
    proxy.on("POST", BATCHES, after(swap))
    outcome = filled.apply()
    assert outcome.code != 0, outcome.text
    held = {digest for batch in filled.fake.batches() for digest in filled.fake.files(batch["id"]).values()}
    assert hashlib.sha256(b"secret").hexdigest() not in held
    assert "it now leads outside" in outcome.text


def test_names_that_are_no_utf8_or_hold_control_characters_are_skipped(filled: Project) -> None:
    (filled.folder / os.fsdecode(b"in/\xff.txt")).write_text("x")
    (filled.folder / "in/a\x1b[31m.txt").write_text("x")
    outcome = filled.apply()
    assert outcome.code == 3, outcome.text
    assert "\x1b" not in outcome.text
    assert "not UTF-8" in outcome.out


def test_secrets_appear_nowhere(filled: Project) -> None:
    token, password = "fake-t0ken-never-shown", "pa55word-never-shown"
    filled.env |= {"AIHUB_API_KEY": token, "AIHUB_SECRET_PDF": password, "AIHUB_SECRET_HOOK": password}
    filled.write("in/a.pdf", "%PDF-1.4 locked")
    filled.change_spec(
        "[limits]",
        '[run.pdf_passwords]\n"in/*.pdf" = { env = "AIHUB_SECRET_PDF" }\n'
        '[run.webhook]\nurl = "https://hooks.example/x"\nheaders.X-Key = { env = "AIHUB_SECRET_HOOK" }\n[limits]',
    )
    filled.fake.faults.add(operation="runApp", do="status", status=400)
    outcomes = [filled.apply(), filled.apply("--json"), filled.run("status"), filled.run("plan", "--json")]
    assert [outcome.code for outcome in outcomes[:2]] == [4, 0], outcomes[1].text
    told = "".join(outcome.text for outcome in outcomes)
    kept = b"".join(path.read_bytes() for path in filled.folder.rglob("*") if path.is_file() and path.suffix != ".env")
    for secret in (token, password):
        assert secret not in told
        assert secret.encode() not in kept
    [run] = filled.fake.world.runs.values()
    assert run.request["settings"]["runtime_config"]["instabase"]["pdf"]["passwords"] == {"a.pdf": password}
    assert run.request["settings"]["webhook_config"]["headers"] == {"X-Key": password}


def test_secret_that_is_not_set_ends_with_2(filled: Project) -> None:
    filled.change_spec("[limits]", '[run.pdf_passwords]\n"in/*" = { env = "AIHUB_SECRET_NONE" }\n[limits]')
    outcome = filled.apply()
    assert outcome.code == 2
    assert "AIHUB_SECRET_NONE: not set" in outcome.err


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there_are_told_by_their_variable(filled: Project, name: str) -> None:
    filled.env |= {"AIHUB_API_ROOT": "https://127.0.0.1:9/api", "REQUESTS_CA_BUNDLE": None, name: "/not/there.pem"}
    outcome = filled.apply()
    assert outcome.code == 2, outcome.text
    assert f"error: {name}: no such file, /not/there.pem" in outcome.err


@pytest.mark.parametrize("command", ["status", "plan", "apply", "results"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_state_that_is_no_file_ends_with_5(filled: Project, command: str, kind: str) -> None:
    place = filled.folder / "job.state.db"
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    given = ["--state", "/dev/null"] if kind == "device" else []
    outcome = filled.run(command, *given)
    assert outcome.code == 5, outcome.text
    assert "a folder" in outcome.err or "is a pipe or a device, not a file" in outcome.err
    assert filled.fake.journal == []


@pytest.mark.parametrize("kind", ["journal", "wal", "shm"])
@pytest.mark.parametrize("command", ["status", "apply"])
def test_fifo_beside_the_state_ends_with_5(filled: Project, command: str, kind: str) -> None:
    filled.apply()
    os.mkfifo(filled.folder / f"job.state.db-{kind}")
    outcome = filled.run(command)
    assert outcome.code == 5, outcome.text
    assert f"job.state.db-{kind}: is a pipe, a device or a folder, not a file" in outcome.err


def test_fifo_in_place_of_a_result_is_an_edit_for_apply_and_status(filled: Project) -> None:
    filled.apply()
    for name in ("documents.jsonl", "fields.jsonl"):
        place = filled.folder / "results/job" / name
        place.unlink()
        os.mkfifo(place)
    assert filled.run("status").code == filled.apply().code == 0
    assert "was edited by hand" in filled.run("status").out
