"""`runner init`: the spec it writes, from options and from answers, and what it never does."""

from __future__ import annotations

import json
import tomllib

import pytest

from .conftest import Project, Terminal

SPEC = """\
#:schema ./.aihub.schema.json
# What should have been processed. `runner apply bills.aihub.toml` does what is missing, and never pays twice.

# Batches and the folder of the results are named after it.
name = "bills"
# A pattern, or a list of patterns; "!drafts/**" excludes.
files = "**/*.{pdf,txt}"
# The app that reads them.
app_name = "Invoice Extraction"
# Whose app it is. Leave it out for your own apps.
owner = "instabase"
# The IB-Context: the account whose units are spent.
# context = "…"

# [run]
# version = "1.0.0"             # without it, the newest production version

# [results]
# formats = ["jsonl", "csv"]    # tables beside documents.jsonl; also "xlsx", "parquet"

# [limits]
# max_runs = 5                  # most runs to pay for in one apply

# [targets.test]                # with --target test, replaces the values above; see docs/apply.md
# context = "…"                 # needs AIHUB_TEST_API_KEY and AIHUB_TEST_API_ROOT
"""
SAID = """\
bills/bills.aihub.toml: written, 2 files to send
  next       read it, and change what does not fit
  try it     runner apply bills/bills.aihub.toml --fake
  then       set AIHUB_API_KEY, in the environment or in .env
             runner check bills/bills.aihub.toml
             runner plan bills/bills.aihub.toml
             runner apply bills/bills.aihub.toml
  commit     bills.aihub.toml, and the lock file that apply writes beside it
"""


@pytest.fixture
def bills(project: Project) -> Project:
    """Return a project with a folder of documents and other files, and without a spec."""
    project.spec_path.unlink()
    for name in ("a.PDF", "2026/b.txt", "tool.py", "README.md", ".hidden.png"):
        project.write(f"bills/{name}", "words")
    return project


@pytest.mark.slow
def test_init_by_options_writes_a_spec_that_applies(bills: Project) -> None:
    outcome = bills.run_alone("init", "bills", "--app-name", "Invoice Extraction", "--owner", "instabase")
    assert (outcome.code, outcome.out, outcome.err) == (0, SAID, "")
    assert (bills.folder / "bills/bills.aihub.toml").read_text() == SPEC
    assert (bills.folder / "bills/.gitignore").read_text() == "*.state.db*\n*.fake/\n.env\nresults/\n"
    assert bills.run_alone("validate", "bills").out == "bills/bills.aihub.toml: ok\n"
    assert bills.run_alone("apply", "bills", "--fake").code == 0


def test_init_asks_four_questions_on_a_terminal_and_again_after_a_bad_answer(bills: Project) -> None:
    with Terminal(bills, "init", "bills") as terminal:
        for question, answer in {
            "[**/*.{pdf,txt}]: ": "!b",
            "excludes files, but includes none; add a pattern": "",
            "Its name in AI Hub: ": 'It\'s "mine" \\',
            "(empty: your own): ": "",
            "(empty: that of AIHUB_CONTEXT): ": "acme",
        }.items():
            terminal.read_until(question)
            terminal.type(f"{answer}\r")
        code, shown = terminal.end()
    assert (code, "written, 2 files to send" in shown) == (0, True)
    spec = tomllib.loads((bills.folder / "bills/bills.aihub.toml").read_text())
    assert spec == {"name": "bills", "files": "**/*.{pdf,txt}", "app_name": 'It\'s "mine" \\', "context": "acme"}


def test_questions_that_are_broken_off_write_nothing(bills: Project) -> None:
    with Terminal(bills, "init", "bills") as terminal:
        terminal.read_until("[**/*.{pdf,txt}]: ")
        terminal.type("\x04")
        code, _ = terminal.end()
    assert code == 130
    assert not (bills.folder / "bills/.gitignore").exists()
    assert not (bills.folder / "bills/bills.aihub.toml").exists()


def test_init_without_a_terminal_never_asks(bills: Project) -> None:
    outcome = bills.run_alone("init", "bills")
    assert outcome.code == 2
    assert outcome.err.endswith("hint: pass --app-name, --app-id or --deployment-id\n")
    assert not (bills.folder / "bills/bills.aihub.toml").exists()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--app-name", " "], "init: app_name is blank"),
        (["--app-name", "A", "--app-id", "B"], "init: exactly one of app_name, app_id and deployment_id is required"),
        (["--deployment-id", "A", "--owner", "B"], "init: deployment_id cannot be combined with owner"),
        (["--app-name", "A\nB"], "init: app_name contains control characters"),
        (["--app-name", "A", "--name", "a b"], "init: name is not"),
        (["--app-name", "\udcff"], "init: not all of it is UTF-8"),
    ],
)
def test_init_refuses_wrong_answers_and_writes_nothing(bills: Project, options: list[str], wrong: str) -> None:
    before = sorted(bills.folder.rglob("*"))
    outcome = bills.run_alone("init", "bills", *options)
    assert (outcome.code, wrong in outcome.err) == (2, True), outcome.err
    assert sorted(bills.folder.rglob("*")) == before


def test_init_overwrites_no_spec_and_keeps_what_is_ignored(bills: Project) -> None:
    bills.write("bills/.gitignore", "*.pyc\n.env")
    assert bills.run_alone("init", "bills", "--app-id", "1").code == 0
    assert (bills.folder / "bills/.gitignore").read_text() == "*.pyc\n.env\n*.state.db*\n*.fake/\nresults/\n"
    outcome = bills.run_alone("init", "bills", "--app-id", "2")
    assert outcome.code == 2
    assert "bills/bills.aihub.toml: is there already" in outcome.err
    assert 'app_id = "1"' in (bills.folder / "bills/bills.aihub.toml").read_text()
    bills.write("bills/other.toml", 'files = "*"\napp_name = "A"\n')
    assert "would share the state" in bills.run_alone("init", "bills", "--name", "other", "--app-id", "2").err


def test_init_of_an_empty_folder_makes_it_and_proposes_a_pattern(bills: Project) -> None:
    outcome = bills.run_alone("init", "new/ü x", "--deployment-id", "d1", "--json")
    assert outcome.code == 0
    written = json.loads(outcome.out)
    assert written["format_version"] == 1
    assert written["files"] == 0
    spec = tomllib.loads((bills.folder / written["spec"]).read_text())
    assert spec == {"name": "x", "files": "inbox/**/*.pdf", "deployment_id": "d1"}


@pytest.mark.slow
def test_init_does_not_look_for_files_elsewhere_and_says_what_to_type(bills: Project) -> None:
    place = f"file://{bills.folder}/bills"
    options = ("--files", f"{place}/*", "--app-name", "A", "--context", "acme")
    outcome = bills.run_alone("init", "job", *options)
    assert (outcome.code, outcome.out.partition("\n")[0]) == (0, f"job/job.aihub.toml: written, not looked at {place}")
    commands = [line.split("runner ")[1].split() for line in outcome.out.splitlines() if "runner " in line]
    assert [command[0] for command in commands] == ["apply", "check", "plan", "apply"]
    outcome = bills.run_alone(*commands[0])  # which it says to try first
    assert (outcome.code, "FAKE" in outcome.out) in {(0, True), (3, True)}, outcome.text
    assert json.loads(bills.run_alone("init", "more", *options, "--json").out)["files"] is None
