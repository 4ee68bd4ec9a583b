"""The catalogue of behaviours: the source of each, the code that implements it, and the promise that checks it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

from fake_aihub.catalogue import SOURCES, Behaviour, load_behaviours, render_counts
from fake_aihub.certify.promise import GROUPS, load_promises
from fake_aihub.contract.operations import BY_ID
from fake_aihub.docs.pages import PAGES, render_behaviours, update

ROOT = Path(__file__).parents[2]
# May only fall: what is new is found out first, or is not imitated.
MAX_GUESSES = 56


def test_page_tells_each_behaviour_by_operation() -> None:
    page = render_behaviours(
        [
            Behaviour("batch-is-told", ("getBatch",), (), 200, "spec", 2, (), "batches.get_batch", "It is | told."),
            Behaviour("", (), (), None, "guess", 0, (), "x.y", "It is ours."),
        ]
    )
    batch = page[page.index("### getBatch") : page.index("### deleteBatch")]
    assert "| 200 | It is \\| told. | spec | `batch-is-told`, 2 runs | `batches.get_batch` |" in batch
    assert "|  | It is ours. | guess |  | `x.y` |" in page[: page.index("### createBatch")]


@pytest.mark.parametrize("one", load_behaviours(), ids=lambda one: one.id or one.text)
def test_behaviour_names_what_there_is(one: Behaviour) -> None:
    assert {*one.operations, *one.also} <= BY_ID.keys()
    assert one.source in SOURCES
    assert one.where or one.id
    if one.where:
        assert callable(resolve_name(f"fake_aihub.{one.where}"))


def test_each_promise_of_the_catalogue_is_one_function_and_every_check_is_a_promise() -> None:
    ids = [one.id for one in load_behaviours() if one.id]
    assert len(ids) == len(set(ids))
    assert sorted(ids) == sorted(promise.id for promise in load_promises())
    for group in GROUPS:
        module = import_module(f"fake_aihub.certify.promises.{group}")
        for name, check in vars(module).items():
            takes_only_a_hub = getattr(check, "__annotations__", {}) == {"hub": "Hub", "return": "None"}
            if takes_only_a_hub and check.__module__ == module.__name__:
                assert name.replace("_", "-") in ids, name


def test_catalogue_tells_of_every_status_that_is_described() -> None:
    told = {(operation, one.status) for one in load_behaviours() if one.where for operation in one.operations}
    described = {(operation.id, status) for operation in BY_ID.values() for status in operation.statuses}
    assert described - told == set()


@pytest.mark.parametrize("page", PAGES)
def test_page_is_up_to_date(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == update(page, text), "run `make docs`"


def test_counts_are_in_the_readme() -> None:
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    assert render_counts(load_behaviours()) in " ".join(words)


def test_catalogue_has_no_more_guesses_than_before() -> None:
    assert sum(one.source == "guess" and one.where != "" for one in load_behaviours()) <= MAX_GUESSES


def test_catalogue_has_a_promise_tried_for_each_operation() -> None:
    tried = {operation for promise in load_promises() for operation in promise.operations}
    assert tried == BY_ID.keys()
