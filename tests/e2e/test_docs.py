"""The pages of docs/: their sessions print what they show, their commands exist, and their links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import msgspec
import pytest
import tomli_w

from aihub_runner.apply import events
from aihub_runner.cli.main import cli
from aihub_runner.cli.manual import render_manual
from aihub_runner.spec.parsing import parse_as
from aihub_runner.spec.targets import Choice
from fake_aihub import FakeAIHub
from fake_aihub.controls.fault_scripts import load_faults
from fake_aihub.server.cli import main as fake_cli
from support.commands import HELP_NAMES
from support.pages import PAGES, TEXTS, all_blocks, blocks, recipe_of, write_script
from support.stores import Bucket, S3Server

from .conftest import ROOT
from .test_readme import clone as clone
from .test_readme import run

SESSIONS = [
    name for name, text in TEXTS.items() if blocks(text, "console") and name != "README.md"
]  # test_readme.py runs that
COMMANDS = {"runner": cli, "fake-aihub": fake_cli}


def test_manual_is_up_to_date() -> None:
    assert TEXTS["docs/cli.md"] == render_manual(), "run `make docs`"


@pytest.mark.slow
@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_print_what_they_show(clone: Path, name: str) -> None:
    for session in blocks(TEXTS[name], "console"):
        for part in session.removeprefix("$ ").split("\n$ "):
            command, *shown = part.strip("\n").splitlines()
            command = {"make demo": recipe_of("demo"), "source .venv/bin/activate": ":"}.get(command, command)
            printed = run(f'PATH="$PWD/.venv/bin:$PATH"; {command}', clone).splitlines()
            printed = [re.sub(r" in \d+\.\d s$", "", line) for line in printed]
            for line in shown:  # in this order; a page leaves lines out
                assert line in printed, f"{command}: {line!r} is not in, or not in this order:\n" + "\n".join(printed)
                printed = printed[printed.index(line) + 1 :]


SCRIPTS = [name for name, text in TEXTS.items() if blocks(text, "sh")]
SPEC = """\
files = "specs/invoices/*"
app_name = "Invoice Extraction"
context = "acme"
[results]
include = ["confidence"]
[targets.test]
context = "acme-trial"
"""
PART = SPEC.replace("files =", 'name = "invoices-@PART@"\nfiles =').replace("specs/invoices/*", "inbox/@PART@/*")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_of_a_page_run(clone: Path, name: str, s3: S3Server) -> None:
    script = "\n".join(blocks(TEXTS[name], "sh")).replace("tls://scheduler.example:8786", "local:2")
    for place in ("one.txt", *(f"0{number}/{number}.txt" for number in range(4))):
        (clone / "inbox" / place).parent.mkdir(parents=True, exist_ok=True)
        (clone / "inbox" / place).write_text(f"Invoice {place}")
    (clone / "inbox" / "inbox.aihub.toml").write_text(SPEC.replace("specs/invoices/*", "*.txt"))
    (clone / "parts.template").write_text(PART)
    (clone / "letters.aihub.toml").write_text(SPEC)
    own = next((block for block in blocks(TEXTS[name], "toml") if "\nfiles = " in f"\n{block}"), None)
    (clone / "invoices.aihub.toml").write_text(own or SPEC)
    if not own and "specs/invoices" not in script:
        script = f"runner apply invoices.aihub.toml --quiet\n{script}"
    with (clone / "specs" / "invoices.aihub.toml").open("a") as spec:
        spec.write("\n[limits]\nsettle_s = 0.2\n")  # else it waits for a minute after a lost response
    (clone / "home" / ".config" / "fish" / "completions").mkdir(parents=True)
    environment = {}
    if "s3://acme-inbox" in script:
        bucket = Bucket(s3, "acme-inbox")
        bucket.put("2026/one.pdf", b"Invoice 7")
        environment = bucket.env
    with FakeAIHub() as fake:
        path = write_script(clone, script, fake.root)
        run(f"echo secret | bash {path}", clone, environment)
        assert "--faults" not in script or fake.faults.unused() == []


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_is_run_or_checked(name: str) -> None:
    text = TEXTS[name]
    assert text.count("```") == 2 * len(all_blocks(text))
    assert {language for language, _ in all_blocks(text)} <= {"sh", "console", "toml", "json", "python", "text"}
    for session in blocks(text, "console"):
        assert session.startswith("$ ")
    for block in blocks(text, "json"):
        json.loads(block)
    # test_pytest_plugin.py runs those of the one page, and test_readme.py that of the other one.
    assert not blocks(text, "python") or name in ("docs/pytest.md", "docs/apply.md")


@pytest.mark.parametrize(
    "name", [name for name in PAGES if name != "docs/scenarios.md"]
)  # test_scenarios.py has its pack
def test_toml_of_a_page_is_a_spec_or_a_fault_script(name: str, tmp_path: Path) -> None:
    for block in blocks(TEXTS[name], "toml"):
        found = tomllib.loads(block)
        if "fault" in found:
            (tmp_path / "faults.toml").write_text(block)
            assert load_faults(tmp_path / "faults.toml")
            continue
        needed = {"files": "inbox/*", "app_name": "Invoice Extraction"}
        parse_as(tomli_w.dumps(needed | found), tmp_path / "a.toml", Choice(find=lambda name: "acme"))


@pytest.mark.parametrize("name", PAGES)
def test_extras_and_targets_of_a_page_exist(name: str) -> None:
    code = "\n".join(lines_of_code(TEXTS[name]))
    extras = re.findall(r"(?:aihub-runner|'\.)\[([a-z0-9,-]+)\]", TEXTS[name])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {one for some in extras for one in some.split(",")} <= project["optional-dependencies"].keys()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|\$ |&& )make ([a-z-]+)", code, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def lines_of_code(text: str) -> list[str]:
    found = [body for language, body in all_blocks(text) if language in ("sh", "console", "text")]
    lines = [line for block in found for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"(?<!`)`((?:runner|fake-aihub|make) [^`]+)`", text)


def called(text: str) -> set[tuple[str, tuple[str, ...]]]:
    """Return the commands of this project that a page calls, each with its words."""
    found = set()
    for line in lines_of_code(text):
        for part in re.split(r"&&|\||;|&(?!\w)|>|#", line.removeprefix("$ ")):
            words = part.split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            program = words[0].rpartition("/")[2] if words else ""
            if program in COMMANDS:
                found.add((program, tuple(words[1:])))
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_command_and_option_of_a_page_exists(name: str) -> None:
    for program, words in called(TEXTS[name]):
        command: click.Command = COMMANDS[program]
        options = set()
        for word in words:
            context = click.Context(command, help_option_names=HELP_NAMES)
            options |= {one for option in command.get_params(context) for one in option.opts + option.secondary_opts}
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{program} {shlex.join(words)}"
            elif isinstance(command, click.Group) and re.fullmatch(r"[a-z]+", word):
                found = command.get_command(context, word)
                assert found, f"{program} {shlex.join(words)}"
                command = found


def test_page_of_json_formats_names_every_key_and_event() -> None:
    page = TEXTS["docs/json.md"]
    documents = re.findall(
        r"^\$ runner (\w+) .*\n(\{\n(?:.*\n)*?\}\n)", (ROOT / "tests/data/golden/json.txt").read_text(), re.MULTILINE
    )
    assert {command for command, _ in documents} >= {"plan", "apply", "status", "destroy"}
    for command, text in documents:
        missing = {key for key in json.loads(text)["specs"][0] if f"`{key}`" not in page}
        assert not missing, command
    for kind in events.Event.__subclasses__():
        told = ", ".join(f"`{field.name}`" for field in msgspec.structs.fields(kind)) or "none"
        assert kind is events.Tick or f"| `{kind.__name__}` | {told} |" in page, kind.__name__


def anchors_of(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", TEXTS[name], flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (PAGES[name].parent / unquote(parts.path)).resolve() if parts.path else PAGES[name]
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in anchors_of(target.read_text(encoding="utf-8")), link
