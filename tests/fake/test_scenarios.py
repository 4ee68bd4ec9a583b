"""Scenario packs: their results match the API description and never change, and mistakes in them are reported."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given as given_any
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator

from fake_aihub import FakeAIHub
from fake_aihub.docs.pages import TABLES
from fake_aihub.extraction import Extraction
from fake_aihub.extraction.packets import PACKET_FILES
from fake_aihub.extraction.packs import bundled_packs, find_pack, load_packs, parse_pack
from fake_aihub.extraction.text import MAX_BYTES
from fake_aihub.extraction.validation import ScenarioError
from fake_aihub.world.clock import Clock
from fake_aihub.world.entities import File, Run
from fake_aihub.world.world import World
from support.contract import load_operations

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "scenarios"
APPS = {"bank-statements": "Bank Statement", "id-cards": "Passport", "invoices": "anything", "packet": "Loan packet"}
# As the parameters of getRunResults tell it.
ASKED_FOR = {
    "review": {"review_completed", "class_edit_history", "edit_history"},
    "confidence": {"classification_confidence", "confidence"},
    "validation": {"validations"},
    "source": {"post_processed_paths", "post_processed_pdf_path", "page_layouts", "source_coordinates"},
}
EVERY = frozenset(ASKED_FOR)
WITH_PDF = {"settings": {"runtime_config": {"generate_post_process_pdf": True}}}
SMALL = '[[class]]\nname = "a"\n[[class.field]]\nname = "f"\nvalues = ["x"]\n'


def make_run(app: str, files: Iterable[File], **request: Any) -> Run:
    return Run("run", "", 1, 0, {"app_name": app} | request, list(files), {})


def make_files(count: int) -> list[File]:
    return [File(f"{n:03}.png", hashlib.sha256(str(n).encode()).hexdigest(), 1, 0) for n in range(count)]


def make_runs(**request: Any) -> list[Run]:
    """Make a run of many files, and many runs of few, since a packet is a run."""
    files = make_files(100)
    return [
        make_run(app, some, **request)
        for app in APPS.values()
        for some in (files, *(files[start : start + 2] for start in range(20)))
    ]


def results(
    run: Run, include: frozenset[str] = EVERY, extraction: Extraction | None = None, seed: int = 0
) -> dict[str, Any]:
    extraction, world = extraction or Extraction(), World(Clock())
    world.set_seed(seed)
    files = [extraction.render_file(run, file, include, world) for file in run.files]
    return {"files": files} | extraction.render_whole(run, include, world)


@pytest.fixture
def schema(openapi: Path) -> dict[str, Any]:
    content = load_operations(openapi)["getRunResults"]["responses"]["200"]["content"]
    described: dict[str, Any] = content["application/json"]["schema"]
    return described


def described_paths(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{at}/{name}"
        yield from described_paths(inner, f"{at}/{name}")
    if "items" in schema:
        yield from described_paths(schema["items"], at)


def nullable_paths(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        if inner.get("nullable"):
            yield f"{at}/{name}"
        yield from nullable_paths(inner, f"{at}/{name}")
    if "items" in schema:
        yield from nullable_paths(schema["items"], at)


def given_paths(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{at}/{name}", inner
            yield from given_paths(inner, f"{at}/{name}")
    if isinstance(value, list):
        for inner in value:
            yield from given_paths(inner, at)


@pytest.mark.matrix(most=16)
@pytest.mark.parametrize("pack", APPS)
@pytest.mark.parametrize(
    "include",
    [frozenset(c) for n in range(5) for c in itertools.combinations(ASKED_FOR, n)],
    ids=lambda include: "+".join(sorted(include)) or "plain",
)
def test_packs_give_what_the_description_allows_and_only_what_was_asked_for(
    schema: dict[str, Any], pack: str, include: frozenset[str]
) -> None:
    given = results(make_run(APPS[pack], make_files(60), **WITH_PDF), include)
    assert [error.message for error in OAS30Validator(schema).iter_errors(given)] == []
    assert {path for path, _ in given_paths(given)} <= set(described_paths(schema))
    names = {path.rpartition("/")[2] for path, _ in given_paths(given)}
    assert not names & {name for part in EVERY - include for name in ASKED_FOR[part]}


def test_packs_together_give_every_property_that_is_described(schema: dict[str, Any]) -> None:
    given = {path for run in make_runs(**WITH_PDF) for path, _ in given_paths(results(run))}
    wanted = {path for path in described_paths(schema) if path.startswith(("/files", "/case_info"))}
    assert wanted - given == set()


def test_results_together_have_every_property_that_is_described(schema: dict[str, Any]) -> None:
    with FakeAIHub() as fake, requests.Session() as http:
        http.headers["Authorization"] = "Bearer fake-test"
        batch = http.post(f"{fake.root}/v2/batches", json={"name": "b"}).json()["id"]
        http.put(f"{fake.root}/v2/batches/{batch}/files/a.txt", data=b"x")
        run = http.post(f"{fake.root}/v2/apps/runs", json={"batch_id": batch, "app_name": "packet"}).json()["id"]
        flags = {f"include_{part}": "true" for part in ("review_results", "validation_results")}
        given = http.get(f"{fake.root}/v2/apps/runs/{run}/results", params=flags).json()
    assert set(schema["properties"]) == set(given)


def test_packs_together_give_null_and_not_null_wherever_the_description_allows_null(schema: dict[str, Any]) -> None:
    seen: dict[str, set[bool]] = {}
    for run in make_runs():
        for path, value in given_paths(results(run)):
            seen.setdefault(path, set()).add(value is None)
    wanted = {path for path in nullable_paths(schema) if path.startswith(("/files", "/case_info"))}
    assert {path: seen[path] for path in wanted} == {path: {True, False} for path in wanted}


@pytest.mark.parametrize("pack", APPS)
def test_pack_gives_the_same_whatever_the_order_of_files_and_another_for_another_seed(pack: str) -> None:
    files = make_files(30)
    given = results(make_run(APPS[pack], files))
    again = results(make_run(APPS[pack], files[::-1]))
    assert given == again | {"files": again["files"][::-1]}
    renamed = results(make_run(APPS[pack], [File("other.pdf", files[0].digest, 1, 0)]))
    assert renamed["files"][0]["documents"] == given["files"][0]["documents"]
    assert results(make_run(APPS[pack], files), seed=7) != given
    assert len({json.dumps(file["documents"]) for file in given["files"]}) == 30


@pytest.mark.parametrize("pack", APPS)
def test_pack_gives_documents_that_are_of_a_piece(pack: str) -> None:
    for file in results(make_run(APPS[pack], make_files(100)))["files"]:
        pages = [page for document in file["documents"] for page in document["page_numbers"]]
        assert pages == list(range(len(pages)))
        for document in file["documents"]:
            valid = [field["validations"]["valid"] for field in document["fields"]]
            assert document["validations"]["final_result_pass"] == all(valid)
            for field in document["fields"]:
                assert (field["value"] == "ERROR") == bool(field.get("error_msg"))
                assert field["validations"]["valid"] == (not field["validations"]["alerts"])
                assert field["field_name"].isidentifier()
                for box in field["source_coordinates"]:
                    [layout] = [one for one in document["page_layouts"] if one["page_number"] == box["page_number"]]
                    assert 0 <= box["top_x"] < box["bottom_x"] <= layout["width"]
                    assert 0 <= box["top_y"] < box["bottom_y"] <= layout["height"]


def test_packs_together_give_errors_splits_reviews_and_names_of_many_scripts() -> None:
    given = [results(make_run(app, make_files(100))) for app in APPS.values()]
    files = [file for one in given for file in one["files"]]
    documents = [document for file in files for document in file["documents"]]
    values = {field["value"] for document in documents for field in document["fields"]}
    assert {len(file["documents"]) for file in files} == {1, 2, 3}
    assert {document["review_completed"] for document in documents} == {True, False}
    assert {"ERROR", "", "株式会社青空", "محمد علي", "Łukasz Żółć"} <= values
    names = {field["field_name"] for document in documents for field in document["fields"]}
    assert {"due_date", "driver_s_license", "_3rd_category", "secret__id"} <= names


def test_run_is_reviewed_when_all_its_files_are() -> None:
    runs = [make_run("passport", [file]) for file in make_files(30)]
    given = [results(run) for run in runs]
    each = [one["files"][0]["documents"][0]["review_completed"] for one in given]
    assert [one["review_completed"] for one in given] == each
    assert set(each) == {True, False}
    assert results(make_run("passport", make_files(30)))["review_completed"] is False


def test_run_that_a_person_released_is_reviewed_with_all_its_documents() -> None:
    run = make_run("invoice", make_files(20))
    run.script = {"reviewed": True}
    given = results(run)
    assert given["review_completed"] is True
    assert {document["review_completed"] for file in given["files"] for document in file["documents"]} == {True}


@given_any(st.text() | st.binary())
@pytest.mark.slow
def test_pack_of_anything_is_refused_in_words(content: str | bytes) -> None:
    with pytest.raises(ScenarioError):
        parse_pack(content.encode() if isinstance(content, str) else content, "my.toml")


def test_packet_without_its_documents_has_errors_and_without_a_difference_none() -> None:
    extraction = Extraction()
    seen = set()
    for file in make_files(60):
        given = results(make_run("packet", [file]), extraction=extraction)
        [name, _, net] = given["case_info"]["fields"]
        classes = {document["class_name"] for document in given["files"][0]["documents"]}
        if "payslip" not in classes:
            assert (net["value"], net["chosen_field"], net["input_fields"]) == ("ERROR", None, [])
            assert "payslip/net pay" in net["error_msg"]
        assert name["validations"] == {"valid": True, "failures": []}
        seen |= classes
    assert seen == {"application", "payslip", "identity card"}


def test_packet_whose_documents_agree_is_valid() -> None:
    extraction = Extraction()
    cards = [
        file
        for file in make_files(60)
        if results(make_run("packet", [file]), extraction=extraction)["files"][0]["documents"][0]["class_name"]
        == "identity card"
    ]
    [name, *_] = results(make_run("packet", cards), extraction=extraction)["case_info"]["fields"]
    assert len(name["input_fields"]) == len(cards[:10]) > 1
    assert (name["value"], name["validations"]) == ("Inês Almeida", {"valid": True, "failures": []})


def test_packet_points_at_the_documents_that_its_values_are_from() -> None:
    given = results(make_run("packet", make_files(12)))
    documents = [document for file in given["files"] for document in file["documents"]]
    [name, *_] = given["case_info"]["fields"]
    chosen = documents[name["chosen_field"]["record_index"]]
    phrase = name["chosen_field"]["refined_phrase_name"]
    assert name["value"] == next(field["value"] for field in chosen["fields"] if field["field_name"] == phrase)
    assert name["chosen_field"] in name["input_fields"]
    assert [failure["type"] for failure in name["validations"]["failures"]] == ["all_inputs_match"]


@pytest.mark.parametrize(
    ("names", "pack"),
    [
        (["Invoice Extraction"], "invoices"),
        (["nothing of the kind"], "invoices"),
        ([], "invoices"),
        (["ACME BANK STATEMENTS"], "bank-statements"),
        (["x", "loan-7"], "packet"),
        (["Driver License"], "id-cards"),
        (["x" * 10_000], "invoices"),
    ],
)
def test_pack_is_chosen_by_names_and_ids_of_the_app(names: list[str], pack: str) -> None:
    assert find_pack(bundled_packs(), names)[0] == pack


def test_own_packs_come_before_those_of_the_fake(tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text('apps = ["*invoice*", "D-1"]\ndefault = true\n' + SMALL)
    (tmp_path / "packet.toml").write_text('apps = ["my-packet"]\n' + SMALL)
    (tmp_path / "notes.txt").write_text("not a pack")
    packs = load_packs(tmp_path)
    for names, pack in (
        (["Invoice"], "z"),
        (["d-1"], "z"),
        (["?"], "z"),
        (["loan"], "z"),
        (["bank"], "bank-statements"),
    ):
        assert find_pack(packs, names)[0] == pack, names
    run = make_run("my-packet", make_files(1))
    [document] = results(run, extraction=Extraction(scenarios=tmp_path))["files"][0]["documents"]
    assert (document["class_name"], document["fields"][0]["value"]) == ("a", "x")


def test_pack_with_many_pages_has_no_processed_pdf(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text('apps = ["*"]\n' + SMALL.replace('name = "a"\n', "pages = [100]\n"))
    run = make_run("x", make_files(1), **WITH_PDF)
    [document] = results(run, extraction=Extraction(scenarios=tmp_path))["files"][0]["documents"]
    assert len(document["page_layouts"]) == 100
    assert "post_processed_pdf_path" not in document
    assert document["post_processed_paths"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.toml: class: missing key"),
        ("x", "my.toml: not valid TOML"),
        ("\xff", "my.toml: not valid UTF-8"),
        ("aps = 1\n" + SMALL, "my.toml: aps: unknown key; did you mean apps? allowed: about, apps, default"),
        (SMALL + "lables = []", "my.toml: class[1].field[1].lables: unknown key; did you mean labels? allowed: name"),
        (
            SMALL + 'error = {rate = 1.5, message = "m"}',
            "my.toml: class[1].field[1].error.rate: must be less than or",
        ),
        (SMALL + 'error = {rate = 1.5, message = "m"}', "equal to 1, got 1.5"),
        (SMALL + 'error = {rate = "1", message = "m"}', "error.rate: must be a valid number, got '1'"),
        (SMALL + "error = {rate = 1}", "my.toml: class[1].field[1].error.message: missing key"),
        (SMALL + 'alert = "x"', "my.toml: class[1].field[1].alert: must be a table, got 'x'"),
        (SMALL + "number = {low = 3.0, high = 1.0}", "number: low must not be larger than high, got 3.0 and 1.0"),
        (SMALL + "date = {first = 2026-01-02, last = 2026-01-01}", "got 2026-01-02 and 2026-01-01"),
        (SMALL + "number = {low = 1.0, high = 3.0}", "is required, got values and number"),
        (SMALL.replace('values = ["x"]', ""), "is required, got none"),
        (SMALL + "confidence = [0.9, 0.1]", "the first number must not be larger than the second, got [0.9, 0.1]"),
        (SMALL + "confidence = [nan, 0.1]", "class[1].field[1].confidence[1]: must be a finite number, got nan"),
        (SMALL + SMALL, "class: duplicate name 'a'"),
        ("documents = [51]\n" + SMALL, "my.toml: documents[1]: must be less than or equal to 50, got 51"),
        (SMALL + '[[cross_class]]\nname = "n"\nsources = ["a/g"]', "unknown source 'a/g'; allowed: a/f"),
    ],
)
def test_mistake_in_a_pack_is_told_with_file_key_value_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as told:
        parse_pack(text.encode("latin-1"), "my.toml")
    assert message in str(told.value)


def test_all_mistakes_of_a_folder_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x")
    (tmp_path / "b.toml").write_text("default = true\nreviewed = 2\n" + SMALL)
    for name in ("c", "d"):
        (tmp_path / f"{name}.toml").write_text("default = true\n" + SMALL)
    with pytest.raises(ScenarioError) as told:
        Extraction(scenarios=tmp_path)
    assert [line.split(":")[0] for line in str(told.value).splitlines()] == ["a.toml", "b.toml", "d.toml"]
    assert "only one pack can be the default, got c, d" in str(told.value)


@pytest.mark.parametrize(("folder", "message"), [("none", "not a folder"), ("", "no packs found")])
def test_folder_without_packs_is_told(tmp_path: Path, folder: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        FakeAIHub(scenarios=tmp_path / folder)


@pytest.mark.parametrize(("option", "name"), [("--scenarios", "x.toml"), ("--fixtures", "a.pdf.json")])
@pytest.mark.slow
def test_command_with_a_mistake_in_a_pack_or_fixture_tells_it_and_ends(tmp_path: Path, option: str, name: str) -> None:
    (tmp_path / name).write_text("x")
    command = [sys.executable, "-m", "fake_aihub", "--port", "0", option, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"Error: {name}: not valid" in result.stderr


def test_start_of_the_fake_leaves_packs_alone_until_results_are_asked_for() -> None:
    code = (
        "import sys, fake_aihub.api.app; print({'pydantic', 'pypdf', 'fake_aihub.extraction.packs'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert result.stdout == "set()\n"


def test_packs_are_installed_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["fake_aihub"]
    found = [
        f"extraction/scenarios/{path.name}" for path in (ROOT / "fake_server/fake_aihub/extraction/scenarios").iterdir()
    ]
    assert len(found) == len(APPS)
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in found)


def test_document_on_scenarios_has_an_example_that_holds_every_key_and_the_limits() -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    pack = parse_pack(example.encode(), "example.toml")
    assert find_pack({"example": pack} | bundled_packs(), ["Delivery 7"])[0] == "example"
    assert f"The first {PACKET_FILES} files of a run" in text
    assert f"at most\n{MAX_BYTES:,} bytes" in text
    for table in TABLES:
        for name, field in table.model_fields.items():
            assert re.search(rf"^\| `{field.alias or name}` \| [^|]* \| [^|]+\.? \|$", text, re.MULTILINE), name


@pytest.mark.parametrize("pack", APPS)
def test_pack_gives_what_it_gave(pack: str) -> None:
    """A change of results is seen here; where it is wanted, delete the file and run this again, which fails once."""
    path = GOLDEN / f"{pack}.json"
    whole = results(make_run(APPS[pack], make_files(6), **WITH_PDF))
    parts = [json.dumps(part, ensure_ascii=False) for part in (*whole.pop("files"), whole)]
    given = "[\n" + ",\n".join(parts) + "\n]\n"
    if not path.exists():
        path.write_text(given, encoding="utf-8")
        pytest.fail(f"{path.name} was missing, and is made")
    assert path.read_text(encoding="utf-8") == given
