"""What each command prints, to the letter, 80 columns wide: sessions against the fake, kept in tests/data/golden."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import requests

from aihub_runner.cli.main import COMMANDS
from support import golden

from .conftest import SPEC, Outcome, Project

FILES = 'files = "in/**/*"'
DRIVE = "/org/workspace/fs/drive/in/"


@dataclass(frozen=True)
class Session:
    """Commands, one per line, to run after `prepare`, for a spec with these files and keys."""

    commands: str
    prepare: Callable[[Project], object] = lambda project: project.write_files(3)
    keys: str = ""
    files: str = FILES


def _skipped(project: Project) -> None:
    project.write_files(3)
    project.write("in/empty.txt", b"")
    project.write("in/song.wav", "la")


def _failed(project: Project) -> None:
    project.write_files(2)
    project.fake.next_run(status="FAILED")


def _held(project: Project) -> None:
    project.write_files(3)
    project.fake.next_run(hold=True)


def _lost(project: Project) -> None:
    project.write_files(2)
    project.fake.faults.add(operation="runApp", do="reset")


def _folders(project: Project) -> None:
    for name in ("alder/id.txt", "alder/pay.txt", "birch/id.txt", "birch/pay.txt"):
        project.write(f"in/{name}", f"words of {name}")


def _drive(project: Project) -> None:
    headers = {"Authorization": "Bearer fake-test", "IB-Context": "acme", "Content-Type": "application/octet-stream"}
    for name in ("a.txt", "b.txt"):
        url = f"{project.fake.root}/v2/files{DRIVE}{name}"
        requests.put(url, data=f"words of {name}".encode(), headers=headers, timeout=10).raise_for_status()


def _wrong(project: Project) -> None:
    project.write_files(1)
    project.spec_path.write_text('files = "in/*\napp_nam = 3\n')
    project.write("two.toml", 'files = "in/*"\napp_nam = "A"\n[limits]\nparallel_runs = 0\nsettle_s = "x"\n')


SESSIONS = {
    "life": Session("""\
validate job.toml
validate job.toml --check-files
plan job.toml
plan job.toml -v
plan job.toml --format markdown
plan job.toml --exit-code
apply job.toml
apply job.toml
plan job.toml
status job.toml
results job.toml --format csv
report job.toml
diff job.toml
resolve job.toml
state show job.toml
state verify job.toml
results job.toml --prune 1
destroy job.toml
destroy job.toml --yes
destroy job.toml --yes
status job.toml
apply job.toml
"""),
    "json": Session("""\
validate job.toml --format json
plan job.toml --json
apply job.toml --json
status job.toml --json
destroy job.toml --json --yes
"""),
    "init": Session("""\
init
init bills
init bills --app-name Bills --json
init bills --app-name Bills
apply
"""),
    "selected": Session("""\
plan job.toml --limit 1
apply job.toml --only "in/*1.txt"
apply job.toml --limit 1
status job.toml
"""),
    "no-wait": Session("apply job.toml --no-wait\nstatus job.toml\nplan job.toml\n", _held),
    "plan-file": Session("""\
plan job.toml --out plan.json
apply job.toml --plan plan.json
apply job.toml --plan plan.json
apply job.toml --plan none.json
"""),
    "skipped": Session("plan job.toml\napply job.toml\nstatus job.toml -v\n", _skipped),
    "failed": Session(
        "apply job.toml\nstatus job.toml\nplan job.toml --retry-failed\napply job.toml --retry-failed\n", _failed
    ),
    "lost": Session(
        "apply job.toml\nstatus job.toml\nplan job.toml\nresolve job.toml\ndestroy job.toml --yes\n",
        _lost,
        '[run]\non_lost = "stop"\n',
    ),
    "packets": Session(
        'plan job.toml\nplan job.toml --only "in/alder/*"\napply job.toml --only "in/alder/*"\n',
        _folders,
        files=f'{FILES}\ngroup_by = "folder"',
    ),
    "drive": Session(
        "plan job.toml\napply job.toml\nstatus job.toml\ndestroy job.toml\n",
        _drive,
        files=f'input_dir = "{DRIVE}"',
    ),
    "cleanup": Session(
        "plan job.toml\napply job.toml\nstatus job.toml\n",
        keys='[cleanup]\ndelete_input = "after-results"\n',
    ),
    "wrong": Session(
        """\
validate job.toml two.toml
validate two.toml --format json
validate two.toml --format github
plan two.toml
apply none.toml
apply job.toml two.toml
status
apply
apply job.toml --limit 0
apply job.toml --bogus
bogus
""",
        _wrong,
    ),
    "check": Session("check job.toml\ncheck job.toml --json\n"),
    "code": Session(
        "".join(f"code job.toml --as {language}\n" for language in ("python", "python-sdk", "curl", "javascript"))
    ),
}


def show(command: str, outcome: Outcome) -> str:
    """Show a command as a terminal does, with its errors marked, and its exit code."""
    errors = "".join(f"2> {line}\n" for line in outcome.err.splitlines())
    return f"$ runner {command}\n{outcome.out}{errors}[exit code {outcome.code}]\n\n"


@pytest.mark.matrix(most=4)
@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.slow
def test_commands_print_what_is_kept(project: Project, name: str) -> None:
    session = SESSIONS[name]
    project.env["COLUMNS"] = "80"
    project.spec_path.write_text(SPEC.replace("[limits]", f"{session.keys}[limits]").replace(FILES, session.files))
    project.change_spec("[limits]", "[limits]\nparallel_runs = 1\nparallel_uploads = 1")  # else in any order
    session.prepare(project)
    shown = "".join(show(line, project.run_alone(*shlex.split(line))) for line in session.commands.splitlines())
    golden.check(name, golden.normalise(shown, project.folder, project.fake.root))


def test_help_is_what_is_kept(project: Project) -> None:
    project.env["COLUMNS"] = "80"
    commands = ["", *COMMANDS, "state show", "state export", "state verify"]
    shown = "".join(
        show(f"{command} --help".strip(), project.run_alone(*command.split(), "--help")) for command in commands
    )
    golden.check("help", golden.normalise(shown, project.folder, project.fake.root))
