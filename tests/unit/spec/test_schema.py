"""The JSON Schema of a spec: it is current, and accepts what the runner accepts."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePath
from typing import Any

import pytest
import tomli_w
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from aihub_runner.cli.main import cli
from aihub_runner.errors import SpecErrors
from aihub_runner.spec.kinds import Key
from aihub_runner.spec.model import KNOWN, TABLES
from aihub_runner.spec.parsing import parse_as
from aihub_runner.spec.schema import render_spec_schema
from aihub_runner.spec.targets import Choice

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads(render_spec_schema())
SMALLEST = {"files": "in/*", "app_name": "A"}


def accepts(content: dict[str, Any]) -> bool:
    """Whether the schema accepts a spec; the runner must agree."""
    by_schema = Draft7Validator(SCHEMA).is_valid(content)
    try:
        parse_as(tomli_w.dumps(content), PurePath("job.aihub.toml"), Choice(find=lambda name: "x"))
        by_runner = True
    except SpecErrors:
        by_runner = False
    assert by_schema == by_runner, content
    return by_runner


def with_value(key: Key, value: Any) -> dict[str, Any]:
    """Return the smallest spec with one more key."""
    content: dict[str, Any] = dict(SMALLEST)
    table = content
    for name in key[:-1]:
        table = table.setdefault(str(name), {})
    table[str(key[-1])] = value
    return content


def test_schema_in_the_repository_is_current() -> None:
    assert (ROOT / "specs/aihub.schema.json").read_text(encoding="utf-8") == render_spec_schema(), "run `make docs`"


def test_command_prints_the_schema() -> None:
    assert CliRunner().invoke(cli, ["schema"]).output == render_spec_schema()


def test_schema_is_valid_and_accepts_every_example() -> None:
    Draft7Validator.check_schema(SCHEMA)
    for path in (ROOT / "specs").glob("*.aihub.toml"):
        assert path.read_text().startswith("#:schema ./aihub.schema.json\n")
        assert accepts(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("key", sorted(key for key in KNOWN if key not in TABLES), ids=".".join)
def test_schema_refuses_a_value_of_the_wrong_kind_for_each_key(key: Key) -> None:
    assert not accepts(with_value(key, [[]]))


@pytest.mark.parametrize("table", TABLES, ids=".".join)
def test_schema_refuses_an_unknown_key_in_each_table(table: Key) -> None:
    assert not accepts(with_value((*table, "unknown"), 1))


@pytest.mark.parametrize(
    ("key", "value", "is_good"),
    [
        (("files",), ["a/*", "!b"], True),
        (("app_id",), "a", False),  # one app only
        (("limits", "max_runs"), 0, True),
        (("limits", "max_runs"), -1, False),
        (("limits", "settle_s"), 0.5, True),
        (("limits", "settle_s"), 0, False),
        (("results", "formats"), ["csv"], True),
        (("results", "formats"), ["pdf"], False),
        (("run", "keys", "custom"), {"any": {"thing": [1]}}, True),
        (("run", "pdf_passwords"), {"a.pdf": {"env": "AIHUB_SECRET_A"}}, True),
        (("run", "pdf_passwords"), {"a.pdf": {"env": "HOME"}}, False),
        (("name",), "..", False),
    ],
)
def test_schema_agrees_with_the_runner(key: Key, value: Any, is_good: bool) -> None:
    assert accepts(with_value(key, value)) is is_good


TOMBI = shutil.which("tombi", path=Path(sys.executable).parent)


@pytest.mark.skipif(not TOMBI, reason="needs tombi")
@pytest.mark.parametrize(("text", "code"), [("", 0), ("ownr = 1\n", 1), ("[limits]\nmax_runs = '1'\n", 1)])
def test_tombi_finds_mistakes_by_the_schema(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / ".aihub.schema.json").write_text(render_spec_schema())
    spec = tmp_path / "job.aihub.toml"
    spec.write_text(f'#:schema ./.aihub.schema.json\nfiles = "in/*"\napp_name = "A"\n{text}')
    assert TOMBI
    ended = subprocess.run([TOMBI, "lint", "--offline", spec], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == code, ended


def test_hook_of_pre_commit_validates_specs(tmp_path: Path) -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, *arguments = shlex.split(hook["entry"])
    assert program == "runner"
    good, bad = tmp_path / "good.aihub.toml", tmp_path / "bad.aihub.toml"
    good.write_text('files = "in/*"\napp_name = "A"\n')
    bad.write_text("ownr = 1\n")
    assert CliRunner().invoke(cli, [*arguments, str(good)]).exit_code == 0
    assert CliRunner().invoke(cli, [*arguments, str(good), str(bad)]).exit_code == 2
