"""`runner check`: what it finds, and that it changes nothing."""

from __future__ import annotations

import re

import pytest

from .conftest import SPEC, WRITES, Project

GOOD = """\
job.toml: no check failed
  ok       token      set, from the environment
  ok       root       ROOT, from the environment
  ok       spec       job.toml: valid, Invoice Extraction of instabase, its newest production version
  ok       proxy      none
  ok       CA         not needed, the root is on this machine
  ok       context    the service accepts the token in context acme
  unknown  app        Invoice Extraction: no run of it is listed
           hint       the API has no list of apps; the first apply shows whether the name and the owner are right
  ok       clock      agrees with the service's
  ok       state      job.state.db can be written
  ok       lock file  job.lock.toml can be written
  ok       results    results/job can be written
  ok       disk       FREE free
"""


def test_check_of_a_good_spec_finds_nothing_wrong_and_changes_nothing(project: Project) -> None:
    outcome = project.run_alone("check")  # the spec of the current folder
    shown = outcome.out.replace(str(project.env["AIHUB_API_ROOT"]), "ROOT")
    assert (re.sub(r"[\d.]+ [KMG]B free", "FREE free", shown), outcome.code) == (GOOD, 0)
    assert [entry for entry in project.fake.journal if entry["method"] in WRITES] == []
    assert [path.name for path in project.folder.iterdir()] == ["job.toml"]


def test_check_sees_the_app_once_it_has_run(project: Project) -> None:
    project.write_files(1)
    project.apply()
    shown = project.run("check").out
    assert "ok       app        Invoice Extraction: visible" in shown
    assert "job.lock.toml lists 1 run" in shown


@pytest.mark.parametrize(
    ("variables", "code", "shown"),
    [
        ({"AIHUB_API_KEY": None}, 2, "failed   token      AIHUB_API_KEY is not set"),
        ({"AIHUB_API_KEY": "wrong"}, 4, "failed   context    GET /v2/batches: status 401"),
        ({"AIHUB_API_ROOT": "http://127.0.0.1:9/api"}, 4, "127.0.0.1:9 cannot be reached"),
        ({"AIHUB_API_ROOT": "ftp://x"}, 2, "failed   settings   AIHUB_API_ROOT: not https"),
        ({"REQUESTS_CA_BUNDLE": "/not/there"}, 2, "failed   CA         REQUESTS_CA_BUNDLE: no such file"),
    ],
)
@pytest.mark.slow
def test_check_tells_what_is_wrong_and_goes_on(
    project: Project, variables: dict[str, str | None], code: int, shown: str
) -> None:
    project.env |= variables
    outcome = project.run("check")
    assert outcome.code == code
    assert shown in outcome.out
    assert "ok       disk" in outcome.out


def test_check_shows_every_mistake_of_the_spec_and_still_asks_the_service(project: Project) -> None:
    project.change_spec('owner = "instabase"', "ownr = 1\ntags = 2")
    outcome = project.run("check")
    assert outcome.code == 2
    assert "job.toml:4:1: unknown key 'ownr'" in outcome.out
    assert "job.toml:5:1: unknown key 'tags'" in outcome.out
    assert "ok       clock" in outcome.out


def test_check_tells_of_secrets_that_are_not_set_and_of_a_folder_that_cannot_be_written(project: Project) -> None:
    project.change_spec("[limits]", '[run.pdf_passwords]\n"a.pdf" = { env = "AIHUB_SECRET_A" }\n[limits]')
    project.write("results", "a file where the folder should be")
    outcome = project.run("check", "--json")
    assert outcome.code == 2
    wrong = {one["name"]: one["text"] for one in outcome.json["checks"] if one["verdict"] == "failed"}
    assert wrong.keys() == {"secrets", "results"}
    assert wrong["secrets"] == "AIHUB_SECRET_A: not set"


@pytest.mark.slow
def test_check_names_a_proxy_without_its_password(project: Project) -> None:
    project.env |= {"AIHUB_API_ROOT": "https://hub.invalid/api", "HTTPS_PROXY": "http://me:hidden@127.0.0.1:9"}
    outcome = project.run("check")
    assert outcome.code == 4
    assert "ok       proxy      127.0.0.1:9" in outcome.out
    assert "hidden" not in outcome.text


def test_check_without_a_spec_looks_at_the_settings(project: Project) -> None:
    project.spec_path.unlink()
    outcome = project.run_alone("check")
    assert outcome.code == 0
    assert outcome.out.startswith("settings: no check failed\n")
    assert "warning  context    the service accepts the token in the community account" in outcome.out


@pytest.mark.parametrize("command", ["validate", "plan", "status"])
def test_without_a_spec_that_of_the_current_folder_is_meant(project: Project, command: str) -> None:
    project.write_files(1)
    assert project.run_alone(command).out.startswith("job.toml: ")


@pytest.mark.parametrize("command", ["apply", "resolve", "results", "report", "diff", "destroy", "state verify"])
def test_a_spec_must_be_named_where_something_may_be_paid_or_written(project: Project, command: str) -> None:
    project.write("a b.aihub.toml", SPEC)
    outcome = project.run_alone(*command.split())
    assert outcome.code == 2
    assert outcome.err == (
        f"error: {command}: no spec given; in this folder: a b.aihub.toml, job.toml\n"
        f"hint: name it: runner {command} 'a b.aihub.toml'\n"
    )


def test_a_spec_that_must_be_named_is_written_by_init_where_there_is_none(project: Project) -> None:
    project.spec_path.unlink()
    outcome = project.run_alone("apply")
    assert outcome.err.splitlines() == [
        "error: apply: no spec given, and none in this folder",
        "hint: write one with `runner init`",
    ]
