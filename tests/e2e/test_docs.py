"""The pages of docs/: their sessions print what they show, their commands exist, and their links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import msgspec
import pytest

from aihub_runner.apply import events
from aihub_runner.cli.main import cli
from aihub_runner.cli.manual import render_manual
from fake_aihub import FakeAIHub
from fake_aihub.server.cli import main as fake_cli
from support.commands import HELP_NAMES

from .conftest import ROOT
from .test_readme import clone as clone
from .test_readme import recipe_of, run

PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
SESSIONS = [name for name, text in TEXTS.items() if "```console\n$ " in text and name != "README.md"]
COMMANDS = {"runner": cli, "fake-aihub": fake_cli}


def test_manual_is_up_to_date() -> None:
    assert TEXTS["docs/cli.md"] == render_manual(), "run `make docs`"


@pytest.mark.slow
@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_print_what_they_show(clone: Path, name: str) -> None:
    for session in re.findall(r"```console\n(.*?)```", TEXTS[name], re.DOTALL):
        for part in session.removeprefix("$ ").split("\n$ "):
            command, *shown = part.strip("\n").splitlines()
            command = {"make demo": recipe_of("demo"), "source .venv/bin/activate": ":"}.get(command, command)
            printed = run(f'PATH="$PWD/.venv/bin:$PATH"; {command}', clone).splitlines()
            printed = [re.sub(r" in \d+\.\d s$", "", line) for line in printed]
            for line in shown:  # in this order; a page leaves lines out
                assert line in printed, f"{command}: {line!r} is not in, or not in this order:\n" + "\n".join(printed)
                printed = printed[printed.index(line) + 1 :]


# Lines that start a fake: one is there already. Everything else is run.
STARTS = re.compile(r"^(fake-aihub(?! certify)|docker run) .*$", re.MULTILINE)
OF_DEVELOPERS = ("README.md", "docs/CONTRIBUTING.md")  # they call `make` and pytest
# A bucket, and the tools of AWS: test_s3.py reads from one. A cluster with certificates: test_cluster.py has one.
NEED_MORE = ("docs/how-to/object-stores.md", "docs/scale.md")
SCRIPTS = [name for name, text in TEXTS.items() if "```sh\n" in text and name not in (*OF_DEVELOPERS, *NEED_MORE)]
SPEC = """\
files = "specs/invoices/*"
app_name = "Invoice Extraction"
context = "acme"
[results]
include = ["confidence"]
[targets.test]
context = "acme-trial"
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_of_a_page_run(clone: Path, name: str) -> None:
    (clone / "inbox").mkdir()
    (clone / "inbox" / "one.txt").write_text("Invoice 7")
    for spec in ("invoices.aihub.toml", "letters.aihub.toml", "inbox/inbox.aihub.toml"):
        (clone / spec).write_text(
            SPEC.replace("specs/invoices/*", "*.txt" if spec.startswith("inbox") else "specs/invoices/*")
        )
    (clone / "home" / ".config" / "fish" / "completions").mkdir(parents=True)
    script = "\n".join(re.findall(r"```sh\n(.*?)```", TEXTS[name], re.DOTALL))
    with FakeAIHub() as fake:
        place = fake.root.removesuffix("/api")
        script = STARTS.sub(":", script).replace("http://127.0.0.1:8800", place)
        script = script.replace("https://aihub.instabase.com/api", fake.root).replace("…", "fake-me")
        (clone / "script.sh").write_text(f"""\
set -euo pipefail
export HOME=$PWD/home PATH=$PWD/.venv/bin:$PATH AIHUB_API_ROOT={fake.root} AIHUB_API_KEY=fake-me root={place}
curl() {{ command curl --silent --show-error --fail-with-body "$@"; }}
runner apply invoices.aihub.toml --quiet
{script}""")
        run("echo secret | bash script.sh", clone)


def lines_of_code(text: str) -> list[str]:
    blocks = re.findall(r"```(?:sh|console|)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"(?<!`)`((?:runner|fake-aihub) [^`]+)`", text)


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


class Links(HTMLParser):
    """Everything that a page links to, and everything that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.linked: set[str] = set()
        self.loaded: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                (self.linked if tag == "a" else self.loaded).add(value)


@pytest.mark.slow
def test_site_is_complete_and_loads_nothing_from_elsewhere(clone: Path) -> None:
    shutil.copytree(ROOT / "docs", clone / "docs")
    shutil.copy(ROOT / "zensical.toml", clone)
    (clone / "fake_server" / "fake_aihub").mkdir(parents=True)
    shutil.copy(ROOT / "fake_server" / "fake_aihub" / "behaviours.csv", clone / "fake_server" / "fake_aihub")
    run(recipe_of("site"), clone)
    site = clone / "build" / "site" / "docs"
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {path.relative_to(site).with_suffix(".md").as_posix() for path in pages} >= {
        name.removeprefix("docs/") for name in PAGES if name != "README.md"
    }
    pages.pop(site / "404.html")  # its links are those of a site at the top of a host
    for path, text in pages.items():
        links = Links()
        links.feed(text)
        assert [url for url in links.loaded if urlsplit(url).netloc and urlsplit(url).scheme != "data"] == [], path
        for url in links.linked:
            parts = urlsplit(url)
            target = (path.parent / unquote(parts.path)).resolve()
            if not parts.scheme and parts.path:
                assert target.is_file() or target == site, f"{path.name}: {url}"
