"""`${NAME}` and `--set` in a spec: where they count, what they become, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.errors import SpecErrors
from aihub_runner.model import Target
from aihub_runner.plan.identity import run_key, run_settings
from aihub_runner.spec.parsing import parse_as
from aihub_runner.spec.targets import Choice, Parsed
from aihub_runner.spec.variables import parse_assignment

SHORT = 'files = "in/*"\napp_name = "A"\n'
X = {"AIHUB_VAR_X": "acme", "X": "never", "AIHUB_X": "never", "AIHUB_API_KEY": "never", "AIHUB_SECRET_X": "never"}


def parse(text: str, variables: Mapping[str, str] = X, target: str = "", given: tuple[str, ...] = ()) -> Parsed:
    choice = Choice(target, given=tuple(map(parse_assignment, given)), find=variables.get)
    return parse_as(SHORT + text, Path("job.aihub.toml"), choice)


def mistakes(text: str, variables: Mapping[str, str] = X, given: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        parse(text, variables, given=given)
    told = [f"{mistake.message} / {mistake.hint}" for mistake in caught.value.mistakes]
    return [re.sub(r"^(\S+?:\d+):\d+:", r"\1:", line) for line in told]  # without the column


def value_of(parsed: Parsed, *key: str) -> Any:
    value: Any = parsed.spec
    for name in key:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


KEYS = {
    "context": ('context = "{}"', ("context",)),
    "workspace": ('workspace = "{}"', ("workspace",)),
    "version": ('run.version = "{}"', ("run", "version")),
    "output_workspace": ('run.output_workspace = "{}"', ("run", "output_workspace")),
    "keys.custom": ('run.keys.custom.a = "{}"', ("run", "keys", "custom", "a")),
}


@pytest.mark.parametrize("name", KEYS)
def test_variable_is_filled_in_shown_and_part_of_the_run_key(name: str) -> None:
    line, key = KEYS[name]
    found = parse(line.format("to ${X}-1"[3 * (name == "context") :]))
    expected = "to acme-1"[3 * (name == "context") :]
    assert value_of(found, *key) == expected
    assert found.values == {".".join(key): expected}

    def key_of(parsed: Parsed) -> str:
        spec = parsed.spec
        return run_key(run_settings(spec, Target("https://x", spec.context or "", spec.workspace or "")))

    assert key_of(found) == key_of(parse(line.format(expected)))
    assert key_of(found) != key_of(parse(line.format("${X}"), {"AIHUB_VAR_X": "other"}))


def test_deployment_id_takes_a_variable() -> None:
    text = 'files = "in/*"\ndeployment_id = "${X}"\n'
    found = parse_as(text, Path("job.aihub.toml"), Choice(find=X.get))
    assert (found.spec.deployment_id, found.values) == ("acme", {"deployment_id": "acme"})


def test_variable_inside_lists_and_tables_of_a_custom_key_is_filled_in() -> None:
    found = parse('[run.keys.custom]\na = ["${X}", { b = "${X}" }, 1]\n"${X}" = "$X"\n')
    assert found.spec.run.keys.custom == {"a": ["acme", {"b": "acme"}, 1], "${X}": "$X"}


@pytest.mark.parametrize(
    "line",
    [
        'name = "job"\nowner = "${X}"',
        'run.tags = ["${X}"]',
        'run.output_dir = "/${X}"',
        'run.keys.secret.a = "${X}"',
        'results.dir = "out/${X}"',
        'run.webhook.url = "https://x.y/${X}"',
    ],
)
def test_variable_elsewhere_stays_as_it_is(line: str) -> None:
    assert parse(line).values == {}
    assert "${X}" in repr(parse(line).spec)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$${X}", "${X}"),
        ("$$${X}", "$${X}"),
        ("$X {X} $$", "$X {X} $$"),
        ("${X}${X}", "acmeacme"),
        ("$${${X}}", "${acme}"),
        ("$$${", "$${"),
    ],
)
def test_variable_is_escaped_by_another_dollar(text: str, value: str) -> None:
    assert parse(f'workspace = "{text}"').spec.workspace == value


@pytest.mark.parametrize("text", ["${", "${X", "${x}", "${}", "${X Y}", "${A${X}}", "${1}", "a ${X} ${", "${X:-y}"])
@pytest.mark.parametrize("place", ["workspace = ", "run.keys.custom.a = ", "[targets.b]\nrun.version = "])
def test_malformed_variable_is_told_at_its_line(text: str, place: str) -> None:
    [mistake] = mistakes(f'{place}"{text}"')
    line = 4 if "targets" in place else 3
    assert mistake.startswith(f"job.aihub.toml:{line}: ")
    assert "has ${ without a name in capitals and } behind it / write ${NAME}, or $${ for ${ itself" in mistake


@pytest.mark.parametrize("variables", [{}, {"AIHUB_VAR_X": ""}, {"X": "x", "AIHUB_X": "x"}])
def test_unset_variable_is_told_at_its_line(variables: dict[str, str]) -> None:
    [mistake] = mistakes('context = "${X}"\n', variables)
    assert mistake.startswith("job.aihub.toml:3: AIHUB_VAR_X is not set / set it")


@pytest.mark.parametrize(
    ("line", "value", "what"),
    [
        ('context = "${X}"', "a\r\nX-Evil: 1", "context contains invalid characters or spaces"),
        ('context = "${X}"', "acmé", "context contains invalid characters or spaces"),
        ('context = "${X}"', " acme", "context contains invalid characters or spaces"),
        ('workspace = "${X}"', "a\nb", "workspace contains control characters"),
        ('workspace = "${X}"', "a\u2028b\x1b", "workspace contains control characters"),
        ('workspace = "${X}"', "  ", "workspace is blank"),
        ('workspace = "${X}"', "a\udcff", "AIHUB_VAR_X is not UTF-8"),
        ('run.keys.custom.a = "${X}"', "a\udcff", "AIHUB_VAR_X is not UTF-8"),
        ('run.version = "${X}"', "1\x00", "run.version contains control characters"),
    ],
)
def test_value_of_a_variable_is_checked_like_a_literal_one(line: str, value: str, what: str) -> None:
    [mistake] = mistakes(line, {"AIHUB_VAR_X": value})
    assert mistake.startswith(f"job.aihub.toml:3: {what}")


def test_value_is_never_expanded_again() -> None:
    assert parse('workspace = "${X}"', {"AIHUB_VAR_X": "${X}$${Y}"}).spec.workspace == "${X}$${Y}"


def test_variable_of_another_target_need_not_be_set() -> None:
    text = 'context = "live"\n[targets.a]\ncontext = "${X}"\n[targets.b]\ncontext = "${Y}"\n'
    assert parse(text, target="a").spec.context == "acme"
    assert list(parse(text, target="a").others) == [""]
    assert parse(text).spec.context == "live"


@pytest.mark.parametrize("name", KEYS)
def test_set_replaces_a_key(name: str) -> None:
    line, key = KEYS[name]
    option = f"{name}.a" if name == "keys.custom" else name
    found = parse(f"{line.format('old')}\n", given=(f"{option}=${{X}}=1",))
    assert value_of(found, *key) == "${X}=1"
    assert found.values == {".".join(key): "${X}=1"}


def test_set_beats_target_and_variable() -> None:
    text = 'context = "${Y}"\n[targets.a]\ncontext = "${Z}"\n'
    found = parse(text, target="a", given=("context=b", "run.version=2", "keys.custom.c=d"))
    assert (found.spec.context, found.spec.run.version, found.spec.run.keys.custom) == ("b", "2", {"c": "d"})


def test_set_deployment_replaces_the_app_and_its_owner() -> None:
    spec = parse('owner = "me"\n', given=("deployment_id=d",)).spec
    assert (spec.app_name, spec.owner, spec.deployment_id) == (None, None, "d")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("context=a ", "context contains invalid characters or spaces, from --set"),
        ("workspace=", "workspace is empty, from --set"),
        ("version=a\nb", "run.version contains control characters, from --set"),
        ("keys.custom.api_key=x", "'api_key' looks like a secret, and specs are committed, from --set"),
    ],
)
def test_value_of_set_is_checked_like_a_literal_one(given: str, what: str) -> None:
    assert mistakes("", given=(given,))[0].startswith(f"job.aihub.toml: {what}")


@pytest.mark.parametrize(
    "text",
    [
        *("", "context", "=x", "name=x", "app_name=x", "files=x", "run.context=x", "keys.custom=x", "keys.secret.a=b"),
        *("targets.a.context=x", "results.dir=x", "context=\udcff"),
    ],
)
def test_set_of_another_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_assignment(text)
