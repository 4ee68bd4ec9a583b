"""`runner plan`: its text, and plan files, which apply only compares."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from support.waiting import wait_for
from support.world import bring_back, check_paid_once, keep

from .conftest import Project
from .test_settled import change_state

TEXT = """\
job.toml: 6 files, 1 done or in progress
  + 2 files (in/00003.txt …): new
  ~ 1 file (in/00001.txt): changed
  ! 1 file (in/00002.txt): failed, not run again without --retry-failed
  ! 1 file (in/song.wav): skipped, unsupported type, .wav
  = 1 file: unchanged
  hint       exclude them with "!…" in files, or file types with [limits] on_unsupported = "ignore"
  app        Invoice Extraction of instabase, its newest production version
  on         ROOT, context acme
Plan: 3 files to upload (52 bytes), 1 batch, 1 run to pay; 1 skipped, 1 unchanged
"""
VERBOSE = """\
  + 2 files: new
      in/00003.txt
      in/00004.txt
  ~ 1 file: changed
      in/00001.txt
  ! 1 file: failed, not run again without --retry-failed
      in/00002.txt
  ! 1 file: skipped, unsupported type, .wav
      in/song.wav: unsupported type, .wav
"""
MARKDOWN = """\
### <code>job.toml</code>

**Plan: 3 files to upload (52 bytes), 1 batch, 1 run to pay; 1 skipped, 1 unchanged**

| | files | change | first file |
| --- | ---: | --- | --- |
| `+` | 2 | <code>new</code> | <code>in/00003.txt</code> |
| `~` | 1 | <code>changed</code> | <code>in/00001.txt</code> |
| `!` | 1 | <code>failed, not run again without --retry-failed</code> | <code>in/00002.txt</code> |
| `!` | 1 | <code>skipped, unsupported type, .wav</code> | <code>in/song.wav</code> |

App: <code>Invoice Extraction of instabase, its newest production version</code>

Account: <code>ROOT, context acme</code>

