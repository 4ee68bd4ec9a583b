"""docs/controls.md covers all controls."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_aihub.api.app import CONTROLS
from fake_aihub.controls.fault_scripts import ACTIONS, KEYS, KNOBS
from fake_aihub.controls.verify import CRITERIA
from fake_aihub.server.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "controls.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", [*KEYS, *ACTIONS, *KNOBS, *CRITERIA])
def test_controls_page_explains_every_key(key: str) -> None:
    assert f"`{key}`" in PAGE


@pytest.mark.parametrize("path", [path for _, path, _ in CONTROLS])
def test_controls_page_names_every_route(path: str) -> None:
    assert f"{path}`" in PAGE


def test_options_of_the_fake_are_explained() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    described = "".join(page.read_text(encoding="utf-8") for page in pages)
    options = {option for parameter in main.params for option in parameter.opts}
    missing = sorted(option for option in options if option not in described)
    assert missing == []
