"""Patterns that match nothing, temporary files of other programs, and how specs are named and found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.waiting import wait_for

from .conftest import SPEC, Project

BOTH = SPEC.replace('"in/**/*"', '["in/*.txt", "more/*.txt"]')


@pytest.fixture
def pair(project: Project) -> Project:
    project.write("job.toml", BOTH)
    project.write_files(2)
    project.write("more/a.txt", "one more")
    return project


def die_before_the_run(project: Project) -> None:
    """Send all files, and die before a run is asked for."""
    project.fake.faults.add(operation="listFiles", nth=2, do="stall", when="before", times=9, seconds=30)
    process = project.start("apply", "job.toml")
    wait_for(lambda: "listFiles" in [entry["operation"] for entry in project.fake.journal if entry["faulted"]])
    process.kill()
    process.communicate()
    project.fake.faults.scripts.clear()


def lose(project: Project, folder: str) -> None:
    (project.folder / folder).rename(project.folder / f"away-{folder}")


def find_again(project: Project, folder: str) -> None:
    (project.folder / f"away-{folder}").rename(project.folder / folder)


@pytest.mark.parametrize("command", [("validate", "--check-files"), ("plan",), ("apply",), ("status",)])
def test_pattern_that_takes_nothing_is_named(project: Project, command: tuple[str, ...]) -> None:
    project.write("job.toml", BOTH)
    project.write_files(1)
    outcome = project.run(*command)
    assert outcome.code in (0, 6), outcome.text
    assert "more/*.txt matches no files" in outcome.out
    assert "in/*.txt" not in outcome.out
    assert json.loads(project.run(*command, "--json").out)["specs"][0]["idle"] == ["more/*.txt matches no files"]


def test_pattern_that_took_files_and_takes_none_is_warned_of_until_the_spec_allows_it(pair: Project) -> None:
    assert pair.apply().code == 0
    lose(pair, "more")
    pair.write("in/new.txt", "new")
    for _ in range(2):
        outcome = pair.apply()
        assert outcome.code == 3, outcome.text
        assert "more/*.txt matched files before, and matches none now" in outcome.out
    assert len(pair.fake.runs()) == 2
    assert pair.run("status").code == 3
    assert pair.run("plan", "--json").json["lapsed"] == ["more/*.txt"]
    pair.change_spec("app_name", "allow_empty = true\napp_name")
    assert pair.apply().code == 0
    assert pair.run("status").code == 0
    pair.change_spec("allow_empty = true\n", "")
    assert pair.apply().code == 0


def test_part_of_a_pattern_in_braces_is_a_pattern_of_its_own(project: Project) -> None:
    project.write("job.toml", SPEC.replace('"in/**/*"', '"{in,more}/*.{txt,pdf}"'))
    project.write_files(1)
    project.write("more/a.txt", "one more")
    assert project.apply().code == 0
    lose(project, "more")
    outcome = project.apply()
    assert outcome.code == 3
    assert "more/{*.txt,*.pdf} matched files before" in outcome.out


@pytest.mark.slow
def test_nothing_is_deleted_from_a_batch_for_a_folder_that_is_not_there(pair: Project) -> None:
    die_before_the_run(pair)
    lose(pair, "more")
    pair.write("in/late.txt", "late")
    outcome = pair.apply()
    assert outcome.code == 3, outcome.text
    assert "is skipped, 1 file would be deleted from it, more/a.txt" in outcome.err
    assert not any(line.startswith("DELETE") for line in pair.sent())
    assert set(pair.arrived()) == {"00000.txt", "00001.txt", "a.txt"} | {"late.txt"} & set(pair.arrived())
    find_again(pair, "more")
    assert pair.apply().code == 0
    assert len({line["path"] for line in pair.documents}) == 4
    assert set(pair.fake.ledger["runs"].values()) == {1}


@pytest.mark.slow
def test_whole_batch_waits_for_the_folder_that_is_not_there(pair: Project) -> None:
    pair.change_spec("[limits]", "[limits]\nfiles_per_batch = 1")
    die_before_the_run(pair)
    batches = len(pair.fake.batches())
    lose(pair, "more")
    assert pair.apply().code == 3
    find_again(pair, "more")
    assert pair.apply().code == 0
    assert len(pair.fake.batches()) <= max(batches, 3)
    assert len(pair.fake.runs()) == 3


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ("'in/a[1].txt'", r"write \[ for a bracket in a name, as in 'in/a\[1].txt'"),
        ('"~/in/*.txt"', "write the folder in full, ~ is not expanded"),
        (r"'in\*.txt'", "use / between folders"),
        (r"'in\sub\*.txt'", "use / between folders"),
        (r'"in\*.txt"', "use / between folders"),
    ],
)
def test_hint_says_what_to_write_in_a_pattern(project: Project, files: str, hint: str) -> None:
    project.write("in/a[1].txt", "words")
    project.write("job.toml", SPEC.replace('"in/**/*"', files))
    outcome = project.apply()
    assert outcome.code == 2, outcome.text
    assert hint in outcome.err


def test_litter_is_no_source_unless_it_is_named_exactly(project: Project) -> None:
    litter = ["~$Invoice.docx", ".~lock.a.docx#", "b.pdf.crdownload", "c.part", "Thumbs.db", "desktop.ini", ".DS_Store"]
    litter += ["._a.txt", "~WRL0001.tmp", "notes.txt~", ".b.txt.swp", "#c.txt#", "__MACOSX/a.txt", "@eaDir/a.txt"]
    for name in litter:
        project.write(f"in/{name}", "litter")
    project.write_files(1)
    project.change_spec('"in/**/*"', '["in/**/*", "in/**/.*"]')
    outcome = project.apply("--json")
    assert outcome.code == 0, outcome.text
    assert outcome.json["files"] == 1
    assert set(project.arrived()) == {"00000.txt"}
    project.change_spec('"in/**/.*"', '"in/~$Invoice.docx"')
    assert project.apply().code == 0
    assert set(project.arrived()) == {"00000.txt", "~$Invoice.docx"}


def test_spec_of_the_long_name_has_the_short_stem(project: Project) -> None:
    project.write_files(1)
    project.spec_path.rename(project.folder / "job.aihub.toml")
    project.spec_name = "job.aihub.toml"
    project.change_spec('name = "job"\n', "")
    assert project.apply().code == 0
    assert {"job.lock.toml", "job.state.db"} <= {path.name for path in project.folder.iterdir()}
    assert project.run("validate", "--json").json["name"] == "job"
    project.change_spec('"in/**/*"', '"**/*"')
    project.forget_requests()
    assert project.apply().code == 0
    assert project.fake.journal == []
    assert project.apply("--fake").code == 0
    assert (project.folder / "job.fake" / "job.state.db").exists()


def test_spec_that_gets_the_long_name_goes_on_with_its_state(project: Project) -> None:
    project.write_files(1)
    project.apply()
    project.spec_path.rename(project.folder / "job.aihub.toml")
    project.spec_name = "job.aihub.toml"
    project.forget_requests()
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.fake.journal == []


def test_two_specs_of_one_stem_are_an_error(project: Project) -> None:
    project.write_files(1)
    project.write("job.aihub.toml", SPEC)
    for command in ("validate", "plan", "apply", "status"):
        outcome = project.run(command)
        assert outcome.code == 2
        assert "would share the state job.state.db with job.aihub.toml" in outcome.err
    assert project.fake.journal == []


def test_two_specs_of_one_stem_are_listed_with_all_other_mistakes(project: Project) -> None:
    project.write("job.aihub.toml", SPEC)
    project.change_spec('context = "acme"', 'contex = "acme"')
    project.spec_name = "."
    found: dict[str, list[str]] = {}
    for one in json.loads(project.run("validate", "--json").out)["diagnostics"]:
        found.setdefault(Path(one["file"]).name, []).append(one["message"].rpartition(": ")[2])
    assert found["job.aihub.toml"] == ["would share the state job.state.db with job.toml"]
    assert len(found["job.toml"]) > 1
    assert found["job.toml"][-1] == "would share the state job.state.db with job.aihub.toml"


def test_folder_means_its_specs_and_no_other_toml(project: Project) -> None:
    project.write_files(1)
    project.write("pyproject.toml", SPEC)
    project.write("ruff.toml", "line-length = 100\n")
    project.write("other.aihub.toml", "fils = 1\n")
    project.spec_name = "."
    told = json.loads(project.run("validate", "--json").out)["specs"]
    assert [one["spec"] for one in told] == [f"{project.folder}/job.toml", f"{project.folder}/other.aihub.toml"]
    assert [one["exit_code"] for one in told] == [0, 2]


def test_folder_without_a_spec_is_told_of(project: Project) -> None:
    project.write("empty/pyproject.toml", SPEC)
    project.spec_name = "empty"
    outcome = project.run("validate")
    assert outcome.code == 2
    assert f"error: {project.folder}/empty: no specs in this folder; a spec is a file named *.aihub.toml" in outcome.err
    assert f"hint: write one with `runner init {project.folder}/empty`" in outcome.err


def test_no_files_at_all_are_allowed_where_the_spec_says_so(pair: Project) -> None:
    assert pair.apply().code == 0
    lose(pair, "more")
    lose(pair, "in")
    assert pair.apply().code == 2
    pair.change_spec("app_name", "allow_empty = true\napp_name")
    assert [pair.run(command).code for command in ("plan", "apply", "status")] == [0, 0, 0]
