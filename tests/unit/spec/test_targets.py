"""Targets of a spec: what they replace, what they are named, and every mistake at its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aihub_runner.errors import SpecErrors
from aihub_runner.spec.parsing import parse_as, parse_spec
from aihub_runner.spec.targets import Choice, Parsed

FILES = 'files = "in/*"\n'
SHORT = FILES + 'app_name = "A"\nowner = "me"\ncontext = "live"\n[run]\nversion = "1"\n[results]\ndir = "out"\n'


def parse(text: str, target: str = "", *, any_target: bool = False) -> Parsed:
    return parse_as(text, Path("job.aihub.toml"), Choice(target, any_target))


def mistakes(text: str, target: str = "", *, any_target: bool = False) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        parse(text, target, any_target=any_target)
    told = [f"{mistake.message} / {mistake.hint}" for mistake in caught.value.mistakes]
    return [re.sub(r"^(\S+?:\d+):\d+:", r"\1:", line) for line in told]  # without the column


def test_target_replaces_what_it_sets_and_nothing_else() -> None:
    own = 'context = "trial"\nworkspace = "w"\nrun.version = "2"\nrun.output_workspace = "o"\nresults.dir = "try"\n'
    spec = parse(SHORT + "[targets.test]\n" + own, "test").spec
    assert (spec.context, spec.workspace, spec.run.version, spec.results.dir) == ("trial", "w", "2", "try")
    assert (spec.run.output_workspace, spec.app_name, spec.owner, spec.files) == ("o", "A", "me", ("in/*",))


def test_spec_without_a_target_is_as_if_it_had_none() -> None:
    plain = parse_spec(SHORT, Path("job.aihub.toml"))
    found = parse(SHORT + '[targets.test]\ncontext = "trial"\n').spec
    assert (found.name, found.context, found.run, found.results) == ("job", "live", plain.run, plain.results)


@pytest.mark.parametrize("app", ['app_name = "B"', 'app_id = "B"', 'deployment_id = "B"'])
def test_target_with_an_app_leaves_nothing_of_the_other_app(app: str) -> None:
    spec = parse(SHORT + f"[targets.test]\n{app}\n", "test").spec
    assert [spec.app_name, spec.app_id, spec.deployment_id, spec.owner].count("B") == 1
    assert (spec.owner, "A" in (spec.app_name, spec.app_id)) == (None, False)


@pytest.mark.parametrize(
    ("line", "name", "folder"),
    [
        ("", "job@test", "results/job@test"),
        ('name = "x"\n', "x@test", "results/x@test"),
        ('results.dir = "out/"\n', "job@test", "out@test"),
    ],
)
def test_target_has_a_name_and_a_results_folder_of_its_own(line: str, name: str, folder: str) -> None:
    spec = parse(f'{FILES}app_name = "A"\n{line}[targets.test]\n', "test").spec
    assert (spec.name, spec.results.dir_for(spec.name)) == (name, folder)


def test_spec_whose_app_only_targets_name_needs_one_and_is_valid() -> None:
    text = FILES + '[targets.test]\napp_name = "A"\n'
    assert parse(text, "test").spec.app_name == "A"
    assert parse(text, any_target=True).others["test"].app_name == "A"
    assert "exactly one of app_name, app_id and deployment_id is required, 0 are set" in mistakes(text)[0]
    assert "--target" in mistakes(text)[0]


@pytest.mark.parametrize("name", ["test", "eu-west", "a", "t1", "x" * 40, "secrets", "variant", "runner"])
def test_name_of_a_target_is_accepted(name: str) -> None:
    assert parse(SHORT + f"[targets.{name}]\n", name).spec.name == f"job@{name}"


@pytest.mark.parametrize(
    "name",
    ["TEST", "Test", "a_b", "1a", "-a", "a-", "a--b", "a.b", "x" * 41, *('"../x"', '"a/b"', '"a b"', '"a\\nb"', '""')],
)
def test_name_of_a_target_that_is_no_file_and_variable_name_is_refused(name: str) -> None:
    assert mistakes(SHORT + f"[targets.{name}]\n")[0].startswith("job.aihub.toml:9: ")


@pytest.mark.parametrize("name", ["secret", "secret-x", "var", "var-x"])
def test_target_whose_token_a_spec_could_name_is_refused(name: str) -> None:
    [mistake] = mistakes(SHORT + f"[targets.{name}]\n")
    assert "is reserved" in mistake
    assert "AIHUB_SECRET_" in mistake or "AIHUB_VAR_" in mistake


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[targets.test]\nversion = "2"\n',
            "job.aihub.toml:10: unknown key 'version' / it belongs in [targets.test.run]",
        ),
        ("[targets.test]\ncontxt = 'x'\n", "job.aihub.toml:10: unknown key 'contxt' / did you mean 'context'?"),
        ("[targets.test]\nfiles = 'x'\n", "job.aihub.toml:10: unknown key 'files'"),
        ("[targets.test]\napi_root = 'https://x'\n", "job.aihub.toml:10: unknown key 'api_root'"),
        ("[targets.test]\napi_key = 'x'\n", "job.aihub.toml:10: 'api_key' looks like a secret"),
        ("[targets.test]\ncontext = 5\n", "job.aihub.toml:10: targets.test.context is not a string, 5"),
        ('[targets.test]\ncontext = "a\\nb"\n', "job.aihub.toml:10: targets.test.context contains invalid characters"),
        ("[targets.test.run]\ntags = ['a']\n", "job.aihub.toml:10: unknown key 'tags'"),
        ("[targets]\ntest = 5\n", "job.aihub.toml:10: targets.test is not a table, 5"),
        ("[targets.test]\napp_id = 'a'\napp_name = 'b'\n", "exactly one of app_name, app_id and deployment_id is"),
        ("[targets.test]\ndeployment_id = 'd'\nowner = 'o'\n", "job.aihub.toml:11: deployment_id cannot be combined"),
        (
            "[targets.test.results]\ndir = '..'\n",
            "job.aihub.toml:10: targets.test.results.dir is the folder of the spec",
        ),
    ],
)
def test_mistake_in_a_target_is_told_at_its_line_whatever_target_is_asked_for(text: str, expected: str) -> None:
    for target in ("", "test"):
        found = mistakes(SHORT + text, target)
        assert expected in found[0]
        assert len(found) == 1


def test_mistake_of_the_spec_is_told_once_for_all_targets() -> None:
    [mistake] = mistakes(SHORT + "pdf = true\n[targets.a]\n[targets.b]\n")
    assert mistake.startswith("job.aihub.toml:9: pdf needs PDFs that the run generates /")


def test_mistake_that_only_a_target_makes_names_it() -> None:
    [mistake] = mistakes(SHORT.replace("version", "output_workspace") + '[targets.eu]\ndeployment_id = "d"\n')
    assert mistake.startswith("job.aihub.toml:6: deployment_id cannot be combined")
    assert "for target eu" in mistake


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[targets.a]\nresults.dir = "out"\n', "no target and target a"),
        ('[targets.a]\nresults.dir = "./OUT/"\n', "no target and target a"),
        ('[targets.a]\nresults.dir = "out/raw"\n', "no target and target a"),
        ('[targets.a]\nresults.dir = "x"\n[targets.b]\nresults.dir = "x"\n', "target a and target b"),
        ('[targets.a]\nresults.dir = "out@b"\n[targets.b]\n', "target a and target b"),
    ],
)
def test_targets_that_share_a_results_folder_are_refused_by_name(text: str, names: str) -> None:
    [mistake] = mistakes(SHORT + text)
    assert f"{names} have the same results folder" in mistake


def test_target_needs_a_batch_of_its_own_where_the_spec_names_one() -> None:
    text = SHORT.replace(FILES, "batch.id = 5\n") + "[targets.a]\n"
    [mistake] = mistakes(text)
    assert mistake.startswith("job.aihub.toml:9: batch.id is missing")
    assert parse(text + "batch.id = 6\n", "a").spec.batch.id == 6


def test_unknown_target_is_refused_with_the_known_ones() -> None:
    text = SHORT + "[targets.b]\n[targets.a]\n"
    [mistake] = mistakes(text, "c")
    assert "has no target 'c', only b, a" in mistake
    assert "has no targets, 'c' was asked for" in mistakes(SHORT, "c")[0]
    assert "has no target '../a'" in mistakes(text, "../a")[0]


def test_other_targets_are_parsed_as_well() -> None:
    found = parse(SHORT + '[targets.a]\ncontext = "x"\n[targets.b]\n', "a")
    assert {name: spec.context for name, spec in found.others.items()} == {"": "live", "b": "live"}