"""


@pytest.fixture
def mixed(project: Project) -> Project:
    """Return a project with a file of each kind: done, failed, changed, new, skipped."""
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    project.write_files(2)
    project.apply()
    project.fake.next_run(status="FAILED")
    project.write_files(1, start=2)
    project.apply()
    project.write("in/00001.txt", "changed document 1")
    project.write_files(2, start=3)
    project.write("in/song.wav", "la")
    project.change_spec("files_per_batch = 1", "files_per_batch = 1000")
    return project


def shown(project: Project, *args: str) -> str:
    outcome = project.run_alone("plan", *args)
    assert (outcome.code, outcome.err) == (0, "")
    root = str(project.env["AIHUB_API_ROOT"])
    return outcome.out.replace(root, "ROOT").replace(root.replace(":", "&#58;"), "ROOT")


@pytest.mark.slow
def test_plan_has_a_line_for_each_kind_of_change_and_ends_with_the_sum(mixed: Project) -> None:
    assert shown(mixed) == TEXT
    assert VERBOSE in shown(mixed, "-v")
    assert shown(mixed, "--format", "markdown") == MARKDOWN
    changes = mixed.run("plan", "--json").json["changes"]
    assert [(one["symbol"], one["files"]) for one in changes][:2] == [
        ("+", ["in/00003.txt", "in/00004.txt"]),
        ("~", ["in/00001.txt"]),
    ]


def test_plan_of_a_finished_job_has_nothing_to_do(project: Project) -> None:
    project.write_files(3)
    project.apply()
    assert shown(project).endswith("\nPlan: nothing to do; 0 skipped, 3 unchanged\n")


def test_plan_is_coloured_on_a_terminal_only(project: Project) -> None:
    project.write_files(1)
    assert "\x1b[32m  + 1 file" in project.on_terminal("plan", "job.toml", answer="")[1]
    assert "\x1b[32m" not in project.on_terminal("plan", "job.toml", "--no-color", answer="")[1]
    project.env["NO_COLOR"] = "1"
    assert "\x1b[32m" not in project.on_terminal("plan", "job.toml", answer="")[1]


# Plans in files


def make_plan(project: Project, *args: str) -> None:
    assert project.run("plan", "--out", "plan.json", *args).code == 0


def test_approved_plan_is_applied_without_a_question(project: Project) -> None:
    project.write_files(3)
    make_plan(project)
    code, text = project.on_terminal("apply", "job.toml", "--plan", "plan.json", answer="")
    assert (code, "[y/N]" in text) == (0, False)
    check_paid_once(project.fake, 3)


CHANGES: dict[str, tuple[Callable[[Project], object], str]] = {
    "a changed file": (lambda project: project.write("in/00000.txt", "changed"), "1 file changed (in/00000.txt)"),
    "a new file": (lambda project: project.write_files(1, start=9), "1 file changed (in/00009.txt)"),
    "a removed file": (lambda project: (project.folder / "in/00000.txt").unlink(), "1 file changed (in/00000.txt)"),
    "another context": (lambda project: project.change_spec('"acme"', '"other"'), "context changed"),
    "another version": (
        lambda project: project.change_spec("[limits]", '[run]\nversion = "2"\n[limits]'),
        "the app or its settings changed",
    ),
    "another root": (
        lambda project: project.env.update(AIHUB_API_ROOT=f"{project.env['AIHUB_API_ROOT']}/v9"),
        "root changed",
    ),
    "an apply": (lambda project: project.apply(), "the state or the lock file changed"),
    "other groups": (
        lambda project: project.change_spec("[limits]", "[limits]\nfiles_per_batch = 1"),
        "it would pay for other files or runs",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_plan_is_refused_where_the_world_has_changed(project: Project, change: str) -> None:
    project.write_files(3)
    make_plan(project)
    act, what = CHANGES[change]
    act(project)
    project.forget_requests()
    outcome = project.apply("--plan", "plan.json")
    assert (outcome.code, f"the plan does not fit any more: {what}" in outcome.err) == (2, True), outcome.err
    assert project.sent() == []


@pytest.mark.parametrize(("planned", "applied"), [((), ("--again",)), (("--again",), ())])
def test_plan_is_refused_with_other_options_that_pay(
    project: Project, planned: tuple[str, ...], applied: tuple[str, ...]
) -> None:
    project.write_files(1)
    project.apply()
    make_plan(project, *planned)
    outcome = project.apply("--plan", "plan.json", *applied)
    assert (outcome.code, "--again changed" in outcome.err) == (2, True), outcome.err
    check_paid_once(project.fake, 1)


def test_plan_that_pays_again_is_applied_once(project: Project) -> None:
    project.write_files(1)
    project.apply()
    make_plan(project, "--again")
    assert project.apply("--plan", "plan.json", "--again").code == 0
    assert project.apply("--plan", "plan.json", "--again").code == 2
    assert project.sent().count("POST runApp") == 2


@pytest.mark.parametrize("option", ["--again", "--retry-failed"])
def test_plan_that_pays_again_is_applied_once_where_an_older_state_is_back(project: Project, option: str) -> None:
    """Neither state nor lock file knows any more that it was applied, but the service does."""
    names = ("job.state.db", "job.lock.toml")
    project.write_files(1)
    if option == "--retry-failed":
        project.fake.next_run(status="FAILED")
        project.fake.next_run(status="FAILED")
    project.apply()
    make_plan(project, option)
    keep(project.folder, project.folder / "kept", *names)
    project.apply("--plan", "plan.json", option)
    bring_back(project.folder, project.folder / "kept", *names)
    outcome = project.apply("--plan", "plan.json", option)
    assert (outcome.code, "the plan does not fit any more: run " in outcome.err) == (2, True), outcome.text
    assert project.sent().count("POST runApp") == 2
    assert f"run `runner apply {project.spec_path} {option}`" in outcome.err
    assert project.apply(option).code == 0
    assert project.sent().count("POST runApp") == 3


@pytest.mark.slow
def test_file_that_changes_after_an_approved_plan_was_checked_is_not_paid_for(project: Project) -> None:
    project.write_files(2)
    make_plan(project)
    project.fake.faults.add(operation="createBatch", do="status", status=429, headers={"Retry-After": "1"})
    process = project.start("apply", "job.toml", "--plan", "plan.json")
    wait_for(lambda: "POST createBatch" in project.sent() or process.poll() is not None)
    project.write("in/00000.txt", "changed meanwhile, and longer")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 2, out + err
    assert "in/00000.txt: changed since the plan was made" in out + err
    assert project.fake.runs() == []
    assert project.apply().code == 0
    check_paid_once(project.fake, 2)


def test_plan_allows_no_more_than_it_names_whatever_the_service_says(project: Project) -> None:
    """Forged content in the file pays for nothing: the file is only compared."""
    project.write_files(3)
    make_plan(project)
    path = project.folder / "plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps(plan | {"paid": plan["paid"][:1]}))
    outcome = project.apply("--plan", "plan.json")
    assert outcome.code == 2
    assert project.sent() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "nul", '{"format_version": 2}', '{"format_version": 1}', "[" * 9999])
def test_file_that_is_no_plan_is_refused(project: Project, text: str) -> None:
    project.write_files(1)
    project.write("plan.json", text)
    outcome = project.run_alone("apply", "job.toml", "--plan", "plan.json")
    assert (outcome.code, outcome.err.startswith("error: plan.json: ")) == (2, True), outcome.err


def test_plan_is_not_written_where_the_next_apply_would_send_it(project: Project) -> None:
    project.write_files(1)
    assert project.run("plan", "--out", "in/plan.json").code == 2
    assert not (project.folder / "in/plan.json").exists()


def test_plan_says_what_is_sent_to_a_batch_that_is_not_verified_yet(project: Project) -> None:
    project.write_files(2)
    project.apply()
    change_state(project, "UPDATE batches SET verified = 0")
    change_state(project, "DELETE FROM uploads WHERE name = '00001.txt'")
    project.change_spec("[limits]", "[run.keys.custom]\nyear = '2026'\n\n[limits]")
    assert "Plan: 1 file to upload" in shown(project)
