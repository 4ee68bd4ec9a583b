"""The command `init`."""

from __future__ import annotations

import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click import option

from aihub_runner.apply.job import find_twins
from aihub_runner.cli.output import say, with_output_error
from aihub_runner.errors import InputError, SpecErrors
from aihub_runner.files import explain_disk, read_regular
from aihub_runner.model import SPEC_ENDING, Allowed
from aihub_runner.settings import find_variable
from aihub_runner.sources.scan import check_files
from aihub_runner.sources.walk import find_files
from aihub_runner.spec.model import APP_KEYS, Spec
from aihub_runner.spec.parsing import parse_as
from aihub_runner.spec.schema import SCHEMA_NAME, render_spec_schema
from aihub_runner.spec.targets import Choice
from aihub_runner.spec.template import GIT_IGNORES, propose_name, propose_pattern, render_new_spec
from aihub_runner.spec.urls import is_url, list_roots
from aihub_runner.text.jsontext import render_json
from aihub_runner.text.shown import count

ABOUT = {
    "files": "Which files? A pattern, relative to the folder",
    "app_name": "Which app? Its name in AI Hub",
    "owner": "Whose app is it? (empty: your own)",
    "context": "Which context pays, the IB-Context? (empty: that of AIHUB_CONTEXT)",
}


@click.command(epilog="Example: runner init invoices --app-name Invoices --context acme")
@click.argument("folder", default=Path(), type=click.Path(path_type=Path, file_okay=False))
@option("--name", help="Name of the job. Default: the name of the folder.")
@option("--files", multiple=True, metavar="PATTERN", help="Which files to process. May be given more than once.")
@option("--app-name", help="Name of the app.")
@option("--app-id", help="Id of the app, instead of its name.")
@option("--deployment-id", help="Id of a deployment, instead of an app.")
@option("--owner", help="Owner of the app. Leave it out for your own apps.")
@option("--context", help="The IB-Context: the account whose units are spent.")
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@option("-q", "--quiet", is_flag=True, help="Print only errors, and one line at the end.")
def init(
    folder: Path, name: str | None, files: tuple[str, ...], as_json: bool, quiet: bool, **given: str | None
) -> None:
    """Write a spec for a folder of documents.

    Looks at the files in the folder, and asks four questions, except for those that options answer. Without a terminal
    it asks nothing, and needs an app. Sends no requests.
    """
    content: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if files:
        content["files"] = files[0] if len(files) == 1 else list(files)
    with explain_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    name = name or propose_name(Path(os.path.realpath(folder)).name)
    spec_path = folder / f"{name}{SPEC_ENDING}"
    _check_new(spec_path)
    _complete(content, spec_path, ask=not as_json and sys.stdin.isatty() and sys.stderr.isatty())
    spec, text = _make(name, content, spec_path)
    beside = {folder / SCHEMA_NAME: render_spec_schema(), folder / ".gitignore": _list_ignores(folder / ".gitignore")}
    with explain_disk(spec_path), spec_path.open("x", encoding="utf-8") as file:
        file.write(text)
    for path, added in beside.items():
        with explain_disk(path), path.open("a" if path.name == ".gitignore" else "w", encoding="utf-8") as file:
            file.write(added)
    found = _count(spec, spec_path)
    if as_json:
        written = [str(path) for path in (spec_path, *beside)]
        made = {"format_version": 1, "spec": str(spec_path), "files": found, "written": written}
        sys.stdout.write(render_json(made, indent=2) + "\n")
    else:
        text = _render_end(spec, spec_path, found)
        say(text.partition("\n")[0] if quiet else text)
    sys.exit(with_output_error(0, is_product=as_json))


def _check_new(spec_path: Path) -> None:
    """Raise InputError if the spec, or another one of its stem, is there already."""
    hint = "edit it, or pass --name with another name"
    if os.path.lexists(spec_path):
        raise InputError(f"{spec_path}: is there already", hint)
    if twins := list(find_twins(spec_path)):
        raise InputError(twins[0].message, hint)


def _complete(content: dict[str, Any], spec_path: Path, *, ask: bool) -> None:
    """Add what is missing: by questions, or else the pattern that fits the files."""
    folder = os.path.realpath(spec_path.parent)
    pattern = propose_pattern(find_files(("**/*",), folder, spec_path, allow_outside=True).paths)
    has_app = any(key in content for key in APP_KEYS)
    if ask:
        left = [key for key in ABOUT if key not in content and not (key == "app_name" and has_app)]
        for key in left:
            if key == "owner" and "deployment_id" in content:
                continue
            default = {"files": pattern, "app_name": None}.get(key, "")
            if answer := _ask(key, default, spec_path):
                content[key] = answer
    elif not has_app:
        raise InputError("init: which app is not known", "pass --app-name, --app-id or --deployment-id")
    content.setdefault("files", pattern)


def _ask(key: str, default: str | None, spec_path: Path) -> str:
    """Ask until the answer is good for its key."""

    def check(answer: str) -> str:
        try:
            _make("job", {"files": "*", "app_name": "A"} | ({key: answer} if answer else {}), spec_path)
        except InputError as error:
            raise click.UsageError(f"{error.message.removeprefix('init: ')}; {error.hint}") from None
        return answer

    return str(click.prompt(ABOUT[key], default, value_proc=check, show_default=bool(default), err=True))


def _make(name: str, content: dict[str, Any], spec_path: Path) -> tuple[Spec, str]:
    """Return a new spec and its text. Raises InputError, without a line of a file that is not there yet."""
    text = render_new_spec(name, content)
    try:
        text.encode()
        return parse_as(text, spec_path, Choice(find=find_variable)).spec, text
    except UnicodeEncodeError:
        raise InputError("init: not all of it is UTF-8", "write it in UTF-8") from None
    except SpecErrors as error:
        mistake = error.mistakes[0]
    what = re.sub(r"^(:\d+)*: ", "", mistake.message.removeprefix(str(spec_path)))
    raise InputError(f"init: {what}", mistake.hint)


def _list_ignores(path: Path) -> str:
    """Return what to add to a .gitignore, so that state, token and results are not committed."""
    try:
        text = read_regular(path).decode(errors="replace") if path.exists() else ""
    except OSError as error:
        raise InputError(f"{path}: cannot be read, {error.strerror or error}", "make it readable") from None
    missing = [line for line in GIT_IGNORES if line not in map(str.strip, text.splitlines())]
    return "\n" * bool(text and not text.endswith("\n")) + "".join(f"{line}\n" for line in missing)


def _count(spec: Spec, spec_path: Path) -> int | None:
    """Count the files that can be sent; None where they lie elsewhere, for no request is sent."""
    if is_url(spec.files[0]):
        return None
    with suppress(InputError):
        return len(check_files(spec, spec_path, Allowed()).sources)
    return 0


def _render_end(spec: Spec, spec_path: Path, found: int | None) -> str:
    elsewhere = [] if found is not None else list_roots(spec.files)
    allowed = [word for root in elsewhere for word in ("--allow-remote", root)]
    looked = f"not looked at {', '.join(elsewhere)}" if found is None else f"{count(found, 'file')} to send"
    spec_and = shlex.join([str(spec_path), *allowed])
    return f"""\
{spec_path}: written, {looked}
  next       read it, and change what does not fit
  try it     runner apply {spec_and} --fake
  then       set AIHUB_API_KEY, in the environment or in .env
             runner check {spec_and}
             runner plan {spec_and}
             runner apply {spec_and}
  commit     {spec_path.name}, and the lock file that apply writes beside it"""
