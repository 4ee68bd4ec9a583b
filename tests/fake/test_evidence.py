"""The marks that say where each behaviour is known from."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_aihub.certify.promise import Promise, load_promises
from fake_aihub.contract.evidence import RULES, SOURCES, Rule, count_sources, render_counts
from fake_aihub.contract.operations import BY_ID
from fake_aihub.docs.behaviours import main, render_evidence

ROOT = Path(__file__).parents[2]
# May only fall: what is new is found out first, or is not imitated.
MAX_GUESSES = 56


def test_evidence_page_tells_each_behaviour_by_operation_and_the_counts() -> None:
    rules = [
        Rule("spec", "answers a | batch", "getBatch", 200, "batches.get_batch"),
        Rule("guess", "is ours", "", None, "x.y"),
    ]
    tried = Promise("batch-is-told", "It is told.", ("getBatch",), 0, (), lambda hub: None)
    page = render_evidence(rules, [tried])
    assert count_sources(rules) == {"spec": 1, "docs": 0, "sdk": 0, "guess": 1}
    assert "Of its 2 marked behaviours, 1 are from the OpenAPI description" in page
    batch = page[page.index("### getBatch") : page.index("### deleteBatch")]
    assert "| 200 | answers a \\| batch | spec | `batches.get_batch` |" in batch
    assert "Checked by `certify`: `batch-is-told`." in batch
    assert "|  | is ours | guess | `x.y` |" in page[: page.index("### createBatch")]


def test_evidence_marks_name_operations_and_sources_that_exist() -> None:
    for one in RULES:
        assert one.operation == "" or one.operation in BY_ID, one
        assert one.source in SOURCES, one


def test_evidence_tells_of_every_status_that_is_described() -> None:
    marked = {(one.operation, one.status) for one in RULES}
    described = {(operation.id, status) for operation in BY_ID.values() for status in operation.statuses}
    assert described - marked == set()


def test_evidence_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    assert printed == render_evidence(RULES, load_promises())
    assert (ROOT / "docs/fake.md").read_text(encoding="utf-8") == printed, "run `make docs`"


def test_evidence_counts_are_in_the_readme() -> None:
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    assert render_counts(RULES) in " ".join(words)


def test_evidence_has_no_more_guesses_than_before() -> None:
    assert count_sources(RULES)["guess"] <= MAX_GUESSES


def test_evidence_has_a_promise_tried_for_each_operation() -> None:
    tried = {operation for promise in load_promises() for operation in promise.operations}
    assert tried == BY_ID.keys()
