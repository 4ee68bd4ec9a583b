"""Fixtures: your own results for a file name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from fake_aihub import FakeAIHub
from fake_aihub.extraction import Extraction
from fake_aihub.extraction.recorded import FILE, load_fixtures
from fake_aihub.extraction.validation import ScenarioError
from fake_aihub.world.clock import Clock
from fake_aihub.world.entities import File, Run
from fake_aihub.world.world import World
from support.contract import check_journal, load_operations

ROOT = Path(__file__).parents[2]

FIELD = {"field_name": "total", "value": "1", "confidence": {"model": 1, "ocr": None}, "edit_history": []}
DOCUMENT = {"class_name": None, "fields": [FIELD], "review_completed": True, "post_processed_pdf_path": "/a.pdf"}
FLAGS = ("review_results", "confidence_scores", "validation_results", "source_info")


def write(folder: Path, name: str, content: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def fetch(fixtures: Path, name: str, **query: str) -> dict[str, Any]:
    with FakeAIHub(fixtures=fixtures) as fake, requests.Session() as http:
        http.headers["Authorization"] = "Bearer fake-test"
        batch = http.post(f"{fake.root}/v2/batches", json={"name": "b"}).json()["id"]
        headers = {"Content-Type": "application/octet-stream"}
        http.put(f"{fake.root}/v2/batches/{batch}/files/{name}", data=b"x", headers=headers)
        run = http.post(f"{fake.root}/v2/apps/runs", json={"batch_id": batch, "app_name": "a"}).json()["id"]
        page: dict[str, Any] = http.get(f"{fake.root}/v2/apps/runs/{run}/results", params=query).json()
        check_journal([entry for entry in fake.journal if entry["operation"]])
    return page


def test_fixture_is_what_a_file_of_that_name_gives(tmp_path: Path) -> None:
    write(tmp_path, "a.pdf", [DOCUMENT])
    every = {f"include_{flag}": "true" for flag in FLAGS}
    page = fetch(tmp_path, "a.pdf", **every)
    assert page["files"][0]["documents"] == [
        {key: value for key, value in DOCUMENT.items() if key != "post_processed_pdf_path"}
    ]
    assert page["review_completed"] is True
    assert fetch(tmp_path, "b.pdf", **every)["files"][0]["documents"] != page["files"][0]["documents"]


def test_fixture_leaves_out_what_was_not_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a.pdf", {"documents": [DOCUMENT]})
    [document] = fetch(tmp_path, "a.pdf")["files"][0]["documents"]
    assert document == {"class_name": None, "fields": [{"field_name": "total", "value": "1"}]}


def test_fixture_of_a_whole_file_keeps_its_path(tmp_path: Path) -> None:
    write(tmp_path, "a.pdf", {"documents": [], "original_file_name": "a.pdf", "input_file_path": "/real/a.pdf"})
    assert fetch(tmp_path, "a.pdf")["files"] == [
        {"documents": [], "original_file_name": "a.pdf", "input_file_path": "/real/a.pdf"}
    ]


def test_fixture_is_found_in_whatever_unicode_form_its_name_is(tmp_path: Path) -> None:
    write(tmp_path, "e\u0301.pdf", [])
    assert fetch(tmp_path, "\u00e9.pdf")["files"][0]["documents"] == []
    assert fetch(tmp_path, "e\u0301.pdf")["files"][0]["original_file_name"] == "e\u0301.pdf"


def test_fixture_is_found_for_a_file_in_a_subfolder_of_a_run_on_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.pdf", [])
    run = Run("run", "", None, 0, {"app_name": "a", "input_dir": "/o/w/fs/d/in/"}, [], {})
    file = File("sub/a.pdf", "0", 1, 0)
    assert Extraction(fixtures=tmp_path).render_file(run, file, frozenset(), World(Clock()))["documents"] == []


def test_fixture_of_the_documentation_holds(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    write(tmp_path, "a.pdf", json.loads(example))
    assert load_fixtures(tmp_path)["a.pdf"] == json.loads(example)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "a.pdf.json: not valid JSON in UTF-8"),
        (b"\xff", "a.pdf.json: not valid JSON in UTF-8"),
        (b"[" * 100_000, "a.pdf.json: not valid JSON in UTF-8"),
        (b'["\\ud800"]', "a.pdf.json: not valid JSON in UTF-8"),
        (b"{}", "a.pdf.json: documents: missing key"),
        (b"1", "a.pdf.json: the whole file: must be a table, got 1"),
        (
            b'[{"fields": [{"field_name": "a", "value": null}]}]',
            "documents[1].fields[1].value: must be a valid string",
        ),
        (b'[{"fields": [{"field_name": "a"}]}]', "a.pdf.json: documents[1].fields[1].value: missing key"),
        (b'[{"fields": [], "clas_name": "x"}]', "documents[1].clas_name: unknown key; did you mean class_name?"),
        (b'[{"fields": [], "classification_confidence": {"model": NaN}}]', "NaN is not a number"),
        (b'{"documents": [], "original_file_name": "b.pdf"}', "original_file_name: must be 'a.pdf', got 'b.pdf'"),
    ],
)
def test_mistake_in_a_fixture_is_told_at_the_start(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pdf.json").write_bytes(content)
    with pytest.raises(ScenarioError) as told:
        FakeAIHub(fixtures=tmp_path)
    assert message in str(told.value)


def test_folder_of_fixtures_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="not a folder"):
        FakeAIHub(fixtures=tmp_path / "none")


def test_fixtures_may_say_all_that_the_description_has(openapi: Path) -> None:
    content = load_operations(openapi)["getRunResults"]["responses"]["200"]["content"]
    described = content["application/json"]["schema"]["properties"]["files"]["items"]
    assert keys_of_schema(described) == keys_of_schema(resolve(FILE.model.model_json_schema()))


def keys_of_schema(schema: dict[str, Any], at: str = "") -> set[str]:
    found = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {f"{at}/{name}"} | keys_of_schema(inner, f"{at}/{name}")
    return found | (keys_of_schema(schema["items"], at) if "items" in schema else set())


def resolve(schema: Any, definitions: Any = None) -> Any:
    definitions = definitions or schema["$defs"]
    if isinstance(schema, list):
        return [resolve(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return resolve(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: resolve(value, definitions) for key, value in schema.items() if key != "$defs"}
